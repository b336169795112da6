//! Probes that misbehave: the probe is quarantined with its reason, the target computes on, and every hit is
//! accounted for.

use trocar_test_support::command::{count, run, text};
use trocar_test_support::process::text_differences;
use trocar_test_support::redis::Reply;
use trocar_test_support::{Live, Outcome, Redis, Snapshot, Target};

use crate::probe::{Probe, counter};

/// Loads a probe that traps on every hit, lets the target run, and returns what the command said.
fn quarantined(wat: &str, why: &str) -> Outcome {
    let probe = Probe::of_wat(wat);
    let mut target = Target::start("counter");
    target.done("run 4 10");
    let before = Snapshot::of(target.pid());
    let mut live = Live::attached(&["load", probe.path(), "-p", &target.pid().to_string(), "--at", "work"]);
    let calls = target.done("run 4 5000");
    let state = live.until_that("state", |s| text(s, "state") == "quarantined");
    assert!(text(&state, "why").contains(why), "the reason says `{why}`: {state}");
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 8, "{outcome}");
    outcome.assert_receipt();
    assert!(outcome.hits() <= calls, "{outcome}");
    assert!(outcome.final_stats().iter().all(|s| text(s, "state") == "quarantined"), "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 4 1000"), 4000);
    outcome
}

#[test]
fn a_probe_that_loops_for_ever_runs_out_of_fuel() {
    let outcome = quarantined(r#"(module (func (export "on_hit") (loop (br 0))))"#, "fuel");
    assert!(outcome.lost_as("out_of_fuel") >= 3, "{outcome}");
}

#[test]
fn a_probe_that_reads_outside_its_memory_traps() {
    let wat = r#"(module (memory (export "memory") 1 1)
        (func (export "on_hit") (drop (i32.load (i32.const 0x7fff0000)))))"#;
    assert!(quarantined(wat, "memory").lost_as("trap") >= 3);
}

#[test]
fn a_probe_that_divides_by_zero_traps() {
    let wat = r#"(module (func (export "on_hit") (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#;
    assert!(quarantined(wat, "divide").lost_as("trap") >= 3);
}

#[test]
fn a_probe_that_recurses_without_end_traps() {
    let wat = r#"(module (func $again (export "on_hit") (call $again) (call $again)))"#;
    let outcome = quarantined(wat, "");
    assert!(outcome.lost_as("trap") + outcome.lost_as("out_of_fuel") >= 3, "{outcome}");
}

#[test]
fn a_probe_that_traps_on_goroutines_never_runs_on_their_stacks() {
    let probe = Probe::of_wat(r#"(module (func (export "on_hit") (call 0)))"#);
    let mut target = Target::start("server-go");
    target.done("run 8 100");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "main.call"]);
    target.done("run 16 5000");
    let state = live.until_that("state", |s| text(s, "state") == "quarantined");
    assert!(text(&state, "why").contains("stack"), "{state}");
    let outcome = live.interrupt();
    outcome.assert_receipt();
    assert!(outcome.lost_as("trap") >= 3, "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 4 10"), 40);
}

#[test]
fn a_probe_that_grows_its_memory_without_end_is_stopped() {
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "on_hit") (loop (drop (memory.grow (i32.const 1))) (br 0))))"#;
    let outcome = quarantined(wat, "");
    assert!(outcome.lost() >= 3, "{outcome}");
}

