//! Calls through import tables: of Debian's redis-server and python, and of a program without a linkage table.

use trocar_test_support::command::{count, run, text};
use trocar_test_support::redis::Reply;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Redis, Snapshot, Target};

#[test]
fn redis_writes_once_for_each_answer() {
    let mut redis = Redis::start();
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
    let before = Snapshot::of(redis.pid());
    let live = Live::attached(&["count", "-p", &redis.pid().to_string(), "import:redis-server:write"]);
    for _ in 0..500 {
        assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (500, 0), "{outcome}");
    before.assert_same();
}

#[test]
fn only_the_calls_of_the_module_are_counted() {
    let mut python = Target::python();
    python.done("run 10 1");
    let pid = python.pid().to_string();
    // libc's `getpid` is called by the interpreter alone here; every one of its calls passes the stub.
    let live = Live::attached(&["count", "-p", &pid, "import:python3.11:getpid", "libc.so.6:getpid"]);
    let calls = python.done(&format!("run {} 1", scaled(50_000)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    let hits: Vec<u64> = outcome.final_stats().iter().map(|s| count(s, "hits")).collect();
    assert_eq!(hits, [calls, calls], "{outcome}");
}

#[test]
fn without_a_linkage_table_every_call_is_a_site() {
    let mut target = Target::start("markers-noplt");
    target.done("run 1 1");
    let pid = target.pid().to_string();
    let before = Snapshot::of(target.pid());
    let mut live = Live::attached(&["count", "-p", &pid, "import:markers-noplt:fgets"]);
    for _ in 0..100 {
        target.done("run 1 1");
    }
    // The one that waited for the first command had begun before the probe came. The last one begins after the last
    // answer, when its thread has a turn.
    live.until_that("stats", |s| count(s, "hits") >= 100);
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 100, "{outcome}");
    before.assert_same();
    let outcome = run(&["points", "-p", &pid, "import:markers-noplt:fgets"]);
    let ways: Vec<&str> = outcome.all("site").map(|s| text(s.get("import").unwrap(), "way")).collect();
    assert!(!ways.is_empty() && ways.iter().all(|way| *way == "call"), "{outcome}");
    let outcome = run(&["points", "-p", &pid, "import:markers-noplt:fgest"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(text(outcome.one("error"), "hint").contains("fgets"), "{outcome}");
}
