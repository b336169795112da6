//! A thread of the target lends itself: it is stopped, creates our helper at the [`Foothold`], and goes on.
//!
//! INVARIANT (we may die) is cited here at each step: until it is brought to the foothold it is merely stopped, there it
//! goes on by itself, and when it is given back it stands in a stop in which the kernel does what it would have done.
//!
//! It goes on by itself in any case: what it does for us takes about as long as a stop, and on a busy machine it may wait
//! for its turn meanwhile, so it is stopped only before and after. Its signals are blocked until it is nearly back, and
//! then come to us first, as all signals of a tracee do: no handler runs on top of our code. One that was in a system call
//! makes it again itself; if a signal comes before it does, it is put back into the interrupted call, which the kernel
//! then ends or starts again as the signal demands.

use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::asked::is_ours;
use crate::asleep::out_of_reach;
use crate::foothold::{self, Answer, Foothold};
use crate::helper::{DEADLINE, FAULTS, Lenders};
use crate::load::lost;
use crate::newborn::{newborn, newborn_for_certain};
use crate::ptrace::{self, Event, Registers};
use crate::request::Stops;
use crate::stop::{Stopped, World, gone, is_gone, pause, tasks};
use crate::tracer;

/// How long the lender may take to create the helper, in the first try; in the nth, n times as long: where many threads
/// share a processor, one waits for its turn.
const LEND_DEADLINE: Duration = Duration::from_millis(100);
/// Stops of the whole process that may be on their way before a thread runs at all.
const EXTRA_STOPS: u32 = 4;

/// Lets a thread of the target create the helper. Returns the helper's id.
pub(crate) fn lend(
    lenders: &Lenders<'_>,
    foothold: &mut Foothold<'_>,
    usable: impl Fn(&Stopped) -> bool,
    stops: &mut Stops,
) -> Result<pid_t, Failure> {
    const TRIES: u32 = 20;
    /// Tries in which the kernel created no thread.
    const REFUSALS: u32 = 3;
    let Lenders { pid, filtered, .. } = *lenders;
    let mut refusals = 0;
    for patience in (1..=TRIES).map(|n| n * LEND_DEADLINE) {
        // A helper of ours is none of these.
        let known = tasks(pid)?;
        // Until now it ran, or slept as it would have anyway.
        let thread = World::stop_one(pid, filtered, &usable)?;
        foothold.in_use();
        match lend_one(lenders, thread, foothold, (&known, patience), stops)? {
            Lent::Helper(helper) => {
                // Before its first turn: others may wait for one as well.
                ptrace::make_ours(helper);
                return Ok(helper);
            }
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
        format!("no thread of process {pid} came to work for us: signals came first, or none had a turn on a processor"),
    )
    .hint("the target was let go untouched; try again"))
}

/// What came of one try.
enum Lent {
    /// The helper's id.
    Helper(pid_t),
    /// The kernel was not asked for one: a signal came first, which is delivered when the thread is let go, or the thread has
    /// not had a turn.
    Not,
    /// The kernel created no thread.
    Refused,
}

/// One try. Whatever becomes of it, the thread is as it was, or went on by itself and is where it is.
fn lend_one(
    lenders: &Lenders<'_>,
    thread: Stopped,
    foothold: &mut Foothold<'_>,
    (known, patience): (&[pid_t], Duration),
    stops: &mut Stops,
) -> Result<Lent, Failure> {
    let began = Instant::now();
    let (pid, filtered) = (lenders.pid, lenders.filtered);
    let Some(original) = thread.registers else {
        return Err(Failure::new(FailureKind::Bug, "a sleeping thread cannot lend itself"));
    };
    // A filter that is suspended for our calls must be in force again before the program makes one, and a program that is
    // suspended does not run.
    let held = filtered || ptrace::is_suspended(thread.tid);
    let mut lender = Lender {
        pid,
        thread,
        original,
        mask: 0,
        foothold,
        patience,
        began,
        is_stopped: true,
        asked: false,
        extra: 0,
    };
    let lent = lender.start(held, filtered).and_then(|()| {
        if held {
            return lender.lend_held();
        }
        stops.add(began.elapsed());
        let lent = lender.lend_running(known, stops);
        if lent.is_err() {
            // Whatever it does now, it is let go as it is when it stops.
            let _ = lender.ask();
            tracer::too_late(lender.thread.tid);
        }
        lent
    });
    if held || lender.is_stopped {
        lender.thread.let_go();
        stops.add(lender.began.elapsed());
    }
    lent
}

