//! Stopping a whole process for some microseconds, and letting it go as if nothing had happened.
//!
//! A thread counts as stopped when ptrace says so, or when it is still in the system call in which it slept before it was
//! interrupted, at a program counter that the caller finds harmless: before it runs one more instruction of the program,
//! it stops. So a vfork parent or a thread in an uninterruptible sleep, which never stops, does not hold up the others,
//! and on a busy machine nobody waits until each sleeper has had its turn on a processor.
//!
//! What an interrupt disturbs is put right: calls that the kernel would end with EINTR for a stop, though no signal
//! came, are made to start again. If we die at any point, the kernel lets every thread go.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::asked::{Missed, ask_to_stop, filter_failure, is_let_go};
use crate::asleep::{Asleep, Sleeping, cannot_stop, sleeping_at, why_not};
use crate::ptrace::{self, Event, Registers};
use crate::{sharers, tracer};

/// How long a stop may take until everything is let go again (DESIGN §4), try by try: a thread that was asleep needs a
/// turn on a processor before it stops, and a busy machine has none to give at once. Between tries the target runs.
const DEADLINES_MS: [u64; 20] = [5, 5, 5, 5, 10, 10, 10, 20, 20, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40];
/// How long the target runs between two tries, at least.
const BACK_OFF: Duration = Duration::from_millis(3);
/// How long those that did not stop in time are waited for in all, between tries, while the others run.
const GRACE: Duration = Duration::from_millis(1000);

/// Calls that end with EINTR when a thread is stopped, which a program does not expect without a signal (signal(7),
/// "Interruption of system calls and library functions by stop signals"): waiting ones, and socket and inotify
/// transfers with a timeout, of which nothing was transferred. Starting them again is right for all of them; not for
/// connect and close, which are not here.
const RESTARTED: [u64; 21] = [
    0, 1, 19, 20, // read, write, readv, writev
    43, 288, // accept, accept4
    44, 45, 46, 47, 299, 307, // sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg
    65, 220, // semop, semtimedop
    128, // rt_sigtimedwait
    208, 333, // io_getevents, io_pgetevents
    232, 281, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];
/// Code segment of 64-bit user code (`__USER_CS` in `asm/segment.h`).
pub(crate) const USER_CS: u64 = 0x33;
const EINTR: i64 = -4;
/// The kernel's own "start again unless a handler ran" (`linux/errno.h`).
const ERESTARTNOHAND: i64 = -514;

/// A thread of the target in a stop.
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    pub(crate) tid: pid_t,
    /// Registers where it stopped; `None` if it sleeps in the kernel and cannot be stopped.
    pub(crate) registers: Option<Registers>,
    /// Program counter and stack pointer, also of a thread that sleeps.
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    /// A signal that was about to be delivered in this stop.
    held: i32,
}

/// The whole process, stopped. Dropping it lets everything go.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) pid: pid_t,
    pub(crate) threads: Vec<Stopped>,
    began: Instant,
    released: bool,
}

impl World {
    /// Stops every thread. `harmless` says whether a thread that sleeps in the kernel may stay as it is, by its program
    /// counter.
    pub(crate) fn stop(pid: pid_t, harmless: impl Fn(u64) -> bool) -> Result<Self, Failure> {
        Self::stop_beside(pid, 0, harmless)
    }

