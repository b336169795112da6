//! Containers: the target has user, mount and pid namespaces of its own. Its pid, the paths of its files and its user are
//! other ones outside, and nothing of that may matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use trocar_test_support::command::{binary, count, text};
use trocar_test_support::{Container, Live, Outcome, Snapshot, process, target};

use crate::probe::Probe;

/// Counts exactly in the program and in its libc, if it has one of its own, by the pid outside.
fn is_counted_from_outside(container: &mut Container, points: &[&str]) {
    let pid = container.pid().to_string();
    container.target.done("run 2 10");
    let before = Snapshot::of(container.pid());
    for _ in 0..3 {
        let live = Live::attached(&[&["count", "-p", &pid][..], points].concat());
        // Of `work`, and of what flushes each answer.
        let mut calls = [container.target.done("run 2 100"), 1];
        // On new threads, whose ids here are other ones than those they know of themselves.
        for _ in 0..5 {
            calls = [calls[0] + container.target.done("fresh 4 100"), calls[1] + 1];
        }
        let outcome = live.interrupt();
        outcome.assert_clean();
        let hits: Vec<u64> = outcome.final_stats().into_iter().map(|s| count(s, "hits")).collect();
        let expected: Vec<u64> = calls.into_iter().take(points.len()).collect();
        assert_eq!(hits, expected, "{outcome}");
        assert_eq!(outcome.lost(), 0, "{outcome}");
        before.assert_same();
    }
    assert_eq!(container.target.done("run 2 10"), 20);
}

#[test]
fn a_program_whose_path_does_not_exist_outside_is_probed() {
    is_counted_from_outside(
        &mut Container::start("counter", "/srv/only-inside/app"),
        &["app:work", "libc.so.6:fflush"],
    );
    is_counted_from_outside(&mut Container::start("counter-musl", "/app"), &["work"]);
}

#[test]
fn a_program_whose_path_is_another_file_outside_is_read_as_it_is_inside() {
    // Outside, this path is a program with the same function at another place.
    let path = target::path("counter-frame");
    let mut container = Container::start("counter-sled16", path.to_str().unwrap());
    is_counted_from_outside(&mut container, &["work", "libc.so.6:fflush"]);
    let mut container = Container::start("counter", "/usr/bin/env");
    is_counted_from_outside(&mut container, &["env:work", "libc.so.6:fflush"]);
}

/// The ids of the threads of a process in its own pid namespace.
fn threads_inside(pid: u32) -> BTreeSet<u64> {
    let inside = |tid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
        let ids = text.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap();
        ids.split_whitespace().last().unwrap().parse().unwrap()
    };
    process::threads(pid).into_iter().map(inside).collect()
}

/// A hash table: the thread's id, and how often the stack's top could be read through the kernel.
fn who() -> Probe {
    Probe::of_wat(
        r#"(module
            (import "trocar" "tid" (func $tid (result i32)))
            (import "trocar" "reg" (func $reg (param i32) (result i64)))
            (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
            (import "trocar" "hash_add" (func $add (param i32 i32 i32 i64) (result i32)))
            (memory (export "memory") 1)
            (func (export "on_hit")
              (i32.store (i32.const 0) (call $tid))
              (drop (call $add (i32.const 0) (i32.const 0) (i32.const 4)
                (i64.extend_i32_u (i32.eqz (call $read (call $reg (i32.const 7)) (i32.const 64) (i32.const 64)))))))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"who\",\"maps\":[{\"name\":\"reads\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"tid\",\"type\":\"u32\"}]}]}"))"#,
    )
}

/// What it says: reads for each thread.
fn reads(outcome: &Outcome) -> BTreeMap<u64, u64> {
    let rows = outcome.all("map").last().and_then(|m| m.get("rows")?.as_array()).unwrap();
    let row = |row: &Value| (row.pointer("/key/tid").and_then(Value::as_u64).unwrap(), count(row, "value"));
    rows.iter().map(row).collect()
}

#[test]
fn a_probe_in_a_container_reads_memory_and_knows_threads_by_the_ids_that_they_have_inside() {
    let probe = who();
    let mut container = Container::start("counter", "/app");
    // Two threads run when the probe comes, two come later.
    container.target.done("run 2 1");
    let before = Snapshot::of(container.pid());
    container.target.ask("spin 2");
    let pid = container.pid().to_string();
    // With cores of its own: what spins has used up a small share before the others come.
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work", "--max-core", "400"]);
    container.target.done("halt");
    container.target.done("run 4 100");
    let mut workers = threads_inside(container.pid());
    assert!(workers.remove(&1) && workers.len() == 4, "{workers:?}");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let reads = reads(&outcome);
    assert_eq!(reads.keys().copied().collect::<BTreeSet<_>>(), workers, "{outcome}");
    assert_eq!(reads.values().sum::<u64>(), outcome.hits() - outcome.lost(), "each hit read: {outcome}");
    before.assert_same();
}

#[test]
fn a_container_with_a_filter_is_probed_and_knows_its_thread() {
    let probe = who();
    let mut container = Container::with("hardened", "/app", &["filter"], &[]);
    container.target.done("run 1 1");
    let before = Snapshot::of(container.pid());
    let live = Live::attached(&["load", probe.path(), "-p", &container.pid().to_string(), "--at", "work"]);
    container.target.done("run 1 100");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (100, 0), "{outcome}");
    // Nobody may ask the kernel there, neither for memory nor for the id, which is the one that the program has inside.
    assert_eq!(reads(&outcome), BTreeMap::from([(1, 0)]), "{outcome}");
    before.assert_same();
}

#[test]
fn a_container_is_probed_from_inside() {
    let mut container = Container::with("counter", "/app", &[], &[&binary()]);
    let pid = container.pid().to_string();
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--user", "--mount", "--pid", "/trocar"]).args(words);
        command
            .args(["-o", "json"])
            .env("HOME", "/tmp")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CACHE_HOME");
        Live::spawn(&mut command).finish()
    };
    let outcome = inside(&["ps"]);
    assert!(outcome.lines.iter().any(|l| count(l, "pid") == 1 && text(l, "name") == "app"), "{outcome}");
    let before = Snapshot::of(container.pid());
    container.target.ask("spin 2");
    let outcome = inside(&["count", "-p", "1", "work", "--hits", "1000"]);
    outcome.assert_clean();
    assert!(outcome.hits() >= 1000, "{outcome}");
    container.target.done("halt");
    before.assert_same();
}
