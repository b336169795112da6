//! Symbols of real programs: compiled here by cc, g++ and go, or this test binary itself.
//!
//! - c:        functions, aliases, variants, IFUNC, initialisers, PLT, bias, never-ranges, stripped, no sections
//! - cpp:      overloads, templates, landing pads
//! - faults:   whether faults become exceptions
//! - go:       names and functions of a stripped program, plain and position independent
//! - own:      this test binary against what it knows of itself
//! - imports:  stubs, calls, addresses taken
//! - markers:  USDT notes
//! - points:   the golden table of what users write
//! - resolve:  every answer and every error of the resolver
//! - hostile:  cut and bit-flipped files

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what cannot be set up or is not there fails the test"
)]

mod c;
mod cpp;
mod faults;
mod go;
mod hostile;
mod imports;
mod markers;
mod own;
mod points;
mod resolve;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use trocar_symbols::{Elf, LoadedModule};

/// Compiles a source text and returns the bytes of the file. `compiler` is `cc` or `g++`.
fn compile(compiler: &str, source: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::read(compile_in(folder.path(), compiler, source, options)).unwrap()
}

fn compile_in(folder: &Path, compiler: &str, source: &str, options: &[&str]) -> PathBuf {
    let (language, out) = (if compiler == "g++" { "c++" } else { "c" }, folder.join("out"));
    let input = folder.join("in");
    std::fs::write(&input, source).unwrap();
    let output = Command::new(compiler)
        .args(["-x", language])
        .arg(&input)
        .args(["-x", "none", "-o"])
        .arg(&out)
        .args(options)
        .output()
        .unwrap_or_else(|e| panic!("{compiler} is needed by the tests; tests/run installs it: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

fn c(source: &str, options: &[&str]) -> Elf {
    Elf::parse(compile("cc", source, options)).unwrap()
}

/// Address of the symbol with that exact name.
fn address(elf: &Elf, name: &str) -> u64 {
    let found = elf.symbols().iter().find(|s| elf.name(s) == name);
    found.unwrap_or_else(|| panic!("no symbol {name}")).address
}

fn module(name: &str, elf: Elf, bias: u64) -> LoadedModule {
    LoadedModule {
        name: name.into(),
        path: format!("/opt/{name}"),
        aliases: Vec::new(),
        elf: Arc::new(elf),
        bias,
    }
}
