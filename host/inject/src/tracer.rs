//! Where ptrace is called from: a thread of its own for each transaction, thrown away after it.
//!
//! The kernel ties a tracee to the thread that seized it, and lets every tracee go when that thread ends: also one
//! that could not be stopped, and also when this process is killed. The thread asks for real-time priority, so that
//! the target does not wait while something else runs; where it may not have it, it does without.
#![expect(unsafe_code, reason = "real-time priority and thread scope have no safe interface in std")]

use trocar_target::{Failure, FailureKind};

/// Least real-time priority: above every ordinary process, below everything that was made real-time on purpose.
const PRIORITY: i32 = 1;

/// Runs a transaction on a tracer thread.
pub(crate) fn transaction<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let tracer = std::thread::Builder::new().name("trocar-tracer".to_owned()).spawn_scoped(scope, || {
            raise_priority();
            work()
        });
        match tracer.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Failure::new(FailureKind::Bug, "the tracer thread panicked; the target was let go"))
            }
            Err(error) => Err(Failure::new(FailureKind::NotPermitted, format!("no tracer thread: {error}"))),
        }
    })
}

fn raise_priority() {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: thread 0 is the calling thread; the kernel reads one `sched_param`. Refusal (no CAP_SYS_NICE) is fine.
    let _ = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
}
