//! What a probe must not change: every register, the flags, the red zone, the vector and x87 state, seen from
//! inside; and the receipt, checked against our own reading of `/proc`.

use trocar_test_support::command::{count, text};
use trocar_test_support::process::{self, mappings, text_differences};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target, run};

use crate::probe::Probe;

/// Offsets of the instructions of the watched body.
fn sites(target: &mut Target) -> Vec<String> {
    let answer = target.ask("sites");
    let offsets: Vec<u64> = answer.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    assert!(offsets.len() > 20, "{answer}");
    offsets.iter().map(|o| format!("redzone+{o:#x}")).collect()
}

#[test]
fn every_instruction_can_be_probed_alone_and_changes_nothing() {
    let mut target = Target::start("redzone");
    let calls = scaled(100_000);
    let (mut patched, mut refused) = (0, Vec::new());
    for point in sites(&mut target) {
        let pid = target.pid().to_string();
        // A point that is refused ends the command with status 4 and its reason; then nothing was touched.
        let plan = run(&["points", "-p", &pid, &point, "--plan"]);
        assert!(matches!(plan.status, 0 | 4), "{plan}");
        if let Some(refusal) = plan.all("refusal").next() {
            refused.push(format!("{point}: {refusal}"));
            continue;
        }
        let live = Live::attached(&["count", "-p", &pid, &point]);
        // Ends with `changed NAME` and status 1 when anything differs: `done` panics then.
        assert_eq!(target.done(&format!("run {calls} 1")), calls, "{point}");
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.hits(), calls, "{point}: {outcome}");
        patched += 1;
    }
    assert!(patched > refused.len(), "most instructions can be probed; refused: {refused:#?}");
    assert!(text_differences(target.pid()).is_empty());
}

/// A probe that holds sixteen floats at once, so that its code needs every vector register.
fn floats() -> Probe {
    let each = |f: &dyn Fn(usize) -> String| (0..16).map(f).collect::<String>();
    let load = each(&|i| format!("(local.set {i} (f64.load offset={} (i32.const 0)))", 8 * i));
    let store = each(&|i| {
        format!("(f64.store offset={} (i32.const 0) (f64.add (local.get {i}) (f64.const 1)))", 8 * (15 - i))
    });
    let locals = "f64 ".repeat(16);
    Probe::of_wat(&format!(
        r#"(module (memory (export "memory") 1 1) (func (export "on_hit") (local {locals}) {load} {store}))"#
    ))
}

#[test]
fn a_probe_that_needs_every_vector_register_changes_none() {
    let (probe, mut target) = (floats(), Target::start("redzone"));
    let pid = target.pid().to_string();
    let point = sites(&mut target).remove(0);
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", &point, "--max-core", "100"]);
    let calls = scaled(100_000);
    assert_eq!(target.done(&format!("run {calls} 1")), calls);
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
}

/// A probe whose hits are executed if a third is what it is when it is rounded to the nearest, and division by zero is
/// infinite and no signal.
fn rounding() -> Probe {
    Probe::of_wat(
        r#"(module (memory (export "memory") 1 1) (data (i32.const 0) "\00\00\00\00\00\00\f0\3f")
            (func (export "on_hit") (result i32)
              (local $one f64)
              (local.set $one (f64.load (i32.const 0)))
              (i32.and
                (i64.eq (i64.reinterpret_f64 (f64.div (local.get $one) (f64.const 3)))
                        (i64.const 0x3fd5555555555555))
                (f64.eq (f64.div (local.get $one) (f64.load (i32.const 8))) (f64.const inf)))))"#,
    )
}

#[test]
fn floats_of_a_probe_are_rounded_as_wasm_says_and_those_of_the_target_as_it_says() {
    let (probe, mut target) = (rounding(), Target::start_with("hardened", &["floats"]));
    let pid = target.pid().to_string();
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work", "--max-core", "100"]);
    // Ends with `wrong` if a hit changed how its caller rounds, and with a signal if the probe ran as the caller does.
    assert_eq!(target.done("run 1 1000"), 1000);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let executed: u64 = outcome.final_stats().iter().map(|s| count(s, "executed")).sum();
    assert_eq!((outcome.hits(), executed), (1000, 1000), "{outcome}");
}

#[test]
fn all_instructions_at_once_are_patched_or_refused_with_a_reason() {
    let mut target = Target::start("redzone");
    let before = Snapshot::of(target.pid());
    let points = sites(&mut target);
    let pid = target.pid().to_string();
    let args: Vec<&str> =
        ["count", "-p", &pid].into_iter().chain(points.iter().map(String::as_str)).collect();
    let live = Live::attached(&args);
    let calls = scaled(100_000);
    assert_eq!(target.done(&format!("run {calls} 1")), calls);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let attached = outcome.one("attached");
    let list = |name| attached.get(name).and_then(|l| l.as_array()).cloned().unwrap_or_default();
    let (patched, refusals) = (list("sites"), list("refusals"));
    assert_eq!(patched.len() + refusals.len(), points.len(), "each point has one answer: {attached}");
    for refusal in &refusals {
        assert!(!text(refusal, "reason").is_empty() && !text(refusal, "detail").is_empty(), "{refusal}");
    }
    for site in outcome.final_stats() {
        assert_eq!(count(site, "hits"), calls, "{site}");
    }
    before.assert_same();
}

