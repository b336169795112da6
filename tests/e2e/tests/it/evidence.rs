//! What a quarantine says of the hit that brought it: where in the probe it trapped, which hit it was, and a command that
//! makes it trap in the same place again, without the process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use trocar_test_support::command::{binary, count, text};
use trocar_test_support::{Live, Target, process};

/// A probe in a folder of its own, with a name that a shell has to be told carefully.
struct Case {
    folder: TempDir,
    probe: PathBuf,
}

impl Case {
    fn of_bytes(wasm: &[u8]) -> Self {
        let folder = TempDir::new().unwrap();
        let probe = folder.path().join("it's a $probe.wasm");
        std::fs::write(&probe, wasm).unwrap();
        Self { folder, probe }
    }

    fn of_wat(text: &str) -> Self {
        Self::of_bytes(&wat::parse_str(text).unwrap())
    }

    fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state folder")
    }

    /// Loads the probe at a point of a target.
    fn loaded(&self, target: &Target, point: &str, options: &[&str]) -> Live {
        let mut command = Command::new(binary());
        command.args(["load", self.probe.to_str().unwrap(), "-p", &target.pid().to_string(), "--at", point]);
        command.args(options).args(["-o", "json"]).env("XDG_STATE_HOME", self.state_folder());
        let mut live = Live::spawn(&mut command);
        live.until("attached");
        live
    }

    /// Loads the probe at `work` of the counter until it is quarantined, and gives what was said of that.
    fn quarantined(&self, options: &[&str]) -> Value {
        let mut target = Target::start("counter");
        let live = self.loaded(&target, "work", options);
        target.done("run 3 1000");
        let evidence = evidence_of(live);
        assert_eq!(text(&evidence, "point"), "work");
        assert_eq!(text(&evidence, "handler"), "on_hit");
        assert_eq!(evidence.get("args").and_then(Value::as_array).map(Vec::len), Some(6));
        let threads = process::threads(target.pid());
        assert!(
            threads.iter().any(|tid| u64::from(*tid) == count(&evidence, "tid")),
            "{threads:?} {evidence}"
        );
        evidence
    }

    /// The same; and the command that it says makes the same trap in the same place.
    fn seen_again(&self, options: &[&str]) -> Value {
        let evidence = self.quarantined(options);
        assert_eq!(evidence.pointer("/replay/same"), Some(&Value::Bool(true)), "{evidence}");
        let again = replayed(&evidence);
        for field in
            ["trap", "function", "index", "offset", "source", "backtrace", "tid", "site", "args", "handler"]
        {
            assert_eq!(again.get(field), evidence.get(field), "{field}: {again}\n{evidence}");
        }
        evidence
    }
}

/// What is said of the hit that brings the quarantine.
fn evidence_of(mut live: Live) -> Value {
    let mut state = live.until_that("state", |s| text(s, "state") == "quarantined");
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 8, "{outcome}");
    outcome.assert_receipt();
    state.get_mut("evidence").unwrap_or_else(|| panic!("no evidence: {outcome}")).take()
}

/// Runs the command that is printed, and gives the evidence of its one hit.
fn replayed(evidence: &Value) -> Value {
    let command = evidence.pointer("/replay/command").and_then(Value::as_str).unwrap();
    let folder = binary().parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &format!("{command} -o json")]).env("PATH", path).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{command}\n{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut hits: Vec<Value> = objects.filter(|o| o["kind"] == "hit").collect();
    assert_eq!(hits.len(), 1, "{lines}");
    let mut hit = hits.remove(0);
    assert!(["trap", "out_of_fuel"].contains(&text(&hit, "outcome")), "{lines}");
    hit.get_mut("evidence").unwrap_or_else(|| panic!("no evidence: {lines}")).take()
}

/// A module with these imports whose handler calls `$deep`, which runs this code.
fn deep(imports: &str, code: &str) -> String {
    format!(
        r#"(module {imports} (memory (export "memory") 1) (table 2 funcref) (type $none (func))
            (func $deep (param $a i64) {code})
            (func $middle (call $deep (i64.const 1)))
            (func $handler (export "on_hit") (call $middle)))"#
    )
}

