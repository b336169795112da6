//! Stopping a whole process for some microseconds, and letting it go as if nothing had happened.
//!
//! A thread counts as stopped when ptrace says so, or when it sleeps in the kernel after an interrupt at a program
//! counter that the caller finds harmless (a vfork parent or a thread in an uninterruptible sleep never stops, and
//! must not hold up the others): before it runs one more instruction of the program, it stops.
//!
//! What an interrupt disturbs is put right: calls that the kernel would end with EINTR for a stop, though no signal
//! came, are made to start again. If we die at any point, the kernel lets every thread go.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::ptrace::{self, Event, Registers};

/// How long a stop may take until everything is let go again (DESIGN §4), try by try: a thread that was asleep needs a
/// turn on a processor before it stops, and a busy machine has none to give at once. Between tries the target runs.
const DEADLINES_MS: [u64; 20] = [5, 5, 5, 5, 10, 10, 10, 20, 20, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40];
/// How long the target runs between two tries.
const BACK_OFF: Duration = Duration::from_millis(3);

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
    pid: pid_t,
    pub(crate) threads: Vec<Stopped>,
    began: Instant,
    released: bool,
}

impl World {
    /// Stops every thread. `harmless` says whether a thread that sleeps in the kernel may stay as it is, by its program
    /// counter.
    pub(crate) fn stop(pid: pid_t, harmless: impl Fn(u64) -> bool) -> Result<Self, Failure> {
        let mut last = None;
        for deadline in DEADLINES_MS {
            match Self::try_stop(pid, Duration::from_millis(deadline), &harmless) {
                Err(failure) if failure.kind == FailureKind::NothingPatched => last = Some(failure),
                other => return other,
            }
            std::thread::sleep(BACK_OFF);
        }
        Err(last.unwrap_or_else(|| gone(pid)))
    }

