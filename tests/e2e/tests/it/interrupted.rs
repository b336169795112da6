//! Places that somebody compares instruction pointers with, or will come back to: what a signal handler interrupted,
//! restartable sequences, cancellation points.

use trocar_test_support::command::{count, text};
use trocar_test_support::process::mappings;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target, run};

use crate::live::{count as attached, ends};
use crate::probe::Probe;

/// While a handler sleeps that will return into the window at the entry of `spot`, that site is refused and nothing else
/// is; afterwards it is one like any other.
fn a_handler_will_return_into(way: &str) {
    let mut target = Target::start("held");
    let pid = target.pid().to_string();
    target.done("run 1 10");
    assert_eq!(target.ask(&format!("hold {way}")), format!("held {way}"));
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &pid, "spot", "--for", "1s"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(text(outcome.one("error"), "message").contains("signal handler"), "{outcome}");
    before.assert_same();
    let live = attached(&target, "work");
    assert_eq!(target.done("run 1 100"), 100);
    assert_eq!(ends(live).hits(), 100);
    assert_eq!(target.done("release"), 1, "the interrupted instruction ran as ever");
    let live = attached(&target, "spot");
    assert_eq!(target.done("run 1 100"), 100);
    assert_eq!(ends(live).hits(), 100);
    before.assert_same();
}

#[test]
fn a_site_that_a_sleeping_signal_handler_will_return_into_is_refused_until_it_has() {
    a_handler_will_return_into("1");
}

#[test]
fn a_site_that_a_handler_on_an_alternate_stack_will_return_into_is_refused_until_it_has() {
    a_handler_will_return_into("2");
}

#[test]
fn a_site_that_two_handlers_will_return_into_one_after_the_other_is_refused_until_they_have() {
    a_handler_will_return_into("3");
}

#[test]
fn a_site_that_a_process_which_shares_the_memory_will_return_into_is_refused_until_it_has() {
    a_handler_will_return_into("5");
}

#[test]
fn so_is_one_where_the_second_handler_is_on_another_stack_than_the_first() {
    a_handler_will_return_into("6");
}

#[test]
fn a_site_that_a_handler_will_return_into_does_not_keep_others_from_being_armed() {
    let mut target = Target::start("held");
    let pid = target.pid().to_string();
    target.done("run 1 10");
    target.ask("hold 1");
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &pid, "spot", "work", "--strict", "--for", "1s"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(text(outcome.one("error"), "message").contains("spot"), "{outcome}");
    before.assert_same();
    let live = Live::attached(&["count", "-p", &pid, "spot", "work"]);
    assert_eq!(target.done("run 1 100"), 100);
    let outcome = ends(live);
    let attached = outcome.one("attached").clone();
    let [sites, refusals] = ["sites", "refusals"].map(|of| attached.get(of).unwrap().as_array().unwrap());
    assert_eq!((sites.len(), refusals.len()), (1, 1), "{outcome}");
    assert_eq!((text(&sites[0], "point"), text(&refusals[0], "point")), ("work", "spot"), "{outcome}");
    assert_eq!(text(&refusals[0], "reason"), "occupied", "{outcome}");
    let final_stats = outcome.final_stats();
    assert_eq!(final_stats.len(), 1, "what is not there has no numbers: {outcome}");
    assert_eq!(count(final_stats[0], "site"), count(&sites[0], "site"), "{outcome}");
    assert_eq!((outcome.hits(), count(outcome.one("receipt"), "sites")), (100, 1), "{outcome}");
    assert_eq!(target.done("release"), 1);
    before.assert_same();
}

/// A handler sleeps that will return to a displaced instruction while the probe goes.
fn a_handler_sleeps_on_a_displaced_instruction(way: &str) {
    let mut target = Target::start("held");
    target.done("run 1 10");
    let live = attached(&target, "spot");
    target.ask(&format!("hold {way}"));
    let outcome = live.interrupt();
    let receipt = outcome.one("receipt");
    assert_eq!(receipt.get("restored"), Some(&true.into()), "the text does not wait: {outcome}");
    assert!(count(receipt, "mappings_left") > 0, "{outcome}");
    assert!(receipt.to_string().contains("will return into"), "and it says why: {outcome}");
    assert_eq!(target.done("run 1 100"), 100);
    assert_eq!(target.done("release"), 1, "what it returned to is still there");
    let live = attached(&target, "spot");
    assert_eq!(target.done("run 1 100"), 100);
    ends(live);
    let ours = mappings(target.pid()).into_iter().filter(|m| m.name.contains("memfd:trocar-")).count();
    assert_eq!(ours, 0, "the next command took away what was left");
}

#[test]
fn a_handler_that_sleeps_on_a_displaced_instruction_keeps_our_memory_until_the_next_command() {
    for way in ["1", "2", "3"] {
        a_handler_sleeps_on_a_displaced_instruction(way);
    }
}

#[test]
fn so_does_one_in_a_process_that_shares_the_memory() {
    a_handler_sleeps_on_a_displaced_instruction("5");
}

