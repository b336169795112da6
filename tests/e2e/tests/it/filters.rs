//! Seccomp filters: what hits ask of the kernel is what every thread's filters allow for certain, and nothing else. A filter
//! that kills would end the target at the first call too many.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use trocar_test_support::command::{count, text};
use trocar_test_support::{Live, Outcome, Snapshot, Target};

/// Counts greetings by the name in memory.
fn by_name(target: &Target) -> Live {
    let pid = target.pid().to_string();
    // It is ended before, unless what a test waits for never comes.
    Live::attached(&["count", "-p", &pid, "greet", "--by", "str($arg0)", "--for", "2m"])
}

/// Hits by name.
fn names(outcome: &Outcome) -> BTreeMap<&str, u64> {
    let rows = outcome.all("map").next_back().and_then(|m| m.get("rows")?.as_array()).unwrap();
    let name = |row: &Value| row.get("key").and_then(|k| k.as_object()?.values().next()).cloned().unwrap();
    let known = ["alpha", "beta", "<unreadable>"];
    let mut sums = BTreeMap::new();
    for row in rows {
        let name = name(row);
        let name = known.into_iter().find(|k| name == **k).unwrap_or_else(|| panic!("{row}"));
        *sums.entry(name).or_default() += count(row, "value");
    }
    sums
}

fn is_told(state: &Value) -> bool {
    text(state, "why").contains("seccomp filter") && text(state, "why").contains("EPERM")
}

fn read(outcome: &Outcome, each: u64) {
    assert_eq!(names(outcome), BTreeMap::from([("alpha", each), ("beta", each)]), "{outcome}");
    assert_eq!(outcome.all("state").count(), 0, "{outcome}");
}

fn not_read(outcome: &Outcome, hits: u64) {
    assert_eq!(names(outcome), BTreeMap::from([("<unreadable>", hits)]), "{outcome}");
    assert_eq!(outcome.all("state").filter(|s| is_told(s)).count(), 1, "{outcome}");
}

/// Attaches twice, and lets these threads greet on their stacks and on one that nobody knows.
fn probed(filters: &[&str], check: impl Fn(&Outcome, u64)) {
    let mut target = Target::start("filtered");
    for filter in filters {
        target.done(filter);
    }
    let threads = target.done("run 1") / 2;
    let before = Snapshot::of(target.pid());
    for _ in 0..2 {
        let live = by_name(&target);
        assert_eq!(target.done("run 50"), 100 * threads, "{filters:?}");
        assert_eq!(target.done("elsewhere 5"), 10, "{filters:?}");
        let outcome = live.interrupt();
        outcome.assert_clean();
        assert_eq!((outcome.hits(), outcome.lost()), (100 * threads + 10, 0), "{filters:?} {outcome}");
        check(&outcome, outcome.hits());
        before.assert_same();
    }
    target.done("run 1");
    assert!(target.finish().success(), "{filters:?}");
}

#[test]
fn memory_is_read_where_every_filter_allows_it() {
    for filters in [
        &["filter calls"][..],
        &["filter own"],
        &["filter anything"],
        &["filter anything", "filter calls", "filter own"],
        &["all calls", "worker none", "worker own", "worker none"],
        &["worker calls", "worker none", "worker anything"],
    ] {
        probed(filters, |outcome, hits| read(outcome, hits / 2));
    }
}

#[test]
fn memory_is_not_read_where_a_filter_forbids_it_or_might() {
    for filters in [
        &["filter noread"][..],
        &["filter other"],
        &["filter address"],
        &["filter errno"],
        &["filter log"],
        &["filter trap"],
        &["filter calls", "filter errno"],
        &["worker calls", "worker noread"],
        &["all anything", "worker none", "worker other", "worker none"],
    ] {
        probed(filters, not_read);
    }
}

#[test]
fn where_nobody_may_ask_for_alternate_stacks_hits_off_the_known_ones_are_lost() {
    let mut target = Target::start("filtered");
    target.done("filter nostack");
    let live = by_name(&target);
    target.done("run 50");
    target.done("elsewhere 5");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost_as("no_context"), outcome.lost()), (110, 10, 10), "{outcome}");
    read(&outcome, 50);
}

