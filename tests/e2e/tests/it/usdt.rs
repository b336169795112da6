//! USDT markers: of a program of our own, of libstdc++, of the system's python, of PostgreSQL. A marker behind a semaphore
//! is passed only while somebody listens, so that the semaphore's way through a session is seen in the counts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use trocar_test_support::command::{count, run, text};
use trocar_test_support::lines::Lines;
use trocar_test_support::process::text_differences;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Snapshot, Target};

use crate::probe::Probe;

#[test]
fn a_marker_at_two_places_is_counted_at_both() {
    let mut target = Target::start("markers");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "usdt:shop:paid"]);
    let orders = target.ask(&format!("run 2 {}", scaled(500_000)));
    let total = 2 * scaled(500_000);
    assert_eq!(orders, format!("done {total} prepared=0"), "the other marker's semaphore is not touched");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.final_stats().len(), 2, "{outcome}");
    assert!(outcome.final_stats().iter().all(|s| count(s, "hits") == total / 2), "{outcome}");
    before.assert_same();
}

#[test]
fn a_marker_behind_a_semaphore_is_passed_while_attached_and_not_afterwards() {
    let mut target = Target::start("markers");
    let pid = target.pid().to_string();
    let before = Snapshot::of(target.pid());
    assert_eq!(target.ask("run 1 1000"), "done 1000 prepared=0");
    let live = Live::attached(&["count", "-p", &pid, "usdt:shop:*"]);
    assert_eq!(target.ask("run 1 1000"), "done 1000 prepared=1000");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 2000, "{outcome}");
    assert_eq!(target.ask("run 1 1000"), "done 1000 prepared=0");
    before.assert_same();
}

/// `$arg1` of the marker is a number of its own, not what a call would have in rsi: native code does not know it, and is not
/// asked.
#[test]
fn a_condition_on_a_markers_argument_is_the_markers_in_every_tier() {
    let mut target = Target::start("markers");
    let before = Snapshot::of(target.pid());
    let orders = 3 * scaled(100_000);
    let pid = target.pid().to_string();
    let live = Live::attached(&["count", "-p", &pid, "usdt:shop:order", "--if", "$arg1 == -1"]);
    target.done(&format!("run 1 {orders}"));
    let outcome = live.interrupt();
    outcome.assert_clean();
    let executed: u64 = outcome.final_stats().into_iter().map(|s| count(s, "executed")).sum();
    assert_eq!((outcome.hits(), executed), (orders, orders / 3), "{outcome}");
    before.assert_same();
}

#[test]
fn other_tracers_of_a_semaphore_are_left_in_it() {
    let mut target = Target::start("markers");
    let pid = target.pid().to_string();
    assert_eq!(target.done("raise 3 0"), 3);
    let first = Live::attached(&["count", "-p", &pid, "usdt:shop:order"]);
    // One comes and one goes while we are there; ours is the one that is taken away at the end.
    assert_eq!(target.done("raise 2 0"), 6);
    assert_eq!(target.done("lower 4 0"), 2);
    first.interrupt().assert_clean();
    assert_eq!(target.done("raise 1 0"), 2);
    // What is already zero is not lowered below it: another tool has set it.
    let second = Live::attached(&["count", "-p", &pid, "usdt:shop:order"]);
    assert_eq!(target.done("lower 3 0"), 0);
    second.interrupt().assert_clean();
    assert_eq!(target.done("raise 1 0"), 1);
}

#[test]
fn a_semaphore_that_is_full_refuses_and_leaves_everything() {
    let mut target = Target::start("markers");
    assert_eq!(target.done("raise 65535 0"), 65535);
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &target.pid().to_string(), "usdt:shop:*", "--hits", "1"]);
    assert_eq!(outcome.status, 4, "{outcome}");
    assert!(outcome.one("error").to_string().contains("greatest value"), "{outcome}");
    before.assert_same();
    assert_eq!(target.done("lower 1 0"), 65534);
}

