//! Our memory in the target: which thread writes where, what is shared with whom, what a hit makes (nothing), and that the
//! text's pages are the file's again at the end. Seen from outside, in `/proc`.
//!
//! Where a test compares memory, the host stands still (SIGSTOP), so that what changes was changed by hits.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::Command;

use trocar_test_support::command::binary;
use trocar_test_support::ours::{Part, since};
use trocar_test_support::process::{mappings, text_differences, threads};
use trocar_test_support::{Contents, Live, Target};

use crate::probe::Probe;

/// A live command in one of the tiers, whatever the environment of this test says.
pub(crate) fn in_tier(tier: u32, args: &[&str]) -> Live {
    let mut command = Command::new(binary());
    command.args(args).args(["-o", "json"]).env_remove("TROCAR_TIER");
    if tier == 1 {
        command.env("TROCAR_TIER", "1");
    }
    let mut live = Live::spawn(&mut command);
    let attached = live.until("attached");
    assert_eq!(attached.get("tier"), Some(&serde_json::json!(tier)), "{attached}");
    live
}

/// Threads hit one after another. Answers the cache lines that two have changed, and where the shared memory begins.
fn lines_of_two(tier: u32, args: &[&str]) -> (Vec<u64>, u64) {
    let mut target = Target::start("counter");
    target.done(&format!("run {THREADS} 10"));
    let before = mappings(target.pid());
    let pid = target.pid().to_string();
    let args: Vec<&str> = args.iter().map(|a| if *a == "PID" { pid.as_str() } else { *a }).collect();
    let live = in_tier(tier, &args);
    // Contexts are claimed, and the first tokens for records taken, of which each context keeps a batch.
    target.done(&format!("run {THREADS} 10"));
    live.stop();
    target.done(&format!("run {THREADS} 1"));
    let parts = since(&before, target.pid());
    let lines = written_by_two(&mut target, &parts);
    live.go_on();
    let outcome = live.interrupt();
    outcome.assert_clean();
    // Each call is a hit, or one at its entry and one at its exit.
    let sites = outcome.final_stats().len() as u64;
    assert_eq!((outcome.hits(), outcome.lost()), (sites * THREADS * (11 + CALLS), 0), "{outcome}");
    let shared = parts.iter().find(|p| p.is_shared()).unwrap().range.start;
    (lines, shared)
}

/// Threads that call, and how often each does.
const THREADS: u64 = 8;
const CALLS: u64 = 500;

/// Threads call one after another. Answers the cache lines of these parts that more than one of them has changed.
fn written_by_two(target: &mut Target, parts: &[Part]) -> Vec<u64> {
    let process = target.pid();
    let look = || Contents::of(process, parts.iter().filter(|p| p.is_writable()));
    let mut before = look();
    let (mut all, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for thread in 0..THREADS {
        assert_eq!(target.done(&format!("alone {thread} {CALLS}")), CALLS);
        let after = look();
        let lines = before.changed(&after);
        assert!(!lines.is_empty(), "thread {thread} left nothing");
        twice.extend(all.intersection(&lines).copied());
        all.extend(lines);
        before = after;
    }
    twice.into_iter().collect()
}

#[test]
fn no_cache_line_is_written_by_two_threads_that_count() {
    for tier in [1, 2] {
        let (lines, _) = lines_of_two(tier, &["count", "-p", "PID", "work"]);
        assert!(lines.is_empty(), "tier {tier}: {lines:x?}");
    }
}

#[test]
fn no_cache_line_is_written_by_two_threads_whose_hits_are_lost() {
    for tier in [1, 2] {
        let mut target = Target::start("counter");
        target.done(&format!("run {THREADS} 10"));
        let before = mappings(target.pid());
        let live = in_tier(tier, &["count", "-p", &target.pid().to_string(), "work"]);
        // Nobody serves a probe whose host has died: each hit is counted where it needs no context.
        live.kill();
        target.done(&format!("run {THREADS} 1"));
        let parts = since(&before, target.pid());
        let lines = written_by_two(&mut target, &parts);
        assert!(lines.is_empty(), "tier {tier}: {lines:x?}");
    }
}

#[test]
fn no_cache_line_is_written_by_two_threads_whose_calls_are_timed() {
    let (lines, _) = lines_of_two(1, &["time", "-p", "PID", "work"]);
    assert!(lines.is_empty(), "{lines:x?}");
}

#[test]
fn no_cache_line_is_written_by_two_threads_that_count_by_a_key() {
    let (lines, _) = lines_of_two(1, &["count", "-p", "PID", "work", "--by", "$arg0 & 7"]);
    assert!(lines.is_empty(), "{lines:x?}");
}

#[test]
fn threads_that_write_records_write_one_line_together_from_which_each_takes_its_rate() {
    let probe = remembering();
    let args = ["load", probe.path(), "-p", "PID", "--at", "work", "--rate", "1000000/s"];
    let (lines, shared) = lines_of_two(1, &args);
    // Once in sixteen records (`sandbox/rate.rs`), and never the line that every hit reads, which is the first.
    assert_eq!(lines, [shared + 64]);
}

/// What the probe below keeps in its memory.
const KEPT: u64 = 0x5eed_0fa1_1ab1_e000;

/// A probe that writes a record at every hit, and keeps a number in its memory: [`KEPT`] and how many there were.
fn remembering() -> Probe {
    Probe::of_wat(&format!(
        r#"(module
            (import "trocar" "emit" (func $emit (param i32 i32 i32)))
            (memory (export "memory") 1 1)
            (global $n (mut i64) (i64.const {KEPT}))
            (func (export "on_hit")
                (global.set $n (i64.add (global.get $n) (i64.const 1)))
                (i64.store (i32.const 4096) (global.get $n))
                (call $emit (i32.const 0) (i32.const 0) (i32.const 8)))
            (@custom "trocar.manifest"
              "{{\"abi\":1,\"name\":\"event\",\"events\":[{{\"name\":\"e\",\"fields\":[{{\"name\":\"n\",\"type\":\"u64\"}}]}}]}}"))"#
    ))
}

