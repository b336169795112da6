//! Where ptrace is called from: a thread of its own for each transaction, thrown away after it.
//!
//! The kernel ties a tracee to the thread that seized it, and lets every tracee go when that thread ends: also one
//! that could not be stopped, and also when this process is killed. The thread asks for real-time priority, so that
//! the target does not wait while something else runs; where it may not have it, it does without.
//!
//! Who started the transaction watches it: seizing a thread waits while another one of its process execs, and that
//! waits until the ends of all others have been taken into account, those among them that the tracer holds.
#![expect(unsafe_code, reason = "real-time priority and thread scope have no safe interface in std")]

use std::cell::RefCell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::ptrace::{self, Event};
use crate::stop::Stopped;
use crate::threads::Seen;

/// Least real-time priority: above every ordinary process, below everything that was made real-time on purpose.
const PRIORITY: i32 = 1;
/// How often the watcher looks whether a tracee has ended.
const WATCH: Duration = Duration::from_millis(20);
/// How long the end of a transaction waits for threads that were asked to stop and have not yet; on a busy machine each
/// needs its turn on a processor first. Those that do not come (a vfork parent) are let go by the kernel.
const DRAIN: Duration = Duration::from_millis(1000);

/// What a tracer thread knows of its tracees.
#[derive(Debug, Default)]
struct Tracees {
    /// Everything that was seized, for the watcher.
    seized: Arc<Mutex<Vec<pid_t>>>,
    /// Asked to stop by somebody who did not wait for it, and let go as soon as they do.
    late: Vec<pid_t>,
    /// Those that stopped after all, as they were then.
    seen: Vec<Seen>,
}

thread_local! {
    static TRACEES: RefCell<Tracees> = RefCell::default();
}

/// Runs a transaction on a tracer thread.
pub(crate) fn transaction<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    let seized = Arc::new(Mutex::new(Vec::new()));
    let of_tracer = Arc::clone(&seized);
    std::thread::scope(|scope| {
        let (over, is_over) = mpsc::channel::<()>();
        let tracer =
            std::thread::Builder::new().name("trocar-tracer".to_owned()).spawn_scoped(scope, move || {
                // Dropped when the work is over, also by a panic.
                let _over = over;
                raise_priority();
                TRACEES.with_borrow_mut(|t| t.seized = of_tracer);
                let result = work();
                drain();
                result
            });
        while is_over.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
            // Not while the list is locked: the tracer looks into it.
            let tids = seized.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tids.into_iter().for_each(ptrace::reap);
        }
        match tracer.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Failure::new(FailureKind::Bug, "the tracer thread panicked; the target was let go"))
            }
            Err(error) => Err(Failure::new(FailureKind::NotPermitted, format!("no tracer thread: {error}"))),
        }
    })
}

/// Notes that a thread is seized.
pub(crate) fn seized(tid: pid_t) {
    TRACEES.with_borrow_mut(|t| {
        t.late.retain(|&l| l != tid);
        t.seized.lock().unwrap_or_else(PoisonError::into_inner).push(tid);
    });
}

/// Whether a thread was seized in this transaction.
pub(crate) fn was_seized(tid: pid_t) -> bool {
    TRACEES.with_borrow(|t| t.seized.lock().unwrap_or_else(PoisonError::into_inner).contains(&tid))
}

/// Notes that nobody waits any more for the stop of a thread that was asked to stop.
pub(crate) fn too_late(tid: pid_t) {
    TRACEES.with_borrow_mut(|t| t.late.push(tid));
}

/// Lets go who has stopped after all. Called wherever this thread waits.
pub(crate) fn let_late_ones_go() {
    TRACEES.with_borrow_mut(|t| {
        let Tracees { late, seen, .. } = t;
        late.retain(|&tid| match ptrace::poll(tid) {
            Ok(None) => true,
            Ok(Some(Event::Gone)) | Err(_) => false,
            Ok(Some(event)) => {
                if let Some(mut thread) = Stopped::at(tid, event) {
                    seen.extend(Seen::of(&thread));
                    thread.let_go();
                }
                false
            }
        });
    });
}

/// Waits until each of these has stopped after all and was let go. Those that never did are left: nobody waits for them any
/// more, not even the end of the transaction, and the kernel lets them go then.
pub(crate) fn await_late(tids: &mut Vec<pid_t>, patience: Duration) {
    let until = Instant::now() + patience;
    loop {
        let_late_ones_go();
        TRACEES.with_borrow(|t| tids.retain(|tid| t.late.contains(tid)));
        if tids.is_empty() {
            return;
        }
        if Instant::now() > until {
            TRACEES.with_borrow_mut(|t| t.late.retain(|tid| !tids.contains(tid)));
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Waits for those that have not stopped yet, and lets them go. How all that came late were when they stopped.
pub(crate) fn drain() -> Vec<Seen> {
    let until = Instant::now() + DRAIN;
    while TRACEES.with_borrow(|t| !t.late.is_empty()) && Instant::now() < until {
        let_late_ones_go();
        std::thread::sleep(Duration::from_micros(100));
    }
    TRACEES.with_borrow_mut(|t| std::mem::take(&mut t.seen))
}

fn raise_priority() {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: thread 0 is the calling thread; the kernel reads one `sched_param`. Refusal (no CAP_SYS_NICE) is fine.
    let _ = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
}
