//! Uprobes of the kernel that come to a site of ours, and go: the session ends, and the detach puts right what is left.
//!
//! The kernel asks nobody: it writes its breakpoint over the first byte of our jump, runs the instruction that the file has
//! there and goes on behind that one; when it goes, it writes the file's byte.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use serde_json::Value;
use trocar_test_support::command::{count, text};
use trocar_test_support::process::{Mapping, mappings, text_differences};
use trocar_test_support::target::path;
use trocar_test_support::{Live, Snapshot, Target};

const TRACING: &str = "/sys/kernel/tracing";

/// A uprobe of the kernel, until it is dropped.
struct Uprobe(String);

impl Uprobe {
    /// At an address of a process, and so in every process with that file.
    fn at(pid: u32, address: u64) -> Self {
        let there = |m: &&Mapping| m.start <= address && address < m.end;
        let mapping = mappings(pid).iter().find(there).cloned().expect("a site is in memory");
        let (file, offset) = (&mapping.name, address - mapping.start + mapping.offset);
        let uprobe = Self(format!("trocar_test/of_{pid}_{offset:x}"));
        Self::write("uprobe_events", &format!("p:{} {file}:{offset:#x}\n", uprobe.0));
        Self::write(&format!("events/{}/enable", uprobe.0), "1\n");
        uprobe
    }

    /// How often it was passed.
    fn hits(&self) -> u64 {
        let profile = fs::read_to_string(format!("{TRACING}/uprobe_profile")).unwrap();
        let name = self.0.split('/').next_back().unwrap();
        // FILE NAME HITS
        let mut rows = profile.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let hits =
            rows.find_map(|words| words.get(1).filter(|n| **n == name).and(words.get(2)?.parse().ok()));
        hits.unwrap_or_else(|| panic!("no {name} in {profile}"))
    }

    fn write(name: &str, line: &str) {
        let file = format!("{TRACING}/{name}");
        let written =
            OpenOptions::new().append(true).open(&file).and_then(|mut f| f.write_all(line.as_bytes()));
        written.unwrap_or_else(|e| {
            panic!("{file}: {e} (this test needs root, tracefs and CONFIG_UPROBE_EVENTS)")
        });
    }
}

impl Drop for Uprobe {
    fn drop(&mut self) {
        Self::write(&format!("events/{}/enable", self.0), "0\n");
        Self::write("uprobe_events", &format!("-:{}\n", self.0));
    }
}

/// A target of a file of its own, so that a uprobe comes to no other test's, and a probe at a point of it.
struct Probed {
    target: Target,
    before: Snapshot,
    live: Live,
    site: u64,
    _folder: tempfile::TempDir,
}

fn probed(point: &str) -> Probed {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first");
    // By a program of its own: another test that starts one just now would keep the file open for writing.
    assert!(Command::new("cp").args([&path("first"), &file]).status().unwrap().success());
    let target = Target::spawn(&mut Command::new(&file));
    let before = Snapshot::of(target.pid());
    let mut live = Live::start(&["count", "-p", &target.pid().to_string(), point]);
    let attached = live.until("attached");
    let site = text(attached.pointer("/sites/0").unwrap(), "address").trim_start_matches("0x");
    let site = u64::from_str_radix(site, 16).unwrap();
    Probed { target, before, live, site, _folder: folder }
}

#[test]
fn an_instruction_as_long_as_a_jump_does_the_same_under_a_uprobe_and_its_hits_are_the_uprobes() {
    let Probed { mut target, live, site, _folder, .. } = probed("wide");
    assert_eq!(target.done("wide 10"), 10);
    live.stop();
    let uprobe = Uprobe::at(target.pid(), site);
    assert_eq!(target.done("wide 100"), 100);
    assert_eq!(uprobe.hits(), 100);
    live.go_on();
    let outcome = live.finish();
    assert_eq!(outcome.hits(), 10, "{outcome}");
    assert_eq!(target.done("wide 100"), 100);
    drop(uprobe);
    assert_eq!(target.done("wide 100"), 100);
}

#[test]
fn a_uprobe_that_comes_to_a_site_ends_the_session_which_puts_the_text_around_it_back() {
    for point in ["wide", "narrow"] {
        let Probed { mut target, live, site, _folder, .. } = probed(point);
        let uprobe = Uprobe::at(target.pid(), site);
        // It ends by itself, as soon as it sees what has come.
        let outcome = live.finish();
        assert_eq!(outcome.status, 4, "{outcome}");
        let error = text(outcome.one("error"), "message");
        assert!(
            error.contains(&format!("uprobe of another tool was put on the site at {site:#x}")),
            "{error}"
        );
        let receipt = outcome.one("receipt");
        assert_eq!(receipt["restored"], Value::Bool(false), "{outcome}");
        assert_eq!(count(receipt, "mappings_left"), 0, "nothing leads to us any more: {outcome}");
        let residue = receipt["residue"].to_string();
        assert!(residue.contains("uprobe") && residue.contains(&format!("{site:#x}")), "{outcome}");
        // As if we had never been there.
        assert_eq!(target.done(&format!("{point} 100")), 100);
        assert_eq!(uprobe.hits(), 100);
        drop(uprobe);
        assert_eq!(target.done(&format!("{point} 100")), 100);
        let differences = text_differences(target.pid());
        assert!(differences.is_empty(), "{differences:?}");
    }
}

#[test]
fn so_does_one_that_came_and_went_and_the_whole_text_is_put_back() {
    for point in ["wide", "narrow"] {
        let Probed { mut target, before, live, site, _folder } = probed(point);
        // Seen while it is there, it would be told.
        live.stop();
        drop(Uprobe::at(target.pid(), site));
        live.go_on();
        let outcome = live.finish();
        assert_eq!(outcome.status, 4, "{outcome}");
        outcome.assert_receipt();
        before.assert_same();
        assert_eq!(target.done(&format!("{point} 100")), 100);
    }
}

#[test]
fn two_in_one_window_do_so_as_well() {
    let Probed { mut target, live, site, _folder, .. } = probed("narrow");
    // The first alone would end the session.
    live.stop();
    let uprobes = [site, site + 1].map(|at| Uprobe::at(target.pid(), at));
    live.go_on();
    let outcome = live.finish();
    assert_eq!(outcome.status, 4, "{outcome}");
    let receipt = outcome.one("receipt");
    assert_eq!(receipt["restored"], Value::Bool(false), "{outcome}");
    assert_eq!(count(receipt, "mappings_left"), 0, "nothing leads to us any more: {outcome}");
    let residue = receipt["residue"].to_string();
    for (uprobe, at) in uprobes.iter().zip([site, site + 1]) {
        assert!(residue.contains(&format!("{at:#x}")), "{outcome}");
        assert_eq!(uprobe.hits(), 0);
    }
    assert_eq!(target.done("narrow 100"), 100);
    assert_eq!(uprobes.each_ref().map(Uprobe::hits), [100, 100]);
    drop(uprobes);
    assert_eq!(target.done("narrow 100"), 100);
    let differences = text_differences(target.pid());
    assert!(differences.is_empty(), "{differences:?}");
}
