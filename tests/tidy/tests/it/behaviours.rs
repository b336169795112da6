//! `tests/BEHAVIOURS.md` says which test keeps what from breaking: each that it names exists, and what is open has a reason.

use std::fs;

use crate::tree::{none_of, root};

#[test]
fn every_behaviour_names_a_test_that_exists_or_says_what_is_open() {
    let page = fs::read_to_string(root().join("tests/BEHAVIOURS.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 50, "the table is there");
    let wrong = rows.iter().filter_map(|row| fault(row).map(|fault| format!("{fault}: {row}")));
    none_of("behaviours without a test", &wrong.collect::<Vec<_>>());
}

/// What is wrong with a row.
fn fault(row: &str) -> Option<String> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [behaviour, test] = cells.as_slice() else { return Some("not two cells".into()) };
    if let Some(reason) = test.strip_prefix("open: ") {
        return (reason.len() < 10 || behaviour.is_empty()).then(|| "no reason".into());
    }
    let words: Vec<&str> = test.split('`').map(str::trim).filter(|w| !w.is_empty()).collect();
    let [file, function] = words.as_slice() else { return Some("not a file and a function".into()) };
    let Ok(source) = fs::read_to_string(root().join(file)) else { return Some("no such file".into()) };
    let there = *function == "*"
        || [format!("fn {function}("), format!("    {function}: \"")].iter().any(|f| source.contains(f));
    (!there).then(|| "no such test".into())
}