#[test]
fn threads_that_come_while_attached_are_known_by_what_they_began_with() {
    let mut target = Target::start("filtered");
    target.done("all calls");
    let live = by_name(&target);
    for _ in 0..10 {
        target.done("worker none");
    }
    target.done("run 10");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (220, 0), "{outcome}");
    read(&outcome, 110);
}

#[test]
fn a_filter_that_comes_while_attached_is_obeyed_from_then_on() {
    for (first, then) in [
        (&["worker none"][..], "filter noread"),
        (&["worker none"], "all noread"),
        (&["worker none"], "worker noread"),
        (&["all calls", "worker none"], "all errno"),
        (&["all calls", "worker none"], "worker other"),
    ] {
        let mut target = Target::start("filtered");
        for filter in first {
            target.done(filter);
        }
        let mut live = by_name(&target);
        let before = target.done("run 10");
        target.done(then);
        live.until_that("state", is_told);
        let after = target.done("run 10");
        let outcome = live.interrupt();
        outcome.assert_clean();
        let names = names(&outcome);
        assert_eq!(
            names,
            BTreeMap::from([("alpha", before / 2), ("beta", before / 2), ("<unreadable>", after)]),
            "{then} {outcome}"
        );
        assert_eq!(outcome.all("state").filter(|s| is_told(s)).count(), 1, "{then} {outcome}");
        target.done("run 1");
        assert!(target.finish().success());
    }
}

#[test]
fn a_filter_that_comes_while_attached_and_forbids_nothing_is_read() {
    let mut target = Target::start("filtered");
    target.done("worker calls");
    let mut live = by_name(&target);
    let alpha = |map: &Value| {
        let rows = map.get("rows").and_then(Value::as_array).into_iter().flatten();
        rows.filter(|r| r.to_string().contains("alpha")).map(|r| count(r, "value")).sum::<u64>()
    };
    for filter in ["filter own", "worker calls"] {
        target.done(filter);
        // Until it was read, nothing is; from then on everything is again.
        let before = alpha(&live.until("map"));
        loop {
            target.done("run 10");
            if alpha(&live.until("map")) > before {
                break;
            }
        }
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.lost(), 0, "{outcome}");
    assert_eq!(outcome.all("state").count(), 0, "{outcome}");
    target.done("run 1");
    assert!(target.finish().success());
}

#[test]
fn chronyd_behind_its_own_filter_is_counted_and_keeps_answering() {
    let chronyd = Chronyd::start();
    let pid = chronyd.server.id().to_string();
    let live = Live::attached(&["count", "-p", &pid, "import:libc.so.6:recvmmsg", "--by", "str($arg0)"]);
    for _ in 0..10 {
        assert!(chronyd.answers());
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.lost(), 0, "{outcome}");
    assert!(outcome.hits() >= 10, "{outcome}");
    not_read(&outcome, outcome.hits());
    assert!(chronyd.answers());
}

/// Debian's chronyd under its filter, which kills at what it does not list. It leaves the clock alone and has no servers.
struct Chronyd {
    server: Child,
    folder: TempDir,
}

impl Chronyd {
    fn start() -> Self {
        let program = Path::new("/usr/sbin/chronyd");
        assert!(program.exists(), "no {} (Debian package chrony)", program.display());
        let folder = tempfile::tempdir().unwrap();
        // In a folder that others may enter it makes no socket.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let configuration = format!(
            "user root\nport 0\ncmdport 0\nbindcmdaddress {}\npidfile {}\nlocal stratum 10\n",
            path("socket"),
            path("pid")
        );
        std::fs::write(path("conf"), configuration).unwrap();
        let mut command = Command::new(program);
        command.args(["-x", "-d", "-F", "1", "-f", &path("conf")]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut chronyd = Self { server: command.stdout(Stdio::null()).spawn().unwrap(), folder };
        while !chronyd.answers() {
            assert_eq!(chronyd.server.try_wait().unwrap(), None, "chronyd does not start");
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", chronyd.server.id())).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        chronyd
    }

    /// Whether it tells its state.
    fn answers(&self) -> bool {
        let socket = self.folder.path().join("socket");
        let answer = Command::new("chronyc").arg("-h").arg(socket).arg("tracking").output().unwrap();
        answer.status.success() && String::from_utf8_lossy(&answer.stdout).contains("Stratum         : 10")
    }
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