    fn try_stop(pid: pid_t, deadline: Duration, harmless: &impl Fn(u64) -> bool) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut world = Self { pid, threads: Vec::new(), began, released: false };
        let mut waiting: Vec<(pid_t, i32)> = Vec::new();
        loop {
            let mut fresh = 0;
            for tid in tasks(pid)? {
                let known = world.threads.iter().any(|t| t.tid == tid) || waiting.iter().any(|w| w.0 == tid);
                if known {
                    continue;
                }
                match ptrace::seize(tid, false).and_then(|()| ptrace::interrupt(tid)) {
                    Ok(()) => {
                        waiting.push((tid, 0));
                        fresh += 1;
                    }
                    // Seized in an earlier try, and still on its way to its stop.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) && own_tracee(pid, tid) => {
                        waiting.push((tid, 0));
                        fresh += 1;
                    }
                    // It ended between the listing and now, or it is a zombie leader: it runs nothing any more.
                    Err(_) if is_gone(pid, tid) => {}
                    Err(error) => return Err(seize_failure(pid, tid, &error)),
                }
            }
            world.wait(&mut waiting, began + deadline, harmless)?;
            if fresh == 0 {
                break;
            }
        }
        if world.threads.is_empty() {
            return Err(gone(pid));
        }
        Ok(world)
    }

    /// Stops one thread, to work for us: one that sleeps in a system call if there is one; the first thread last, because
    /// in most servers it does the work. `usable` says by program counter and stack pointer whether it may be used.
    ///
    /// `filtered`: some thread has a seccomp filter, which is suspended for the one that is used.
    pub(crate) fn stop_one(
        pid: pid_t,
        filtered: bool,
        usable: impl Fn(&Stopped) -> bool,
    ) -> Result<Stopped, Failure> {
        let mut last = String::new();
        for deadline in DEADLINES_MS {
            // Listed anew each time: threads come and go.
            let mut tids = tasks(pid)?;
            tids.reverse();
            tids.sort_by_key(|&tid| (sleeping_at(pid, tid).is_none(), tid == pid));
            for tid in tids {
                let mut world = Self { pid, threads: Vec::new(), began: Instant::now(), released: false };
                match ptrace::seize(tid, filtered).and_then(|()| ptrace::interrupt(tid)) {
                    Ok(()) => {}
                    Err(_) if is_gone(pid, tid) => continue,
                    // Seized in an earlier round and still on its way to its stop.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) && own_tracee(pid, tid) => {}
                    Err(error) if filtered => return Err(filter_failure(pid, &error)),
                    Err(error) => return Err(seize_failure(pid, tid, &error)),
                }
                let until = Instant::now() + Duration::from_millis(deadline);
                match world.wait(&mut vec![(tid, 0)], until, &|_| false) {
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
            if tasks(pid)?.iter().all(|&tid| is_gone(pid, tid)) {
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

    fn wait(
        &mut self,
        waiting: &mut Vec<(pid_t, i32)>,
        until: Instant,
        harmless: &impl Fn(u64) -> bool,
    ) -> Result<(), Failure> {
        let mut rounds = 0u32;
        while !waiting.is_empty() {
            let mut failure = None;
            waiting.retain(|&(tid, _)| match ptrace::poll(tid) {
                Ok(None) => true,
                Ok(Some(Event::Gone)) => false,
                Ok(Some(event)) => {
                    let held = if let Event::Signal(signal) = event { signal } else { 0 };
                    // No registers: killed while it was stopped, so nothing of it runs any more.
                    if let Ok(r) = ptrace::registers(tid) {
                        self.threads.push(Stopped { tid, registers: Some(r), ip: r.rip, sp: r.rsp, held });
                    }
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
            if rounds > 128 {
                waiting.retain(|&(tid, _)| !is_gone(self.pid, tid));
                waiting.retain(|&(tid, _)| match sleeping_at(self.pid, tid) {
                    // Only one that cannot stop: any other is on its way, and must be seen when it stops, because the
                    // stop may have ended its call with EINTR.
                    Some((sp, ip)) if harmless(ip) && cannot_stop(self.pid, tid) => {
                        self.threads.push(Stopped { tid, registers: None, ip, sp, held: 0 });
                        false
                    }
                    _ => true,
                });
            }
            if Instant::now() > until {
                let tids: Vec<String> = waiting.iter().map(|w| w.0.to_string()).collect();
                return Err(Failure::new(
                    FailureKind::NothingPatched,
                    format!("thread {} of process {} did not stop in time", tids.join(", "), self.pid),
                )
                .hint("the target was let go untouched; try again when it is less busy"));
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
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Stopped {
    /// Sets the thread's registers, now and for its release.
    pub(crate) fn set_registers(&mut self, registers: Registers) -> io::Result<()> {
        ptrace::set_registers(self.tid, &registers)?;
        self.registers = Some(registers);
        self.ip = registers.rip;
        self.sp = registers.rsp;
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
        if let Some(registers) = self.registers.as_mut().filter(|r| starts_again(r)) {
            // Told so, the kernel itself starts the call again, unless a handler runs first: then it is EINTR after all.
            registers.rax = ERESTARTNOHAND.cast_unsigned();
            // If this fails the thread is gone, and with it the reason to do it.
            let _ = ptrace::set_registers(self.tid, registers);
        }
        // A thread that sleeps cannot be detached now: the kernel does it when this tracer thread ends.
        let _ = ptrace::detach(self.tid, self.held);
    }
}

/// Whether a thread is at the end of a call that our stop, and nothing else, ended with EINTR.
pub(crate) fn starts_again(registers: &Registers) -> bool {
    registers.rax.cast_signed() == EINTR && RESTARTED.contains(&registers.orig_rax)
}

/// Lets others run between two looks: this thread may have real-time priority, and a yield would give way to its equals
/// only, while the thread that it waits for needs this very processor.
pub(crate) fn pause(rounds: u32) {
    match rounds {
        0..32 => std::hint::spin_loop(),
        32..200 => std::thread::sleep(Duration::from_micros(5)),
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

/// Whether a thread has ended. A first thread that ended before the others is reported by no wait; this tells it.
pub(crate) fn is_gone(pid: pid_t, tid: pid_t) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// Whether a thread sleeps so that no stop reaches it: a vfork parent, or one that waits for a disk (state D).
fn cannot_stop(pid: pid_t, tid: pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('D'))
}

/// Stack pointer and program counter of a thread that sleeps in the kernel; `None` while it runs.
fn sleeping_at(pid: pid_t, tid: pid_t) -> Option<(u64, u64)> {
    let line = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let mut words = line.split_whitespace().rev();
    let number = |word: Option<&str>| u64::from_str_radix(word?.strip_prefix("0x")?, 16).ok();
    let ip = number(words.next())?;
    Some((number(words.next())?, ip))
}

/// Whether this thread traces it already.
fn own_tracee(pid: pid_t, tid: pid_t) -> bool {
    tracer_of(pid, tid) == tracer_thread()
}

#[expect(unsafe_code, reason = "std does not tell the kernel's id of a thread")]
fn tracer_thread() -> pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

fn tracer_of(pid: pid_t, tid: pid_t) -> pid_t {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))
        .ok()
        .and_then(|s| s.lines().find_map(|l| l.strip_prefix("TracerPid:")?.trim().parse().ok()))
        .unwrap_or(0)
}

fn filter_failure(pid: pid_t, error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::NothingPatched,
        format!(
            "process {pid} has a seccomp filter, and it cannot be suspended for our own system calls: {error}"
        ),
    )
    .hint("run as root (CAP_SYS_ADMIN, and no filter on trocar itself); nothing was touched")
}

fn seize_failure(pid: pid_t, tid: pid_t, error: &io::Error) -> Failure {
    let tracer = tracer_of(pid, tid);
    if tracer != 0 {
        let name = fs::read_to_string(format!("/proc/{tracer}/comm")).unwrap_or_default();
        return Failure::new(
            FailureKind::NothingPatched,
            format!("thread {tid} of process {pid} is already traced by process {tracer} ({})", name.trim()),
        )
        .hint("detach that tool first; a process can have one tracer at a time");
    }
    Failure::new(FailureKind::NotPermitted, format!("process {pid} may not be traced: {error}"))
        .hint("run as root, or as the user of that process where the system allows it: trocar doctor")
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
