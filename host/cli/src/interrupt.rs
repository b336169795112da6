//! Ctrl-C, `kill`, and a terminal that is closed: each asks a command to end in order.
//!
//! The handler only sets a flag; whoever works in a loop looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use trocar_target::{Failure, FailureKind};

/// Whether the user wants the command to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on these signals do not end the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(|e| {
                Failure::new(FailureKind::Bug, format!("signal {signal} cannot be caught: {e}"))
            })?;
        }
        Ok(Self(flag))
    }

    /// Whether one has come.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
