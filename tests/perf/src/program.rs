//! The benchmark's target program: built from `target.c`, started, told what to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use trocar_test_support::Target;

use crate::Trouble;
use crate::machine::Machine;
use crate::pairs::Pairs;

/// Source of the program.
const SOURCE: &str = include_str!("../target.c");

/// The built program. It lies in a folder of its own that is removed with the value.
#[derive(Debug)]
pub struct Binary {
    _folder: TempDir,
    path: PathBuf,
}

impl Binary {
    /// Builds it with `cc`, or what `CC` names.
    ///
    /// # Errors
    /// There is no compiler, or it fails.
    pub fn build() -> Result<Self, Trouble> {
        let folder =
            TempDir::with_prefix("trocar-bench-").map_err(|e| format!("no temporary folder: {e}"))?;
        let (source, path) = (folder.path().join("target.c"), folder.path().join("bench-target"));
        std::fs::write(&source, SOURCE).map_err(|e| format!("{}: {e}", source.display()))?;
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let out = Command::new(&compiler)
            .args(["-O2", "-g0", "-pthread", "-rdynamic", "-o"])
            .args([&path, &source])
            .output()
            .map_err(|e| format!("{compiler}: {e} (Debian package gcc)"))?;
        if !out.status.success() {
            return Err(format!("{compiler} failed:\n{}", String::from_utf8_lossy(&out.stderr)));
        }
        Ok(Self { _folder: folder, path })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The variants of the function, as `target.c` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The function that is probed.
    Work,
    /// The same, starting with `push %rbp`.
    WorkPush,
    /// The same, starting with a five-byte nop.
    WorkNop5,
    /// Floor: jump, increment, jump.
    FloorBare,
    /// Floor: everything saved around a native call.
    FloorFull,
    /// Calls within calls, eight deep.
    Deep,
    /// Floor: the last of these calls made elsewhere, with the return predictor in step.
    DeepEven,
    /// The same, with the return predictor out of step.
    DeepOdd,
}

impl Variant {
    /// Its symbol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::WorkPush => "work_push",
            Self::WorkNop5 => "work_nop5",
            Self::FloorBare => "floor_bare",
            Self::FloorFull => "floor_full",
            Self::Deep => "deep",
            Self::DeepEven => "deep_even",
            Self::DeepOdd => "deep_odd",
        }
    }
}

/// The running program. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Program {
    target: Target,
    threads: usize,
}

impl Program {
    /// Starts it with so many threads. Where these are more than processors they measure their own processor time: the
    /// time of a batch on the wall would be that of others too.
    #[must_use]
    pub fn start(binary: &Binary, threads: usize) -> Self {
        let mut command = Command::new(binary.path());
        command.arg(threads.to_string());
        if threads > Machine::processors() {
            command.arg("processor-time");
        }
        Self { target: Target::spawn(&mut command), threads }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// How many threads call the function.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs pairs of batches on every thread and says what they took.
    ///
    /// # Errors
    /// The program answers with something else.
    pub fn run(&mut self, variant: Variant, batches: u32, calls: u32) -> Result<Pairs, Trouble> {
        let answer = self.target.ask(&format!("run {} {batches} {calls}", variant.name()));
        serde_json::from_str(&answer).map_err(|e| format!("the target answered {answer:?}: {e}"))
    }

    /// Lets all threads call `work` until the next command.
    pub fn keep_busy(&mut self) {
        self.target.ask_nothing("busy");
    }

    /// Waits a fifth of a second for somebody to write over the variant's first bytes, and says whether it happened.
    pub fn is_changed(&mut self, variant: Variant) -> bool {
        self.target.done(&format!("changed {}", variant.name())) == 1
    }

    /// The same until the bytes are as at the start.
    pub fn is_original(&mut self, variant: Variant) -> bool {
        self.target.done(&format!("original {}", variant.name())) == 1
    }
}
