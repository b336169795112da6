//! What happens when one side ends early: the target exits, is killed or becomes another program, or the host
//! is killed with its probe in place.

use std::process::{Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use trocar_test_support::command::{count, text};
use trocar_test_support::ours::since;
use trocar_test_support::process::mappings;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Contents, Live, Snapshot, Target, run};

use crate::limits::event;
use crate::memory::in_tier;

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
fn the_last_records_before_a_target_died_are_still_told() {
    let (probe, mut target) = (event(), Target::start("counter"));
    let pid = target.pid().to_string();
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work"]);
    // The host does not see them before there is no target any more.
    live.stop();
    target.done("run 1 50");
    target.kill();
    live.go_on();
    let outcome = live.finish();
    assert_eq!(outcome.status, 5, "{outcome}");
    assert_eq!((outcome.all("event").count(), outcome.hits(), outcome.lost()), (50, 50, 0), "{outcome}");
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
fn a_target_runs_on_after_its_host_was_killed_and_the_next_command_removes_what_is_there() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    Live::attached(&["count", "-p", &pid, "work"]).kill();
    assert_eq!(target.done("run 2 100"), 200, "hits without a host do no harm");
    let outcome = run(&["count", "-p", &pid, "work", "--dry-run"]);
    assert_eq!(outcome.status, 4, "a dry run touches nothing: {outcome}");
    assert!(outcome.one("error").to_string().contains("trocar session"), "{outcome}");
    let live = Live::attached(&["count", "-p", &pid, "work", "--hits", "200"]);
    assert_eq!(target.done("run 2 100"), 200);
    let outcome = live.finish();
    assert_eq!((outcome.status, outcome.hits()), (0, 200), "{outcome}");
    let reaped = outcome.one("reaped");
    assert_eq!((count(reaped, "sessions"), count(reaped, "sites")), (1, 1), "{outcome}");
    assert_eq!(reaped.get("residue"), Some(&serde_json::json!([])), "{outcome}");
    before.assert_same();
}

#[test]
fn after_the_hosts_death_no_hit_of_either_tier_runs_the_probe_and_each_is_counted_as_lost() {
    // Numbers that nothing else in our memory has.
    const BEFORE: u64 = 123_457;
    const AFTER: u64 = 65_521;
    for tier in [1, 2] {
        let mut target = Target::start("counter");
        target.done("run 1 10");
        let (pid, old) = (target.pid(), mappings(target.pid()));
        let live = in_tier(tier, &["count", "-p", &pid.to_string(), "work"]);
        assert_eq!(target.done(&format!("run 1 {BEFORE}")), BEFORE);
        live.kill();
        let parts = since(&old, pid);
        let look = || Contents::of(pid, parts.iter().filter(|p| p.is_shared()));
        let counted = look().places_of(BEFORE);
        assert!(!counted.is_empty(), "tier {tier}: what was counted is in the shared memory");
        assert_eq!(target.done(&format!("run 1 {AFTER}")), AFTER);
        let now = look();
        for at in counted {
            assert_eq!(now.word(at), Some(BEFORE), "tier {tier}: no probe counts at {at:#x} any more");
        }
        assert_eq!(now.places_of(AFTER).len(), 2, "tier {tier}: hits, and what they are lost for");
        // The next command takes away what is there.
        let live = Live::attached(&["count", "-p", &pid.to_string(), "work"]);
        assert_eq!(target.done("run 1 100"), 100);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!((outcome.hits(), outcome.lost()), (100, 0), "{outcome}");
    }
}

/// A number that looks like chance and is the same each time (the finaliser of SplitMix64, Steele et al. 2014).
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A host that is killed at any moment of attaching, running or leaving does no harm, and what it leaves goes with the
/// next one that does not.
#[test]
fn a_host_that_is_killed_at_any_moment_leaves_a_target_that_runs_and_can_be_probed_again() {
    let kills = scaled(1000);
    for threads in [0, 2] {
        let mut target = Target::start("counter");
        if threads > 0 {
            target.ask(&format!("spin {threads}"));
        }
        let before = Snapshot::of(target.pid());
        let pid = target.pid().to_string();
        let words = ["count", "-p", &pid, "work", "--for", "20ms"];
        let began = Instant::now();
        let outcome = run(&words);
        assert_eq!(outcome.status, 0, "{outcome}");
        let whole = u64::try_from(began.elapsed().as_micros()).unwrap();
        let mut reaped = 0;
        for n in 0..kills / 2 {
            if n == 3 {
                // At least one while the probe is in place, before the first look.
                Live::attached(&["count", "-p", &pid, "work"]).kill();
            } else {
                // Killed somewhere between its start and a little after its end.
                let live = Live::start(&words);
                park_timeout(Duration::from_micros(scattered(n) % (whole + whole / 4)));
                live.kill();
            }
            if n % 4 == 3 {
                let outcome = run(&words);
                assert_eq!(outcome.status, 0, "after {n} kills: {outcome}");
                reaped += outcome.all("reaped").count();
                before.assert_same();
            }
        }
        let outcome = run(&words);
        assert_eq!(outcome.status, 0, "{outcome}");
        assert!(reaped > 0, "some kill came while something was in the target");
        before.assert_same();
        if threads > 0 {
            assert!(target.done("halt") > 0, "every call came out right");
        }
        assert_eq!(target.done("run 2 100"), 200);
    }
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