#[test]
fn instances_are_private_memory_and_keep_what_is_in_them_between_hits() {
    const CALLS: u64 = 100;
    let (probe, mut target) = (remembering(), Target::start("counter"));
    target.done("run 1 10");
    let before = mappings(target.pid());
    let pid = target.pid().to_string();
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work"]);
    assert_eq!(target.done(&format!("run 1 {CALLS}")), CALLS);
    let parts = since(&before, target.pid());
    let in_parts = |shared: bool| {
        let parts = parts.iter().filter(|p| p.is_writable() && p.is_shared() == shared);
        Contents::of(target.pid(), parts).places_of(KEPT + CALLS).len()
    };
    // The thread's instance has it as its global and in its memory; more copies may be in its context.
    assert!(in_parts(false) >= 2, "all hits of a thread are in one instance: {parts:#x?}");
    assert_eq!(in_parts(true), 0, "no instance is in memory that others see");
    let shared: Vec<&str> = parts.iter().filter(|p| p.is_shared()).map(|p| p.mapping.name.as_str()).collect();
    assert_eq!(shared, ["/memfd:trocar-shared (deleted)"], "and nothing else is shared");
    live.interrupt().assert_clean();
}

/// A probe that writes one record in each instance, at its first hit.
fn announcing() -> Probe {
    Probe::of_wat(
        r#"(module
            (import "trocar" "emit" (func $emit (param i32 i32 i32)))
            (memory (export "memory") 1 1)
            (global $known (mut i32) (i32.const 0))
            (func (export "on_hit")
                (if (global.get $known) (then (return)))
                (global.set $known (i32.const 1))
                (call $emit (i32.const 0) (i32.const 0) (i32.const 8)))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"first\",\"events\":[{\"name\":\"e\",\"fields\":[{\"name\":\"n\",\"type\":\"u64\"}]}]}"))"#,
    )
}

#[test]
fn a_hit_that_finds_no_context_is_lost_and_makes_nothing() {
    const THREADS: u64 = 40;
    /// What the pool has at least.
    const POOL: u64 = 16;
    let (probe, mut target) = (announcing(), Target::start("counter"));
    let pid = target.pid().to_string();
    target.done("run 1 10");
    let own = threads(target.pid());
    let args = ["load", probe.path(), "-p", &pid, "--at", "work", "--max-core", "100"];
    let mut live = Live::attached(&args);
    assert_eq!(threads(target.pid()), own, "no thread of ours stays");
    // Threads are born, and nobody refills the pool.
    live.stop();
    let first = target.done(&format!("run {THREADS} 10"));
    let (there, own) = (mappings(target.pid()), threads(target.pid()));
    assert_eq!(own.len() as u64, THREADS + 1);
    let second = target.done(&format!("run {THREADS} 10"));
    assert_eq!(mappings(target.pid()), there, "no hit maps anything");
    assert_eq!(threads(target.pid()), own, "no hit starts a thread");
    // The host refills it, until every thread has a context.
    live.go_on();
    target.ask(&format!("spin {THREADS}"));
    let contexts = Cell::new(0);
    live.until_that("event", |_| contexts.replace(contexts.get() + 1) + 1 == THREADS);
    let third = target.done("halt");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), first + second + third, "{outcome}");
    // The first thread of all and those that came first had the sixteen.
    assert!(outcome.lost_as("no_context") >= 2 * 10 * (THREADS - POOL), "{outcome}");
    assert_eq!(outcome.lost(), outcome.lost_as("no_context"), "{outcome}");
}

/// KiB of text in a process that are not the files' any more, as the kernel counts them.
fn copied(pid: u32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut of_text = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if line.contains("-p ") || line.contains("-s ") || line.contains("xp ") {
            of_text = line.contains(" r-xp ") && line.contains(" /") && !line.contains("memfd:trocar-");
        } else if let Some(size) = line.strip_prefix("Anonymous:").filter(|_| of_text) {
            sum += size.trim_end_matches("kB").trim().parse::<u64>().unwrap();
        }
    }
    sum
}

#[test]
fn restored_text_is_the_files_pages_again() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    let pid = target.pid();
    assert_eq!(copied(pid), 0, "nobody has written there yet");
    let points = ["libc.so.6:malloc", "libc.so.6:qsort", "libc.so.6:getenv", "libc.so.6:strtod"];
    let live = Live::attached(&[&["count", "-p", &pid.to_string()][..], &points].concat());
    let while_attached = copied(pid);
    target.done("run 2 10");
    live.interrupt().assert_clean();
    // That of the next test stays.
    assert!(while_attached >= 4 * 4, "what is written is a copy: {while_attached} KiB");
    assert!(copied(pid) <= 4, "the copies are dropped: {while_attached} and then {} KiB", copied(pid));
}

#[test]
fn the_page_that_lends_its_slack_stays_a_copy_of_four_kib_with_the_files_bytes_however_often() {
    let mut target = Target::start("counter");
    target.done("run 2 10");
    let pid = target.pid();
    assert_eq!(copied(pid), 0, "nobody has written there yet");
    for _ in 0..3 {
        let live = Live::attached(&["count", "-p", &pid.to_string(), "work", "libc.so.6:qsort"]);
        target.done("run 2 10");
        live.interrupt().assert_clean();
        assert_eq!(copied(pid), 4);
        let differences = text_differences(pid);
        assert!(differences.is_empty(), "{differences:?}");
    }
}
