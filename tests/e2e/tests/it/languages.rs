//! The same `trocar`, no rebuild, on programs of other languages and runtimes: counts are exact, and what the
//! runtime does with stacks (unwind, move, scan) goes on working.

use std::io::Write;
use std::net::TcpStream;

use trocar_test_support::command::{count, text};
use trocar_test_support::lines::Lines;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target};

/// Every second call throws through two probed functions; each call is one hit of both.
fn are_thrown_through(name: &str, points: &[&str; 2]) -> Target {
    let mut target = Target::start(name);
    target.done("run 4 100");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&[&["count", "-p", &target.pid().to_string()][..], points].concat());
    let each = scaled(500_000);
    assert_eq!(target.ask(&format!("run 4 {each}")), format!("done {} caught={}", 4 * each, 4 * (each / 2)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 2 * 4 * each, "one hit for each call of each function\n{outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
    before.assert_same();
    assert_eq!(target.ask("run 2 10"), "done 20 caught=10");
    target
}

#[test]
fn cpp_exceptions_pass_through_probed_frames() {
    are_thrown_through("throw", &["shop::middle", "shop::leaf"]);
}

#[test]
fn rust_panics_pass_through_probed_frames() {
    let mut target = are_thrown_through("panics", &["panics::middle", "panics::leaf"]);
    let before = Snapshot::of(target.pid());
    // Everything at once, the unwinder and the allocator among it.
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "panics:*"]);
    let each = scaled(50_000);
    assert_eq!(target.ask(&format!("run 4 {each}")), format!("done {} caught={}", 4 * each, 4 * (each / 2)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert!(outcome.hits() > 8 * each, "{outcome}");
    before.assert_same();
}

#[test]
fn a_conservative_collector_frees_nothing_that_lives() {
    let mut target = Target::start("collector");
    target.done("run 4 10");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let points = ["visit", "build"];
    let mut live = Live::start(&[&["count", "-p", &pid][..], &points].concat());
    let tier_one = live.until("attached").get("tier") == Some(&serde_json::json!(1));
    let runs = scaled(500);
    let (mut known, mut unknown) = (0, 0);
    for _ in 0..runs {
        // On stacks that are known after a moment, and on such of which nothing is known: nobody may leave those, either.
        known += collected(&mut target, "run", 50);
        unknown += collected(&mut target, "carved", 50);
    }
    if tier_one {
        // How long the moment is, is the machine's affair: threads live longer and longer, until one was known in time.
        let executes = |stats: &serde_json::Value| count(stats, "executed") > 0;
        let mut rounds = 100;
        while !executes(&live.until("stats")) {
            known += collected(&mut target, "run", rounds);
            rounds = (2 * rounds).min(1_000_000);
        }
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), known + unknown, "{outcome}");
    assert_eq!(
        outcome.lost(),
        outcome.lost_as("no_stack_room"),
        "no hit leaves a stack that is searched: {outcome}"
    );
    if tier_one {
        // Native code takes no room to speak of, and runs where the sandbox does not.
        assert!((unknown..unknown + known).contains(&outcome.lost()), "{outcome}");
    }
    before.assert_same();
    target.done("run 4 10");
}

/// Four threads build and walk lists while one collects: the hits that are to be expected.
fn collected(target: &mut Target, command: &str, rounds: u64) -> u64 {
    let answer = target.ask(&format!("{command} 4 {rounds}"));
    assert!(answer.starts_with(&format!("done {} ", 4 * rounds * 64)), "{answer}");
    assert!(Target::field(&answer, "collections") > 0, "{answer}");
    4 * rounds * (64 + 1)
}

#[test]
fn go_goroutines_are_counted_exactly() {
    let mut target = Target::start("server-go");
    target.done("run 8 100");
    let before = Snapshot::of(target.pid());
    // Not `main.work`: a leaf without a stack check, at whose entry nobody knows how much stack is left.
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "main.call"]);
    let mut calls = target.done(&format!("run 16 {}", scaled(500_000)));
    // Stacks grow from 2 KiB to megabytes and are copied, below a probed leaf.
    calls += target.done(&format!("deep 8 {}", scaled(500_000)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 4 10"), 40);
}

#[test]
fn a_go_http_server_keeps_answering() {
    let mut target = Target::start("server-go");
    let port = u16::try_from(target.fact("port")).unwrap();
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "main.handle"]);
    let requests = scaled(10_000);
    for _ in 0..requests {
        assert_eq!(http_get(port, "/work?n=10"), "done 10");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), requests, "{outcome}");
    assert_eq!(http_get(port, "/work?n=3"), "done 3");
    assert!(trocar_test_support::process::text_differences(target.pid()).is_empty());
    drop(before); // descriptors of a server come and go
    assert_eq!(target.done("run 2 2"), 4);
}

