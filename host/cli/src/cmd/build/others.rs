//! From sources in Zig, AssemblyScript and Go to a module.

use std::path::Path;
use std::process::{Command, Stdio};

use trocar_target::Failure;

use super::{compile, read};
use crate::guest::languages;
use crate::out::Out;

/// The file that a project in Zig is built from; it imports the others.
pub(super) const ZIG: &str = "probe.zig";
/// The file that a project in AssemblyScript is built from.
pub(super) const ASSEMBLYSCRIPT: &str = "probe.ts";

pub(super) fn zig(folder: &Path, into: &Path, out: &mut Out) -> Result<Vec<u8>, Failure> {
    let zig = languages::zig()?;
    out.progress(&format!("compiling with {}", zig.shown()));
    let module = into.join("probe.wasm");
    let mut command = zig.command();
    command.arg("build-exe").arg(folder.join(ZIG));
    // A small stack, as in C.
    command.args(["-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-entry", "-rdynamic"]);
    command.args(["--stack", "8192"]).arg(format!("-femit-bin={}", module.display()));
    run(&mut command, &zig.shown())?;
    read(&module)
}

pub(super) fn assemblyscript(folder: &Path, into: &Path, out: &mut Out) -> Result<Vec<u8>, Failure> {
    let asc = languages::assemblyscript(folder)?;
    out.progress(&format!("compiling with {}", asc.shown()));
    let module = into.join("probe.wasm");
    let mut command = asc.command();
    // asc takes paths relative to where it runs. Its runtime, which collects garbage, is in only where it is used.
    command.current_dir(folder).args([ASSEMBLYSCRIPT, "-Osize", "--noColors", "-o"]).arg(&module);
    run(&mut command, &asc.shown())?;
    read(&module)
}

pub(super) fn go(folder: &Path, into: &Path, out: &mut Out) -> Result<Vec<u8>, Failure> {
    let go = languages::go()?;
    out.progress(&format!("compiling with {}", go.shown()));
    let module = into.join("probe.wasm");
    let mut command = go.command();
    // A reactor, whose runtime starts in `_initialize`. The compiler is the one that was found, no other that it fetches.
    command.current_dir(folder).args(["build", "-buildmode=c-shared", "-ldflags=-s -w", "-o"]).arg(&module);
    command.arg(".").env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOTOOLCHAIN", "local");
    command.env_remove("GOFLAGS");
    run(&mut command, &go.shown())?;
    read(&module)
}

/// Runs a compiler that was found, and has thus been started before.
fn run(command: &mut Command, shown: &str) -> Result<(), Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    compile(command, |e| crate::trouble::bad_probe(format!("{shown} cannot be started: {e}")))
}
