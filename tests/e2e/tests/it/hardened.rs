//! Targets that have restricted themselves, or are in the middle of a change: each is probed with exact counts, or
//! refused beforehand with the reason, and runs on either way.

use std::process::Command;
use std::time::Instant;

use trocar_test_support::command::{count, text};
use trocar_test_support::lines::PATIENCE;
use trocar_test_support::process::text_differences;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target, run};

use crate::memory::in_tier;

/// Counts exactly, and leaves everything as it was.
fn is_probed(mode: &str) {
    let mut target = Target::start_with("hardened", &[mode]);
    // From its first answer on it is as restricted as it will be.
    assert_eq!(target.done("run 1 1"), 1);
    let before = Snapshot::of(target.pid());
    for _ in 0..3 {
        let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
        assert_eq!(target.done("run 1 1000"), 1000);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!((outcome.hits(), outcome.lost()), (1000, 0), "{outcome}");
        before.assert_same();
    }
    assert_eq!(target.done("run 1 10"), 10);
    assert!(target.finish().success());
}

/// Is refused with a message that holds these words, and runs on.
fn is_refused(mode: &str, words: &str) {
    let mut target = Target::start_with("hardened", &[mode]);
    // From its first answer on it is as restricted as it will be.
    assert_eq!(target.done("run 1 1"), 1);
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &target.pid().to_string(), "work", "--hits", "1"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(outcome.one("error").to_string().contains(words), "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 1 10"), 10);
    assert!(target.finish().success());
}

#[test]
fn a_filter_that_kills_at_every_new_call_does_not_see_ours() {
    is_probed("filter");
}

#[test]
fn a_process_that_refuses_executable_memory_is_probed() {
    is_probed("mdwe");
}

#[test]
fn a_process_that_blocks_every_signal_is_probed() {
    is_probed("quiet");
}

#[test]
fn a_process_whose_only_thread_is_real_time_is_probed() {
    is_probed("realtime");
}

#[test]
fn callers_that_forbid_unaligned_accesses_are_probed() {
    is_probed("aligned");
}

#[test]
fn a_process_that_handles_its_own_system_calls_is_refused() {
    is_refused("dispatch", "could be used");
}

#[test]
fn a_process_that_forbids_the_time_stamp_counter_is_refused() {
    is_refused("notick", "time-stamp counter");
}

#[test]
fn a_suspended_process_is_probed_and_stays_suspended() {
    let mut target = Target::start("counter");
    let pid = target.pid().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    let suspended = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ")
    };
    // A thread that is let go enters its stop again by itself, when it has a turn on a processor.
    let stays_suspended = |when: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !suspended() {
            assert!(Instant::now() < deadline, "{when}");
            std::thread::yield_now();
        }
    };
    signal("-STOP");
    while !suspended() {
        std::thread::yield_now();
    }
    let live = Live::attached(&["count", "-p", &pid, "work"]);
    stays_suspended("after attach");
    signal("-CONT");
    assert_eq!(target.done("run 2 100"), 200);
    signal("-STOP");
    while !suspended() {
        std::thread::yield_now();
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 200, "{outcome}");
    stays_suspended("after detach");
    signal("-CONT");
    assert_eq!(target.done("run 2 100"), 200);
}

/// Where each thread of a suspended process stands: stack pointer and program counter. A thread that is let
/// go enters its stop again by itself, when it has a turn on a processor: it is waited for.
fn places(pid: &str) -> Vec<String> {
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut places: Vec<String> =
            threads.map(|t| std::fs::read_to_string(t.unwrap().path().join("syscall")).unwrap()).collect();
        places.sort();
        if places.iter().all(|p| !p.contains("running")) {
            return places;
        }
        std::thread::yield_now();
    }
}

#[test]
fn no_thread_of_a_suspended_process_runs_on_while_it_works_for_us() {
    let mut target = Target::start("redzone");
    // Its only thread is in its own code, and stays there.
    target.ask_nothing("run 1000000000000 1");
    let pid = target.pid().to_string();
    for _ in 0..scaled(500) {
        let signal =
            |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        signal("-STOP");
        let before = places(&pid);
        // A function that nobody is in, so that nobody is moved.
        run(&["count", "-p", &pid, "main", "--for", "1ms"]).assert_clean();
        assert_eq!(places(&pid), before);
        signal("-CONT");
    }
}

#[test]
fn children_of_vfork_run_in_probed_memory_and_are_counted() {
    let mut target = Target::start("fork");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let calls = target.done(&format!("lend 20 {}", scaled(50_000)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    before.assert_same();
}

#[test]
fn attach_and_detach_while_children_of_vfork_are_in_the_function() {
    let mut target = Target::start("fork");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let children = scaled(5000);
    target.ask_nothing(&format!("lend {children} 100000"));
    for _ in 0..scaled(500) {
        run(&["count", "-p", &pid, "work", "--for", "5ms"]).assert_clean();
    }
    assert_eq!(target.ask("run 1 1"), format!("done {}", children * 100_000));
    before.assert_same();
}

#[test]
fn attach_to_a_program_that_starts_itself_anew_never_hangs_and_never_hurts() {
    let times = scaled(5000);
    let target = Target::start_with("execs", &[&times.to_string()]);
    let pid = target.pid().to_string();
    let mut statuses = Vec::new();
    loop {
        let outcome = run(&["count", "-p", &pid, "work", "--for", "1ms"]);
        assert!(matches!(outcome.status, 0 | 4 | 5), "{outcome}");
        statuses.push(outcome.status);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            break;
        }
    }
    assert!(target.finish().success(), "{statuses:?}");
}

/// A probe that does nothing but count, and whose calls are not timed: its hits are timed one in 256, those of native code never.
#[test]
fn no_hit_but_one_in_256_reads_the_time_stamp_counter_and_none_of_native_code() {
    for (tier, calls) in [(1, 255), (2, 10_000)] {
        let mut target = Target::start_with("hardened", &["none"]);
        let live = in_tier(tier, &["count", "-p", &target.pid().to_string(), "work"]);
        assert_eq!(target.done("counter off"), 1);
        assert_eq!(target.done(&format!("run 1 {calls}")), calls, "tier {tier}");
        assert_eq!(target.done("counter on"), 1);
        assert_eq!(target.done("run 1 1000"), 1000);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.hits(), calls + 1000, "{outcome}");
    }
}

