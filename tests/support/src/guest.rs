//! Probes in every guest language, made by the command itself: `trocar new`, the grid's source in place of the example,
//! `trocar build`.
//!
//! `trocar doctor` says which compilers are here. `TROCAR_GUESTS` names the languages that must be (tests/run sets it to
//! what it installed); one that is neither here nor in it is passed over, with a line that says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{binary, run, text};

/// A guest language.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// As `trocar new` knows it.
    pub name: &'static str,
    /// What `trocar doctor` calls it.
    doctor: &'static str,
    /// The grid's source in `tests/e2e/guests`, and the file of a project that it replaces.
    source: (&'static str, &'static str),
}

/// All of them.
pub const LANGUAGES: [Language; 7] = [
    Language { name: "wat", doctor: "probes in WAT", source: ("wat.wat", "probe.wat") },
    Language { name: "rust", doctor: "probes in Rust", source: ("rust.rs", "src/lib.rs") },
    Language { name: "c", doctor: "probes in C, C++", source: ("c.c", "probe.c") },
    Language { name: "c++", doctor: "probes in C, C++", source: ("cpp.cc", "probe.cc") },
    Language { name: "zig", doctor: "probes in Zig", source: ("zig.zig", "probe.zig") },
    Language {
        name: "assemblyscript",
        doctor: "probes in AssemblyScript",
        source: ("assemblyscript.ts", "probe.ts"),
    },
    Language { name: "go", doctor: "probes in Go", source: ("go.go", "probe.go") },
];

impl Language {
    /// The language of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn named(name: &str) -> Self {
        LANGUAGES.into_iter().find(|l| l.name == name).unwrap_or_else(|| panic!("no language {name}"))
    }

    /// Whether its compiler is here, or has to be.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let wanted = std::env::var("TROCAR_GUESTS").unwrap_or_default();
        if wanted.split_whitespace().any(|language| language == self.name) {
            return true;
        }
        let here = run(&["doctor"]).all("doctor").any(|finding| {
            finding.get("what").and_then(|w| w.as_str()) == Some(self.doctor)
                && text(finding, "state") == "works"
        });
        if !here {
            eprintln!("no compiler for {} here: passed over (just guests installs it)", self.name);
        }
        here
    }

    /// The example that `trocar new` writes.
    ///
    /// # Panics
    /// As [`Project::build`].
    #[must_use]
    pub fn example(&self) -> Project {
        Project::new(self.name)
    }

    /// The grid's probe.
    ///
    /// # Panics
    /// As [`Project::build`].
    #[must_use]
    pub fn grid(&self) -> Project {
        let project = self.example();
        let (source, to) = self.source;
        project.put(source, to);
        if project.path.join("probe.toml").exists() {
            project.put("probe.toml", "probe.toml");
        }
        project
    }
}

/// A project, in a folder of its own that goes with the value.
#[derive(Debug)]
pub struct Project {
    _folder: TempDir,
    /// Its folder.
    pub path: PathBuf,
}

impl Project {
    fn new(language: &str) -> Self {
        let folder = TempDir::with_prefix("trocar-guest-").unwrap_or_else(|e| panic!("no folder: {e}"));
        trocar(&["new", language, "example"], folder.path());
        let path = folder.path().join("example");
        Self { _folder: folder, path }
    }

    /// Puts a file of the grid in place of one of the project's.
    fn put(&self, source: &str, to: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/guests").join(source);
        std::fs::copy(&from, self.path.join(to)).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }

    /// Builds it and gives the module's path.
    ///
    /// # Panics
    /// If that fails, with what the command said.
    #[must_use]
    pub fn build(&self) -> String {
        trocar(&["build"], &self.path);
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten().map(|e| e.path());
        let module = entries.into_iter().find(|p| p.extension().is_some_and(|e| e == "wasm"));
        module.and_then(|p| p.to_str().map(str::to_owned)).unwrap_or_else(|| panic!("no module in {self:?}"))
    }
}

fn trocar(args: &[&str], at: &Path) {
    let mut command = Command::new(binary());
    // Where rustup cannot add a target, tests/run names a compiler that has it.
    if let Some(compiler) = std::env::var_os("TROCAR_GUEST_RUSTC") {
        command.env("RUSTC", compiler);
    }
    let out = command.args(args).current_dir(at).output().unwrap_or_else(|e| panic!("trocar: {e}"));
    assert!(out.status.success(), "trocar {args:?}: {out:?}");
}