    /// The same, but one thread, a helper of ours, goes on.
    pub(crate) fn stop_beside(
        pid: pid_t,
        helper: pid_t,
        harmless: impl Fn(u64) -> bool,
    ) -> Result<Self, Failure> {
        let mut last = None;
        let mut grace = GRACE;
        for deadline in DEADLINES_MS {
            let others = sharers::of(pid);
            let began = Instant::now();
            let mut missing = Vec::new();
            let deadline = Duration::from_millis(deadline);
            let mut traced = None;
            let result =
                Self::try_stop(pid, helper, &others, deadline, &harmless, &mut missing).map_err(|missed| {
                    traced = missed.traced;
                    missed.failure
                });
            match result {
                Err(failure) if failure.kind == FailureKind::NothingPatched => last = Some(failure),
                other => return other,
            }
            // The program has at least half of the time.
            std::thread::sleep(began.elapsed().max(BACK_OFF));
            // Who did not come in time is waited for alone: another try would hold up all others for nothing.
            let waited = Instant::now();
            tracer::await_late(&mut missing, grace);
            if let Some(tid) = missing.first() {
                return Err(never_came(pid, *tid, missing.len()));
            }
            grace = grace.saturating_sub(waited.elapsed());
            // Each try interrupts the others, and whoever traces it means to stay, unless it is just ending.
            if traced.is_some_and(|tid| !is_let_go(tid)) {
                break;
            }
        }
        Err(last.unwrap_or_else(|| gone(pid)))
    }

    /// One try. Those that did not stop in time, and those that were not waited for because another one could not be asked to,
    /// are left in `waiting`: they are let go when they stop.
    fn try_stop(
        pid: pid_t,
        helper: pid_t,
        others: &[pid_t],
        deadline: Duration,
        harmless: &impl Fn(u64) -> bool,
        waiting: &mut Vec<pid_t>,
    ) -> Result<Self, Missed> {
        let began = Instant::now();
        let mut world = Self { pid, threads: Vec::new(), began, released: false };
        // Before anybody is interrupted, and before the clock starts to matter to anybody.
        let asleep: HashMap<pid_t, Asleep> = tasks(pid)?
            .into_iter()
            .chain(threads_of(others))
            .filter_map(|tid| Some((tid, Asleep::look(tid)?)))
            .collect();
        world.began = Instant::now();
        let mut own;
        loop {
            let mut fresh = 0;
            own = tasks(pid)?;
            own.sort_unstable();
            for tid in own.iter().copied().chain(threads_of(others)) {
                let known =
                    tid == helper || world.threads.iter().any(|t| t.tid == tid) || waiting.contains(&tid);
                if known {
                    continue;
                }
                match ask_to_stop(tid, false) {
                    Ok(()) => {
                        waiting.push(tid);
                        fresh += 1;
                    }
                    // Seized in an earlier try, and still on its way to its stop.
                    Err(refused) if refused.is_ours() => {
                        tracer::seized(tid);
                        waiting.push(tid);
                        fresh += 1;
                    }
                    // It ended between the listing and now, or it is a zombie leader: it runs nothing any more.
                    Err(_) if is_gone(tid) || sharers::has_left(pid, tid) => {}
                    // One of another process may be about to become a program that nobody may trace, and have left by
                    // the next try.
                    Err(refused) => {
                        waiting.iter().copied().for_each(tracer::too_late);
                        if own.binary_search(&tid).is_ok() {
                            return Err(refused.missed(pid, tid));
                        }
                        let what = format!("process {tid} shares the memory of {pid} and may not be stopped");
                        return Err(Failure::new(FailureKind::NothingPatched, what).into());
                    }
                }
            }
            world.wait(waiting, began + deadline, harmless, &asleep)?;
            if fresh == 0 {
                break;
            }
        }
        // One that has become another program meanwhile is none of ours.
        let has_left = |t: &mut Stopped| own.binary_search(&t.tid).is_err() && sharers::has_left(pid, t.tid);
        for mut other in world.threads.extract_if(.., has_left) {
            other.let_go();
        }
        if world.threads.is_empty() {
            return Err(gone(pid).into());
        }
        Ok(world)
    }

