//! A process is stopped and goes on as if nothing had happened; one that cannot be stopped is told by its reason.

use std::time::Duration;

use trocar_inject::{Stops, bare_stop};
use trocar_target::FailureKind;

use crate::child::Cat;

#[test]
fn a_sleeping_process_is_stopped_and_goes_on() {
    let mut cat = Cat::start();
    let before = cat.maps();
    for _ in 0..20 {
        let stop = bare_stop(cat.pid()).unwrap();
        assert!(stop > Duration::ZERO);
        cat.answers();
    }
    assert_eq!(cat.status("TracerPid"), "0");
    assert_eq!(cat.maps(), before);
}

#[test]
fn a_stop_leaves_no_signal_behind() {
    let mut cat = Cat::start();
    let signals =
        |cat: &Cat| ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].map(|field| cat.status(field));
    let before = signals(&cat);
    bare_stop(cat.pid()).unwrap();
    assert_eq!(signals(&cat), before);
    cat.answers();
}

#[test]
fn a_process_that_was_suspended_stays_suspended() {
    let mut cat = Cat::start();
    cat.signal("STOP");
    cat.wait_for_state('T');
    bare_stop(cat.pid()).unwrap();
    cat.wait_for_state('T');
    cat.signal("CONT");
    cat.answers();
}

#[test]
fn a_process_that_is_stopped_by_us_dies_of_a_signal_as_ever() {
    let mut cat = Cat::start();
    bare_stop(cat.pid()).unwrap();
    cat.become_a_zombie();
}

#[test]
fn a_process_that_has_ended_is_told_as_such() {
    let mut zombie = Cat::start();
    zombie.become_a_zombie();
    assert_eq!(bare_stop(zombie.pid()).unwrap_err().kind, FailureKind::NoProcess);
    let pid = zombie.pid();
    zombie.end();
    let failure = bare_stop(pid).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoProcess);
    assert!(failure.message.contains(&pid.to_string()), "{failure}");
    assert!(failure.hint.is_some());
}

#[test]
fn our_own_threads_cannot_be_stopped_by_us() {
    // The kernel lets no thread trace its own process.
    let failure = bare_stop(std::process::id().cast_signed()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotPermitted);
}

#[test]
fn two_hands_at_once_do_not_hurt_the_process() {
    // The second finds it traced, or comes when the first is done. Either is fine for the process.
    let mut cat = Cat::start();
    let pid = cat.pid();
    let results: Vec<_> = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..4).map(|_| scope.spawn(move || bare_stop(pid))).collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });
    assert!(results.iter().any(Result::is_ok));
    for failure in results.into_iter().filter_map(Result::err) {
        assert_eq!(failure.kind, FailureKind::NothingPatched, "{failure}");
    }
    cat.answers();
    assert_eq!(cat.status("TracerPid"), "0");
}

#[test]
fn the_longest_stop_is_told() {
    assert_eq!(Stops::default().longest(), 0);
    assert_eq!(Stops { nanoseconds: vec![5, 90, 7] }.longest(), 90);
}
