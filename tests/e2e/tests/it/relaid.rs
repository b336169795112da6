//! Programs that lay their own text anew, before a probe comes and while it is there: shared from the file, or as a copy in
//! anonymous memory, in a huge page too. Refused with the reason, or probed; what is put back is never a file's page where
//! there is none.

use trocar_test_support::command::text;
use trocar_test_support::{Live, Target, run};

/// Starts the program: its text's sum.
fn start() -> (Target, String) {
    let mut target = Target::start("relaid");
    let sum = target.ask("text");
    assert!(sum.starts_with("sum "), "{sum}");
    (target, sum)
}

/// All there is to huge pages here; `None`: the kernel gives this program none.
fn lay(target: &mut Target, way: &str) -> Option<()> {
    let answer = target.ask(&format!("lay {way}"));
    // Where huge pages are off, or memory is too scattered, there is nothing to look at.
    (way != "huge" || !answer.starts_with("error MADV_")).then(|| assert_eq!(answer, "done 1", "{way}"))
}

#[test]
fn text_that_is_mapped_shared_or_from_another_file_is_refused() {
    for (way, reason) in [("shared", "mapped shared"), ("file", "not of this file")] {
        let (mut target, sum) = start();
        lay(&mut target, way);
        let outcome = run(&["count", "-p", &target.pid().to_string(), "work"]);
        assert_eq!(outcome.status, 4, "{outcome}");
        assert!(text(outcome.one("error"), "message").contains(reason), "{outcome}");
        assert_eq!(target.ask("text"), sum);
        assert_eq!(target.done("run 100"), 100);
        assert!(target.finish().success());
    }
}

#[test]
fn text_that_is_a_copy_is_probed_and_stays_as_it_is_mapped() {
    for way in ["part", "copy", "huge"] {
        let (mut target, sum) = start();
        if lay(&mut target, way).is_none() {
            continue;
        }
        let kind = target.ask("kind");
        assert!(kind.starts_with("kind r-xp - "), "{kind}");
        for _ in 0..3 {
            let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
            assert_eq!(target.done("run 1000"), 1000);
            let outcome = live.interrupt();
            outcome.assert_clean();
            assert_eq!((outcome.hits(), outcome.lost()), (1000, 0), "{way} {outcome}");
            assert_eq!(target.ask("kind"), kind);
            assert_eq!(target.ask("text"), sum, "{way}");
            assert_eq!(target.done("run 100"), 100);
        }
        assert!(target.finish().success(), "{way}");
    }
}

#[test]
fn text_that_is_laid_anew_while_a_probe_is_there_keeps_what_it_was_put_back_to() {
    for (way, counted) in [("part", 200), ("copy", 200), ("huge", 200), ("shared", 100), ("file", 200)] {
        let (mut target, sum) = start();
        let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
        assert_eq!(target.done("run 100"), 100);
        if lay(&mut target, way).is_none() {
            continue;
        }
        let kind = target.ask("kind");
        // The copies have our jump in them; what the file has is without it.
        assert_eq!(target.done("run 100"), 100);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!((outcome.hits(), outcome.lost()), (counted, 0), "{way} {outcome}");
        assert_eq!(target.ask("kind"), kind);
        assert_eq!(target.ask("text"), sum, "{way}");
        assert_eq!(target.done("run 100"), 100);
        assert!(target.finish().success(), "{way}");
    }
}