#[test]
fn restartable_sequences_are_refused_and_keep_counting_while_probes_come_and_go() {
    let mut target = Target::start("rseq");
    let pid = target.pid().to_string();
    target.done(&format!("run 4 {}", scaled(1_000_000)));
    let before = Snapshot::of(target.pid());
    for (point, words) in [
        ("restart_start", "restartable sequence"),
        ("restart_middle", "restartable sequence"),
        ("restart_signature", "signature"),
    ] {
        let outcome = run(&["count", "-p", &pid, point, "--for", "1s"]);
        assert_eq!(outcome.status, 4, "{outcome}");
        assert!(outcome.one("error").to_string().contains(words), "{outcome}");
    }
    // What is in front of the sequence, and what is behind it, are sites.
    for point in ["bump", "work"] {
        target.ask("spin 4");
        for _ in 0..scaled(500) {
            run(&["count", "-p", &pid, point, "--hits", "100"]).assert_clean();
        }
        assert!(target.done("halt") > 0);
    }
    let live = attached(&target, "bump");
    let answer = target.ask(&format!("run 4 {}", scaled(1_000_000)));
    assert!(answer.starts_with("done "), "{answer}");
    // A sequence that is started over begins at the entry.
    assert_eq!(
        ends(live).hits(),
        Target::field(&answer, "counted") + Target::field(&answer, "restarts"),
        "{answer}"
    );
    let live = Live::attached(&["count", "-p", &pid, "rseq:*"]);
    target.done(&format!("run 4 {}", scaled(1_000_000)));
    ends(live);
    before.assert_same();
    target.done("run 4 1000");
}

/// Threads are cancelled in the calls in which they sleep, with everything counted that can be.
fn are_cancelled(name: &str, points: &[&str]) {
    let mut target = Target::start(name);
    let cancelled = |target: &mut Target| {
        assert_eq!(target.ask("start"), "started 8");
        assert_eq!(target.done("cancel"), 8);
        target.done(&format!("churn {} 1", scaled(5000)));
    };
    cancelled(&mut target);
    let before = Snapshot::of(target.pid());
    let attached = |pid: u32| Live::attached(&[&["count", "-p", &pid.to_string()][..], points].concat());
    // Those that slept before the probes came, and those that fall asleep with them there.
    assert_eq!(target.ask("start"), "started 8");
    let live = attached(target.pid());
    assert_eq!(target.done("cancel"), 8);
    cancelled(&mut target);
    assert_eq!(target.ask("start"), "started 8");
    let outcome = ends(live);
    assert!(outcome.hits() > 0, "{outcome}");
    assert_eq!(target.done("cancel"), 8);
    cancelled(&mut target);
    before.assert_same();
}

#[test]
fn threads_are_cancelled_in_musls_calls_as_without_probes() {
    are_cancelled("cancel-musl", &["cancel-musl:*"]);
}

#[test]
fn the_range_that_musl_compares_a_cancelled_threads_place_with_is_refused() {
    let target = Target::start("cancel-musl");
    let before = Snapshot::of(target.pid());
    for point in ["__cp_begin", "__syscall_cp_asm"] {
        let outcome = run(&["count", "-p", &target.pid().to_string(), point, "--for", "1s"]);
        assert_eq!(outcome.status, 4, "{outcome}");
        assert!(outcome.one("error").to_string().contains("cancellation point"), "{outcome}");
    }
    before.assert_same();
}

#[test]
fn threads_are_cancelled_in_glibcs_calls_as_without_probes() {
    are_cancelled("cancel", &["cancel:*", "libc.so.6:*"]);
}

/// On its small stack a handler's hit has no room, so it is on a stack of ours: behind that lies what the signal interrupted.
#[test]
fn a_hit_on_a_stack_of_ours_does_not_hide_where_the_handler_below_it_returns_to() {
    // Some two hundred microseconds: most of the time a thread is in it, and came from the loop.
    let probe = Probe::of_wat(
        r#"(module (func (export "on_hit") (local $i i32)
            (loop $more
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $i) (i32.const 100000))))))"#,
    );
    let mut target = Target::start_with("signals", &["small"]);
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let limits = ["--fuel", "10000000", "--max-core", "400", "--ttl", "1h"];
    let load = [&["load", probe.path(), "-p", &pid, "--at", "on_signal"][..], &limits].concat();
    let burning = Live::attached(&load);
    let inside: Vec<String> = (1..0x100).map(|offset| format!("call+{offset:#x}")).collect();
    let inside: Vec<&str> =
        ["count", "-p", &pid].into_iter().chain(inside.iter().map(String::as_str)).collect();
    let mut sites = 0;
    for _ in 0..scaled(500) {
        target.ask_nothing("run 2 100000");
        let outcome = Live::attached(&inside).interrupt();
        outcome.assert_clean();
        sites += outcome.one("attached").get("sites").and_then(|s| s.as_array()).map_or(0, Vec::len);
        let answer = target.answer();
        assert!(answer.starts_with("done "), "{answer}");
    }
    assert!(sites > 0);
    let outcome = burning.interrupt();
    outcome.assert_clean();
    assert!(outcome.hits() > outcome.lost(), "some of the handler's hits ran: {outcome}");
    before.assert_same();
}