#[test]
fn a_killed_host_leaves_its_semaphore_raised_until_the_next_command() {
    let mut target = Target::start("markers");
    let pid = target.pid().to_string();
    let before = Snapshot::of(target.pid());
    Live::attached(&["count", "-p", &pid, "usdt:shop:order"]).kill();
    assert_eq!(target.ask("run 1 10"), "done 10 prepared=10");
    let live = Live::attached(&["count", "-p", &pid, "usdt:shop:paid", "--hits", "10"]);
    assert_eq!(target.ask("run 1 10"), "done 10 prepared=0");
    let outcome = live.finish();
    assert_eq!(count(outcome.one("reaped"), "sessions"), 1, "{outcome}");
    assert_eq!(target.done("raise 1 0"), 1);
    target.done("lower 1 0");
    before.assert_same();
}

/// Its semaphores are its own, and so is the number of those that are raised.
#[test]
fn a_child_that_was_forked_meanwhile_has_semaphores_of_its_own_to_be_lowered() {
    let mut target = Target::start("markers");
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "usdt:shop:order"]);
    let child = target.done("fork 1 0");
    live.kill();
    for pid in [child, u64::from(target.pid())] {
        let outcome = run(&["count", "-p", &pid.to_string(), "usdt:shop:paid", "--for", "1ms"]);
        outcome.assert_clean();
        assert_eq!(count(outcome.one("reaped"), "sessions"), 1, "{outcome}");
    }
    assert_eq!(target.done("raise 1 0"), 1);
}

#[test]
fn a_semaphore_that_stays_raised_is_named() {
    let mut target = Target::start("markers");
    let mut live = Live::start(&["count", "-p", &target.pid().to_string(), "usdt:shop:order"]);
    let attached = live.until("attached");
    let site = attached.pointer("/sites/0/address").and_then(|a| a.as_str()).unwrap();
    let site = u64::from_str_radix(site.trim_start_matches("0x"), 16).unwrap();
    // Another tool comes to the marker's only place, so that nothing of ours tells whose memory the semaphore is.
    let memory = File::options().write(true).open(format!("/proc/{}/mem", target.pid())).unwrap();
    memory.write_all_at(&[0xcc; 12], site - 8).unwrap();
    let outcome = live.interrupt();
    let residue = outcome.one("receipt").get("residue").unwrap().to_string();
    assert!(residue.contains("semaphore"), "{outcome}");
    assert_eq!(target.done("lower 1 0"), 0, "it was raised by one");
}

/// A pattern and a name of one of its markers: the place has the handler of the point that came first, and the other is told.
#[test]
fn a_place_has_one_handler_and_another_is_refused() {
    let probe = Probe::of_wat(
        r#"(module (func (export "on_any")) (func (export "on_paid"))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"two\",\"handlers\":[{\"name\":\"on_any\"},{\"name\":\"on_paid\"}]}"))"#,
    );
    let target = Target::start("markers");
    let pid = target.pid().to_string();
    let points = ["--at", "on_any=usdt:shop:*", "--at", "on_paid=usdt:shop:paid"];
    let live = Live::attached(&[&["load", probe.path(), "-p", &pid][..], &points].concat());
    let outcome = live.interrupt();
    outcome.assert_clean();
    let refusals = outcome.one("attached").get("refusals").unwrap().to_string();
    assert_eq!(refusals.matches("overlaps_site").count(), 2, "one for each of its places: {outcome}");
    let strict = run(&[&["load", probe.path(), "-p", &pid, "--strict"][..], &points].concat());
    assert_ne!(strict.status, 0, "{strict}");
}

#[test]
fn arguments_are_those_of_the_marker() {
    let mut target = Target::start("markers");
    let pid = target.pid().to_string();
    let orders = 1200;
    for (by, want) in [
        ("str($arg0)", (0..10).map(|n| (format!("order{n}"), orders / 10)).collect::<BTreeMap<_, _>>()),
        ("$arg1", (0..3).map(|n| (format!("{}", -n), orders / 3)).collect()),
        ("$arg2", BTreeMap::from([("-300".into(), orders)])),
        ("$arg3", BTreeMap::from([("4000000000".into(), orders)])),
        ("$arg4", (0..4).map(|n| (format!("{n}"), orders / 4)).collect()),
        ("$arg5", BTreeMap::from([("60000".into(), orders)])),
        ("$arg6", BTreeMap::from([("-7".into(), orders)])),
        ("$arg7", BTreeMap::from([("0".into(), orders)])),
        // Each argument in memory is read, for which a hit has the fuel.
        (
            "$arg0 * 0 + $arg1 * 0 + $arg2 + $arg3 * 0 + $arg4 * 0 + $arg5",
            BTreeMap::from([("59700".into(), orders)]),
        ),
    ] {
        let live = Live::attached(&["count", "-p", &pid, "usdt:shop:order", "--by", by]);
        target.done(&format!("run 1 {orders}"));
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!(outcome.lost(), 0, "{outcome}");
        assert_eq!(keys(&outcome), want, "{by}: {outcome}");
    }
}

