//! A thread of the target lends itself: it is stopped, creates our helper at the [`Foothold`], and goes on.
//!
//! INVARIANT (we may die) is cited here at each step: until it is brought to the foothold it is merely stopped, there it
//! goes on by itself, and when it is given back it stands in a stop in which the kernel does what it would have done.

use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::foothold::Foothold;
use crate::helper::DEADLINE;
use crate::load::lost;
use crate::ptrace::{self, Event, Registers};
use crate::request::Stops;
use crate::stop::{Stopped, World, gone, is_gone, pause};
use crate::tracer;

/// How long the lender may take to create the helper.
const LEND_DEADLINE: Duration = Duration::from_millis(100);

/// Lets a thread of the target create the helper. Returns the helper's id.
pub(crate) fn lend(
    pid: pid_t,
    filtered: bool,
    foothold: &mut Foothold<'_>,
    usable: impl Fn(&Stopped) -> bool,
    stops: &mut Stops,
) -> Result<pid_t, Failure> {
    const TRIES: u32 = 20;
    /// Tries in which the kernel created no thread.
    const REFUSALS: u32 = 3;
    let mut refusals = 0;
    for _ in 0..TRIES {
        let mut thread = World::stop_one(pid, filtered, &usable)?;
        // Until now it ran, or slept as it would have anyway.
        let began = Instant::now();
        foothold.in_use();
        let lent = lend_one(pid, filtered, &mut thread, foothold);
        thread.let_go();
        stops.add(began.elapsed());
        match lent? {
            Lent::Helper(helper) => return Ok(helper),
            // It is where it was, and there is no helper: nobody executes the code.
            Lent::Not => foothold.free(),
            Lent::Refused => {
                foothold.free();
                refusals += 1;
                if refusals == REFUSALS {
                    return Err(Failure::new(
                        FailureKind::NothingPatched,
                        format!("process {pid} may not start one more thread"),
                    )
                    .hint("a limit of processes or threads (ulimit -u, pids.max of its control group) is reached; nothing was touched"));
                }
            }
        }
    }
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("the signals of process {pid} leave no thread alone long enough to work for us"),
    )
    .hint("the target was let go untouched; try again"))
}

/// What came of one try.
enum Lent {
    /// The helper's id.
    Helper(pid_t),
    /// A signal came first, which is delivered when the thread is let go.
    Not,
    /// The kernel created no thread.
    Refused,
}

/// One try. Whatever becomes of it, `thread` is as it was, or went on by itself and is where it is.
fn lend_one(
    pid: pid_t,
    filtered: bool,
    thread: &mut Stopped,
    foothold: &Foothold<'_>,
) -> Result<Lent, Failure> {
    let tid = thread.tid;
    let failed = |doing: &str, e: &io::Error| match e.raw_os_error() {
        Some(libc::ESRCH) => gone(pid),
        _ => Failure::new(FailureKind::Bug, format!("{doing} thread {tid} of process {pid}: {e}")),
    };
    let Some(original) = thread.registers else {
        return Err(Failure::new(FailureKind::Bug, "a sleeping thread cannot lend itself"));
    };
    let mask = ptrace::signal_mask(tid).map_err(|e| failed("reading the signal mask of", &e))?;
    let registers = foothold.lend(&original, mask).map_err(|e| lost(pid, &e))?;
    ptrace::tell_clones(tid, filtered).map_err(|e| failed("preparing", &e))?;
    ptrace::set_registers(tid, &registers).map_err(|e| failed("borrowing", &e))?;
    ptrace::resume(tid, false, 0).map_err(|e| failed("borrowing", &e))?;
    let until = Instant::now() + LEND_DEADLINE;
    const EXTRA_STOPS: u32 = 4;
    let mut child = None;
    let (mut asked, mut extra) = (false, 0);
    // From here on the thread has its registers back by itself, if we are killed or the kernel refuses.
    for rounds in 0.. {
        match ptrace::poll(tid).map_err(|e| failed("waiting for", &e))? {
            Some(Event::Gone) => return Err(gone(pid)),
            Some(Event::Cloned) => {
                let born = ptrace::message(tid).map_err(|e| failed("asking", &e))?;
                let born = pid_t::try_from(born).map_err(|_| gone(pid))?;
                let now = ptrace::registers(tid).map_err(|e| failed("reading", &e))?;
                if foothold.contains(now.rip) {
                    child = Some(born);
                } else {
                    // The kernel refused ours, and this is one of the program's own.
                    tracer::too_late(born);
                }
                // It comes to a stop in which the kernel's restart logic is next, before it runs any more.
                ptrace::interrupt(tid).map_err(|e| failed("stopping", &e))?;
                asked = true;
                ptrace::resume(tid, false, 0).map_err(|e| failed("stopping", &e))?;
            }
            // In a stop of the whole process one more of these may be on its way, before the thread runs at all.
            Some(Event::Stopped) if !asked && extra < EXTRA_STOPS => {
                extra += 1;
                ptrace::resume(tid, false, 0).map_err(|e| failed("borrowing", &e))?;
            }
            Some(event) => {
                let now = ptrace::registers(tid).map_err(|e| failed("reading", &e))?;
                let inside = foothold.contains(now.rip);
                let held = if let Event::Signal(signal) = event { signal } else { 0 };
                if inside {
                    ptrace::set_signal_mask(tid, mask).map_err(|e| failed("giving back", &e))?;
                    ptrace::set_registers(tid, &original).map_err(|e| failed("giving back", &e))?;
                } else {
                    // It went on by itself: it is where it is.
                    thread.registers = Some(now);
                }
                // What our code did is not the program's fault.
                thread.hold(if inside && ptrace::raised_by_itself(tid) { 0 } else { held });
                return Ok(match child {
                    Some(helper) => Lent::Helper(helper),
                    None if inside && !asked => Lent::Not,
                    None => Lent::Refused,
                });
            }
            None if Instant::now() > until && !asked => {
                // It went on by itself without a helper, or has not had a turn on a processor.
                ptrace::interrupt(tid).map_err(|e| failed("stopping", &e))?;
                asked = true;
            }
            None if Instant::now() > until + DEADLINE => {
                tracer::too_late(tid);
                thread.registers = None;
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("thread {tid} of process {pid} did not come back"),
                ));
            }
            None if rounds > 128 && is_gone(tid) => return Err(gone(pid)),
            None => pause(rounds),
        }
    }
    Ok(Lent::Not)
}

/// Waits for the helper's first stop. Its registers.
pub(crate) fn born(pid: pid_t, tid: pid_t) -> Result<Registers, Failure> {
    let until = Instant::now() + DEADLINE;
    for rounds in 0.. {
        match ptrace::poll(tid) {
            Ok(Some(Event::Gone)) => return Err(gone(pid)),
            Ok(Some(_)) => return ptrace::registers(tid).map_err(|_| gone(pid)),
            Ok(None) if Instant::now() < until => pause(rounds),
            Ok(None) => break,
            Err(error) => {
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("waiting for our helper in {pid}: {error}"),
                ));
            }
        }
    }
    Err(Failure::new(FailureKind::Bug, format!("our helper in process {pid} did not come")))
}
