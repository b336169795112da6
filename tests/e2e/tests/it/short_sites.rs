//! Sites with fewer than five bytes of their own, alive: exact counts, and nothing left.

use trocar_test_support::command::text;
use trocar_test_support::process::{assert_mappings_equal, mappings};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target};

/// Counts at some points of `short` at once, each planned by the rung that is named.
fn counts_exactly(points: &[(&str, &str)]) {
    let mut target = Target::start("short");
    target.done("run 10");
    let (before, memory) = (Snapshot::of(target.pid()), mappings(target.pid()));
    let pid = target.pid().to_string();
    let mut arguments = vec!["count", "-p", &pid];
    arguments.extend(points.iter().map(|p| p.0));
    let mut live = Live::start(&arguments);
    let attached = live.until("attached");
    let sites = attached.get("sites").and_then(|s| s.as_array()).unwrap();
    for (point, rung) in points {
        let site = sites.iter().find(|s| text(s, "point") == *point).unwrap_or_else(|| panic!("{attached}"));
        assert_eq!(text(site, "rung"), *rung, "{attached}");
    }
    let calls = target.done(&format!("run {}", scaled(1_000_000)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls * points.len() as u64, "{outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
    before.assert_same();
    assert_mappings_equal(&memory, &mappings(target.pid()));
    assert_eq!(target.done("run 1000"), 1000, "the target goes on");
    assert!(target.finish().success());
}

#[test]
fn a_return_with_padding_behind_it() {
    counts_exactly(&[("padded", "exit")]);
}

#[test]
fn two_bytes_that_jump_to_padding() {
    counts_exactly(&[("squeezed", "short_jump")]);
}

#[test]
fn a_return_within_a_window_that_begins_before_it() {
    counts_exactly(&[("inner+0x6", "exit")]);
}

#[test]
fn two_bytes_that_jump_into_a_nop_that_is_run_through() {
    counts_exactly(&[("nopped", "short_jump")]);
}

#[test]
fn all_of_them_at_once() {
    let all = [
        ("padded", "exit"),
        ("squeezed", "short_jump"),
        ("inner+0x6", "exit"),
        ("nopped", "short_jump"),
        ("looper", "one_instruction"),
    ];
    counts_exactly(&all);
}