    /// Stops one thread, to work for us: one that sleeps in a system call which the kernel starts again, if there is one;
    /// the first thread last, because in most servers it does the work. `usable` says by program counter and stack pointer whether it may be used.
    ///
    /// `filtered`: some thread has a seccomp filter, which is suspended for the one that is used.
    pub(crate) fn stop_one(
        pid: pid_t,
        filtered: bool,
        usable: impl Fn(&Stopped) -> bool,
    ) -> Result<Stopped, Failure> {
        /// How long a thread is looked for, at least: nobody else stands still meanwhile.
        const PATIENCE: Duration = Duration::from_secs(3);
        let began = Instant::now();
        let (mut last, mut tries) = (String::new(), DEADLINES_MS.into_iter());
        let longest = DEADLINES_MS.into_iter().max();
        while let Some(deadline) = tries.next().or(longest.filter(|_| began.elapsed() < PATIENCE)) {
            // Listed anew each time: threads come and go.
            let mut tids = tasks(pid)?;
            tids.reverse();
            // Each looked at once: what is read would change while they are sorted.
            tids.sort_by_cached_key(|&tid| (disturbance(tid), tid == pid));
            for tid in tids {
                let mut world = Self { pid, threads: Vec::new(), began: Instant::now(), released: false };
                match ask_to_stop(tid, filtered) {
                    Ok(()) => {}
                    Err(_) if is_gone(tid) => continue,
                    // Seized in an earlier round and still on its way to its stop.
                    Err(refused) if refused.is_ours() => tracer::seized(tid),
                    Err(refused) if filtered && refused.tracer == 0 => {
                        return Err(filter_failure(pid, &refused.error));
                    }
                    Err(refused) => return Err(refused.failure(pid, tid)),
                }
                let until = Instant::now() + Duration::from_millis(deadline);
                match world.wait(&mut vec![tid], until, &|_| false, &HashMap::new()) {
                    Ok(()) => {}
                    Err(failure) => {
                        last = failure.message;
                        continue;
                    }
                }
                let Some(thread) = world.threads.pop() else {
                    last = format!("thread {tid} ended");
                    continue;
                };
                // A signal in delivery is delivered by letting it go first.
                if thread.held == 0 && usable(&thread) {
                    return Ok(thread);
                }
                last = format!("thread {tid} is at a place where it cannot be used");
                world.threads.push(thread);
            }
            if tasks(pid)?.iter().all(|&tid| is_gone(tid)) {
                return Err(gone(pid));
            }
            std::thread::sleep(BACK_OFF);
        }
        Err(Failure::new(
            FailureKind::NothingPatched,
            format!("no thread of process {pid} could be used: {last}"),
        )
        .hint("the target was let go untouched; try again when the machine is less busy"))
    }

    /// Stops one certain thread, to look at it. `None`: it has ended, may not be traced, or did not stop in time.
    pub(crate) fn stop_thread(pid: pid_t, tid: pid_t) -> Option<Self> {
        const PATIENCE: Duration = Duration::from_millis(20);
        let mut world = Self { pid, threads: Vec::new(), began: Instant::now(), released: false };
        match ask_to_stop(tid, false) {
            Ok(()) => {}
            Err(refused) if refused.is_ours() => tracer::seized(tid),
            Err(_) => return None,
        }
        let until = world.began + PATIENCE;
        world.wait(&mut vec![tid], until, &|_| false, &HashMap::new()).ok()?;
        (!world.threads.is_empty()).then_some(world)
    }

    /// Waits until all of `waiting` have stopped. Those that do not in time are let go when they do.
    fn wait(
        &mut self,
        waiting: &mut Vec<pid_t>,
        until: Instant,
        harmless: &impl Fn(u64) -> bool,
        asleep: &HashMap<pid_t, Asleep>,
    ) -> Result<(), Failure> {
        let result = self.wait_for_all(waiting, until, harmless, asleep);
        if result.is_err() {
            waiting.iter().copied().for_each(tracer::too_late);
        }
        result
    }

