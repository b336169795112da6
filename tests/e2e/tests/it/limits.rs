//! Limits in force: records a second, share of a core, sampling, hits, time to live; and the switch for all of them.
//!
//! Every test compares what was counted with what the target did: a limit loses hits, and says how many.

use std::time::Instant;

use trocar_test_support::command::{count, text};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Redis, Snapshot, Target, run};

use crate::probe::Probe;

/// A probe that writes an event of eight bytes at every hit.
pub(crate) fn event() -> Probe {
    Probe::of_wat(
        r#"(module
            (import "trocar" "emit" (func $emit (param i32 i32 i32)))
            (memory (export "memory") 1 1)
            (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 8)))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"event\",\"events\":[{\"name\":\"e\",\"fields\":[{\"name\":\"n\",\"type\":\"u64\"}]}]}"))"#,
    )
}

/// What may be used at every hit so that some tens of hits a second are more than a probe's share of a core, since on a busy
/// machine there may be no more: a millisecond or so.
pub(crate) const FUEL: &str = "10000000";

/// A probe that uses nearly all of that at every hit, and never all: eight operators a round.
pub(crate) fn burner() -> Probe {
    Probe::of_wat(
        r#"(module (func (export "on_hit") (local $i i32)
            (loop $again
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $again (i32.lt_u (local.get $i) (i32.const 1200000))))))"#,
    )
}

fn executed(outcome: &Outcome) -> u64 {
    outcome.final_stats().iter().map(|s| count(s, "executed")).sum()
}

#[test]
fn records_over_the_rate_are_dropped_and_counted() {
    let (probe, mut target) = (event(), Target::start("counter"));
    let before = Snapshot::of(target.pid());
    let began = Instant::now();
    let pid = target.pid().to_string();
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work", "--rate", "100/s"]);
    let calls = target.done("run 4 5000");
    let outcome = live.interrupt();
    let most = 100 + 100 * (began.elapsed().as_secs() + 1);
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{}", outcome.stderr);
    let written = outcome.all("event").count() as u64;
    assert_eq!((written, outcome.lost()), (executed(&outcome), outcome.lost_as("rate_limited")));
    assert!((50..=most).contains(&written), "{written} records, at most {most} in this time");
    before.assert_same();
}

#[test]
fn a_probe_within_the_rate_loses_nothing() {
    let (probe, mut target) = (event(), Target::start("counter"));
    let pid = target.pid().to_string();
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work"]);
    let calls = target.done("run 2 1000");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (calls, 0), "{}", outcome.stderr);
    assert_eq!(outcome.all("event").count() as u64, calls);
}

#[test]
fn a_probe_that_burns_its_fuel_on_redis_is_suspended_and_redis_serves_on() {
    let mut redis = Redis::start();
    let snapshot = Snapshot::of(redis.pid());
    let before: u64 = redis.commandstats().values().sum();
    let (probe, pid) = (burner(), redis.pid().to_string());
    let args = ["load", probe.path(), "-p", &pid, "--at", "processCommand", "--fuel", FUEL];
    let mut live = Live::attached(&args);
    let rates = redis.benchmark("get,set", scaled(2_000_000)).finish();
    assert_eq!(rates.len(), 2, "{rates:?}");
    let state = live.until_that("state", |s| text(s, "state") == "suspended");
    assert!(
        text(&state, "why").contains("% of a core") && text(&state, "why").contains("limit 5 %"),
        "{state}"
    );
    let after: u64 = redis.commandstats().values().sum();
    let outcome = live.interrupt();
    outcome.assert_clean();
    // The first look at the statistics is counted by itself afterwards, the second one is seen by the probe.
    assert_eq!(outcome.hits(), after - before, "{}", outcome.stderr);
    assert_eq!(outcome.lost(), outcome.lost_as("suspended"), "{outcome}");
    assert!(executed(&outcome) > 0 && outcome.lost() > 0, "{outcome}");
    snapshot.assert_same();
    println!("requests a second under a suspended probe: {rates:?}");
}

#[test]
fn a_suspended_probe_goes_on_in_the_next_second() {
    // Suspended hits cost something too: where a function is called all the time, half of what the thread has.
    let mut server = Target::start_with("server", &["--control", "--self-load", "4000"]);
    let (probe, pid) = (burner(), server.pid().to_string());
    let args = ["load", probe.path(), "-p", &pid, "--at", "handle_request", "--fuel", FUEL];
    let mut live = Live::attached(&args);
    for _ in 0..2 {
        live.until_that("state", |s| text(s, "state") == "suspended");
        live.until_that("state", |s| text(s, "state") == "armed");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.lost(), outcome.lost_as("suspended"), "{outcome}");
    assert!(outcome.hits() > executed(&outcome), "{outcome}");
    assert_eq!(Target::field(&server.ask("stats"), "wrong"), 0);
}

