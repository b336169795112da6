//! The guest compilers of this machine: which there are, and how to get one that is missing.
//!
//! `build` uses what is found here, `doctor` tells it. Rust and clang are here, the others in `guest/languages.rs`.

pub(crate) mod languages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use trocar_target::{Failure, FailureKind};

use crate::templates::GUEST_RUST;

/// Target of Rust probes.
pub(crate) const RUST_TARGET: &str = "wasm32-unknown-unknown";
/// Versions of clang that distributions install under a name with its number, newest first.
const CLANGS: std::ops::RangeInclusive<u32> = 14..=24;

/// Whether a compiler has a library for probes.
fn has_core(rustc: &Path) -> bool {
    let mut command = Command::new(rustc);
    command
        .args(["--print", "target-libdir", "--target", RUST_TARGET])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let Ok(out) = command.output() else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    out.status.success()
        && fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|e| e.is_ok_and(is_core)))
}

/// The compiler that cargo uses by itself.
fn own_rustc() -> PathBuf {
    std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

/// Whether cargo builds probes as it is.
pub(crate) fn has_rust() -> bool {
    has_core(&own_rustc())
}

/// A compiler for Rust probes: `None` if cargo's own can, else the path of another. That may take a minute, once: see
/// the script.
///
/// # Errors
/// `NotPermitted` with the command that installs one.
pub(crate) fn rust() -> Result<Option<PathBuf>, Failure> {
    if has_rust() {
        return Ok(None);
    }
    script(&[]).map(Some)
}

/// Runs the script that finds or makes a compiler; its answer is `RUSTC=PATH`.
fn script(arguments: &[&str]) -> Result<PathBuf, Failure> {
    let trouble = |e: std::io::Error| missing_rust(&format!("no compiler can be looked for: {e}"));
    let folder = tempfile::tempdir().map_err(trouble)?;
    let file = folder.path().join("guest-rust.sh");
    fs::write(&file, GUEST_RUST).map_err(trouble)?;
    let mut command = Command::new("sh");
    let out = command.arg(&file).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let out = out.map_err(trouble)?;
    let text = String::from_utf8_lossy(&out.stdout);
    match text.lines().find_map(|line| line.strip_prefix("RUSTC=")) {
        Some(path) if out.status.success() => Ok(PathBuf::from(path.trim())),
        _ => Err(missing_rust(&format!("the Rust compiler here has no library for {RUST_TARGET}"))),
    }
}

/// There is no compiler for Rust probes.
pub(crate) fn missing_rust(what: &str) -> Failure {
    let rustup = is_there("rustup");
    let hint = if rustup {
        "rustup target add wasm32-unknown-unknown"
    } else {
        "sudo apt-get install rustc-web rust-web-src cargo"
    };
    Failure::new(FailureKind::NotPermitted, what).hint(hint)
}

/// A clang that can compile and link for wasm32.
///
/// # Errors
/// `NotPermitted` with the command that installs one.
pub(crate) fn clang() -> Result<PathBuf, Failure> {
    let own = std::env::var_os("CLANG").map(PathBuf::from);
    let numbered = CLANGS.rev().map(|n| PathBuf::from(format!("clang-{n}")));
    let all = own.into_iter().chain([PathBuf::from("clang")]).chain(numbered);
    let mut without_linker = None;
    for clang in all {
        match linker(&clang) {
            Some(true) => return Ok(clang),
            Some(false) => without_linker = without_linker.or(Some(clang)),
            None => {}
        }
    }
    Err(match without_linker {
        Some(clang) => missing_c(&format!("{} is here, but its linker wasm-ld is not", clang.display())),
        None => missing_c("there is no clang here"),
    })
}

/// Whether a clang finds its linker for wasm32; `None` if it is no clang for wasm32.
fn linker(clang: &Path) -> Option<bool> {
    let mut command = Command::new(clang);
    command.args(["--target=wasm32", "-print-prog-name=wasm-ld"]).stdin(Stdio::null()).stderr(Stdio::null());
    let out = command.output().ok().filter(|out| out.status.success())?;
    let found = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    // Without a folder in front it was not found beside the compiler, and PATH is where it is looked for.
    Some(if found.contains('/') { Path::new(&found).exists() } else { is_there(&found) })
}

/// Whether it knows the option that keeps a wasm-opt of the machine away, which would make what comes out depend on
/// it.
pub(crate) fn takes_no_wasm_opt(clang: &Path) -> bool {
    let mut command = Command::new(clang);
    command.args(["--target=wasm32", "--no-wasm-opt", "-nostdlib", "-###", "-x", "c", "/dev/null"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// There is no compiler for C probes.
pub(crate) fn missing_c(what: &str) -> Failure {
    Failure::new(FailureKind::NotPermitted, what).hint("sudo apt-get install clang lld")
}

/// Whether a program of this name is in PATH.
pub(crate) fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
