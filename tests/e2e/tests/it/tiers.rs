//! The two tiers: what runs as native code, and that it counts what the same probe counts under wasmtime.

use std::process::Command;

use serde_json::json;
use trocar_test_support::command::{binary, count};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

use crate::memory::in_tier;
use crate::probe::Probe;

/// Values of all maps of a session, by name and row, and its counters.
fn told(outcome: &Outcome) -> (Vec<serde_json::Value>, Vec<[u64; 3]>) {
    let last = |name: &str| outcome.all("map").rfind(|m| m.get("name") == Some(&json!(name))).cloned();
    let mut names: Vec<&str> = outcome.all("map").filter_map(|m| m.get("name")?.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let rows = names.into_iter().filter_map(last).filter_map(|m| m.get("rows").cloned()).collect();
    let stats = outcome.final_stats().into_iter();
    (rows, stats.map(|s| ["hits", "executed", "condition_false"].map(|name| count(s, name))).collect())
}

/// Runs the same calls under a probe in each tier. What it told is the same; that is returned.
fn in_both(args: &[&str], run: &str) -> (Vec<serde_json::Value>, Vec<[u64; 3]>) {
    let [one, two] = [1, 2].map(|tier| {
        let mut target = Target::start("counter");
        let before = Snapshot::of(target.pid());
        let pid = target.pid().to_string();
        let args: Vec<&str> = args.iter().map(|a| if *a == "PID" { pid.as_str() } else { *a }).collect();
        let live = in_tier(tier, &args);
        target.done(run);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.lost(), 0, "tier {tier}: {outcome}");
        before.assert_same();
        told(&outcome)
    });
    assert_eq!(one, two, "in the two tiers");
    two
}

#[test]
fn a_count_is_the_same_in_both() {
    let calls = scaled(100_000);
    let (rows, stats) = in_both(&["count", "-p", "PID", "work"], &format!("run 4 {calls}"));
    assert_eq!(stats, [[4 * calls, 4 * calls, 0]]);
    assert_eq!(rows, [json!([{"key": {"index": 0}, "value": 4 * calls}])]);
}

#[test]
fn a_count_under_a_condition_is_the_same_in_both() {
    let calls = scaled(100_000);
    let condition = "$arg0 % 2 == 0";
    // A remainder can trap, so it is not simple: this one is its lowest bit.
    let simple = "$arg0 & 1 == 0 && $reg.rsi != 0x12345678";
    let run = format!("run 4 {calls}");
    let (_, stats) = in_both(&["count", "-p", "PID", "work", "--if", simple], &run);
    let [[hits, executed, not]] = stats[..] else { panic!("{stats:?}") };
    assert!(hits == 4 * calls && executed + not == hits && executed > 0 && not > 0, "{stats:?}");
    let mut target = Target::start("counter");
    let live = in_tier(1, &["count", "-p", &target.pid().to_string(), "work", "--if", condition]);
    target.done(&run);
    let outcome = live.interrupt();
    assert_eq!(told(&outcome).1, [[hits, executed, not]], "{outcome}");
}

#[test]
fn histograms_and_counters_by_site_are_the_same_in_both() {
    let calls = scaled(50_000);
    let probe = Probe::of_wat(
        r#"(module
          (import "trocar" "arg" (func $arg (param i32) (result i64)))
          (import "trocar" "site" (func $site (result i32)))
          (import "trocar" "counter_add" (func $count (param i32 i32 i64)))
          (import "trocar" "hist_add" (func $hist (param i32 i32 i64)))
          (func (export "on_hit") (result i32)
            (call $count (i32.const 0) (call $site) (i64.and (call $arg (i32.const 0)) (i64.const 7)))
            (if (i64.lt_u (call $arg (i32.const 0)) (i64.const 10)) (then (return (i32.const 0))))
            (call $hist (i32.const 1) (i32.const 0) (call $arg (i32.const 0)))
            (i32.const 1))
          (@custom "trocar.manifest"
            "{\"abi\": 1, \"name\": \"both\", \"maps\": [{\"name\": \"sums\", \"kind\": \"counter\", \"entries\": 2},"
            " {\"name\": \"values\", \"kind\": \"hist\", \"precision\": 3}]}"))"#,
    );
    let args = ["load", probe.path(), "-p", "PID", "--at", "work", "--max-core", "100"];
    let (rows, stats) = in_both(&args, &format!("run 2 {calls}"));
    assert_eq!(stats.iter().map(|s| s[0]).max(), Some(2 * calls), "{stats:?}");
    assert!(rows.len() == 2 && rows.iter().all(|r| r.as_array().is_some_and(|r| !r.is_empty())), "{rows:?}");
}

#[test]
fn what_is_not_simple_or_not_for_every_hit_runs_under_wasmtime() {
    let target = Target::start("counter");
    let pid = target.pid().to_string();
    for more in
        [&["--by", "$arg0"][..], &["--sample", "1/2"], &["--if", "*(u32*)$arg0 == 1"], &["--fuel", "2"]]
    {
        let args = [&["count", "-p", &pid, "work"], more].concat();
        let mut command = Command::new(binary());
        command.args(&args).args(["-o", "json"]).env_remove("TROCAR_TIER");
        let attached = Live::spawn(&mut command).until("attached");
        assert_eq!(attached.get("tier"), Some(&json!(1)), "{more:?}: {attached}");
    }
}

/// Neither tier may follow its thread pointer, which is zero: there is nowhere to count, and that is said.
#[test]
fn a_program_without_a_thread_pointer_runs_on() {
    for tier in [1, 2] {
        let mut target = Target::start("bare");
        let before = Snapshot::of(target.pid());
        let live = in_tier(tier, &["count", "-p", &target.pid().to_string(), "work"]);
        assert_eq!(target.done("run 1000"), 1000);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!((outcome.hits(), outcome.lost_as("no_context")), (1000, 1000), "tier {tier}: {outcome}");
        before.assert_same();
    }
}

/// Every register is handed to the handler, at every instruction of a function that compares all of them afterwards.
#[test]
fn a_condition_on_registers_changes_none_of_them() {
    let mut target = Target::start("redzone");
    let answer = target.ask("sites");
    let points: Vec<String> = answer
        .split_whitespace()
        .skip(1)
        .map(|n| format!("redzone+{:#x}", n.parse::<u64>().unwrap()))
        .collect();
    let pid = target.pid().to_string();
    let condition = "$reg.rbx + $reg.r15 + $reg.r8 + $reg.rcx + $reg.rbp == 1 || $arg0 == 77 || $ret == 5";
    let mut args = vec!["count", "-p", &pid, "--if", condition];
    args.extend(points.iter().map(String::as_str));
    let live = in_tier(2, &args);
    let calls = scaled(100_000);
    // `done` panics if anything changed.
    assert_eq!(target.done(&format!("run {calls} 1")), calls);
    let outcome = live.interrupt();
    outcome.assert_clean();
    for site in outcome.final_stats() {
        assert_eq!(count(site, "hits"), calls, "{site}");
    }
}
