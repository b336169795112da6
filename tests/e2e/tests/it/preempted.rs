//! Go: a signal takes a goroutine from its thread between any two instructions, and it comes back there later, from a
//! stack that no thread is on. Sites of several instructions come and go under such goroutines, and nothing goes wrong.

use trocar_test_support::command::{count, text};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

/// Offsets into `main.churn`, which has no fewer bytes with any version of Go: what is no instruction is refused.
const BYTES: u32 = 0x100;
const ROUNDS: u32 = 200_000;

/// Points on every instruction of the loop and around it.
fn inside() -> Vec<String> {
    (1..BYTES).map(|offset| format!("main.churn+{offset:#x}")).collect()
}

/// Points on all entries and exits.
fn around() -> Vec<String> {
    vec!["main.*".into(), "return:main.*".into()]
}

fn counting(target: &Target, points: &[String]) -> Live {
    let pid = target.pid().to_string();
    let options = ["count", "-p", &pid].into_iter();
    Live::attached(&options.chain(points.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Indexes of sites.
fn sites(outcome: &Outcome, is: impl Fn(&serde_json::Value) -> bool) -> Vec<u64> {
    let attached = outcome.one("attached").get("sites").and_then(|s| s.as_array()).unwrap();
    attached.iter().filter(|s| is(s)).map(|s| count(s, "site")).collect()
}

/// A program with far more goroutines than threads: whoever is searched for is one of many.
fn started(name: &str) -> Target {
    let mut target = Target::start(name);
    target.done("park 3000");
    assert_eq!(target.ask(&format!("spin 8 {ROUNDS} 2")), "spinning");
    assert!(target.done("halt") >= 8);
    target
}

/// Sessions while goroutines spin on so many processors; returns how many sites of several instructions there were.
fn come_and_go(target: &mut Target, procs: u32, sessions: u64) -> usize {
    assert_eq!(target.ask(&format!("spin 8 {ROUNDS} {procs}")), "spinning");
    let mut several = 0;
    for points in [inside(), around()].iter().cycle().take(2 * usize::try_from(sessions).unwrap()) {
        let outcome = counting(target, points).interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.lost(), 0, "{outcome}");
        several += sites(&outcome, |s| matches!(text(s, "rung"), "window" | "exit")).len();
    }
    let answer = target.ask("halt");
    assert!(answer.starts_with("done "), "a result of a probed function is not what it was: {answer}");
    several
}

fn sites_come_and_go(name: &str) {
    let mut target = started(name);
    let before = Snapshot::of(target.pid());
    let sessions = scaled(150);
    let several: usize = (1..=4).map(|procs| come_and_go(&mut target, procs, sessions)).sum();
    let least = usize::try_from(4 * sessions).unwrap() * 20;
    assert!(several > least, "most sites have several instructions: {several}");
    before.assert_same();
}

#[test]
fn sites_come_and_go_under_goroutines_that_were_preempted_between_their_instructions() {
    sites_come_and_go("preempt");
}

#[test]
fn so_they_do_in_a_stripped_program_whose_list_of_goroutines_no_symbol_names() {
    sites_come_and_go("preempt-stripped");
}

#[test]
fn so_they_do_in_a_program_that_a_newer_go_made() {
    sites_come_and_go("preempt-new");
}

#[test]
fn the_iterations_of_a_loop_and_the_exits_of_its_function_are_counted_exactly() {
    let mut target = started("preempt");
    let before = Snapshot::of(target.pid());
    let mut run = |points: &[String]| {
        let live = counting(&target, points);
        assert_eq!(target.done(&format!("churn 16 {ROUNDS} 2")), 16);
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.lost(), 0, "{outcome}");
        outcome
    };
    let hits = |outcome: &Outcome, index: u64| {
        count(outcome.final_stats().into_iter().find(|s| count(s, "site") == index).unwrap(), "hits")
    };
    let outcome = run(&around());
    let of_churn = |s: &serde_json::Value| text(s, "symbol") == "main.churn";
    let ways = sites(&outcome, of_churn);
    assert_eq!(ways.len(), 2, "an entry and an exit: {outcome}");
    assert!(ways.iter().all(|s| hits(&outcome, *s) == 16), "{outcome}");
    // What is in the loop is executed once a round, its head once more, what is around it once a call.
    let outcome = run(&inside());
    let (calls, rounds) = (16, 16 * u64::from(ROUNDS));
    let all: Vec<u64> = sites(&outcome, |_| true).into_iter().map(|s| hits(&outcome, s)).collect();
    assert!(all.iter().all(|n| [0, calls, rounds, rounds + calls].contains(n)), "{all:?}");
    assert!(all.iter().filter(|n| **n == rounds).count() >= 4, "{all:?}");
    before.assert_same();
    target.done(&format!("churn 2 {ROUNDS} 2"));
}
