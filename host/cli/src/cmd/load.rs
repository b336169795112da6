//! `trocar load`: a probe at work in a process.

use std::path::PathBuf;

use clap::Args;
use trocar_package::Manifest;
use trocar_session::RequestedPoint;
use trocar_session::reply::Limits;
use trocar_target::Failure;

use super::arming::{Arming, Wanted};
use crate::out::Out;
use crate::probe;
use crate::trouble::{Outcome, usage};

const EXAMPLES: &str = "\
Examples:
  trocar load redis-commands -p redis-server
  trocar load call-count -p 812 --at handle_request --at 'lookup*' --for 30s
  trocar load ./slow.wasm -p 812 --at on_entry=parse --set limit=4096 -o json
  trocar load call-count --at main -- ls -l";

/// Puts a probe into a process, shows what it writes, and takes it out again.
///
/// The probe is a file with a WebAssembly module (.wasm) or its text (.wat), or the name of a bundled one (`trocar
/// probes`). It is verified and compiled here; what it may do follows from what it imports (`trocar check`). A probe
/// that traps or runs out of fuel three times is quarantined: it is switched off, taken out, and the status is 8; where in
/// it that was is told (with its source line, if it was built with debug information), and a command that sees that hit
/// again. The process runs on in any case. Ctrl-C prints the sums and a receipt.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Load {
    /// The probe: a .wasm or .wat file, or a bundled name
    #[arg(value_name = "PROBE")]
    probe: PathBuf,
    /// Where, instead of the probe's own points; HANDLER=POINT where the probe has several handlers
    #[arg(long = "at", value_name = "[HANDLER=]POINT")]
    at: Vec<String>,
    /// Value of a parameter
    #[arg(long = "set", value_name = "NAME=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    #[command(flatten)]
    arming: Arming,
}

impl Load {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let probe = probe::read(&self.probe)?;
        let sets = sets(&self.set)?;
        // A module that cannot be read has no handlers here; the verifier says why in a moment.
        let manifest = Manifest::from_module(&probe.wasm).ok().flatten();
        let handlers = manifest.map(|m| m.handlers.into_iter().map(|h| h.name).collect::<Vec<_>>());
        let handlers = handlers.unwrap_or_else(|| vec![trocar_abi::import::DEFAULT_HANDLER.to_owned()]);
        let points = self.at.iter().map(|text| point(text, &handlers)).collect();
        let max_core = Limits::default().max_core_percent.map(|percent| percent / 100.0);
        let word = Some(self.probe);
        self.arming.run(&Wanted { word, probe, points, sets, max_core, functions_max: None }, out)
    }
}

/// Reads `NAME=VALUE`.
pub(crate) fn sets(words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let set = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(usage(format!("--set takes NAME=VALUE, not \"{}\"", word.escape_debug()))
            .hint("see the probe's parameters with: trocar check PROBE")),
    };
    words.iter().map(set).collect()
}

/// Reads `[HANDLER=]POINT`. Only the name of a handler counts as such: points hold `=` too (`operator=`).
fn point(text: &str, handlers: &[String]) -> RequestedPoint {
    match text.split_once('=') {
        Some((name, rest)) if !rest.is_empty() && handlers.iter().any(|h| h == name) => {
            RequestedPoint { text: rest.to_owned(), handler: Some(name.to_owned()) }
        }
        _ => RequestedPoint { text: text.to_owned(), handler: None },
    }
}
