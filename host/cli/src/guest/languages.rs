//! Zig, AssemblyScript and Go: their compilers, by the ways in which they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use trocar_target::{Failure, FailureKind};

/// First minor version of Go 1 that exports functions of WebAssembly (`go:wasmexport`).
const GO_MINOR: u32 = 24;

/// A compiler: the words that start it, and what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    words: Vec<PathBuf>,
    /// Its version.
    pub(crate) version: String,
}

impl Compiler {
    /// Starts it by these words and asks for its version; `None` if that fails.
    fn of(words: &[&Path], version: &str) -> Option<Self> {
        let compiler =
            Self { words: words.iter().map(|w| w.to_path_buf()).collect(), version: String::new() };
        let out = compiler.command().arg(version).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        (out.status.success() && !text.is_empty()).then_some(Self { version: text, ..compiler })
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or(Path::new("false"), PathBuf::as_path));
        command.args(words);
        command
    }

    /// What it is started by, for people.
    pub(crate) fn shown(&self) -> String {
        self.words.iter().map(|w| w.display().to_string()).collect::<Vec<_>>().join(" ")
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn missing(what: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::NotPermitted, what).hint(hint)
}

/// Zig: `$ZIG`, `zig`, or Python's package `ziglang`.
///
/// # Errors
/// `NotPermitted` with the command that installs one.
pub(crate) fn zig() -> Result<Compiler, Failure> {
    let own = named("ZIG");
    let python = Path::new("python3");
    own.and_then(|zig| Compiler::of(&[&zig], "version"))
        .or_else(|| Compiler::of(&[Path::new("zig")], "version"))
        .or_else(|| Compiler::of(&[python, Path::new("-m"), Path::new("ziglang")], "version"))
        .ok_or_else(|| missing("there is no zig here", "pip install ziglang"))
}

/// AssemblyScript: `$ASC`, the one in the project's `node_modules`, or `asc`.
///
/// # Errors
/// `NotPermitted` with the command that installs one.
pub(crate) fn assemblyscript(folder: &Path) -> Result<Compiler, Failure> {
    // A path that names no folder would be looked for in PATH.
    let local = folder.canonicalize().unwrap_or_default().join("node_modules/.bin/asc");
    named("ASC")
        .into_iter()
        .chain([local, PathBuf::from("asc")])
        .find_map(|asc| Compiler::of(&[&asc], "--version"))
        .ok_or_else(|| missing("there is no AssemblyScript compiler here", "npm install assemblyscript"))
}

/// Go that exports functions: `$GO`, or `go`.
///
/// # Errors
/// `NotPermitted` with the command that installs one.
pub(crate) fn go() -> Result<Compiler, Failure> {
    let hint = "install Go 1.24 or later and name it: GO=/usr/local/go/bin/go trocar build";
    let mut old = None;
    for go in named("GO").into_iter().chain([PathBuf::from("go")]) {
        let Some(compiler) = Compiler::of(&[&go], "version") else { continue };
        if go_minor(&compiler.version).is_some_and(|minor| minor >= GO_MINOR) {
            return Ok(compiler);
        }
        old = old.or(Some(compiler.version));
    }
    Err(match old {
        Some(version) => {
            missing(&format!("{version} is too old for probes; 1.{GO_MINOR} is the first"), hint)
        }
        None => missing("there is no go here", hint),
    })
}

/// The minor version in `go version go1.24.2 linux/amd64`.
fn go_minor(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("go1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::go_minor;

    #[test]
    fn the_version_of_go_is_read() {
        for (text, minor) in [
            ("go version go1.24.2 linux/amd64", Some(24)),
            ("go version go1.30 linux/amd64", Some(30)),
            ("go version go1.25rc1 linux/amd64", Some(25)),
            ("go version devel go1.26-abcdef", Some(26)),
            ("gccgo 12", None),
        ] {
            assert_eq!(go_minor(text), minor, "{text}");
        }
    }
}