const READ: &str = r#"(import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))"#;
const ARG: &str = r#"(import "trocar" "arg" (func $arg (param i32) (result i64)))"#;
const REG: &str = r#"(import "trocar" "reg" (func $reg (param i32) (result i64)))"#;
const EMIT: &str = r#"(import "trocar" "emit" (func $emit (param i32 i32 i32)))"#;

#[test]
fn every_kind_of_trap_is_seen_again_in_its_place() {
    for (imports, code, trap) in [
        ("", "(loop (br 0))", "out of fuel"),
        ("", "unreachable", "unreachable executed"),
        ("", "(drop (i32.load (i32.const 0x7fff0000)))", "memory access out of bounds"),
        ("", "(drop (i64.div_u (i64.const 1) (i64.load (i32.const 8))))", "integer divide by zero"),
        ("", "(drop (i32.trunc_f32_s (f32.const inf)))", "integer overflow or bad conversion to integer"),
        ("", "(call_indirect (type $none) (i32.const 1))", "table access out of bounds or null"),
        ("", "(loop (drop (memory.grow (i32.const 1))) (br 0))", "memory or table over the limit"),
        (
            EMIT,
            "(call $emit (i32.const 0) (i32.const 65530) (i32.const 8))",
            "host call with a bad range, map or length",
        ),
        (
            READ,
            "(drop (call $read (i64.const 0) (i32.const -4) (i32.const 8)))",
            "host call with a bad range, map or length",
        ),
    ] {
        let evidence = Case::of_wat(&deep(imports, code)).seen_again(&[]);
        assert_eq!(text(&evidence, "trap"), trap, "{evidence}");
        assert_eq!(names(&evidence), ["deep", "middle", "handler"], "{evidence}");
    }
}

fn names(evidence: &Value) -> Vec<&str> {
    evidence["backtrace"].as_array().unwrap().iter().map(|f| text(f, "function")).collect()
}

#[test]
fn recursion_without_end_shows_its_innermost_calls() {
    let wat = r#"(module (func $again (param i64) (call $again (local.get 0)) (call $again (local.get 0)))
        (func (export "on_hit") (call $again (i64.const 0))))"#;
    let evidence = Case::of_wat(wat).seen_again(&["--fuel", "1000000"]);
    assert_eq!(text(&evidence, "trap"), "stack overflow");
    assert_eq!(names(&evidence), ["again"; 16]);
}

/// The handler traps at the hits whose argument, thread and memory are of a kind: what is seen again is such a hit.
#[test]
fn the_very_hit_is_seen_again_with_its_arguments_and_the_memory_that_it_read() {
    // What lies on the stack at an entry is the return address; the probe traps where it is what it was at the first hit,
    // which is any hit, and only where the argument is 5 more than a multiple of 7.
    let wat = format!(
        r#"(module {ARG} {REG} {READ} (memory (export "memory") 1)
            (func $seen (param $to i32)
              (if (call $read (call $reg (i32.const 7)) (local.get $to) (i32.const 8)) (then (return)))
              (if (i64.eqz (i64.load (local.get $to))) (then (return)))
              (if (i64.ne (i64.rem_u (call $arg (i32.const 0)) (i64.const 7)) (i64.const 5)) (then (return)))
              unreachable)
            (func (export "on_hit") (call $seen (i32.const 64))))"#
    );
    let case = Case::of_wat(&wat);
    let evidence = case.seen_again(&[]);
    let first = evidence["args"][0].as_str().unwrap().trim_start_matches("0x");
    assert_eq!(u64::from_str_radix(first, 16).unwrap() % 7, 5, "{evidence}");
    // The file is the user's alone: it holds memory of the target.
    let command = text(&evidence["replay"], "command");
    assert!(command.contains("hit.json"), "{command}");
    let sessions: Vec<_> = std::fs::read_dir(case.state_folder().join("trocar")).unwrap().flatten().collect();
    assert_eq!(sessions.len(), 1);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&sessions[0].path()), 0o700);
    assert_eq!(mode(&sessions[0].path().join("hit.json")), 0o600);
}

