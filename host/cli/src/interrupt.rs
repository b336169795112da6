//! Ctrl-C, `kill`, and a terminal that is closed: each asks a command to end in order.
//!
//! The handler only sets a flag; whoever works in a loop looks at it. Ctrl-Z too: a command that stops in the midst of
//! attaching or leaving would leave its target stopped with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use trocar_target::{Failure, FailureKind};

/// Whether the user wants the command to end, or to be suspended.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    end: Arc<AtomicBool>,
    suspend: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on these signals do not end the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let new = Self { end: Arc::default(), suspend: Arc::default() };
        let ends = [SIGINT, SIGTERM, SIGHUP].map(|signal| (signal, &new.end));
        for (signal, flag) in ends.into_iter().chain([(SIGTSTP, &new.suspend)]) {
            signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|e| {
                Failure::new(FailureKind::Bug, format!("signal {signal} cannot be caught: {e}"))
            })?;
        }
        Ok(new)
    }

    /// Whether one has come.
    pub(crate) fn asked(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Suspends the command if the user wants that. To be called where nothing of a target is held; returns when the
    /// user lets it go on. Meanwhile the probes run on, and what has no room is counted as lost.
    pub(crate) fn suspend_if_asked(&self) {
        if self.suspend.swap(false, Ordering::Relaxed) {
            // Failure leaves the command running, which does no harm.
            let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
        }
    }
}
