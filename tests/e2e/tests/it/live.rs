//! Attach and detach in the middle of things: threads in malloc, forks, signal handlers, coroutines, and system
//! calls that sleep. Each target watches itself and answers `wrong` when something came out otherwise.

use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

/// Counts one point, by now.
pub(crate) fn count(target: &Target, point: &str) -> Live {
    Live::attached(&["count", "-p", &target.pid().to_string(), point])
}

/// The end of a session that leaves nothing.
pub(crate) fn ends(live: Live) -> Outcome {
    let outcome = live.interrupt();
    outcome.assert_clean();
    outcome
}

#[test]
fn calls_that_sleep_in_the_kernel_do_not_notice() {
    let mut target = Target::start("blocked");
    let asleep = target.ask("check");
    assert!(asleep.starts_with("blocked read futex ") && asleep.split_whitespace().count() == 25, "{asleep}");
    let before = Snapshot::of(target.pid());
    for _ in 0..10 {
        let live = count(&target, "work");
        assert_eq!(target.ask("check"), asleep, "after attach");
        assert_eq!(target.done("run 10 10"), 100);
        assert_eq!(ends(live).hits(), 100);
        assert_eq!(target.ask("check"), asleep, "after detach");
    }
    before.assert_same();
    assert_eq!(target.ask("release"), "released 24", "each ends as it would have");
}

/// Attach and detach again and again while all threads fight for the allocator's lock.
fn stopped_inside_malloc(name: &str) {
    let mut target = Target::start(name);
    target.ask("spin 4");
    for _ in 0..scaled(500) {
        let live = Live::attached(&["count", "-p", &target.pid().to_string(), "churn", "--hits", "20"]);
        live.finish().assert_clean();
    }
    assert!(target.done("halt") > 0);
    let before = Snapshot::of(target.pid());
    let live = count(&target, "churn");
    let calls = target.done(&format!("run 4 {}", scaled(500_000)));
    assert_eq!(ends(live).hits(), calls);
    before.assert_same();
}

#[test]
fn attach_works_inside_glibcs_malloc() {
    stopped_inside_malloc("malloc_storm");
}

#[test]
fn attach_works_inside_musls_malloc() {
    stopped_inside_malloc("malloc_storm-musl");
}

#[test]
fn malloc_itself_can_be_probed() {
    let mut target = Target::start("malloc_storm");
    let before = Snapshot::of(target.pid());
    let live = count(&target, "libc.so.6:malloc");
    let calls = target.done(&format!("run 4 {}", scaled(500_000)));
    let outcome = ends(live);
    assert!(outcome.hits() >= calls, "each churn calls malloc once, and threads a little more: {outcome}");
    before.assert_same();
}

#[test]
fn children_of_fork_run_on_and_their_hits_are_not_ours() {
    let mut target = Target::start("fork");
    let before = Snapshot::of(target.pid());
    let live = count(&target, "work");
    target.done(&format!("fork 8 {}", scaled(100_000)));
    target.done("exec 20");
    let own = target.done("run 10 100");
    assert_eq!(ends(live).hits(), own, "only the parent's calls are hits");
    before.assert_same();
    assert_eq!(target.done("run 10 10"), 100);
}

#[test]
fn children_that_outlive_the_session_run_on() {
    let mut target = Target::start("fork");
    let live = count(&target, "work");
    assert_eq!(target.ask("prefork 4 100"), "ready-made 4");
    target.done("job 1000");
    // The parent is as before; the children have their own copies of text, trampolines and agent.
    assert_eq!(ends(live).hits(), 0, "the parent called nothing");
    target.done(&format!("job {}", scaled(100_000)));
    assert_eq!(target.done("dismiss"), 4, "none died by a signal");
    assert!(target.finish().success());
}

/// Handler and threads call the same function: the hit inside a hit is skipped and counted.
fn signals(mode: &str) {
    let mut target = Target::start_with("signals", &[mode]);
    let before = Snapshot::of(target.pid());
    let live = count(&target, "work");
    let answer = target.ask(&format!("run 4 {}", scaled(2_000_000)));
    assert!(answer.starts_with("done "), "{answer}");
    let calls: u64 = answer.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap();
    let outcome = ends(live);
    assert_eq!(outcome.hits(), calls + Target::field(&answer, "handler"), "{outcome}");
    let named = ["reentrant", "alternate_stack", "no_stack_room", "no_context"].map(|r| outcome.lost_as(r));
    assert_eq!(outcome.lost(), named.iter().sum::<u64>(), "each loss has one of four reasons: {outcome}");
    let in_sandbox = outcome.one("attached").get("tier") == Some(&serde_json::json!(1));
    if in_sandbox && (mode == "altstack" || mode == "late") {
        // There is no room for the sandbox on it, and no leaving it. Native code takes none of it that would matter.
        assert!(outcome.lost() >= Target::field(&answer, "handler"), "no handler's hit ran: {outcome}");
    }
    before.assert_same();
}

#[test]
fn a_handler_that_hits_inside_a_hit_is_counted() {
    signals("plain");
}

#[test]
fn a_handler_on_an_alternate_stack_is_counted() {
    signals("altstack");
}

#[test]
fn an_alternate_stack_that_is_installed_after_a_threads_first_hit_is_found() {
    signals("late");
}

#[test]
fn threads_with_small_stacks_under_signals_are_counted() {
    signals("small");
}

/// Trampolines lie below the libraries, with room in between, which the program may fill: what touches them is its own.
#[test]
fn memory_that_comes_to_touch_our_trampolines_is_the_programs() {
    let mut target = Target::start("fill");
    let pid = target.pid().to_string();
    let first = Live::attached(&["count", "-p", &pid, "libc.so.6:rand"]);
    assert_eq!(target.done("map 64"), 64);
    let mut second = Live::attached(&["count", "-p", &pid, "work"]);
    second.until_that("stats", |s| trocar_test_support::command::count(s, "hits") > 0);
    for live in [second, first] {
        ends(live);
    }
    ends(count(&target, "work"));
}

#[test]
fn coroutines_on_small_stacks_are_counted() {
    let mut target = Target::start("ucontext");
    let before = Snapshot::of(target.pid());
    let live = count(&target, "work");
    let calls = target.done(&format!("run 32 {}", scaled(100_000)));
    let outcome = ends(live);
    assert_eq!(outcome.hits(), calls, "{outcome}");
    before.assert_same();
}
