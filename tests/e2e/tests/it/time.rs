//! `trocar time`: each call is in the histogram, or counted under the reason why it cannot be, whatever way it is left.

use trocar_test_support::command::{count, text};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Redis, Snapshot, Target};

/// Sums of the last rows of a map: of the entry of this function, or of all.
fn sum(outcome: &Outcome, map: &str, function: Option<&str>) -> u64 {
    let last = outcome.all("map").rfind(|m| text(m, "name") == map);
    let rows = last.and_then(|m| m.get("rows")?.as_array()).unwrap_or_else(|| panic!("no {map}: {outcome}"));
    let of_function = |row: &&serde_json::Value| function.is_none_or(|f| text(row, "name") == f);
    let field = |row| if map == "latency_ns" { count(row, "count") } else { count(row, "value") };
    rows.iter().filter(of_function).map(field).sum()
}

struct Timed {
    outcome: Outcome,
}

impl Timed {
    /// Times functions while the target does what it is told, and proves that it is as before.
    fn run(target: &mut Target, functions: &[&str], commands: &[&str]) -> Self {
        let before = Snapshot::of(target.pid());
        let live = Live::attached(&[&["time", "-p", &target.pid().to_string()][..], functions].concat());
        for command in commands {
            let answer = target.ask(command);
            assert!(answer.starts_with("done "), "{command}: {answer}");
        }
        let outcome = live.interrupt();
        outcome.assert_clean();
        before.assert_same();
        Self { outcome }
    }

    fn calls(&self, function: &str) -> u64 {
        sum(&self.outcome, "latency_ns", Some(function))
    }

    fn abandoned(&self) -> u64 {
        sum(&self.outcome, "abandoned", None)
    }

    fn untimed(&self) -> u64 {
        sum(&self.outcome, "untimed", None)
    }
}

#[test]
fn every_call_of_every_thread_is_timed() {
    let mut target = Target::start("counter");
    let calls = scaled(200_000);
    let timed = Timed::run(&mut target, &["work"], &[&format!("run 4 {calls}")]);
    assert_eq!(timed.calls("work"), 4 * calls, "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed(), timed.outcome.lost()), (0, 0, 0), "{}", timed.outcome);
}

#[test]
fn recursive_calls_are_told_apart() {
    let mut target = Target::start("calls");
    let times = scaled(10_000);
    let timed = Timed::run(&mut target, &["recurse"], &[&format!("recurse 200 {times}")]);
    assert_eq!(timed.calls("recurse"), 201 * times, "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed()), (0, 0), "{}", timed.outcome);
}

#[test]
fn a_tail_call_ends_one_function_and_begins_the_other() {
    let mut target = Target::start("calls");
    let times = scaled(200_000);
    let timed = Timed::run(&mut target, &["front", "back"], &[&format!("tail {times}")]);
    assert_eq!((timed.calls("front"), timed.calls("back")), (times, times), "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed()), (0, 0), "{}", timed.outcome);
    let role = |site: &serde_json::Value| site.get("role").and_then(|r| r.as_str()).map(str::to_owned);
    let sites = timed.outcome.one("attached").get("sites").and_then(|s| s.as_array()).cloned().unwrap();
    assert!(sites.iter().any(|s| role(s).as_deref() == Some("tail_jump")), "{sites:?}");
}

#[test]
fn every_return_of_a_function_is_an_exit() {
    let mut target = Target::start("calls");
    let times = scaled(200_000);
    let timed = Timed::run(&mut target, &["many"], &[&format!("many {times}")]);
    assert_eq!(timed.calls("many"), times, "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed()), (0, 0), "{}", timed.outcome);
}

#[test]
fn a_call_that_is_left_by_longjmp_is_counted_as_abandoned() {
    let mut target = Target::start("calls");
    let times = scaled(50_000);
    // `leaper` has no exit at all; its caller goes on.
    let pid = target.pid().to_string();
    let outcome = trocar_test_support::run(&["time", "-p", &pid, "leaper", "--hits", "1"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(outcome.one("error").to_string().contains("no exit"), "{outcome}");
    assert_eq!(target.done(&format!("jump {times}")), times);
    // A thread that ends inside a call leaves it for ever. The first one makes libc load what it unwinds with.
    assert_eq!(target.done("quit 1"), 1);
    let timed = Timed::run(&mut target, &["start_quitter"], &["quit 20"]);
    assert_eq!(timed.calls("start_quitter"), 0, "{}", timed.outcome);
    assert!(timed.abandoned() >= 1, "threads use the same stacks again: {}", timed.outcome);
}

#[test]
fn exceptions_pass_and_their_calls_are_counted() {
    let mut target = Target::start("throw");
    let each = scaled(200_000);
    let command = format!("run 4 {each}");
    let timed = Timed::run(&mut target, &["shop::middle"], &[&command]);
    assert_eq!(sum(&timed.outcome, "latency_ns", None), 4 * (each - each / 2), "{}", timed.outcome);
    // One that is under way in each thread has not been found out yet.
    let thrown = 4 * (each / 2);
    assert!((thrown - 8..=thrown).contains(&timed.abandoned()), "{thrown} {}", timed.outcome);
    assert_eq!(timed.untimed(), 0, "{}", timed.outcome);
}

#[test]
fn coroutines_do_not_mix_calls_up() {
    let mut target = Target::start("ucontext");
    let calls = scaled(100_000);
    let timed = Timed::run(&mut target, &["work"], &[&format!("run 32 {calls}")]);
    assert_eq!(timed.calls("work"), 32 * calls, "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed()), (0, 0), "{}", timed.outcome);
}

#[test]
fn the_sums_of_redis_are_those_of_its_own_statistics() {
    let mut redis = Redis::start();
    let snapshot = Snapshot::of(redis.pid());
    let before = redis.commandstats();
    let live = Live::attached(&["time", "-p", &redis.pid().to_string(), "processCommand", "call"]);
    drop(redis.benchmark("get,set,lpush", scaled(1_000_000)).finish());
    let after = redis.commandstats();
    let outcome = live.interrupt();
    outcome.assert_clean();
    let sum_of = |all: &std::collections::BTreeMap<String, u64>| all.values().sum::<u64>();
    // One INFO is in the deltas and not in the calls, another the other way round.
    let calls = sum_of(&after) - sum_of(&before);
    for function in ["processCommand", "call"] {
        assert_eq!(sum(&outcome, "latency_ns", Some(function)), calls, "{function}: {outcome}");
    }
    assert_eq!((sum(&outcome, "untimed", None), outcome.lost()), (0, 0), "{outcome}");
    snapshot.assert_same();
}

#[test]
fn the_calls_of_goroutines_are_timed_each() {
    let mut target = Target::start("server-go");
    let calls = scaled(100_000);
    let timed = Timed::run(&mut target, &["main.call"], &[&format!("run 16 {calls}")]);
    assert_eq!(timed.calls("main.call"), 16 * calls, "{}", timed.outcome);
    assert_eq!((timed.abandoned(), timed.untimed(), timed.outcome.lost()), (0, 0, 0), "{}", timed.outcome);
    // Their stacks grow, and are moved, between entry and exit; most calls are under way at once.
    for round in 1..=3 {
        let depth = 300 * round;
        let timed = Timed::run(&mut target, &["main.deep"], &[&format!("deep 4 {depth}")]);
        assert_eq!(timed.calls("main.deep"), 4 * depth, "{}", timed.outcome);
        assert_eq!((timed.abandoned(), timed.untimed()), (0, 0), "{}", timed.outcome);
    }
    assert_eq!(target.done("run 4 10"), 40);
}
