//! A verified module to machine code for the target, and the cache of such code.
//!
//! Who runs the compiler is `compiler`'s; what it gives back is looked into here, as is what comes from the cache.
//! The code is for plain x86-64 (SSE2): it runs on any machine and touches no vector register that the trampoline does
//! not save. The cache lies in the user's own cache folder, one file for each digest of module, engine and settings;
//! a file that is not exactly what was written is ignored and made anew.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, OptLevel};

use crate::compiler;
use crate::frames::{FRAME_MAX, greatest};

/// What the agent's engine is called; a part of every cache key.
const ENGINE: &str = "wasmtime 48.0.8, settings 1";

/// Most bytes of the cache: some hundred probes of Go, or ten thousand small ones.
const CACHE_MAX: u64 = 512 << 20;

/// `O_NOFOLLOW` of Linux on x86-64 (`asm-generic/fcntl.h`).
const NO_FOLLOW: i32 = 0o400_000;

/// A module's machine code. Only [`precompile`] makes one.
#[derive(Clone, Debug)]
pub struct Compiled {
    code: Vec<u8>,
    cached: bool,
}

impl Compiled {
    /// What the agent loads.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_code(self) -> Vec<u8> {
        self.code
    }

    /// Whether it came from the cache.
    #[must_use]
    pub const fn cached(&self) -> bool {
        self.cached
    }
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler's reason, or ours to refuse its code.
    #[error("the compiler refused the module: {0}")]
    Refused(String),
    /// Compiling took more than it may, or the compiler fell over the module.
    #[error("compiling the module was stopped: {0}")]
    Stopped(String),
    /// The compiler is a process of its own, and there was none.
    #[error("the compiler could not be run: {0}")]
    NoCompiler(String),
}

impl CompileError {
    /// The next step.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Refused(_) => "build it again with optimization; trocar check says what a probe may be",
            Self::Stopped(_) => {
                "one of its functions is very large: build it with optimization for size (-Copt-level=z, -Os), and keep \
                 tables as data instead of code"
            }
            Self::NoCompiler(_) => {
                "see that this user may start processes (ulimit -u) and that /proc is mounted"
            }
        }
    }
}

/// An engine with the agent's configuration that compiles for any x86-64.
///
/// # Errors
/// A setting that this build of the engine does not have: a bug of ours.
pub fn engine() -> Result<Engine, CompileError> {
    engine_for(Output::Code)
}

/// What the compiler is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// What the agent loads.
    Code,
    /// The same, and which bytes of the module each part of it came from.
    CodeAndMap,
}

fn engine_for(output: Output) -> Result<Engine, CompileError> {
    let mut config = Config::new();
    trocar_sandbox::configure(&mut config);
    config.cranelift_opt_level(OptLevel::Speed);
    config.generate_address_map(output == Output::CodeAndMap);
    config.native_unwind_info(false);
    config.target("x86_64-unknown-linux-gnu").and_then(|config| Engine::new(config)).map_err(refused)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn refused(error: wasmtime::Error) -> CompileError {
    CompileError::Refused(format!("{error:#}"))
}

/// Compiles a module in this process. How long it takes and how much memory, the module decides.
pub(crate) fn compile(wasm: &[u8], output: Output) -> Result<Vec<u8>, CompileError> {
    engine_for(output)?.precompile_module(wasm).map_err(refused)
}

/// Takes a module's code from the cache, or compiles it: in a child with limits, if this program can be one
/// ([`crate::become_compiler`]).
///
/// # Errors
/// The compiler's reason, or what it needed too much of.
pub fn precompile(wasm: &[u8]) -> Result<Compiled, CompileError> {
    let path = cache_file(wasm);
    if let Some(code) = path.as_ref().and_then(|p| read(p)) {
        check_frames(&code)?;
        return Ok(Compiled { code, cached: true });
    }
    let code = compiler::run(wasm, Output::Code)?;
    check_frames(&code)?;
    if let Some(path) = path {
        // The cache is a help, not a need: a full disk must not keep a probe away.
        let _ = write(&path, &code);
    }
    Ok(Compiled { code, cached: false })
}

fn check_frames(code: &[u8]) -> Result<(), CompileError> {
    match greatest(code) {
        Some(bytes) if bytes <= FRAME_MAX => Ok(()),
        Some(bytes) => Err(CompileError::Refused(format!(
            "a function of the probe needs {bytes} bytes of stack at once, and {FRAME_MAX} is the most; build it with \
             optimization, and keep large values in memory"
        ))),
        None => Err(CompileError::Refused("the compiled code cannot be read back".into())),
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn cache_file(wasm: &[u8]) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let name: String = digest(&[ENGINE.as_bytes(), wasm]).iter().map(|b| format!("{b:02x}")).collect();
    Some(cache.join("trocar").join(format!("{name}.cwasm")))
}

/// The code, if the file belongs to us, nobody else may write it or its folder, and its digest is right. All is asked of
/// one open file, so that nothing can be put in its place in between.
fn read(path: &Path) -> Option<Vec<u8>> {
    let own = |m: &fs::Metadata| m.uid() == rustix::process::geteuid().as_raw() && m.mode() & 0o022 == 0;
    let folder = fs::symlink_metadata(path.parent()?).ok()?;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !folder.is_dir() || !own(&folder) || !metadata.is_file() || !own(&metadata) {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let code_len = bytes.len().checked_sub(32)?;
    let kept = bytes.split_off(code_len);
    (digest(&[&bytes]).as_slice() == kept).then_some(bytes)
}

fn write(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(NO_FOLLOW)
        .open(&unfinished)?;
    file.write_all(code)?;
    file.write_all(&digest(&[code]))?;
    drop(file);
    fs::rename(unfinished, path)?;
    prune(folder, CACHE_MAX);
    Ok(())
}

/// Removes code from a cache that holds more than `most` bytes: what was made first goes first.
fn prune(folder: &Path, most: u64) {
    let file = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let ours = entry.path().extension().is_some_and(|e| e == "cwasm" || e == "part");
        ours.then_some((metadata.modified().ok()?, metadata.len(), entry.path()))
    };
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(file).collect();
    files.sort();
    let mut bytes = files.iter().fold(0_u64, |sum, (_, len, _)| sum.saturating_add(*len));
    for (_, len, path) in files {
        if bytes <= most {
            return;
        }
        // Who has it open goes on reading it; another command may have been first.
        let _ = fs::remove_file(path);
        bytes = bytes.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::prune;

    #[test]
    fn a_cache_that_is_too_large_loses_what_was_made_first() {
        let folder = tempfile::tempdir().unwrap();
        for (age, name) in [(3, "old.cwasm"), (9, "oldest.part"), (9, "other.txt"), (1, "new.cwasm")] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(age)).unwrap();
        }
        let left = || {
            let names =
                fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        prune(folder.path(), 300);
        assert_eq!(left(), ["new.cwasm", "old.cwasm", "oldest.part", "other.txt"], "it fits");
        prune(folder.path(), 250);
        assert_eq!(left(), ["new.cwasm", "old.cwasm", "other.txt"]);
        prune(folder.path(), 199);
        assert_eq!(left(), ["new.cwasm", "other.txt"], "what is not ours stays, whatever it takes");
    }
}
