//! `trocar build`: from a project to a verified module. The compilers are the user's own; `guest` finds them.

mod others;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde::Deserialize;
use trocar_package::Manifest;
use trocar_target::{Failure, FailureKind};

use super::{check, pack};
use crate::guest;
use crate::out::Out;
use crate::probe::{self, ProbeFile};
use crate::trouble::{Outcome, bad_probe, usage};

const EXAMPLES: &str = "\
Examples:
  trocar build
  trocar build slow-queries -o json
  RUSTC=/opt/rust/bin/rustc trocar build slow-queries

Compilers: Rust needs cargo and the target wasm32-unknown-unknown, C and C++ need clang and lld, Zig zig or Python's
package ziglang, AssemblyScript asc, Go a go of 1.24 or later, WAT nothing. CLANG, ZIG, ASC and GO name another one.
`trocar doctor` says which of them work here.";

/// Compiles the probe of a folder, puts probe.toml into it if there is one, and checks the result.
///
/// A folder with Cargo.toml is Rust, with go.mod Go, with probe.zig Zig, with probe.ts AssemblyScript; one with .c, .cc
/// or .cpp files is C or C++, one with a .wat file is WebAssembly text. The module goes into the folder as NAME.wasm, after the name in its manifest. Messages of the compiler go to standard error; a probe
/// that does not compile or does not pass the check ends with status 8, a compiler that is not there with status 7.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    /// The folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// What a folder holds.
enum Project {
    Rust,
    Go,
    Zig,
    AssemblyScript,
    /// C and C++.
    C(Vec<PathBuf>),
    Wat(PathBuf),
}

impl Build {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let folder = &self.folder;
        let into = tempfile::tempdir().map_err(|e| {
            Failure::new(FailureKind::NotPermitted, format!("no temporary folder: {e}")).hint("set TMPDIR")
        })?;
        let wasm = match project(folder)? {
            Project::Rust => rust(folder, out)?,
            Project::Go => others::go(folder, into.path(), out)?,
            Project::Zig => others::zig(folder, into.path(), out)?,
            Project::AssemblyScript => others::assemblyscript(folder, into.path(), out)?,
            Project::C(files) => c(folder, &files, into.path(), out)?,
            Project::Wat(file) => probe::read(&file)?.wasm,
        };
        let manifest = folder.join(pack::MANIFEST);
        let wasm = if manifest.exists() { pack::with_manifest(&wasm, &manifest)? } else { wasm };
        let name = name(folder, &wasm);
        let to = folder.join(format!("{name}.wasm"));
        pack::write(&to, &wasm)?;
        let verified = check::verify(&ProbeFile { name, wasm }, None)?;
        check::show(&to.display().to_string(), &verified, out)?;
        Ok(0)
    }
}

fn project(folder: &Path) -> Result<Project, Failure> {
    let entries = fs::read_dir(folder)
        .map_err(|e| usage(format!("the folder {} cannot be read: {e}", folder.display())))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|p| p.is_file()).collect();
    files.sort();
    for (file, project) in [
        ("Cargo.toml", Project::Rust),
        ("go.mod", Project::Go),
        (others::ZIG, Project::Zig),
        (others::ASSEMBLYSCRIPT, Project::AssemblyScript),
    ] {
        if folder.join(file).is_file() {
            return Ok(project);
        }
    }
    let of = |endings: &[&str]| -> Vec<PathBuf> {
        let is =
            |p: &&PathBuf| p.extension().is_some_and(|e| endings.iter().any(|&end| e == OsStr::new(end)));
        files.iter().filter(is).cloned().collect()
    };
    let (c, mut wat) = (of(&["c", "cc", "cpp", "cxx"]), of(&["wat"]));
    match (c.is_empty(), wat.len()) {
        (false, 0) => Ok(Project::C(c)),
        (true, 1) => wat.pop().map(Project::Wat).ok_or_else(|| usage("no file")),
        (true, 0) => Err(usage(format!(
            "{} holds no Cargo.toml, no go.mod, no probe.zig, no probe.ts, no .c, .cc, .cpp and no .wat file",
            folder.display()
        ))
        .hint("make a project with: trocar new rust|c|c++|zig|assemblyscript|go|wat NAME")),
        _ => Err(usage(format!("{} holds more than one probe", folder.display()))
            .hint("one .wat file, or .c files, in a folder of their own")),
    }
}

