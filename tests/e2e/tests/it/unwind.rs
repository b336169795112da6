//! Whoever walks stacks sees what it expects: no return address is ever another one, and a profiler that interrupts a hit
//! goes astray nowhere.

use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

/// Runs the program's own looks at its stacks with these points probed.
fn looks_at_itself(points: &[&str]) -> Outcome {
    let mut target = Target::start("unwinds");
    let work = format!("run 2 {}", scaled(2_000_000));
    let frames = target.ask("record");
    assert!(frames.starts_with("recorded "), "{frames}");
    let plain = target.ask(&work);
    assert!(plain.starts_with("done ") && plain.ends_with(" cut=0 lost=0"), "{plain}");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&[&["count", "-p", &target.pid().to_string()][..], points].concat());
    for _ in 0..3 {
        let said = target.ask(&work);
        assert!(said.starts_with("done ") && Target::field(&said, "samples") >= 400, "{said}");
        // By frame pointers the way up is there from within every hit.
        assert_eq!(Target::field(&said, "lost"), 0, "{said}");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    before.assert_same();
    assert_eq!(target.ask("record"), frames);
    let plain = target.ask(&work);
    assert!(plain.ends_with(" cut=0 lost=0"), "{plain}");
    outcome
}

#[test]
fn backtrace_and_profilers_in_probed_functions_see_the_same_frames() {
    let outcome = looks_at_itself(&["outer", "middle", "unwinds:work"]);
    assert!(outcome.hits() >= 3 * 3 * 2 * scaled(2_000_000), "{outcome}");
}

#[test]
fn a_profiler_whose_own_handler_is_probed_and_every_function_with_it_goes_on() {
    let outcome = looks_at_itself(&["unwinds:*"]);
    assert!(outcome.hits() > 0, "{outcome}");
}
