//! `trocar pack`: a manifest into a module, for languages whose compiler cannot write one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use trocar_package::{Manifest, ManifestError, attach_section};
use trocar_target::{Failure, FailureKind};

use super::check;
use crate::out::Out;
use crate::probe::{self, ProbeFile};
use crate::trouble::{Outcome, bad_probe};

/// Name of a manifest's file.
pub(crate) const MANIFEST: &str = "probe.toml";
/// Most bytes of it.
const MANIFEST_MAX: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  trocar pack slow.wasm --manifest probe.toml
  trocar pack slow.wat --manifest probe.toml --out slow.wasm

probe.toml:
  abi = 1
  name = \"slow\"
  [[handlers]]
  name = \"on_hit\"
  points = [\"redis-server:processCommand\"]
  [[maps]]
  name = \"calls\"
  kind = \"counter\"                 # counter, hist or hash; hash needs: key = [{ name = \"n\", type = \"u64\" }]";

/// Puts a manifest (probe.toml) into a module, in place of the one it may have.
///
/// The manifest names the handlers and their points, parameters, maps, events and limits. A module without one is
/// loadable too, with `on_hit` as its handler and no maps. What results is verified before it is written.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Pack {
    /// The module: a .wasm or .wat file
    #[arg(value_name = "PROBE")]
    probe: PathBuf,
    /// The manifest
    #[arg(long, value_name = "FILE", default_value = MANIFEST)]
    manifest: PathBuf,
    /// Where the result goes [default: the module's own path, with the ending .wasm]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Pack {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let file = probe::read(&self.probe)?;
        let wasm = with_manifest(&file.wasm, &self.manifest)?;
        let packed = ProbeFile { name: file.name, wasm };
        let verified = check::verify(&packed, None)?;
        let to = self.out.unwrap_or_else(|| self.probe.with_extension("wasm"));
        write(&to, &packed.wasm)?;
        check::show(&to.display().to_string(), &verified, out)?;
        Ok(0)
    }
}

/// The module with the manifest of a file.
pub(crate) fn with_manifest(wasm: &[u8], path: &Path) -> Result<Vec<u8>, Failure> {
    let manifest = read(path)?;
    attach_section(wasm, &manifest).map_err(|e| wrong(path, &e))
}

/// Reads a manifest's file.
pub(crate) fn read(path: &Path) -> Result<Manifest, Failure> {
    let cannot = |what: String| {
        bad_probe(format!("the manifest {} cannot be read: {what}", path.display()))
            .hint("name it with --manifest FILE; what it holds: trocar pack --help")
    };
    let size = fs::metadata(path).map_err(|e| cannot(e.to_string()))?.len();
    if size > MANIFEST_MAX {
        return Err(cannot(format!("{size} bytes are more than {MANIFEST_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
    Manifest::from_toml(&text).map_err(|e| wrong(path, &e))
}

fn wrong(path: &Path, error: &ManifestError) -> Failure {
    // Messages of TOML's reader are drawings of several lines; a failure is one sentence.
    let message =
        error.to_string().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
    bad_probe(format!("{}: {message}", path.display())).hint(error.hint())
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| {
        Failure::new(FailureKind::NotPermitted, format!("{} cannot be written: {e}", path.display()))
            .hint("choose another place with --out FILE")
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".trocar-").tempfile_in(folder).map_err(cannot)?;
    file.write_all(bytes).map_err(cannot)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(cannot)?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}
