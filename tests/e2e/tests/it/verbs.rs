//! The verbs beside `count` and `load`: what is there (`ps`, `points`), what a probe is (`check`), making one
//! (`new`, `build`, `test`), and the demonstration.

use std::process::Command;

use tempfile::TempDir;
use trocar_test_support::command::{binary, text};
use trocar_test_support::process::assert_mappings_equal;
use trocar_test_support::process::mappings;
use trocar_test_support::{Live, Target, run};

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

/// `new`, `build` and `load` of a probe in a guest language.
fn new_build_load(language: &str) {
    let folder = TempDir::new().unwrap();
    let in_folder = |args: &[&str], at: &std::path::Path| {
        let mut command = Command::new(binary());
        // Where rustup cannot add a target, tests/run names a compiler that has it.
        if let Some(compiler) = std::env::var_os("TROCAR_GUEST_RUSTC") {
            command.env("RUSTC", compiler);
        }
        let out = command.args(args).current_dir(at).output().unwrap();
        assert!(out.status.success(), "trocar {args:?}: {out:?}");
    };
    in_folder(&["new", language, "first-probe"], folder.path());
    let project = folder.path().join("first-probe");
    in_folder(&["build"], &project);
    let wasm = find_wasm(&project).unwrap_or_else(|| panic!("no .wasm below {}", project.display()));
    let mut target = Target::start("counter");
    let live = Live::attached(&["load", &wasm, "-p", &target.pid().to_string(), "--at", "work"]);
    let calls = target.done("run 2 100");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
}

/// The module of a project: not one below `target/*/deps`, where compilers leave their intermediate ones.
fn find_wasm(folder: &std::path::Path) -> Option<String> {
    let entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    let here = entries.iter().find(|p| p.extension().is_some_and(|e| e == "wasm"));
    let below = || entries.iter().filter(|p| p.is_dir() && !p.ends_with("deps")).find_map(|p| find_wasm(p));
    here.and_then(|p| p.to_str().map(str::to_owned)).or_else(below)
}

#[test]
fn a_new_wat_probe_builds_and_loads() {
    new_build_load("wat");
}

#[test]
fn a_new_c_probe_builds_and_loads() {
    new_build_load("c");
}

#[test]
fn a_new_rust_probe_builds_and_loads() {
    new_build_load("rust");
}