/// Name of the module: the manifest's, else the folder's.
fn name(folder: &Path, wasm: &[u8]) -> String {
    if let Ok(Some(manifest)) = Manifest::from_module(wasm) {
        return manifest.name;
    }
    let folder = folder.canonicalize().unwrap_or_default();
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // What a name may not hold is replaced there.
    Manifest::default_for(&name).name
}

/// A message of cargo that says what was built (cargo's "external tools", JSON messages).
#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn rust(folder: &Path, out: &mut Out) -> Result<Vec<u8>, Failure> {
    out.progress("looking for a Rust compiler that can build probes");
    let compiler = guest::rust()?;
    let mut command = Command::new("cargo");
    command.current_dir(folder).args(["build", "--release", "--target", guest::RUST_TARGET]);
    command.arg("--message-format=json-render-diagnostics");
    // Flags for this machine's processor would reach the probe's compiler.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(path) = compiler {
        command.env("RUSTC", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child =
        command.spawn().map_err(|e| guest::missing_rust(&format!("cargo cannot be started: {e}")))?;
    let mut module = None;
    for line in
        child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok)
    {
        let Ok(artifact) = serde_json::from_str::<Artifact>(&line) else { continue };
        let wasm = artifact.filenames.into_iter().find(|p| p.extension() == Some(OsStr::new("wasm")));
        if artifact.reason == "compiler-artifact" && wasm.is_some() {
            // Dependencies come first, the probe last.
            module = wasm;
        }
    }
    let status = child.wait().map_err(|e| bad_probe(format!("cargo: {e}")))?;
    if !status.success() {
        return Err(bad_probe("the probe does not compile").hint("read the compiler's messages above"));
    }
    let module = module.ok_or_else(|| {
        bad_probe("cargo built no module")
            .hint("the crate must be a library with: [lib] crate-type = [\"cdylib\"]")
    })?;
    read(&module)
}

fn c(folder: &Path, files: &[PathBuf], into: &Path, out: &mut Out) -> Result<Vec<u8>, Failure> {
    let clang = guest::clang()?;
    out.progress(&format!("compiling with {}", clang.display()));
    let module = into.join("probe.wasm");
    let mut command = Command::new(&clang);
    command.args(["--target=wasm32", "-Os", "-Wall", "-nostdlib", "-Wl,--no-entry", "-Wl,-s"]);
    // A small stack, below the data: one that runs over traps and destroys nothing (GUESTS, G5).
    command.args(["-Wl,-z,stack-size=8192", "-Wl,--stack-first"]);
    if guest::takes_no_wasm_opt(&clang) {
        command.arg("--no-wasm-opt");
    }
    if files.iter().any(|f| f.extension() != Some(OsStr::new("c"))) {
        // There is no library for what these would call.
        command.args([
            "-fno-exceptions",
            "-fno-rtti",
            "-fno-threadsafe-statics",
            "-Wno-unused-command-line-argument",
        ]);
    }
    // Else the linker puts the constructors in front of every export, and each hit runs them (GUESTS, G2). In a module
    // that has none this export is an empty function, which runs once.
    command.arg("-Wl,--export=__wasm_call_ctors");
    command.arg("-I").arg(folder).args(files).arg("-o").arg(&module);
    command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    compile(&mut command, |e| guest::missing_c(&format!("{} cannot be started: {e}", clang.display())))?;
    read(&module)
}

/// Runs a compiler, whose messages go to standard error.
fn compile(command: &mut Command, missing: impl Fn(std::io::Error) -> Failure) -> Result<(), Failure> {
    if command.status().map_err(missing)?.success() {
        return Ok(());
    }
    Err(bad_probe("the probe does not compile").hint("read the compiler's messages above"))
}

fn read(module: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(module)
        .map_err(|e| bad_probe(format!("the compiler's {} cannot be read: {e}", module.display())))
}