#[test]
fn a_hit_that_depended_on_earlier_ones_says_that_it_goes_otherwise_alone() {
    // It traps from its second hit on, by what the first left in its memory.
    let wat = r#"(module (memory (export "memory") 1) (func (export "on_hit")
        (if (i32.load (i32.const 0)) (then unreachable)) (i32.store (i32.const 0) (i32.const 1))))"#;
    let evidence = Case::of_wat(wat).quarantined(&[]);
    assert_eq!(text(&evidence, "trap"), "unreachable executed");
    assert_eq!(evidence["replay"]["same"], false, "{evidence}");
}

#[test]
fn a_module_without_names_shows_numbers_and_offsets() {
    let wasm = wat::parse_str(deep("", "unreachable")).unwrap();
    // The name section is the last one of what the assembler writes.
    let at = wasm.windows(5).rposition(|w| w == b"\x04name").unwrap();
    let start = (1..=5).map(|n| at - n).find(|i| wasm[*i] == 0).unwrap();
    let evidence = Case::of_bytes(&wasm[..start]).seen_again(&[]);
    assert_eq!(names(&evidence), ["function 0", "function 1", "on_hit"]);
    assert_eq!(evidence.get("source"), None);
    // The offset is that of the instruction.
    let offset = usize::from_str_radix(text(&evidence, "offset").trim_start_matches("0x"), 16).unwrap();
    assert_eq!(wasm[offset], 0x00, "unreachable at {offset:#x}");
}

/// Checks that the trap is at the line with this comment.
fn at_the_line(case: &Case, source: &str, file: &str, mark: &str) -> Value {
    let evidence = case.seen_again(&[]);
    let line = source.lines().position(|l| l.contains(mark)).unwrap() + 1;
    let told = text(&evidence, "source");
    assert!(told.ends_with(&format!("{file}:{line}")), "{told}, not line {line}: {evidence}");
    evidence
}

#[test]
fn a_rust_probe_with_debug_information_shows_its_lines() {
    let compiler = std::env::var_os("TROCAR_GUEST_RUSTC").unwrap_or_else(|| "rustc".into());
    let source = r#"#![no_std]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { core::arch::wasm32::unreachable() }
pub mod orders {
    #[inline(always)]
    pub fn share(of: u64, parts: u64) -> u64 {
        if parts == 0 { core::arch::wasm32::unreachable() } // here
        of / parts
    }
    #[inline(never)]
    pub fn split(n: u64) -> u64 { share(100, n - 5) }
}
#[no_mangle]
pub extern "C" fn on_hit() -> i32 { (orders::split(core::hint::black_box(5)) != 7) as i32 }
"#;
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("probe.rs"), source).unwrap();
    let mut command = Command::new(compiler);
    command.args([
        "--edition=2021",
        "--target=wasm32-unknown-unknown",
        "--crate-type=cdylib",
        "-g",
        "-Copt-level=2",
    ]);
    command.args(["-Cpanic=abort", "-Clink-arg=-zstack-size=8192", "probe.rs", "-o", "probe.wasm"]);
    let out = command.current_dir(folder.path()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let case = Case::of_bytes(&std::fs::read(folder.path().join("probe.wasm")).unwrap());
    let evidence = at_the_line(&case, source, "probe.rs", "// here");
    assert_eq!(text(&evidence, "function"), "probe::orders::split");
    // Inlined functions have lines of their own; the innermost is of Rust's library, and so not the one that is told first.
    let frames = evidence["backtrace"].as_array().unwrap();
    let inlined = frames.iter().filter(|f| f["inlined"] == true);
    let inlined: Vec<_> = inlined.map(|f| text(f, "function")).collect();
    assert_eq!(inlined, ["core::core_arch::wasm32::unreachable", "probe::orders::share"], "{evidence}");
    assert_eq!(names(&evidence).last(), Some(&"on_hit"), "{evidence}");
}