    fn wait_for_all(
        &mut self,
        waiting: &mut Vec<pid_t>,
        until: Instant,
        harmless: &impl Fn(u64) -> bool,
        asleep: &HashMap<pid_t, Asleep>,
    ) -> Result<(), Failure> {
        let mut rounds = 0u32;
        while !waiting.is_empty() {
            let mut failure = None;
            waiting.retain(|&tid| match ptrace::poll(tid) {
                Ok(None) => true,
                Ok(Some(Event::Gone)) => false,
                Ok(Some(event)) => {
                    self.threads.extend(Stopped::at(tid, event));
                    false
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            });
            if let Some(error) = failure {
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("waiting for a thread of {}: {error}", self.pid),
                ));
            }
            if waiting.is_empty() {
                break;
            }
            rounds += 1;
            if rounds > 64 {
                waiting.retain(|&tid| !is_gone(tid));
                let mut borrowers = Vec::new();
                waiting.retain(|&tid| {
                    // It is let go when it stops, since the stop may have ended its call with EINTR.
                    let place = asleep.get(&tid).filter(|a| a.has_not_run(tid)).map(|a| (a.sp, a.ip));
                    let place = place.or_else(|| {
                        cannot_stop(tid).then(|| sleeping_at(tid)).flatten().map(|s| (s.sp, s.ip))
                    });
                    let Some((sp, ip)) = place.filter(|(_, ip)| harmless(*ip)) else { return true };
                    self.threads.push(Stopped { tid, registers: None, ip, sp, held: 0 });
                    borrowers.extend(sharers::children(tid));
                    false
                });
                // A child of vfork runs in this very memory. One that ended or execed meanwhile does not any more.
                for child in borrowers {
                    let new = !waiting.contains(&child) && self.threads.iter().all(|t| t.tid != child);
                    if new && ask_to_stop(child, false).is_ok() {
                        waiting.push(child);
                    }
                }
            }
            if Instant::now() > until {
                let tids: Vec<String> = waiting.iter().map(pid_t::to_string).collect();
                return Err(Failure::new(
                    FailureKind::NothingPatched,
                    format!("thread {} of process {} did not stop in time", tids.join(", "), self.pid),
                )
                .hint("all its threads run on; try again when it is less busy"));
            }
            pause(rounds);
        }
        Ok(())
    }

    /// Lets everything go; returns how long it was stopped.
    pub(crate) fn release(mut self) -> Duration {
        self.let_go();
        self.began.elapsed()
    }

    fn let_go(&mut self) {
        if self.released {
            return;
        }
        self.released = true;
        for thread in &mut self.threads {
            thread.let_go();
        }
        tracer::let_late_ones_go();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Stopped {
    /// A thread in the stop of which it was heard. `None`: killed while it was stopped, so nothing of it runs any more.
    pub(crate) fn at(tid: pid_t, event: Event) -> Option<Self> {
        let registers = ptrace::registers(tid).ok()?;
        let held = if let Event::Signal(signal) = event { signal } else { 0 };
        let Registers { rip: ip, rsp: sp, .. } = registers;
        Some(Self { tid, registers: Some(registers), ip, sp, held })
    }

    /// Notes where the stopped thread is now.
    pub(crate) fn now_at(&mut self, registers: Registers) {
        self.registers = Some(registers);
        self.ip = registers.rip;
        self.sp = registers.rsp;
    }

    /// Sets the thread's registers, now and for its release.
    pub(crate) fn set_registers(&mut self, registers: Registers) -> io::Result<()> {
        ptrace::set_registers(self.tid, &registers)?;
        self.now_at(registers);
        Ok(())
    }

    /// Notes that the stop in which the thread is now is the delivery of a signal (zero: it is not), so that letting it go
    /// delivers it.
    pub(crate) fn hold(&mut self, signal: i32) {
        self.held = signal;
    }

    /// Lets the thread go with the registers that it has, the signal that was held back, and the call that our stop
    /// interrupted started again.
    pub(crate) fn let_go(&mut self) {
        let Some(registers) = self.registers.as_mut() else {
            // It only slept, and may have stopped by now: what that did to its call is put right when it is looked at.
            tracer::too_late(self.tid);
            return;
        };
        if starts_again(registers) {
            // Told so, the kernel itself starts the call again, unless a handler runs first: then it is EINTR after all.
            registers.rax = ERESTARTNOHAND.cast_unsigned();
            // If this fails the thread is gone, and with it the reason to do it.
            let _ = ptrace::set_registers(self.tid, registers);
        }
        // As above.
        let _ = ptrace::detach(self.tid, self.held);
    }
}

/// Whether a thread is at the end of a call that our stop, and nothing else, ended with EINTR.
pub(crate) fn starts_again(registers: &Registers) -> bool {
    // In 32-bit code the numbers mean other calls.
    registers.cs == USER_CS && registers.rax.cast_signed() == EINTR && RESTARTED.contains(&registers.orig_rax)
}

/// Lets others run between two looks: this thread may have real-time priority, and a yield would give way to its equals
/// only, while the thread that it waits for needs this very processor, for about five microseconds each. Measured on two
/// processors, median of 200 stops of eight threads: 32 looks and naps of 5 µs 0.95 ms (asleep) and 3.7 ms (busy); 8 and
/// 20 µs 0.13 and 0.11; 4 and 15 µs 0.11 and 0.11.
pub(crate) fn pause(rounds: u32) {
    tracer::let_late_ones_go();
    match rounds {
        0..4 => std::hint::spin_loop(),
        4..200 => std::thread::sleep(Duration::from_micros(15)),
        // It has not come for a while: the processors are busy, and our looking must not take what it needs.
        _ => std::thread::sleep(Duration::from_micros(200)),
    }
}

/// Threads of a process.
pub(crate) fn tasks(pid: pid_t) -> Result<Vec<pid_t>, Failure> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| gone(pid))?;
    let tids: Vec<pid_t> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    if tids.is_empty() { Err(gone(pid)) } else { Ok(tids) }
}