#[test]
fn each_place_of_a_marker_has_arguments_of_its_own_and_functions_keep_theirs() {
    let mut target = Target::start("markers");
    let pid = target.pid().to_string();
    // The same argument is a long in one place and an int in the other; at the function it is whether the order is in cash.
    let live = Live::attached(&["count", "-p", &pid, "usdt:shop:paid", "--by", "$arg0"]);
    target.done("run 1 400");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(
        keys(&outcome),
        [("1", 100), ("3", 100), ("0", 100), ("-2", 100)].map(|(k, n)| (k.to_owned(), n)).into()
    );
    let live = Live::attached(&["count", "-p", &pid, "usdt:shop:order", "pass", "--if", "$arg1 == 1"]);
    target.done("run 1 400");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let executed: Vec<u64> = outcome.final_stats().iter().map(|s| count(s, "executed")).collect();
    assert_eq!(executed, [200, 0], "{outcome}");
}

#[test]
fn a_dry_run_says_that_arguments_in_memory_cost_system_calls() {
    let target = Target::start("markers");
    let pid = target.pid().to_string();
    for (point, calls) in [("usdt:shop:order", serde_json::Value::Null), ("usdt:shop:paid", 0.into())] {
        let outcome = run(&["count", "-p", &pid, point, "--by", "$arg1", "--dry-run"]);
        assert_eq!(outcome.one("verdict").get("system_calls_per_hit"), Some(&calls), "{outcome}");
    }
}