#[test]
fn a_c_probe_with_debug_information_shows_its_lines() {
    let source =
        "unsigned long long arg(unsigned) __attribute__((import_module(\"trocar\"), import_name(\"arg\")));
static volatile int zero;
__attribute__((noinline)) static int divide(int n) {
    return n / zero; // here
}
__attribute__((export_name(\"on_hit\"))) int on_hit(void) {
    return divide((int)arg(0)) != 7;
}
";
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("probe.c"), source).unwrap();
    let mut command = Command::new("clang");
    command.args([
        "--target=wasm32",
        "-g",
        "-O1",
        "-nostdlib",
        "-Wl,--no-entry,-z,stack-size=8192",
        "probe.c",
    ]);
    let out = command.args(["-o", "probe.wasm"]).current_dir(folder.path()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let case = Case::of_bytes(&std::fs::read(folder.path().join("probe.wasm")).unwrap());
    let evidence = at_the_line(&case, source, "probe.c", "// here");
    assert_eq!(text(&evidence, "function"), "divide", "{evidence}");
    assert_eq!(text(&evidence, "trap"), "integer divide by zero");
}

#[test]
fn a_hit_in_go_is_seen_again_with_gos_arguments() {
    let wat = format!(
        r#"(module {ARG} (func (export "on_hit") (if (i64.eqz (call $arg (i32.const 0))) (then (return))) unreachable))"#
    );
    let case = Case::of_wat(&wat);
    let mut target = Target::start("server-go");
    let live = case.loaded(&target, "main.call", &[]);
    target.done("run 4 500");
    let evidence = &evidence_of(live);
    assert_eq!(evidence["args"].as_array().unwrap().len(), 9, "{evidence}");
    assert_eq!(evidence["replay"]["same"], true, "{evidence}");
    let again = replayed(evidence);
    assert_eq!((&again["args"], &again["offset"]), (&evidence["args"], &evidence["offset"]));
}

#[test]
fn a_hit_that_must_not_leave_its_stack_tells_the_same() {
    // Under a filter hits enter by wasmtime's own way.
    let case = Case::of_wat(&deep("", "(drop (i64.div_u (i64.const 1) (i64.load (i32.const 8))))"));
    let mut target = Target::start_with("hardened", &["filter"]);
    assert_eq!(target.done("run 1 1"), 1);
    let live = case.loaded(&target, "work", &[]);
    assert_eq!(target.done("run 1 1000"), 1000);
    let evidence = evidence_of(live);
    assert_eq!(names(&evidence), ["deep", "middle", "handler"], "{evidence}");
    assert_eq!(replayed(&evidence)["backtrace"], evidence["backtrace"]);
    assert!(target.finish().success());
}

#[test]
fn traps_that_are_too_few_for_a_quarantine_are_told_at_the_end() {
    let wat = format!(
        r#"(module {ARG} (func $fifth (if (i64.eq (call $arg (i32.const 0)) (i64.const 5)) (then unreachable)))
            (func (export "on_hit") (call $fifth)))"#
    );
    let case = Case::of_wat(&wat);
    let mut target = Target::start("counter");
    let live = case.loaded(&target, "work", &[]);
    let calls = target.done("run 2 100");
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 0, "{outcome}");
    outcome.assert_receipt();
    assert_eq!((outcome.hits(), outcome.lost_as("trap")), (calls, 2), "{outcome}");
    let state = outcome.one("state");
    assert_eq!(text(state, "state"), "armed", "{outcome}");
    assert_eq!(
        (text(&state["evidence"], "function"), &state["evidence"]["args"][0]),
        ("fifth", &"0x5".into())
    );
    assert_eq!(replayed(&state["evidence"])["args"], state["evidence"]["args"]);
}
