//! `trocar off`: every probe of this user stops, now.

use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::out::Out;
use crate::trouble::Outcome;

const EXAMPLES: &str = "\
Examples:
  trocar off
  trocar off -p 812";

/// Switches off every probe of yours on this machine, at once.
///
/// In each process the probe's state and gates are written directly, within microseconds, whatever the commands that put
/// them there are doing: from then on no probe runs. Those commands find out within some ten milliseconds, take their
/// probes out and end with their receipts. Probes of other users are not touched, not even by root.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Off {
    /// Only in these processes, several with commas
    #[arg(short = 'p', long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Option<Vec<i32>>,
}

/// All of them together.
#[derive(Serialize)]
struct Sum {
    sessions: usize,
    total_ns: u64,
}

impl Off {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let began = Instant::now();
        let all = trocar_session::off(self.pids.as_deref());
        let total_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (mut sessions, mut failed) = (0, None);
        for one in all {
            match one {
                Ok(off) => {
                    sessions += 1;
                    out.row("off", &off)?;
                    let (us, gates) = (off.off_ns / 1000, off.gates);
                    out.say(&format!("process {}: off in {us} µs, {gates} gates closed", off.pid))?;
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        out.row("all_off", &Sum { sessions, total_ns })?;
        out.say(&format!("{sessions} sessions switched off in {} µs", total_ns / 1000))?;
        failed.map_or(Ok(0), |failure| Err(failure.into()))
    }
}