#[test]
fn every_entry_and_exit_of_a_go_program_and_of_its_runtime_at_once_changes_no_result() {
    every_entry_and_exit_at_once("server-go");
}

#[test]
fn nor_do_they_in_one_that_a_newer_go_made() {
    every_entry_and_exit_at_once("server-go-new");
}

#[test]
fn nor_do_they_where_gos_linker_took_c_code_in() {
    every_entry_and_exit_at_once("server-go-cgo");
    every_entry_and_exit_at_once("server-go-race");
}

fn every_entry_and_exit_at_once(name: &str) {
    let mut target = Target::start(name);
    target.done("run 8 100");
    let before = Snapshot::at_rest(target.pid());
    let points = [format!("{name}:*"), format!("return:{name}:*")];
    let live =
        Live::attached(&["count", "-p", &target.pid().to_string(), points[0].as_str(), points[1].as_str()]);
    let mut calls = 0;
    for _ in 0..scaled(500) {
        calls += target.done("run 16 3000") + target.done("deep 8 3000");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    let sites = outcome.one("attached").get("sites").and_then(|s| s.as_array()).map_or(0, Vec::len);
    assert!(sites > 12_000, "{sites}");
    assert!(outcome.hits() > 2 * calls, "an entry and an exit of main.call: {}", outcome.hits());
    before.assert_same();
    assert_eq!(target.done("run 4 10"), 40);
}

/// Body of an answer, without its newline.
fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = Lines::new(stream);
    assert_eq!(lines.next_line().as_deref(), Some("HTTP/1.0 200 OK"));
    while lines.next_line().is_some_and(|l| !l.is_empty()) {}
    lines.next_line().unwrap()
}

#[test]
fn the_systems_python_is_counted_in_its_own_code_and_in_libc() {
    let mut target = Target::python();
    target.done("run 10 1");
    let before = Snapshot::of(target.pid());
    let points = ["PyNumber_Power", "PyObject_Format", "libc.so.6:getpid"];
    let live = Live::attached(&[&["count", "-p", &target.pid().to_string()][..], &points].concat());
    let calls = scaled(1_000_000);
    assert_eq!(target.done(&format!("run {calls} 1")), calls);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let stats = outcome.final_stats();
    assert_eq!(stats.len(), points.len(), "{outcome}");
    for site in stats {
        assert_eq!(count(site, "hits"), calls, "{outcome}");
    }
    assert_eq!(outcome.lost(), 0, "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 10 1"), 10);
}

#[test]
fn every_function_of_python_and_of_its_libc_at_once_changes_no_result() {
    let mut target = Target::python();
    let work = format!("mix {} 1", scaled(10_000));
    let expected = target.ask(&work);
    let before = Snapshot::of(target.pid());
    let points = ["python3.11:*", "libc.so.6:*"];
    let live = Live::attached(&[&["count", "-p", &target.pid().to_string()][..], &points].concat());
    assert_eq!(target.ask(&work), expected);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let sites = outcome.one("attached").get("sites").and_then(|s| s.as_array()).map_or(0, Vec::len);
    assert!(sites > 3000, "{sites}");
    assert!(outcome.hits() > 1000 * scaled(10_000), "{}", outcome.hits());
    assert_eq!(outcome.lost(), 0);
    before.assert_same();
    assert_eq!(target.ask(&work), expected);
}

#[test]
fn a_static_musl_server_under_load_answers_right() {
    let mut server = Target::start_with("server-musl", &["--control", "--self-load", "5000"]);
    let mut live = Live::attached(&["count", "-p", &server.pid().to_string(), "handle_request"]);
    let before = server.ask("stats");
    live.until_that("stats", |s| count(s, "hits") >= 500 || text(s, "state") != "armed");
    let requests = Target::field(&before, "requests");
    let after = server.ask_until("stats", |s| Target::field(s, "requests") > requests);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let seen = Target::field(&after, "requests") - requests;
    assert!(outcome.hits() >= seen && seen > 0, "{before} {after} {outcome}");
    assert_eq!(Target::field(&server.ask("stats"), "wrong"), 0);
}