/// A thread that lends itself.
struct Lender<'a, 'f> {
    pid: pid_t,
    thread: Stopped,
    original: Registers,
    /// Its signal mask.
    mask: u64,
    foothold: &'a mut Foothold<'f>,
    /// How long it may take.
    patience: Duration,
    /// When its stop began.
    began: Instant,
    /// It is, as far as it is known.
    is_stopped: bool,
    /// It was asked to stop.
    asked: bool,
    extra: u32,
}

impl Lender<'_, '_> {
    fn failed(&self, doing: &str, error: &io::Error) -> Failure {
        let (pid, tid) = (self.pid, self.thread.tid);
        match error.raw_os_error() {
            Some(libc::ESRCH) => gone(pid),
            _ => Failure::new(FailureKind::Bug, format!("{doing} thread {tid} of process {pid}: {error}")),
        }
    }

    /// From here on the thread has its registers back by itself, if we are killed or the kernel refuses.
    fn start(&mut self, held: bool, filtered: bool) -> Result<(), Failure> {
        let tid = self.thread.tid;
        self.mask = ptrace::signal_mask(tid).map_err(|e| self.failed("reading the signal mask of", &e))?;
        let registers = self.foothold.lend(&self.original, self.mask).map_err(|e| lost(self.pid, &e))?;
        if held {
            ptrace::tell_clones(tid, filtered).map_err(|e| self.failed("preparing", &e))?;
        }
        ptrace::set_registers(tid, &registers).map_err(|e| self.failed("borrowing", &e))?;
        // So that a signal which is there already waits: where a parent can only be stopped as its child ends, one always
        // is. Not before the registers: our code gives the thread its own mask back, whatever becomes of us.
        ptrace::set_signal_mask(tid, u64::MAX).map_err(|e| self.failed("borrowing", &e))?;
        ptrace::resume(tid, false, 0).map_err(|e| self.failed("borrowing", &e))?;
        self.is_stopped = false;
        Ok(())
    }

    /// The thread stops when it has created the helper, and once more, in a stop in which the kernel's restart logic is
    /// next, where it gets its registers back before it runs any more.
    fn lend_held(&mut self) -> Result<Lent, Failure> {
        let tid = self.thread.tid;
        let until = Instant::now() + self.patience;
        let mut child = None;
        for rounds in 0.. {
            match ptrace::poll(tid).map_err(|e| self.failed("waiting for", &e))? {
                Some(Event::Gone) => return Err(gone(self.pid)),
                Some(Event::Cloned) => {
                    let born = ptrace::message(tid).map_err(|e| self.failed("asking", &e))?;
                    let born = pid_t::try_from(born).map_err(|_| gone(self.pid))?;
                    let now = ptrace::registers(tid).map_err(|e| self.failed("reading", &e))?;
                    if self.foothold.contains(now.rip) {
                        tracer::seized(born);
                        child = Some(born);
                    } else {
                        // The kernel refused ours, and this is one of the program's own.
                        tracer::too_late(born);
                    }
                    self.ask()?;
                    ptrace::resume(tid, false, 0).map_err(|e| self.failed("stopping", &e))?;
                }
                Some(event) if self.passes_over(event)? => {}
                Some(event) => {
                    let answer = self.give_back(event)?;
                    return Ok(match child {
                        Some(helper) => Lent::Helper(helper),
                        None if answer == Some(Answer::NotYet) => Lent::Not,
                        None => Lent::Refused,
                    });
                }
                None if rounds > 2048 && is_gone(tid) => return Err(gone(self.pid)),
                // It is expected within microseconds; most slept, so that a processor is free for them.
                None => self.wait_on(rounds / 16, until)?,
            }
        }
        Ok(Lent::Not)
    }

