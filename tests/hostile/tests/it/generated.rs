//! Probes that nobody wrote, one after another in one live target: whatever they do, their end is explained.

use tempfile::TempDir;
use trocar_hostile::corpus::all;
use trocar_hostile::generate::probe;
use trocar_test_support::scale::scaled;

use crate::patient::{Patient, assert_end};

#[test]
fn generated_and_damaged_probes_end_explained() {
    let valid: Vec<Vec<u8>> =
        all().iter().filter_map(|c| c.wasm()).filter(|wasm| trocar_compile::verify(wasm).is_ok()).collect();
    assert!(valid.len() > 100, "{}", valid.len());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("probe.wasm");
    let mut patient = Patient::start("server");
    let mut ends = [0u64; 3];
    for number in 0..scaled(10_000) {
        std::fs::write(&path, probe(number, &valid)).unwrap();
        let outcome = patient.load(path.to_str().unwrap(), &[]);
        // The number makes the probe again.
        println!("{number}: {}", outcome.status);
        // A damaged manifest may ask for a parameter that nobody gives.
        if outcome.status != 2 {
            assert_end(&outcome, None);
        }
        let attached = outcome.all("attached").next().is_some();
        ends[if outcome.status == 0 { 0 } else { 1 + usize::from(attached) }] += 1;
        patient.check(&format!("generated probe {number}"));
    }
    patient.finish();
    let [fine, refused, quarantined] = ends;
    println!("{fine} ran, {refused} refused, {quarantined} quarantined");
    assert!(fine > 0 && refused > 0 && quarantined > 0, "{ends:?}");
}