#[test]
fn counting_has_a_share_of_a_core_only_where_one_is_asked_for() {
    let mut target = Target::start("counter");
    let pid = target.pid().to_string();
    target.ask("spin 2");
    let mut live = Live::attached(&["count", "-p", &pid, "work", "--max-core", "0.1"]);
    let limits = live.until_that("state", |s| text(s, "state") == "suspended");
    assert!(text(&limits, "why").contains("limit 0.1 %"), "{limits}");
    live.interrupt().assert_clean();
    let outcome = Live::attached(&["count", "-p", &pid, "work", "--for", "1500ms"]).finish();
    target.done("halt");
    outcome.assert_clean();
    assert_eq!((outcome.lost(), outcome.all("state").count()), (0, 0), "{}", outcome.stderr);
}

#[test]
fn one_hit_in_so_many_runs_and_the_others_are_counted() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--sample", "1/10"]);
    let calls = target.done("run 4 5000");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), executed(&outcome)), (calls, calls / 10), "{outcome}");
    assert_eq!(outcome.lost(), outcome.lost_as("sampled_out"), "{outcome}");
    before.assert_same();
}

#[test]
fn the_hits_that_were_asked_for_are_those_for_which_the_condition_holds() {
    let mut target = Target::start("counter");
    let pid = target.pid().to_string();
    target.ask("spin 2");
    let args = ["count", "-p", &pid, "work", "--if", "$arg0 % 1000 == 0", "--hits", "200"];
    let outcome = Live::attached(&args).finish();
    target.done("halt");
    outcome.assert_clean();
    assert!(executed(&outcome) >= 200, "{outcome}");
    assert!(outcome.hits() > executed(&outcome), "{outcome}");
}

#[test]
fn a_probe_whose_time_is_over_is_taken_out_and_says_so() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    target.ask("spin 2");
    let has_hits = || {
        let outcome =
            Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--ttl", "300ms"]).finish();
        outcome.assert_clean();
        let state = outcome.one("state");
        assert_eq!((text(state, "state"), text(state, "why")), ("expired", "its time to live is over"));
        outcome.hits() > 0
    };
    // On a busy machine the target may have no turn in one of them.
    assert!((0..50).any(|_| has_hits()), "hits in none of 50 sessions");
    target.done("halt");
    before.assert_same();
}

#[test]
fn off_stops_every_probe_and_their_commands_leave() {
    let mut targets = [Target::start("counter"), Target::start("counter-static")];
    let before: Vec<Snapshot> = targets.iter().map(|t| Snapshot::of(t.pid())).collect();
    let pids: Vec<String> = targets.iter().map(|t| t.pid().to_string()).collect();
    for target in &mut targets {
        target.ask("spin 2");
    }
    let attach = |pid: &String| Live::attached(&["count", "-p", pid, "work"]);
    let mut lives: Vec<Live> = pids.iter().map(attach).collect();
    for live in &mut lives {
        live.until_that("stats", |s| count(s, "hits") > 0);
    }
    // Those of other tests go on.
    let off = run(&["off", "-p", &pids.join(",")]);
    assert_eq!(off.status, 0, "{off}");
    let mut told: Vec<u64> = off.all("off").map(|o| count(o, "pid")).collect();
    let mut expected: Vec<u64> = pids.iter().map(|p| p.parse().unwrap()).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected, "{off}");
    assert!(off.all("off").all(|o| count(o, "gates") == 1 && count(o, "off_ns") > 0), "{off}");
    assert_eq!(count(off.one("all_off"), "sessions"), 2, "{off}");
    for live in lives {
        let outcome = live.finish();
        outcome.assert_clean();
        let state = outcome.one("state");
        assert!(text(state, "state") == "suspended" && text(state, "why").contains("trocar off"), "{state}");
        assert!(outcome.hits() > 0, "{outcome}");
    }
    for (target, before) in targets.iter_mut().zip(before) {
        target.done("halt");
        before.assert_same();
    }
    let again = run(&["off", "-p", &pids.join(",")]);
    assert_eq!((again.status, count(again.one("all_off"), "sessions")), (0, 0), "{again}");
}

#[test]
fn off_stops_a_probe_whose_command_hangs() {
    let mut target = Target::start("counter");
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let calls = target.done("run 2 100");
    live.stop();
    let off = run(&["off", "-p", &target.pid().to_string()]);
    assert_eq!(count(off.one("all_off"), "sessions"), 1, "{off}");
    target.done("run 2 100");
    live.go_on();
    let outcome = live.finish();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "what came after the switch never reached the agent: {outcome}");
}