    /// The thread creates the helper and goes on by itself, as if nothing had happened. When the helper is there, it is
    /// stopped once more, to be let go.
    fn lend_running(&mut self, known: &[pid_t], stops: &mut Stops) -> Result<Lent, Failure> {
        let (pid, tid) = (self.pid, self.thread.tid);
        let until = Instant::now() + self.patience;
        let mut child = None;
        // What the thread itself shows, if it still does.
        let mut answer = None;
        for rounds in 0.. {
            match child {
                None => {
                    child = newborn(pid, known)?;
                    if let Some(child) = child {
                        tracer::seized(child);
                        self.ask()?;
                    }
                }
                // Where the thread has gone on and execs, it waits for the helper's end to be taken into account.
                Some(child) => ptrace::reap(child),
            }
            match ptrace::poll(tid).map_err(|e| self.failed("waiting for", &e))? {
                Some(Event::Gone) => {
                    // One that execs has the first thread's id from then on.
                    if tid != pid && is_ours(pid) {
                        tracer::too_late(pid);
                    }
                    break;
                }
                // A suspended process does not run on.
                Some(event) if !ptrace::is_suspended(tid) && self.passes_over(event)? => {}
                Some(event) => {
                    self.began = Instant::now();
                    self.is_stopped = true;
                    answer = self.give_back(event)?;
                    self.thread.let_go();
                    stops.add(self.began.elapsed());
                    self.is_stopped = false;
                    break;
                }
                None if rounds > 128 && is_gone(tid) => break,
                // In a call of the program's that no stop reaches, as vfork: nobody executes the code.
                None if child.is_some() && rounds > 128 && self.is_out_of_reach() => {
                    tracer::too_late(tid);
                    break;
                }
                None => self.wait_on(rounds, until)?,
            }
        }
        if child.is_none() && matches!(answer, None | Some(Answer::Created)) {
            child = self.find(known, answer.is_some(), until)?;
            child.into_iter().for_each(tracer::seized);
        }
        Ok(match child {
            Some(helper) => Lent::Helper(helper),
            None if answer == Some(Answer::NotYet) || !self.asked => Lent::Not,
            None => Lent::Refused,
        })
    }

    /// The helper that was created, as the thread shows, or may have been.
    fn find(&self, known: &[pid_t], certain: bool, until: Instant) -> Result<Option<pid_t>, Failure> {
        loop {
            let child = newborn_for_certain(self.pid, known)?;
            // It ended with its process, or there are more threads than a list shows at once.
            if child.is_some() || !certain || Instant::now() > until {
                return Ok(child);
            }
        }
    }

    fn is_out_of_reach(&self) -> bool {
        out_of_reach(self.thread.tid).is_some_and(|ip| !self.foothold.contains(ip))
    }

    fn ask(&mut self) -> Result<(), Failure> {
        self.asked = true;
        match ptrace::interrupt(self.thread.tid) {
            // It has ended, which the next look tells.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.map_err(|e| self.failed("stopping", &e)),
        }
    }

    /// Lets the thread run on after a stop of the whole process that came before it ran at all.
    fn passes_over(&mut self, event: Event) -> Result<bool, Failure> {
        if event != Event::Stopped || self.asked || self.extra == EXTRA_STOPS {
            return Ok(false);
        }
        self.extra += 1;
        ptrace::resume(self.thread.tid, false, 0).map_err(|e| self.failed("borrowing", &e))?;
        Ok(true)
    }

    /// Gives the stopped thread everything back that it has not taken itself. What the kernel has answered it, if it was still
    /// at our code, and that can be told.
    fn give_back(&mut self, event: Event) -> Result<Option<Answer>, Failure> {
        let tid = self.thread.tid;
        let now = ptrace::registers(tid).map_err(|e| self.failed("reading", &e))?;
        let inside = self.foothold.contains(now.rip);
        let is_short = inside || foothold::is_about_to_call_again(&self.original, &now);
        let held = if let Event::Signal(signal) = event { signal } else { 0 };
        if is_short {
            ptrace::set_signal_mask(tid, self.mask).map_err(|e| self.failed("giving back", &e))?;
            let original = self.original;
            self.thread.set_registers(original).map_err(|e| self.failed("giving back", &e))?;
        } else {
            // It went on by itself: it is where it is.
            self.thread.now_at(now);
        }
        // What our code did is not the program's fault.
        let ours = inside && FAULTS.contains(&held) && ptrace::raised_by_itself(tid);
        self.thread.hold(if ours { 0 } else { held });
        Ok(if inside { self.foothold.answer(&now) } else { None })
    }

    /// Nothing was heard of the thread yet.
    fn wait_on(&mut self, rounds: u32, until: Instant) -> Result<(), Failure> {
        let (pid, tid) = (self.pid, self.thread.tid);
        if Instant::now() > until && !self.asked {
            // It went on by itself without a helper, or has not had a turn on a processor.
            self.ask()?;
        } else if Instant::now() > until + DEADLINE {
            tracer::too_late(tid);
            self.thread.registers = None;
            return Err(Failure::new(
                FailureKind::Bug,
                format!("thread {tid} of process {pid} did not come back"),
            ));
        }
        pause(rounds);
        Ok(())
    }
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
