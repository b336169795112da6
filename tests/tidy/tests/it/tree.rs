//! The tree under test: its root, its files, its packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A file of the tree.
pub(crate) struct Source {
    /// Path from the root.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// Every text file that is committed or would be, by path. Other files (probes in `.wasm`) are left out.
pub(crate) fn files() -> Vec<Source> {
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let out = Command::new("git").current_dir(root()).args(git).output().expect("git runs");
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    let names = String::from_utf8(out.stdout).unwrap();
    let read = |path: &str| {
        Some(Source { path: path.to_owned(), text: fs::read_to_string(root().join(path)).ok()? })
    };
    let all: Vec<_> = names.split('\0').filter(|p| !p.is_empty()).filter_map(read).collect();
    assert!(all.len() > 20, "the tree has more files than {}", all.len());
    all
}

/// The same, Rust only.
pub(crate) fn rust_files() -> Vec<Source> {
    files().into_iter().filter(|f| f.path.ends_with(".rs")).collect()
}

/// The workspaces: the host's, and the agent's own.
pub(crate) fn workspaces() -> Vec<PathBuf> {
    let all = ["Cargo.toml", "runtime/agent/Cargo.toml"].map(|m| root().join(m));
    all.into_iter().filter(|m| m.exists()).collect()
}

/// `cargo metadata` of a workspace, for the one target that we build. Asked once for each workspace: it takes
/// a second, and what it has to download it takes from cargo's own cache afterwards.
pub(crate) fn metadata(manifest: &Path) -> Arc<Value> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Arc<Value>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let ask = || Arc::new(ask_cargo(manifest));
    Arc::clone(known.entry(manifest.to_owned()).or_insert_with(ask))
}

fn ask_cargo(manifest: &Path) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"]).arg(manifest);
    let out = command.output().expect("cargo runs");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A list in a JSON object, empty if there is none.
pub(crate) fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text in a JSON object, empty if there is none.
pub(crate) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Fails with everything that was found.
pub(crate) fn none_of(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}
