//! Asking a thread to stop, and why it may not be.
#![expect(unsafe_code, reason = "std does not tell the kernel's id of a thread")]

use std::fs;
use std::io;
use std::time::Duration;

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::{ptrace, tracer};

/// Why a try to stop a process came to nothing.
pub(crate) struct Missed {
    pub(crate) failure: Failure,
    /// The thread that another one traces.
    pub(crate) traced: Option<pid_t>,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self { failure, traced: None }
    }
}

/// Whether a thread that another one traced is let go within some looks: the kernel does so a little after it has ended.
pub(crate) fn is_let_go(tid: pid_t) -> bool {
    const LOOKS: u32 = 20;
    const NAP: Duration = Duration::from_millis(3);
    (0..LOOKS).any(|_| {
        std::thread::sleep(NAP);
        tracer_of(tid) == 0
    })
}

/// Why a thread could not be asked to stop.
pub(crate) struct Refused {
    pub(crate) error: io::Error,
    /// The thread that traces it; zero: none.
    pub(crate) tracer: pid_t,
}

impl Refused {
    /// Whether this thread traces it already.
    pub(crate) fn is_ours(&self) -> bool {
        self.tracer == tracer_thread()
    }

    /// Why a try to stop all threads came to nothing, if this is one of them.
    pub(crate) fn missed(&self, pid: pid_t, tid: pid_t) -> Missed {
        Missed { failure: self.failure(pid, tid), traced: (self.tracer != 0).then_some(tid) }
    }

    pub(crate) fn failure(&self, pid: pid_t, tid: pid_t) -> Failure {
        if self.tracer != 0 {
            let name = fs::read_to_string(format!("/proc/{}/comm", self.tracer)).unwrap_or_default();
            return Failure::new(
                FailureKind::NothingPatched,
                format!(
                    "thread {tid} of process {pid} is already traced by process {} ({})",
                    self.tracer,
                    name.trim()
                ),
            )
            .hint("detach that tool first; a process can have one tracer at a time");
        }
        Failure::new(FailureKind::NotPermitted, format!("process {pid} may not be traced: {}", self.error))
            .hint("run as root, or as the user of that process where the system allows it: trocar doctor")
    }
}

/// Seizes a thread and asks it to stop.
///
/// The kernel's EPERM does not say whether we may not, or whether another one traces the thread; /proc tells that. A
/// tracer that went away between the two is told by neither: without one, the thread is asked for again.
pub(crate) fn ask_to_stop(tid: pid_t, unfiltered: bool) -> Result<(), Refused> {
    /// Tracers that come and go within microseconds, one after another.
    const REFUSALS: u32 = 16;
    let mut refusals = 0;
    loop {
        let error = match ptrace::seize(tid, unfiltered) {
            Ok(()) => break,
            Err(error) => error,
        };
        let tracer = if error.raw_os_error() == Some(libc::EPERM) { tracer_of(tid) } else { 0 };
        refusals += 1;
        let again = error.raw_os_error() == Some(libc::EPERM) && tracer == 0 && refusals < REFUSALS;
        if !again {
            return Err(Refused { error, tracer });
        }
    }
    tracer::seized(tid);
    ptrace::interrupt(tid).map_err(|error| Refused { error, tracer: 0 })
}

/// Whether this thread traces it.
pub(crate) fn is_ours(tid: pid_t) -> bool {
    tracer_of(tid) == tracer_thread()
}

pub(crate) fn tracer_thread() -> pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// The thread that traces a thread; zero: none.
pub(crate) fn tracer_of(tid: pid_t) -> pid_t {
    fs::read_to_string(format!("/proc/{tid}/status")).map_or(0, |status| tracer_in(&status))
}

pub(crate) fn tracer_in(status: &str) -> pid_t {
    status.lines().find_map(|l| l.strip_prefix("TracerPid:")?.trim().parse().ok()).unwrap_or(0)
}

pub(crate) fn filter_failure(pid: pid_t, error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::NothingPatched,
        format!(
            "process {pid} has a seccomp filter, and it cannot be suspended for our own system calls: {error}"
        ),
    )
    .hint("run as root (CAP_SYS_ADMIN, and no filter on trocar itself); nothing was touched")
}
