//! `tests/BEHAVIOURS.md` says which test keeps what from breaking: each that it names exists, what is decided otherwise has a
//! reason and something that shows it, and what is open has a reason.

use std::fs;

use crate::tree::{none_of, root};

#[test]
fn every_behaviour_names_a_test_that_exists_or_says_what_is_decided_or_open() {
    let page = fs::read_to_string(root().join("tests/BEHAVIOURS.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 50, "the table is there");
    let wrong = rows.iter().filter_map(|row| fault(row).map(|fault| format!("{fault}: {row}")));
    none_of("behaviours without a test", &wrong.collect::<Vec<_>>());
}

#[test]
fn a_row_without_a_test_a_shown_decision_or_a_reason_is_a_fault() {
    let here =
        "`tests/tidy/tests/it/behaviours.rs` `a_row_without_a_test_a_shown_decision_or_a_reason_is_a_fault`";
    let reason = "a reason that is as long as a sentence is";
    for good in [here.to_owned(), format!("open: {reason}"), format!("decided: {reason}: {here}")] {
        assert_eq!(fault(&format!("| behaviour | {good} |")), None, "{good}");
    }
    let elsewhere = "`tests/tidy/tests/it/behaviours.rs` `no_such_test`";
    let bad = ["", "open: no", "a sentence that names nothing", elsewhere, "`no/such/file.rs` `a_test`"];
    let decided =
        [format!("decided: {reason}"), format!("decided: {reason}: {elsewhere}"), format!("decided: {here}")];
    for bad in bad.into_iter().map(str::to_owned).chain(decided) {
        assert!(fault(&format!("| behaviour | {bad} |")).is_some(), "{bad}");
    }
}

/// What is wrong with a row.
fn fault(row: &str) -> Option<String> {
    /// Bytes of a reason, at least.
    const REASON: usize = 10;
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [behaviour, test] = cells.as_slice() else { return Some("not two cells".into()) };
    if let Some(reason) = test.strip_prefix("open: ") {
        return (reason.len() < REASON || behaviour.is_empty()).then(|| "no reason".into());
    }
    // The test, or whatever else is in the file, comes last.
    let (shows, reason) = match test.strip_prefix("decided: ") {
        Some(decided) => {
            decided.split_once('`').map_or(("", Some(decided)), |(reason, shows)| (shows, Some(reason)))
        }
        None => (*test, None),
    };
    if reason.is_some_and(|reason| reason.len() < REASON) {
        return Some("no reason".into());
    }
    let words: Vec<&str> = shows.split('`').map(str::trim).filter(|w| !w.is_empty()).collect();
    let [file, function] = words.as_slice() else { return Some("not a file and a function".into()) };
    let Ok(source) = fs::read_to_string(root().join(file)) else { return Some("no such file".into()) };
    let there = *function == "*"
        || [format!("fn {function}("), format!("    {function}: \"")].iter().any(|f| source.contains(f));
    (!there).then(|| "no such test".into())
}
