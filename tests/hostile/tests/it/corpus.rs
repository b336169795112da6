//! Every probe of the corpus, one after another, in one live target; each ends as it says.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tempfile::TempDir;
use trocar_hostile::corpus::{Case, End, all};

use crate::patient::{Patient, assert_end};

/// Loads the probes that are for this program. Every end that is not as expected is told, not only the first.
fn load_all(program: &str) -> usize {
    let cases: Vec<Case> = all().into_iter().filter(|c| c.target == program).collect();
    let folder = TempDir::new().unwrap();
    let mut patient = Patient::start(program);
    let mut wrong = Vec::new();
    for case in &cases {
        let path = write(folder.path(), case);
        let outcome = patient.load(&path, &case.args);
        let judged = catch_unwind(AssertUnwindSafe(|| assert_end(&outcome, Some(&case.end))));
        if judged.is_err() {
            wrong.push(format!("{}: not {:?}\n{outcome}", case.name, case.end));
        }
        patient.check(&case.name);
    }
    patient.finish();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    cases.len()
}

/// As text, so that what is wrong with the text itself is found by the command.
fn write(folder: &Path, case: &Case) -> String {
    let path = folder.join(format!("{}.wat", case.name));
    std::fs::write(&path, &case.text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_probe_ends_as_it_says_in_a_server_under_load() {
    assert!(load_all("server") >= 200);
}

#[test]
fn memory_that_goes_away_and_signals_that_come_in_between_do_not_matter() {
    assert!(load_all("unsteady") >= 10);
}

#[test]
fn the_corpus_is_large_and_knows_every_end() {
    let cases = all();
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut ends = BTreeMap::new();
    for case in &cases {
        let kind = match case.end {
            End::Refused(_) => "refused",
            End::Usage(_) => "usage",
            End::Quarantined(_) => "quarantined",
            End::Fine => "fine",
            End::Clean => "clean",
            End::Lossy(_) => "lossy",
        };
        *ends.entry(kind).or_insert(0) += 1;
    }
    println!("{ends:?}");
    assert_eq!(ends.len(), 6, "{ends:?}");
}