/// A target with a thread that no stop reaches, and this thread's id.
fn with_a_thread_that_does_not_stop() -> (Target, String) {
    let mut target = Target::start("stuck");
    let tid = stick(&mut target);
    (target, tid)
}

fn stick(target: &mut Target) -> String {
    let stuck = target.ask("stick");
    let tid = stuck.strip_prefix("stuck ");
    tid.unwrap_or_else(|| {
        panic!("no such thread can be made here (as root, with CONFIG_USERFAULTFD): {stuck}")
    })
    .to_owned()
}

/// The error names the thread, and all others run on.
fn is_told(outcome: &Outcome, target: &mut Target, tid: &str) -> String {
    assert_eq!(outcome.status, 4, "{outcome}");
    let error = outcome.one("error");
    let named = format!("thread {tid} of process {} did not stop", target.pid());
    assert!(text(error, "message").starts_with(&named), "{outcome}");
    assert_eq!(target.done("beat 50"), 50);
    text(error, "hint").to_owned()
}

#[test]
fn a_thread_that_does_not_stop_is_named_and_all_others_run_on() {
    let (mut target, tid) = with_a_thread_that_does_not_stop();
    let pid = target.pid().to_string();
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &pid, "work", "--for", "1s"]);
    let hint = is_told(&outcome, &mut target, &tid);
    assert!(hint.contains("try again") && !hint.contains("is left"), "{outcome}");
    before.assert_same();
    assert_eq!(target.done("free"), 1, "its call goes on to its end");
    let live = Live::attached(&["count", "-p", &pid, "work"]);
    assert_eq!(target.done("run 1 100"), 100);
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert!(outcome.hits() >= 100, "{outcome}");
    assert_eq!(outcome.all("reaped").count(), 0, "nothing was left: {outcome}");
}

#[test]
fn what_a_thread_that_does_not_stop_keeps_from_being_removed_is_told_and_removed_by_the_next_command() {
    let mut target = Target::start("stuck");
    let pid = target.pid().to_string();
    let live = Live::attached(&["count", "-p", &pid, "work"]);
    let tid = stick(&mut target);
    let outcome = live.interrupt();
    let hint = is_told(&outcome, &mut target, &tid);
    assert!(hint.contains("is left") && hint.contains("next command"), "{outcome}");
    let receipt = outcome.one("receipt");
    assert_eq!(receipt.get("restored"), Some(&false.into()), "{outcome}");
    assert!(count(receipt, "mappings_left") > 0, "{outcome}");
    assert!(receipt.get("residue").unwrap().to_string().contains(&format!("thread {tid}")), "{outcome}");
    assert!(outcome.hits() > 0, "{outcome}");
    assert_eq!(target.done("free"), 1);
    let outcome = run(&["count", "-p", &pid, "work", "--for", "1ms"]);
    outcome.assert_clean();
    let reaped = outcome.one("reaped");
    assert_eq!(reaped.get("restored"), Some(&true.into()), "{outcome}");
    assert_eq!(count(reaped, "mappings_left"), 0, "{outcome}");
    assert_eq!(target.done("beat 50"), 50);
}

/// The pages would come from a thread of the program, which stands still in the stop.
#[test]
fn a_stack_in_a_mapping_with_pages_that_somebody_serves_is_told_and_nobody_waits_for_them() {
    let mut target = Target::start("stuck");
    let lean = target.ask("lean");
    assert_eq!(lean, "done 1", "as root, with CONFIG_USERFAULTFD");
    let outcome = run(&["count", "-p", &target.pid().to_string(), "work", "--for", "1s"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    let error = outcome.one("error");
    let message = text(error, "message");
    assert!(message.contains("stacks") && message.contains("cannot be searched"), "{outcome}");
    // For all that is known, somebody there will come back to our memory.
    assert!(text(error, "hint").contains("is left"), "{outcome}");
    assert_eq!(target.done("beat 50"), 50);
    let differences = text_differences(target.pid());
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn a_thread_that_another_process_traces_is_named_and_the_call_of_the_one_before_it_goes_on() {
    let mut target = Target::start("polled");
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    assert_eq!(target.done("trace"), 1);
    let outcome = live.interrupt();
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(text(outcome.one("error"), "message").contains("is already traced by process"), "{outcome}");
    assert_eq!(target.done("wake"), 1);
    assert_eq!(target.done("interrupted"), 0, "our stop has disturbed nobody");
    assert_eq!(target.done("untrace"), 1);
    let outcome = run(&["count", "-p", &target.pid().to_string(), "work", "--for", "1ms"]);
    outcome.assert_clean();
    assert_eq!(count(outcome.one("reaped"), "mappings_left"), 0, "{outcome}");
    assert_eq!(target.done("wake"), 1);
    assert_eq!(target.done("interrupted"), 0);
}