#[test]
fn while_attached_nothing_is_writable_and_executable_and_no_descriptor_is_ours() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    let before = Snapshot::of(target.pid());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", target.pid())).map(Iterator::count).ok();
    let open = descriptors();
    let signals = process::status(target.pid(), "SigCgt");
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    for m in mappings(target.pid()) {
        assert!(!(m.permissions.contains('w') && m.permissions.contains('x')), "{m:?}");
    }
    assert_eq!(descriptors(), open, "a descriptor of ours stays open");
    assert_eq!(process::status(target.pid(), "SigCgt"), signals, "no signal handler of ours");
    assert_eq!(process::status(target.pid(), "TracerPid"), "0", "ptrace only while attaching");
    assert!(!text_differences(target.pid()).is_empty(), "the site is patched");
    target.done("run 2 1000");
    live.interrupt().assert_clean();
    before.assert_same();
}

#[test]
fn resident_memory_grows_by_less_than_a_mebibyte_and_a_half() {
    let mut target = Target::start("counter");
    target.done("run 4 1000");
    let before = process::resident_kib(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let calls = target.done("run 4 1000");
    let while_attached = process::resident_kib(target.pid());
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "every thread has its context: {outcome}");
    assert!(while_attached < before + 1536, "from {before} to {while_attached} KiB");
}

#[test]
fn many_sessions_one_after_another_leave_nothing() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    let (before, memory) = (Snapshot::of(target.pid()), mappings(target.pid()));
    target.ask("spin 2");
    let session = || {
        let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--hits", "10"]);
        let outcome = live.finish();
        outcome.assert_clean();
        assert!(outcome.hits() >= 10, "{outcome}");
    };
    // The first ones touch pages of the program's own that it had not touched yet.
    (0..20).for_each(|_| session());
    let resident = process::resident_kib(target.pid());
    (20..scaled(10_000)).for_each(|_| session());
    assert_eq!(process::resident_kib(target.pid()), resident, "KiB resident");
    target.done("halt");
    before.assert_same();
    process::assert_mappings_equal(&memory, &mappings(target.pid()));
}

/// A handler that comes while its thread works for us may outlive what the thread executes for us.
#[test]
fn sessions_in_a_storm_of_signals_leave_nothing() {
    let mut target = Target::start("storm");
    let before = Snapshot::of(target.pid());
    assert_eq!(target.ask("storm 300"), "storming");
    for _ in 0..scaled(2000) {
        Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--hits", "10"])
            .finish()
            .assert_clean();
        assert_eq!(text_differences(target.pid()), Vec::<String>::new());
    }
    let answer = target.ask("halt");
    assert!(answer.starts_with("done "), "{answer}");
    assert!(Target::field(&answer, "handled") > scaled(2000), "{answer}");
    assert_eq!(Target::field(&answer, "lost"), 0, "{answer}");
    before.assert_same();
}

/// The only thread works for us where it was found: asleep in a call, which it makes again afterwards, unless its signal came.
#[test]
fn a_signal_ends_the_call_that_it_came_to_while_sessions_come_and_go() {
    let mut target = Target::start("awakened");
    let before = Snapshot::of(target.pid());
    assert_eq!(target.ask("storm"), "storming");
    for _ in 0..scaled(2000) {
        Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--hits", "10"])
            .finish()
            .assert_clean();
    }
    let answer = target.ask("halt");
    assert!(answer.starts_with("done "), "{answer}");
    assert_eq!((Target::field(&answer, "wrong"), Target::field(&answer, "lost")), (0, 0), "{answer}");
    before.assert_same();
}

#[test]
fn two_sessions_on_different_functions_of_one_process_do_not_disturb_each_other() {
    let mut server = Target::start_with("server", &["--control", "--self-load", "5000"]);
    let before = Snapshot::of(server.pid());
    let pid = server.pid().to_string();
    let mut first = Live::attached(&["count", "-p", &pid, "lookup"]);
    let second = Live::attached(&["count", "-p", &pid, "handle_request", "--hits", "500"]).finish();
    second.assert_clean();
    assert!(second.hits() >= 500, "{second}");
    first.until_that("stats", |s| count(s, "hits") > 0);
    first.interrupt().assert_clean();
    before.assert_same();
    assert_eq!(Target::field(&server.ask("stats"), "wrong"), 0);
}

/// At full size more hits than 32 bits can count, and eight thousand threads that come and go.
#[test]
fn a_session_that_goes_on_and_on_counts_right_and_grows_nowhere() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let mut live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let pids = [live.pid(), target.pid()];
    let mut calls = 0;
    let mut round = || target.done("run 2 2200000") + target.done("fresh 8 1000");
    let rounds = scaled(1000);
    for _ in 0..rounds / 4 {
        calls += round();
    }
    live.until_that("stats", |s| count(s, "hits") == calls);
    let early = pids.map(process::resident_kib);
    for _ in rounds / 4..rounds {
        calls += round();
    }
    live.until_that("stats", |s| count(s, "hits") == calls);
    for (late, early) in pids.map(process::resident_kib).into_iter().zip(early) {
        assert!(late <= early + 128, "{early} KiB resident after a quarter, {late} KiB at the end");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (calls, 0), "{outcome}");
    before.assert_same();
}