/// Threads of other processes, which share the memory of this one.
fn threads_of(others: &[pid_t]) -> impl Iterator<Item = pid_t> {
    others.iter().flat_map(|other| tasks(*other).unwrap_or_default())
}

/// Whether a thread has ended. A first thread that ended before the others is reported by no wait; this tells it.
pub(crate) fn is_gone(tid: pid_t) -> bool {
    match fs::read_to_string(format!("/proc/{tid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(error) => is_no_thread(&error),
    }
}

/// Whether a file of a thread cannot be read because there is no such thread; not for want of memory or descriptors.
pub(crate) fn is_no_thread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// How much the program would notice if we were killed while one of its threads is being stopped: nothing where the
/// kernel itself starts the call again, or where the thread runs; else its call may end with EINTR.
fn disturbance(tid: pid_t) -> u8 {
    /// poll, select, pause, nanosleep, wait4, rt_sigsuspend, futex, restart_syscall, clock_nanosleep, waitid, pselect6,
    /// ppoll (signal(7): never ended by a stop).
    const STARTED_AGAIN: [u64; 12] = [7, 23, 34, 35, 61, 130, 202, 219, 230, 247, 270, 271];
    match sleeping_at(tid) {
        Some(Sleeping { call: Some(call), .. }) if STARTED_AGAIN.contains(&call) => 0,
        None => 1,
        Some(Sleeping { call: Some(call), .. }) if RESTARTED.contains(&call) => 2,
        Some(_) => 3,
    }
}

fn never_came(pid: pid_t, tid: pid_t, of: usize) -> Failure {
    let others = if of > 1 { format!(" (nor did {} others)", of - 1) } else { String::new() };
    let patience = GRACE.as_millis();
    Failure::new(
        FailureKind::NothingPatched,
        format!(
            "thread {tid} of process {pid} did not stop within {patience} ms{others}: {}",
            why_not(tid)
        ),
    )
    .hint(format!(
        "all its threads run on; where this one is: cat /proc/{pid}/task/{tid}/stack (as root); try again when it is out of there"
    ))
}

pub(crate) fn gone(pid: pid_t) -> Failure {
    Failure::new(FailureKind::NoProcess, format!("process {pid} has ended")).hint("list what runs: trocar ps")
}

/// Stops a whole process and lets it go again, without doing anything: what a stop costs by itself, for benchmarks.
///
/// # Errors
/// As any stop: the process ended, is traced already, or did not stop in time.
pub fn bare_stop(pid: pid_t) -> Result<Duration, Failure> {
    crate::tracer::transaction(|| Ok(World::stop(pid, |_| true)?.release()))
}
