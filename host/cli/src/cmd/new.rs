//! `trocar new`: a probe to start from. The files are those of `templates`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use trocar_target::{Failure, FailureKind};

use crate::out::Out;
use crate::templates::{self, File};
use crate::trouble::{Outcome, usage};

const EXAMPLES: &str = "\
Examples:
  trocar new rust slow-queries && cd slow-queries && trocar build
  trocar new c allocations
  trocar new go slow-queries
  trocar new wat first";

/// Makes a folder with a small probe that builds, passes `trocar check` and loads.
///
/// The folder holds everything that it needs but the compiler: the Rust one the SDK's source, the C one its header. Next: `trocar build`
/// in it, then `trocar load NAME.wasm -p PID --at FUNCTION`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct New {
    /// Language of the probe
    #[arg(value_enum, value_name = "LANG")]
    language: Language,
    /// The folder to be made; its last part is the probe's name
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

/// Languages that there are templates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// Rust, without the standard library
    Rust,
    /// C, without libc
    C,
    /// C++, without a library
    #[value(name = "c++", alias = "cpp")]
    Cpp,
    /// Zig, freestanding
    Zig,
    /// AssemblyScript
    #[value(name = "assemblyscript", alias = "as")]
    AssemblyScript,
    /// Go, as a reactor for WASI
    Go,
    /// WebAssembly text
    Wat,
}

/// The project as an object.
#[derive(Serialize)]
struct Project<'a> {
    path: String,
    name: &'a str,
    language: &'static str,
    files: Vec<&'static str>,
}

impl New {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let (language, files) = match self.language {
            Language::Rust => ("rust", templates::RUST),
            Language::C => ("c", templates::C),
            Language::Cpp => ("c++", templates::CPP),
            Language::Zig => ("zig", templates::ZIG),
            Language::AssemblyScript => ("assemblyscript", templates::ASSEMBLYSCRIPT),
            Language::Go => ("go", templates::GO),
            Language::Wat => ("wat", templates::WAT),
        };
        let name = name(&self.name)?;
        write(&self.name, name, files)?;
        let path = self.name.display().to_string();
        out.say(&format!("{path}: a probe in {language}, {} files", files.len()))?;
        out.say(&format!("next: cd {path} && trocar build && trocar load {name}.wasm -p PID --at FUNCTION"))?;
        let files = files.iter().map(|(path, _)| *path).collect();
        out.row("project", &Project { path, name, language, files })?;
        Ok(0)
    }
}

/// The probe's name: the last part of the path, if every language takes it.
fn name(path: &Path) -> Result<&str, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(good)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        let shown = path.display().to_string().escape_debug().to_string();
        return Err(usage(format!("\"{shown}\" cannot be the name of a probe"))
            .hint("letters, digits, - and _, a letter first, at most 64: trocar new rust slow-queries"));
    }
    Ok(name)
}

fn write(folder: &Path, name: &str, files: &[File]) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|e| {
        let message = format!("the folder {} cannot be made: {e}", folder.display());
        match e.kind() {
            ErrorKind::AlreadyExists => usage(message).hint("choose another name, or remove it first"),
            ErrorKind::NotFound => usage(message).hint("make the folder above it first"),
            _ => Failure::new(FailureKind::NotPermitted, message).hint("choose a folder where you may write"),
        }
    })?;
    for (path, text) in files {
        let to = folder.join(path);
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&to, text.replace(templates::NAME, name))).map_err(|e| {
            Failure::new(FailureKind::NotPermitted, format!("{} cannot be written: {e}", to.display()))
        })?;
    }
    Ok(())
}
