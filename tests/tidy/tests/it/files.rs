//! How a file opens, how long it is, and what must not stand in it.

use crate::tree::{files, none_of, root, rust_files};

/// Most lines of a Rust file. A file that needs more is two rooms.
const LINES_MAX: usize = 600;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

/// What stands at the top level; anything else needs a decision.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "PROBE-ABI.md",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "host",
    "justfile",
    "probe-sdk",
    "probes",
    "runtime",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];

/// Lines of any file for which `is` holds, as `PATH:LINE: text`.
fn lines_that(is: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files() {
        for (n, line) in file.text.lines().enumerate().filter(|(_, l)| is(l)) {
            let start: String = line.trim().chars().take(80).collect();
            found.push(format!("{}:{}: {start}", file.path, n + 1));
        }
    }
    found
}

#[test]
fn every_rust_file_opens_with_what_it_is() {
    let opens = |text: &str| text.starts_with("//! ") && !text.starts_with("//! \n");
    let found: Vec<_> = rust_files().into_iter().filter(|f| !opens(&f.text)).map(|f| f.path).collect();
    none_of("files that do not open with `//! …`", &found);
}

#[test]
fn every_target_program_opens_with_its_behaviour() {
    let program = |path: &str| {
        path.starts_with("tests/targets/")
            && [".c", ".cc", ".S", ".go", ".py"].iter().any(|e| path.ends_with(e))
    };
    let opens = |text: &str| {
        text.lines().take(3).any(|l| l.contains("Behaviour: ")) || text.starts_with("# The function")
    };
    let found: Vec<_> =
        files().into_iter().filter(|f| program(&f.path) && !opens(&f.text)).map(|f| f.path).collect();
    none_of("targets that do not open with their behaviour", &found);
}

#[test]
fn a_file_fits_one_sitting() {
    let mut found = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX && !LONGER.iter().any(|(path, _)| *path == file.path) {
            found.push(format!("{}: {lines} lines", file.path));
        }
    }
    none_of("files over 600 lines", &found);
}

#[test]
fn exceptions_from_the_length_are_still_needed() {
    let all = rust_files();
    let long = |path: &str| all.iter().any(|f| f.path == path && f.text.lines().count() > LINES_MAX);
    let found: Vec<_> =
        LONGER.iter().filter(|(path, _)| !long(path)).map(|(path, _)| (*path).to_owned()).collect();
    none_of("exceptions that nothing needs", &found);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    // In two pieces, so that this file does not hold what it looks for.
    let (outer, inner) = (concat!("#[", "allow("), concat!("#![", "allow("));
    let found = lines_that(|l| l.trim_start().starts_with(outer) || l.trim_start().starts_with(inner));
    none_of("allowed lints; use #[expect(lint, reason = \"…\")]", &found);
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    let (ignored, sleeps) = (concat!("#[", "ignore"), concat!("thread::", "sleep("));
    let test =
        |path: &str| path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    let mut found = Vec::new();
    for file in rust_files() {
        for (n, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with(ignored) || (test(&file.path) && line.contains(sleeps)) {
                found.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    none_of("ignored or sleeping tests", &found);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}", "todo\u{21}", "unimplemented\u{21}"];
    let found = lines_that(|l| words.iter().any(|w| l.contains(w)));
    none_of("unfinished words", &found);
}

#[test]
fn no_path_of_a_machine_and_no_registry_is_named() {
    // Each in two pieces, as above.
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("crates.", "io/"),
        concat!("static.", "crates.io"),
        concat!("pypi.", "org"),
        concat!("files.", "pythonhosted.org"),
        concat!("registry.", "npmjs"),
        concat!("deb.", "debian.org"),
        concat!("index.", "crates.io"),
    ];
    // Lock files name the registry's index as cargo writes it: that is its format, not a choice of ours.
    let found = lines_that(|l| words.iter().any(|w| l.contains(w)) && !l.starts_with("source = \"registry+"));
    none_of("paths of a machine, or hosts of a registry", &found);
}

#[test]
fn the_top_level_is_what_the_floor_plan_says() {
    let top = files().into_iter().map(|f| f.path.split('/').next().unwrap_or_default().to_owned());
    let mut found: Vec<_> = top.filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    found.dedup();
    none_of("new things at the top level", &found);
}

#[test]
fn scripts_can_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let script =
        |f: &&crate::tree::Source| f.text.starts_with("#!/bin/sh") || f.text.starts_with("#!/usr/bin/env");
    let executable =
        |path: &str| std::fs::metadata(root().join(path)).is_ok_and(|m| m.permissions().mode() & 0o100 != 0);
    let found: Vec<_> =
        files().iter().filter(script).filter(|f| !executable(&f.path)).map(|f| f.path.clone()).collect();
    none_of("scripts without their executable bit", &found);
}