#[test]
fn a_probe_that_traps_on_its_first_hit_is_accounted_for() {
    let outcome = quarantined(r#"(module (func (export "on_hit") unreachable))"#, "unreachable");
    let executed: u64 = outcome.final_stats().iter().map(|s| count(s, "executed")).sum();
    assert_eq!(executed, 0, "{outcome}");
    assert!(outcome.lost_as("trap") >= 3, "{outcome}");
}

#[test]
fn a_probe_that_reads_garbage_of_the_target_gets_an_error_code() {
    // Not a trap: a bad address is an answer (-14), and the counter counts only that answer.
    let probe = Probe::of_wat(
        r#"(module
            (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
            (import "trocar" "counter_add" (func $add (param i32 i32 i64)))
            (memory (export "memory") 1 1)
            (func $try (param $address i64)
              (if (i32.eq (call $read (local.get $address) (i32.const 0) (i32.const 8)) (i32.const -14))
                (then (call $add (i32.const 0) (i32.const 0) (i64.const 1)))))
            (func (export "on_hit")
              (call $try (i64.const 0))
              (call $try (i64.const 0x7ffffffff000))
              (call $try (i64.const -8)))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"garbage\",\"maps\":[{\"name\":\"bad\",\"kind\":\"counter\",\"entries\":1}]}"))"#,
    );
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["load", probe.path(), "-p", &target.pid().to_string(), "--at", "work"]);
    let calls = target.done("run 2 500");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(counter_of(&outcome, "bad"), 3 * calls, "{outcome}");
    before.assert_same();
}

/// Sum of the rows of the last printed counter map of this name.
fn counter_of(outcome: &Outcome, name: &str) -> u64 {
    let map = outcome.all("map").rfind(|m| text(m, "name") == name);
    let rows = map.and_then(|m| m.get("rows")).and_then(|r| r.as_array());
    rows.into_iter().flatten().map(|r| count(r, "value")).sum()
}

#[test]
fn a_loaded_counter_equals_the_calls() {
    let (probe, mut target) = (counter(), Target::start("counter"));
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["load", probe.path(), "-p", &target.pid().to_string(), "--at", "work"]);
    let calls = target.done("run 4 5000");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), counter_of(&outcome, "calls")), (calls, calls), "{outcome}");
    before.assert_same();
}

#[test]
fn redis_serves_on_with_a_quarantined_probe_in_place() {
    let mut redis = Redis::start();
    let probe = Probe::of_wat(r#"(module (func (export "on_hit") (loop (br 0))))"#);
    let mut live =
        Live::attached(&["load", probe.path(), "-p", &redis.pid().to_string(), "--at", "processCommand"]);
    assert_eq!(redis.benchmark("get,set", 2000).finish().len(), 2);
    live.until_that("state", |s| text(s, "state") == "quarantined");
    assert_eq!(redis.benchmark("get,set", 2000).finish().len(), 2);
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 8, "{outcome}");
    outcome.assert_receipt();
    assert!(text_differences(redis.pid()).is_empty());
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
}

#[test]
fn a_module_that_exhausts_the_compiler_leaves_the_target_untouched_and_the_next_probe_comes() {
    // Five thousand variables, each of which may have come from any of nine thousand places.
    let merge = |n: u32| {
        let (from, to, also) = (n % 5000, (n * 7 + 1) % 5000, n * 13 % 5000);
        format!(
            "(if (local.get {from}) (then (local.set {to} (i32.add (local.get {also}) (i32.const {n})))))"
        )
    };
    let code: String = (0..9000).map(merge).collect();
    let hostile = Probe::of_wat(&format!(
        r#"(module (func (export "on_hit") (local {}) {code}))"#,
        "i32 ".repeat(5000)
    ));
    let mut target = Target::start("counter");
    target.done("run 4 10");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let refused = run(&["load", hostile.path(), "-p", &pid, "--at", "work"]);
    assert_eq!(refused.status, 8, "{refused}");
    // Which of the compiler's limits comes first is the machine's affair.
    let message = text(refused.one("error"), "message");
    assert!(message.contains("MiB of memory") || message.contains("s of processor time"), "{refused}");
    before.assert_same();
    assert_eq!(target.done("run 4 1000"), 4000);
    let live = Live::attached(&["load", counter().path(), "-p", &pid, "--at", "work"]);
    let calls = target.done("run 4 1000");
    let outcome = live.interrupt();
    assert_eq!((outcome.status, outcome.hits()), (0, calls), "{outcome}");
}
