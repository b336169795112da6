//! A probe as a command names it: a file with a module or with WAT text, or the name of a bundled one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use trocar_compile::verify::MODULE_BYTES_MAX;
use trocar_target::Failure;

use crate::bundled::{self, BUNDLED};
use crate::trouble::bad_probe;

/// Most bytes of a WAT text.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// A probe's module, unverified.
#[derive(Clone, Debug)]
pub(crate) struct ProbeFile {
    /// Name for a module whose manifest has none: the file's, without its ending.
    pub(crate) name: String,
    /// The module.
    pub(crate) wasm: Vec<u8>,
}

/// Reads the probe that `word` names. A bundled name wins over a file of the same name without ending.
///
/// # Errors
/// There is no such file or bundled probe, or it is WAT text with a mistake.
pub(crate) fn read(word: &Path) -> Result<ProbeFile, Failure> {
    if let Some(probe) = word.to_str().and_then(bundled::find) {
        return Ok(ProbeFile { name: probe.name.to_owned(), wasm: probe.wasm.to_vec() });
    }
    let bytes = bytes(word)?;
    let name =
        word.file_stem().map_or_else(|| "probe".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let wasm = if is_text(word, &bytes) { assemble(word, &bytes)? } else { bytes };
    Ok(ProbeFile { name, wasm })
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |what: String| {
        let names: Vec<&str> = BUNDLED.iter().map(|probe| probe.name).collect();
        bad_probe(format!("the probe {} cannot be read: {what}", path.display())).hint(format!(
            "a path to a .wasm or .wat file, or one of the bundled probes: {}",
            names.join(", ")
        ))
    };
    let file = File::open(path).map_err(|e| cannot(e.to_string()))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(
            cannot("it is a folder".into()).hint(format!("build it first: trocar build {}", path.display()))
        );
    }
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| cannot(e.to_string()))?;
    // A module that is too large is told so by the verifier; only text may be larger than a module.
    let most = if is_text(path, &bytes) { TEXT_BYTES_MAX } else { MODULE_BYTES_MAX as u64 + 1 };
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(bytes)
}

fn is_text(path: &Path, bytes: &[u8]) -> bool {
    path.extension() == Some(OsStr::new("wat")) && !bytes.starts_with(b"\0asm")
}

fn assemble(path: &Path, text: &[u8]) -> Result<Vec<u8>, Failure> {
    let cannot = |line: Option<usize>, what: &str| {
        let place = line.map_or_else(String::new, |line| format!(":{line}"));
        bad_probe(format!("{}{place} is no WebAssembly text: {what}", path.display()))
            .hint("correct the line; a probe to start from: trocar new wat NAME")
    };
    let text = std::str::from_utf8(text)
        .map_err(|e| cannot(None, &format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    wat::parse_str(text).map_err(|e| {
        // The message is a drawing of several lines: `what`, then `--> <anon>:LINE:COLUMN` and the line itself.
        let whole = e.to_string();
        let what = whole.lines().next().unwrap_or("it cannot be parsed").trim_start_matches("error: ");
        let line = whole.lines().find_map(|l| l.trim_start().strip_prefix("--> "));
        let line = line.and_then(|place| place.rsplit(':').nth(1)).and_then(|n| n.parse().ok());
        cannot(line, what)
    })
}