/// What was counted by key.
fn keys(outcome: &Outcome) -> BTreeMap<String, u64> {
    let map = outcome.all("map").next_back().unwrap();
    let rows = map.get("rows").and_then(|r| r.as_array()).unwrap();
    let key = |row: &serde_json::Value| match row
        .get("key")
        .and_then(|k| k.as_object()?.values().next())
        .unwrap()
    {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.iter().map(|row| (key(row), count(row, "value"))).collect()
}

#[test]
fn points_lists_markers_and_names_the_nearest() {
    let target = Target::start("markers");
    let pid = target.pid().to_string();
    let outcome = run(&["points", "-p", &pid, "usdt:shop:*"]);
    let marker = |s: &serde_json::Value, field: &str| text(s.get("marker").unwrap(), field).to_owned();
    let mut names: Vec<String> = outcome.all("site").map(|s| marker(s, "name")).collect();
    names.sort();
    assert_eq!(names, ["order", "paid", "paid"], "{outcome}");
    let order = outcome.all("site").find(|s| marker(s, "name") == "order").unwrap();
    assert!(marker(order, "arguments").starts_with("8@%rdi -1@8(%rdi) "), "{outcome}");
    assert!(marker(order, "semaphore").starts_with("0x"), "{outcome}");
    for (point, near) in [("usdt:shop:odrer", "usdt:shop:order"), ("usdt:ship:paid", "usdt:shop:paid")] {
        let outcome = run(&["points", "-p", &pid, point]);
        assert_eq!(outcome.status, 4, "{outcome}");
        assert!(text(outcome.one("error"), "hint").contains(near), "{outcome}");
    }
}

#[test]
fn exceptions_are_counted_by_the_markers_of_libstdcxx() {
    let mut target = Target::start("throw");
    target.done("run 2 10");
    let before = Snapshot::of(target.pid());
    let points = ["usdt:libstdcxx:throw", "usdt:libstdcxx:catch"];
    let live = Live::attached(&[&["count", "-p", &target.pid().to_string()][..], &points].concat());
    let each = scaled(200_000);
    let caught = 4 * (each / 2);
    assert_eq!(target.ask(&format!("run 4 {each}")), format!("done {} caught={caught}", 4 * each));
    let outcome = live.interrupt();
    outcome.assert_clean();
    let hits: Vec<u64> = outcome.final_stats().iter().map(|s| count(s, "hits")).collect();
    assert_eq!(hits, [caught, caught], "{outcome}");
    before.assert_same();
}

#[test]
fn pythons_audits_and_collections_are_counted_by_its_markers() {
    let script = "import gc, sys\ngc.disable()\nprint('ready pid=%d' % __import__('os').getpid())\n\
                  for line in sys.stdin:\n    n = int(line.split()[1])\n    [(gc.collect(), sys.audit('shop.order')) for _ in range(n)]\n    print('done', n)";
    let mut target = Target::spawn(Command::new("/usr/bin/python3.11").args(["-u", "-c", script]));
    target.done("run 1");
    let pid = target.pid().to_string();
    let live = Live::attached(&["count", "-p", &pid, "usdt:python:gc__start", "usdt:python:gc__done"]);
    target.done("run 300");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let hits: Vec<u64> = outcome.final_stats().iter().map(|s| count(s, "hits")).collect();
    assert_eq!(hits, [300, 300], "{outcome}");
    let live = Live::attached(&["count", "-p", &pid, "usdt:python:audit", "--by", "str($arg0)"]);
    target.done("run 300");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(keys(&outcome).get("shop.order"), Some(&300), "{outcome}");
    target.done("run 1");
}

#[test]
fn postgres_queries_are_counted_by_its_markers() {
    let mut postgres = Postgres::start();
    postgres.query("create table items (id int, name text)");
    postgres.query("select 1");
    let pid = postgres.server.id().to_string();
    let text = "str($arg0, 7)";
    let live = Live::attached(&["count", "-p", &pid, "usdt:postgresql:query__start", "--by", text]);
    for n in 0..50 {
        postgres.query(&format!("insert into items values ({n}, 'item {n}')"));
    }
    postgres.query("select 1");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 51, "{outcome}");
    assert_eq!(keys(&outcome), BTreeMap::from([("insert ".into(), 50), ("select ".into(), 1)]), "{outcome}");
    // All of its markers at once, each with its semaphore.
    let live = Live::attached(&["count", "-p", &pid, "usdt:postgresql:*"]);
    let answer = postgres.query("select count(*) from items");
    assert!(answer.iter().any(|line| line.contains("\"50\"")), "{answer:?}");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.lost(), 0, "{outcome}");
    assert!(outcome.hits() > 10, "{outcome}");
    assert_eq!(text_differences(postgres.server.id()), [""; 0]);
}

/// Debian's PostgreSQL 15 in its single-user mode: one process, one query a line.
struct Postgres {
    server: Child,
    queries: ChildStdin,
    answers: Lines<ChildStdout>,
    _folder: tempfile::TempDir,
}

/// It refuses to run as root: then it is nobody (Debian's base-passwd).
const NOBODY: u32 = 65534;

impl Postgres {
    fn program(name: &str, user: Option<u32>) -> Command {
        let path = PathBuf::from("/usr/lib/postgresql/15/bin").join(name);
        assert!(path.exists(), "no {} (Debian package postgresql-15)", path.display());
        let mut command = Command::new(path);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
        let user = is_root.then_some(NOBODY);
        if let Some(user) = user {
            chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let data: &Path = &folder.path().join("data");
        let made = Self::program("initdb", user)
            .args(["--no-sync", "--auth=trust", "--username=tester", "--pgdata"])
            .arg(data)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self::program("postgres", user)
            .args(["--single", "-F", "-D"])
            .arg(data)
            .arg("postgres")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let queries = server.stdin.take().unwrap();
        let answers = Lines::new(server.stdout.take().unwrap());
        let mut postgres = Self { server, queries, answers, _folder: folder };
        postgres.query("select 1");
        postgres
    }

    /// Sends a query. Of a `select` of one row the answer's lines; others are not waited for, but a `select` behind them is.
    fn query(&mut self, query: &str) -> Vec<String> {
        writeln!(self.queries, "{query}").unwrap();
        let mut lines = Vec::new();
        if !query.starts_with("select") {
            return lines;
        }
        while let Some(line) = self.answers.next_line() {
            let rows = line.contains("= \"");
            lines.push(line);
            if rows {
                break;
            }
        }
        lines
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
