//! Every guest language: the example that `trocar new` writes, and the grid language × (hit, trap, limit), live.
//! `trocar_test_support::guest` says which languages are passed over, and when.

use trocar_test_support::command::{count, text};
use trocar_test_support::guest::Language;
use trocar_test_support::{Live, Outcome, Snapshot, Target, process, run};

const UNREACHABLE: &str = "unreachable";
const EXIT: &str = "ended itself";

/// Example and grid of a language; `trap` is why it is quarantined when it traps, and `says` what it logs then, if it can.
fn grid(language: &str, trap: &str, says: Option<&str>) {
    let language = Language::named(language);
    if !language.is_there() {
        return;
    }
    let example = language.example();
    let mut target = Target::start("counter");
    let live = load(&target, &example.build(), &[]);
    let calls = target.done("run 2 100");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), counter(&outcome)), (calls, calls), "the example: {outcome}");

    let project = language.grid();
    let wasm = project.build();
    hit(&mut target, &wasm);

    let outcome = quarantined(&mut target, &wasm, "mode=1", trap);
    // The traces that Go prints may take all of a hit's fuel.
    let (traps, cut) = (outcome.lost_as("trap"), outcome.lost_as("out_of_fuel"));
    assert!(traps + cut >= 3 && traps > 0 && (cut == 0 || language.name == "go"), "{outcome}");
    if let Some(says) = says {
        let said = outcome.all("log").any(|l| text(l, "message").contains(says));
        assert!(said, "it logs `{says}`: {outcome}");
    }

    let outcome = quarantined(&mut target, &wasm, "mode=2", "fuel");
    assert!(outcome.lost_as("out_of_fuel") >= 3, "{outcome}");
    assert_eq!(outcome.lost_as("trap"), 0, "{outcome}");
    assert_eq!(target.done("run 2 100"), calls, "the target computes on");
}

fn hit(target: &mut Target, wasm: &str) {
    let before = Snapshot::of(target.pid());
    let live = load(target, wasm, &["--set", "mode=0"]);
    let calls = target.done("run 2 50");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (calls, 0), "{outcome}");
    // More or less, if constructors ran at each hit or never.
    assert_eq!(counter(&outcome), calls, "{outcome}");
    let events = outcome.all("event").filter(|e| text(e, "name") == "call").count();
    assert_eq!(events as u64, calls, "{outcome}");
    before.assert_same();
}

fn load(target: &Target, wasm: &str, more: &[&str]) -> Live {
    let pid = target.pid().to_string();
    let args: Vec<&str> =
        ["load", wasm, "-p", &pid, "--at", "work"].into_iter().chain(more.iter().copied()).collect();
    Live::attached(&args)
}

/// Loads a probe that is stopped at every hit, and says what the command said.
fn quarantined(target: &mut Target, wasm: &str, mode: &str, why: &str) -> Outcome {
    let before = Snapshot::of(target.pid());
    let mut live = load(target, wasm, &["--set", mode]);
    let calls = target.done("run 1 50");
    let state = live.until_that("state", |s| text(s, "state") == "quarantined");
    assert!(text(&state, "why").contains(why), "the reason says `{why}`: {state}");
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 8, "{outcome}");
    outcome.assert_receipt();
    assert!(outcome.hits() <= calls, "{outcome}");
    before.assert_same();
    outcome
}

/// Sum of the rows of the last printed map `calls`.
fn counter(outcome: &Outcome) -> u64 {
    let map = outcome.all("map").rfind(|m| text(m, "name") == "calls");
    let rows = map.and_then(|m| m.get("rows")).and_then(|r| r.as_array());
    rows.into_iter().flatten().map(|r| count(r, "value")).sum()
}

#[test]
fn a_probe_in_rust_hits_traps_and_is_limited() {
    grid("rust", UNREACHABLE, None);
}

#[test]
fn a_probe_in_c_hits_traps_and_is_limited() {
    grid("c", UNREACHABLE, None);
}

#[test]
fn a_probe_in_cpp_with_a_global_constructor_hits_traps_and_is_limited() {
    grid("c++", UNREACHABLE, None);
}

#[test]
fn a_probe_in_zig_hits_traps_and_is_limited() {
    grid("zig", UNREACHABLE, None);
}

#[test]
fn a_probe_in_assemblyscript_hits_traps_with_its_message_and_is_limited() {
    grid("assemblyscript", EXIT, Some("abort: trap at probe.ts:"));
}

#[test]
fn a_probe_in_go_hits_traps_with_its_message_and_is_limited() {
    grid("go", EXIT, Some("panic: trap"));
}

#[test]
fn a_probe_in_wat_hits_traps_and_is_limited() {
    grid("wat", UNREACHABLE, None);
}

#[test]
fn a_rust_memory_of_17_pages_costs_only_the_pages_that_are_touched() {
    let project = Language::named("rust").grid();
    // As rustc does it when nobody asks for a small stack.
    std::fs::remove_file(project.path.join(".cargo/config.toml")).unwrap();
    let wasm = project.build();
    assert_eq!(count(run(&["check", &wasm]).one("check"), "memory_pages"), 17);
    let mut target = Target::start("counter");
    target.done("run 16 100");
    let before = process::resident_kib(target.pid());
    let live = load(&target, &wasm, &[]);
    let calls = target.done("run 16 100");
    let while_attached = process::resident_kib(target.pid());
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    // Sixteen contexts or more, each with 1088 KiB of memory, of which a hit touches a page of stack and one of data:
    // resident they would be over 17 MiB. The bound is that of a probe without memory (`kept`), and 16 KiB for each.
    let grown = while_attached.saturating_sub(before);
    println!("grown by {grown} KiB");
    assert!(grown < 1536 + 32 * 16, "from {before} to {while_attached} KiB");
}
