//! Programs that turn a fault into an exception by its address: what may fault stays where it is.

use serde_json::Value;
use trocar_test_support::command::{run, text};
use trocar_test_support::process::text_differences;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target};

const THREADS: u64 = 4;

/// Has every function called, every second time so that it faults, and looks at all answers.
fn answers_are_right(target: &mut Target, calls: u64) {
    let said = target.ask(&format!("run {THREADS} {calls}"));
    assert_eq!(said, format!("done {} caught={}", 3 * THREADS * calls, 3 * THREADS * (calls / 2)));
}

fn point_and_reason(refusal: &Value) -> (&str, &str) {
    (text(refusal, "point"), text(refusal, "reason"))
}

#[test]
fn entries_and_exits_are_counted_where_faults_become_exceptions() {
    let mut target = Target::start("faults");
    answers_are_right(&mut target, 100);
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let points = [
        "shop::sum",
        "shop::quotient",
        "shop::harmless",
        "shop::caught",
        "return:shop::sum",
        "return:shop::quotient",
        "return:shop::harmless",
    ];
    let mut live = Live::start(&[&["count", "-p", &pid][..], &points].concat());
    let attached = live.until("attached");
    // Where what may fault is displaced, the program ends here.
    let calls = 2 * scaled(50_000);
    answers_are_right(&mut target, calls);
    let refusals = attached.get("refusals").and_then(Value::as_array).unwrap();
    let refused: Vec<_> = refusals.iter().map(point_and_reason).collect();
    assert_eq!(refused, [("shop::sum", "faulting")], "{attached}");
    let outcome = live.interrupt();
    outcome.assert_clean();
    // `caught` and `harmless` three times, the latter to its end; `quotient` itself, and half the time from `both`, which
    // faults before it comes there. `sum` and `quotient` return when they do not fault.
    let each = 3 + 3 + 3;
    let halves = (2 + 1) + 2 + 2;
    assert_eq!(outcome.hits(), THREADS * (calls * each + calls / 2 * halves), "{outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
    before.assert_same();
    answers_are_right(&mut target, 100);
    assert!(target.finish().success());
}

#[test]
fn every_instruction_where_faults_become_exceptions_is_armed_or_refused_and_no_answer_changes() {
    let mut target = Target::start("faults");
    let pid = target.pid().to_string();
    let (mut left, mut faulting) = (Vec::new(), 0);
    for function in ["sum", "quotient", "both", "harmless", "caught"] {
        for offset in 0.. {
            let point = format!("shop::{function}+{offset:#x}");
            let plan = run(&["points", "-p", &pid, &point, "--plan"]);
            // Behind its end.
            if plan.all("error").next().is_some() {
                assert!(offset > 4, "{plan}");
                break;
            }
            faulting += plan.all("refusal").filter(|r| text(r, "reason") == "faulting").count();
            left.extend(plan.all("site").map(|_| point.clone()));
        }
    }
    let planned = left.clone();
    // All at once, but those that need the same bytes.
    let calls = scaled(50_000);
    while !left.is_empty() {
        let points: Vec<&str> = left.iter().map(String::as_str).collect();
        let mut live = Live::start(&[&["count", "-p", &pid][..], &points].concat());
        let attached = live.until("attached");
        let refusals = attached.get("refusals").and_then(Value::as_array).unwrap();
        answers_are_right(&mut target, calls);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.lost(), 0, "{outcome}");
        let again: Vec<String> = refusals
            .iter()
            .map(|refusal| {
                let (point, reason) = point_and_reason(refusal);
                assert_eq!(reason, "overlaps_site", "{refusal}");
                point.to_owned()
            })
            .collect();
        assert!(again.len() < left.len(), "{again:?}");
        left = again;
    }
    // The loads, the stores and the division may fault; most others cannot.
    assert!(faulting >= 5 && planned.len() > 2 * faulting, "{faulting} may fault, planned: {planned:?}");
    assert!(text_differences(target.pid()).is_empty());
    answers_are_right(&mut target, 100);
    assert!(target.finish().success());
}
