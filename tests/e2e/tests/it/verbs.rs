//! The verbs beside `count` and `load`: what is there (`ps`, `points`), what a probe is (`check`), making one
//! (`new`, `build`, `test`), and the demonstration.

use std::process::Command;

use trocar_test_support::command::{binary, text};
use trocar_test_support::process::assert_mappings_equal;
use trocar_test_support::process::mappings;
use trocar_test_support::{Target, run};

use crate::probe::counter;

#[test]
fn ps_lists_what_can_be_probed_and_why_the_others_cannot() {
    let target = Target::start("counter");
    let traced = Target::start("traced");
    let outcome = run(&["ps"]);
    assert_eq!(outcome.status, 0, "{outcome}");
    let find = |pid: u32| {
        let mut all = outcome.all("process");
        all.find(|p| p.get("pid").and_then(serde_json::Value::as_u64) == Some(u64::from(pid)))
            .map(ToString::to_string)
    };
    assert!(find(target.pid()).is_some_and(|p| p.contains("counter")), "{outcome}");
    let other = find(traced.fact("traced")).unwrap_or_default();
    assert!(other.contains("traced"), "a traced process is listed with its reason: {other}");
}

#[test]
fn points_lists_sites_and_with_plan_how_they_would_be_patched() {
    let target = Target::start("counter");
    let memory = mappings(target.pid());
    let outcome = run(&["points", "-p", &target.pid().to_string(), "counter:wor*", "--plan"]);
    assert_eq!(outcome.status, 0, "{outcome}");
    let sites: Vec<_> = outcome.all("site").collect();
    let work = sites.iter().find(|s| text(s, "symbol") == "work").unwrap_or_else(|| panic!("{outcome}"));
    assert!(!text(work, "rung").is_empty() && text(work, "address").starts_with("0x"), "{work}");
    assert!(text(work, "module").ends_with("counter"), "{work}");
    assert_mappings_equal(&memory, &mappings(target.pid()));
}

#[test]
fn check_tells_capabilities_and_system_calls() {
    let probe = counter();
    let outcome = run(&["check", probe.path()]);
    assert_eq!(outcome.status, 0, "{outcome}");
    let told = outcome.one("check").to_string();
    assert!(told.contains("maps") && told.contains("calls"), "capability and map are named: {told}");
}

#[test]
fn doctor_says_what_works_here() {
    let outcome = run(&["doctor"]);
    assert_eq!(outcome.status, 0, "{outcome}");
    assert!(outcome.all("doctor").count() >= 3, "kernel, permissions, guest compilers: {outcome}");
}

#[test]
fn help_of_every_verb_shows_two_examples() {
    for verb in
        ["ps", "points", "count", "load", "off", "check", "new", "build", "pack", "test", "demo", "doctor"]
    {
        let out = Command::new(binary()).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{verb}: {help}");
        let examples = help.matches(&format!("trocar {verb}")).count();
        assert!(examples >= 2, "{verb}: two real examples, not {examples}\n{help}");
    }
}

#[test]
fn the_demonstration_ends_with_a_clean_receipt() {
    let outcome = run(&["demo"]);
    assert_eq!(outcome.status, 0, "{outcome}");
    outcome.assert_receipt();
    assert!(outcome.hits() > 0, "{outcome}");
}

#[test]
fn a_command_can_be_started_with_its_probes_in_place() {
    let program = trocar_test_support::target::path("counter");
    // Its stdin is empty, so it says `ready` and ends; `main` is entered once.
    let outcome = run(&["count", "counter:main", "--", program.to_str().unwrap()]);
    assert_eq!(outcome.hits(), 1, "{outcome}");
}
