//! Hits that their thread leaves, for good or for a while: a signal handler goes elsewhere by `siglongjmp`, ends the thread,
//! or switches to a coroutine. The probe takes a millisecond at every hit, so that it is nearly always what a signal finds.

use serde_json::Value;
use trocar_test_support::command::count;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

use crate::limits::{FUEL, burner};
use crate::live::{count as counted, ends};

fn start(mode: &[&str]) -> (Target, Snapshot) {
    let mut target = Target::start_with("left", mode);
    // So that the stack of a thread, which stays for the next, is there.
    assert_eq!(left(&mut target, "quit 1"), 0, "nothing of ours is there");
    let before = Snapshot::of(target.pid());
    (target, before)
}

fn load(target: &Target) -> Live {
    let (probe, pid) = (burner(), target.pid().to_string());
    let args = ["load", probe.path(), "-p", &pid, "--at", "work", "--fuel", FUEL, "--max-core", "100"];
    Live::attached(&args)
}

/// Tells the target what to do; how many of its calls were left.
fn left(target: &mut Target, command: &str) -> u64 {
    let answer = target.ask(command);
    assert!(answer.starts_with("done "), "{command}: {answer}");
    Target::field(&answer, "left")
}

fn executed(outcome: &Outcome) -> u64 {
    outcome.final_stats().iter().map(|s| count(s, "executed")).sum()
}

/// As many calls, every second one left: each hit was executed or abandoned, and nothing of ours is there afterwards.
fn every_second(mode: &[&str], place: &str) {
    let (mut target, before) = start(mode);
    let mut live = load(&target);
    let left = left(&mut target, &format!("jump 25 {place}"));
    assert!(left > 0, "no call lasted so long that it was left");
    let abandoned = |s: &Value| s.get("losses").and_then(|l| l.get("abandoned")).and_then(Value::as_u64);
    live.until_that("stats", |s| abandoned(s) == Some(left));
    let outcome = live.interrupt();
    outcome.assert_clean();
    let counts = (outcome.hits_with_abandoned(), executed(&outcome), outcome.lost());
    assert_eq!(counts, (25, 25 - left, outcome.lost_as("abandoned")), "{outcome}");
    before.assert_same();
}

#[test]
fn a_hit_that_siglongjmp_leaves_is_told_and_the_thread_goes_on_in_another_context() {
    every_second(&[], "");
}

#[test]
fn so_is_one_that_a_handler_on_an_alternate_stack_leaves() {
    every_second(&["altstack"], "");
}

#[test]
fn so_is_one_on_a_stack_of_the_heap_which_runs_on_a_spare_stack() {
    every_second(&[], "heap");
}

#[test]
fn hits_in_which_their_threads_end_are_told_and_keep_no_memory() {
    let (mut target, before) = start(&[]);
    let live = load(&target);
    let left = left(&mut target, "quit 12");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert!(left > 0, "no call lasted so long that it was left");
    let counts = (outcome.hits_with_abandoned(), executed(&outcome), outcome.lost());
    assert_eq!(counts, (12, 12 - left, outcome.lost_as("abandoned")), "{outcome}");
    before.assert_same();
}

#[test]
fn a_program_that_leaves_hits_for_ever_uses_half_of_the_contexts_and_then_its_hits_find_none() {
    let (mut target, before) = start(&[]);
    let live = load(&target);
    // For a single thread there are 16 contexts at first, and at most four times as many. The last one is not retired.
    const MOST: u64 = 64 / 2 + 1;
    let (mut calls, mut all) = (0, 0);
    while all < MOST {
        assert!(calls < 1_000_000, "only {all} hits were left: no context comes");
        all += left(&mut target, "jump 10");
        calls += 10;
    }
    assert_eq!((all, left(&mut target, "jump 100")), (MOST, 0), "there are no more contexts for this thread");
    calls += 100;
    let outcome = live.interrupt();
    outcome.assert_clean();
    let [abandoned, no_context] = ["abandoned", "no_context"].map(|reason| outcome.lost_as(reason));
    let counts = (outcome.hits_with_abandoned(), executed(&outcome), outcome.lost());
    assert_eq!(counts, (calls, calls - abandoned - no_context, abandoned + no_context), "{outcome}");
    assert_eq!((abandoned, no_context >= 100), (MOST, true), "{outcome}");
    before.assert_same();
}

/// A handler switches to a coroutine, which makes hits of its own and switches back: the hit goes on.
fn switched(mode: &[&str], place: &str) {
    let (mut target, before) = start(mode);
    let live = load(&target);
    let left = left(&mut target, &format!("switch 21 3 {place}"));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert!(left > 0, "no call lasted so long that it was left");
    let counts = (outcome.hits(), executed(&outcome), outcome.lost_as("reentrant"));
    assert_eq!(counts, (21 + 3 * left, 21, 3 * left), "{outcome}");
    before.assert_same();
}

#[test]
fn a_hit_that_a_coroutine_comes_back_to_goes_on() {
    switched(&[], "heap");
    switched(&["altstack"], "heap");
}

#[test]
fn so_does_one_whose_stack_pointer_is_below_that_of_the_coroutine_on_the_same_stack() {
    switched(&[], "frame");
    switched(&["altstack"], "frame");
}

/// While the coroutine waits nobody is in our memory, by any register or signal frame on a stack that somebody is on.
fn suspended(place: &str) {
    let (mut target, before) = start(&[]);
    let live = load(&target);
    assert_eq!(target.ask(&format!("suspend {place}")), "suspended");
    let outcome = live.interrupt();
    let receipt = outcome.one("receipt");
    assert_eq!(receipt.get("restored"), Some(&Value::Bool(true)), "{receipt}");
    let residue = receipt.get("residue").unwrap().to_string();
    assert!(residue.contains("is inside a hit") && count(receipt, "mappings_left") > 0, "{receipt}");
    let counts = (outcome.hits_with_abandoned(), executed(&outcome), outcome.lost_as("abandoned"));
    assert_eq!(counts, (2, 1, 1), "{outcome}");
    // It goes on in what we left, to its end.
    assert_eq!(target.ask("go on"), "done 2 left=1");
    let live = counted(&target, "work");
    assert_eq!(left(&mut target, "jump 10"), 0, "native code takes no time");
    assert_eq!(ends(live).hits(), 10);
    before.assert_same();
    assert!(target.finish().success());
}

#[test]
fn memory_stays_where_a_coroutine_may_come_back_to_a_hit() {
    suspended("heap");
    suspended("frame");
}

#[test]
fn hits_that_are_left_anywhere_keep_no_memory_and_break_nothing() {
    let (mut target, before) = start(&[]);
    let pid = target.pid().to_string();
    for verb in ["count", "time"] {
        let live = Live::attached(&[verb, "-p", &pid, "work"]);
        let calls = scaled(100_000_000);
        let left = left(&mut target, &format!("storm {calls}"));
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert!(left > 0, "no signal came while a probe ran");
        let hits = outcome.hits_with_abandoned();
        let sites = outcome.final_stats().len() as u64;
        assert!(hits <= sites * calls && hits + sites * left >= sites * calls, "{left} {outcome}");
        let named = ["abandoned", "no_context"].map(|reason| outcome.lost_as(reason));
        assert_eq!(outcome.lost(), named.iter().sum::<u64>(), "{outcome}");
        before.assert_same();
    }
}
