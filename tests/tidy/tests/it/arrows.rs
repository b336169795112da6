//! Arrows between crates, read from `cargo metadata`.
//!
//! `abi` depends on nothing. `runtime/*` never sees `host/*`. A pure crate depends only on pure crates. Probes see
//! the SDK alone. Nothing that is shipped sees `tests/*`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::tree::{list, metadata, none_of, root, text, workspaces};

/// Pure crates: no I/O, no unsafe code of their own, and depending, of ours, only on each other.
const PURE: &[&str] =
    &["runtime/abi", "runtime/patch", "host/symbols", "host/expr", "host/policy", "host/package"];

/// What probes may depend on, of ours.
const FOR_PROBES: &[&str] = &["probe-sdk", "probe-sdk/macros", "probe-sdk/rust", "probe-sdk/rust/macros"];

/// Arrows that a rule forbids and a reason allows: from, to, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Folder of each of our crates, with the folders of our crates that it depends on (not for its tests alone).
fn ours() -> BTreeMap<String, Vec<String>> {
    let mut crates = BTreeMap::new();
    for manifest in workspaces() {
        for package in list(&metadata(&manifest), "packages") {
            let Some(folder) = folder_of(Path::new(text(package, "manifest_path")).parent().unwrap()) else {
                continue;
            };
            let shipped = list(package, "dependencies").iter().filter(|d| text(d, "kind") != "dev");
            let to = shipped.filter_map(|d| folder_of(Path::new(d.get("path").and_then(Value::as_str)?)));
            crates.insert(folder, to.collect());
        }
    }
    assert!(crates.len() > 10, "{crates:?}");
    crates
}

/// A folder below the root, as a path from the root.
fn folder_of(path: &Path) -> Option<String> {
    Some(path.canonicalize().ok()?.strip_prefix(root()).ok()?.to_str()?.to_owned())
}

fn check(what: &str, forbidden: impl Fn(&str, &str) -> bool) {
    let mut found = Vec::new();
    for (from, dependencies) in ours() {
        for to in dependencies {
            let excused = EXCEPTIONS.iter().any(|(f, t, _)| *f == from && *t == to);
            if forbidden(&from, &to) && !excused {
                found.push(format!("{from} -> {to}"));
            }
        }
    }
    none_of(what, &found);
}

#[test]
fn the_abi_depends_on_nothing() {
    let found: Vec<String> = workspaces()
        .iter()
        .flat_map(|manifest| {
            let all = metadata(manifest);
            let abi = list(&all, "packages").iter().filter(|p| text(p, "name") == "trocar-abi");
            abi.flat_map(|p| list(p, "dependencies").iter().map(|d| text(d, "name").to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    none_of("runtime/abi depends on", &found);
}

#[test]
fn the_runtime_never_sees_the_host() {
    check("crates of the target that depend on the host", |from, to| {
        from.starts_with("runtime/") && !to.starts_with("runtime/")
    });
}

#[test]
fn the_host_reaches_the_agent_as_bytes_only() {
    check("crates that link the agent", |from, to| {
        to == "runtime/agent" && !from.starts_with("runtime/agent")
    });
}

#[test]
fn pure_crates_depend_on_pure_crates() {
    check("pure crates that depend on others", |from, to| PURE.contains(&from) && !PURE.contains(&to));
}

#[test]
fn probes_depend_on_the_sdk_alone() {
    check("probes that see more than the SDK", |from, to| {
        from.starts_with("probes/") && !FOR_PROBES.contains(&to)
    });
    check("an SDK that sees the runtime or the host", |from, to| {
        from.starts_with("probe-sdk") && !to.starts_with("probe-sdk") && to != "runtime/abi"
    });
}

#[test]
fn nothing_that_is_shipped_depends_on_tests() {
    check("shipped crates that depend on tests", |from, to| {
        !from.starts_with("tests/") && to.starts_with("tests/")
    });
}

#[test]
fn a_folder_is_a_crate_and_gives_it_its_name() {
    let mut found = Vec::new();
    for manifest in workspaces() {
        for package in list(&metadata(&manifest), "packages") {
            let Some(folder) = folder_of(Path::new(text(package, "manifest_path")).parent().unwrap()) else {
                continue;
            };
            let last = folder.rsplit('/').next().unwrap_or_default();
            let name = text(package, "name");
            // Stubs stand in for a crate of somebody else and bear its name; probes bear their own.
            let free =
                folder.ends_with("-stub") || folder.starts_with("probes/") || folder.starts_with("probe-sdk");
            if !free && name != format!("trocar-{last}") && name != format!("trocar-test-{last}") {
                found.push(format!("{folder} is called {name}"));
            }
        }
    }
    none_of("crates whose name is not trocar-FOLDER", &found);
}

#[test]
fn every_crate_is_in_one_lane_of_the_tests() {
    let run = std::fs::read_to_string(root().join("tests/run")).unwrap();
    let lanes: Vec<&str> = run.lines().filter(|l| l.starts_with("lane_")).collect();
    let mut found = Vec::new();
    for package in list(&metadata(&root().join("Cargo.toml")), "packages") {
        let ours = text(package, "source").is_empty();
        let has_code = !text(package, "manifest_path").contains("/probes/");
        let name = text(package, "name");
        let in_lanes =
            lanes.iter().flat_map(|l| l.split([' ', '\'', '='])).filter(|word| *word == name).count();
        if ours && has_code && in_lanes != 1 {
            found.push(format!("{name}: {in_lanes}"));
        }
    }
    none_of("crates that are not in exactly one lane of tests/run", &found);
}
