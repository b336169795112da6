//! Wrong words, words of other versions, names of processes, and what goes to which stream.

use std::process::Stdio;

use crate::run::{command, run};

#[test]
fn a_verb_that_no_version_has_is_refused_with_the_nearest() {
    run(&["frobnicate"]).refused(&["frobnicate"]);
    run(&["cont", "-p", "1", "x"]).refused(&["cont", "`count`"]);
    run(&["\x1b[31m"]).refused(&["\\u{1b}[31m"]);
    assert_eq!(run(&[]).status, 2);
}

#[test]
fn every_verb_of_later_versions_says_so_and_what_to_do_instead() {
    let verbs = "lines vars log snap stacks ls show tail rm keygen sign verify publish search info install yank \
                 mirror market policy approve audit login logout assert mcp daemon";
    for verb in verbs.split_whitespace() {
        run(&[verb, "-p", "1", "anything"]).refused(&[verb, "not in this version", "try: "]);
    }
}

#[test]
fn options_of_later_versions_are_refused_and_not_ignored() {
    for option in [&["--yes"][..], &["-d"], &["--container", "web"], &["--cgroup", "/sys/fs/cgroup/x"]] {
        let args: Vec<&str> = ["count", "-p", "1", "x"].iter().chain(option).copied().collect();
        run(&args).refused(&[option[0], "not in this version"]);
    }
}

#[test]
fn a_target_is_asked_for_and_only_one_kind_of_it() {
    run(&["count", "work"]).refused(&["--pid"]);
    run(&["load", "call-count"]).refused(&["--pid"]);
    run(&["count", "work", "-p", "1", "--", "ls"]).refused(&["cannot be used with"]);
    run(&["points", "work"]).refused(&["--pid"]);
}

#[test]
fn what_is_no_process_id_is_refused() {
    for word in ["0", "", ",", "1,,2", "99999999999999999999"] {
        run(&["count", "-p", word, "work"]).refused(&["-p takes a process id"]);
    }
}

#[test]
fn a_process_that_is_not_there_is_told_so() {
    run(&["count", "-p", "999999999", "work"]).failed(5, &["999999999", "trocar ps"]);
    run(&["count", "-p", "no-such-name-at-all", "work"]).failed(5, &["no-such-name-at-all"]);
}

#[test]
fn expressions_are_refused_with_their_place() {
    let by = run(&["count", "-p", "1", "work", "--by", "$arg0 + "]);
    by.refused(&["--by", "at character 9"]);
    run(&["count", "-p", "1", "work", "--if", "str($arg0)"]).refused(&["--if"]);
    run(&["count", "-p", "1", "work", "--by", "buf($arg0, 4)"]).refused(&["--by", "buffer"]);
}

#[test]
fn parameters_are_written_as_name_and_value() {
    run(&["load", "call-count", "-p", "1", "--at", "x", "--set", "limit"]).refused(&["NAME=VALUE"]);
}

#[test]
fn a_command_that_cannot_be_started_is_told_so() {
    run(&["count", "main", "--", "/no/such/program"]).refused(&["/no/such/program"]);
    run(&["count", "main", "--", "/"]).refused(&["cannot be executed"]);
}

#[test]
fn ps_lists_this_process_and_can_be_filtered() {
    let own = std::process::id();
    let listed = run(&["ps"]);
    assert_eq!(listed.status, 0, "{listed:?}");
    assert!(listed.all("process").iter().any(|p| p["pid"] == own), "{listed:?}");
    let none = run(&["ps", "no process has this text in its command line \u{1f980}"]);
    // Only the command itself: its words hold the text.
    assert_eq!(none.all("process").len(), 1, "{none:?}");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let mut child = command(&["ps", "--all", "-o", "table"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stderr.is_empty()), (Some(0), true), "{out:?}");
}

#[test]
fn a_table_is_for_people_and_json_for_programs() {
    let table = run(&["probes", "-o", "table"]);
    assert!(table.stdout.starts_with("NAME") && table.stdout.contains("redis-commands"), "{table:?}");
    assert!(!table.stdout.contains('\x1b'), "no colour where there is no terminal");
    let names: Vec<_> = run(&["probes"]).all("probe").iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["call-count", "redis-commands"]);
}

#[test]
fn the_doctor_names_every_guest_language() {
    let told = run(&["doctor"]);
    let what: Vec<_> = told.all("doctor").iter().map(|d| d["what"].as_str().unwrap().to_owned()).collect();
    for language in
        ["probes in Rust", "probes in C, C++", "probes in Zig", "probes in Go", "probes in WAT", "kernel"]
    {
        assert!(what.iter().any(|w| w == language), "{what:?}");
    }
}

#[test]
fn completions_are_a_script_of_the_shell() {
    let bash = run(&["completions", "bash"]);
    assert!(bash.status == 0 && bash.stdout.contains("complete -F _trocar"), "{bash:?}");
    assert!(run(&["completions", "fish"]).stdout.contains("complete -c trocar"));
    run(&["completions", "ksh"]).refused(&["ksh"]);
}
