//! What happens when one side ends early: the target exits, is killed or becomes another program, or the host
//! is killed with its probe in place.

use std::process::{Command, Stdio};

use trocar_test_support::command::text;
use trocar_test_support::{Live, Target, run};

#[test]
fn a_target_that_exits_ends_the_command_with_status_5() {
    let mut target = Target::start("counter");
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    target.done("run 2 100");
    assert!(target.finish().success(), "a probe does not change how its target ends");
    let outcome = live.finish();
    assert_eq!(outcome.status, 5, "{outcome}");
    assert!(!text(outcome.one("exited"), "how").is_empty(), "{outcome}");
    assert_eq!(outcome.hits(), 200, "what was counted is not lost with the target: {outcome}");
}

#[test]
fn a_target_that_is_killed_ends_the_command_with_status_5() {
    let mut target = Target::start("counter");
    target.ask("spin 2");
    let mut live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    live.until("stats");
    target.kill();
    let outcome = live.finish();
    assert_eq!(outcome.status, 5, "{outcome}");
    assert!(!text(outcome.one("exited"), "how").is_empty(), "{outcome}");
}

#[test]
fn a_target_that_becomes_another_program_ends_the_command_with_status_5() {
    // The shell waits for a line and then becomes `cat`, which keeps the process and its id.
    let shell = "echo ready; read go; exec cat";
    let mut target = Target::spawn(Command::new("/bin/sh").args(["-c", shell]));
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "libc.so.6:read"]);
    target.ask_nothing("go");
    let outcome = live.finish();
    assert_eq!(outcome.status, 5, "{outcome}");
    assert!(text(outcome.one("exited"), "how").contains("exec"), "{outcome}");
    assert_eq!(target.ask("still alive"), "still alive", "cat answers");
}

#[test]
fn a_host_that_is_killed_does_not_take_the_target_along() {
    let mut target = Target::start("counter");
    target.ask("spin 3");
    let mut live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    live.until("stats");
    live.kill();
    assert!(target.done("halt") > 0, "every call before and after came out right");
    assert_eq!(target.done("run 4 100000"), 400_000);
}

#[test]
fn a_target_runs_on_after_its_host_was_killed_and_the_next_command_says_what_is_there() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    Live::attached(&["count", "-p", &target.pid().to_string(), "work"]).kill();
    assert_eq!(target.done("run 2 100"), 200, "hits without a host do no harm");
    let outcome = run(&["count", "-p", &target.pid().to_string(), "work"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(outcome.one("error").to_string().contains("trocar session"), "{outcome}");
}

#[test]
fn a_target_that_ends_during_every_step_of_an_attach_is_told_so() {
    // Killed at moments spread over a whole attach: whatever step it hits, the answer is one of two.
    for step in 0..20_u32 {
        let mut target = Target::start("counter");
        target.ask("spin 2");
        let live = Live::start(&["count", "-p", &target.pid().to_string(), "work", "--hits", "1"]);
        for _ in 0..step {
            drop(Command::new("/bin/true").stdin(Stdio::null()).status()); // about a millisecond each
        }
        target.kill();
        let outcome = live.finish();
        assert!(matches!(outcome.status, 0 | 5), "{outcome}");
    }
    assert_eq!(run(&["ps"]).status, 0, "and nothing hangs");
}
