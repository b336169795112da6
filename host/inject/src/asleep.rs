//! What /proc tells of a thread that does not stop, or not yet: whether it sleeps, where, and since when.
//!
//! It relies on what a tracer may read there. What a stop makes of it is `stop.rs`'s.

use std::fs;

use libc::pid_t;

/// Where a thread is that no stop reaches, if it is one.
pub(crate) fn out_of_reach(tid: pid_t) -> Option<u64> {
    cannot_stop(tid).then(|| sleeping_at(tid)).flatten().map(|s| s.ip)
}

/// Whether a thread sleeps so that no stop reaches it: a vfork parent, or one that waits for a disk (state D).
pub(crate) fn cannot_stop(tid: pid_t) -> bool {
    state(tid) == Some('D')
}

/// A thread that sleeps in the kernel.
pub(crate) struct Sleeping {
    /// Number of the system call that it sleeps in, if it is one.
    pub(crate) call: Option<u64>,
    pub(crate) sp: u64,
    pub(crate) ip: u64,
}

/// Where a thread sleeps in the kernel; `None` while it runs.
pub(crate) fn sleeping_at(tid: pid_t) -> Option<Sleeping> {
    let line = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    let call = line.split_whitespace().next()?.parse().ok();
    let mut words = line.split_whitespace().rev();
    let number = |word: Option<&str>| u64::from_str_radix(word?.strip_prefix("0x")?, 16).ok();
    let ip = number(words.next())?;
    Some(Sleeping { call, sp: number(words.next())?, ip })
}

/// A thread that slept in a system call before it was interrupted.
pub(crate) struct Asleep {
    pub(crate) sp: u64,
    pub(crate) ip: u64,
    /// How often it had been given a processor by then.
    turns: u64,
}

impl Asleep {
    /// Looks at a thread. `None`: it does not sleep, or the kernel does not count turns (CONFIG_SCHED_INFO).
    pub(crate) fn look(tid: pid_t) -> Option<Self> {
        let turns = turns(tid)?;
        let Sleeping { sp, ip, .. } = sleeping_at(tid)?;
        Some(Self { sp, ip, turns })
    }

    /// Whether it has not been on a processor since it was looked at. It was asked to stop meanwhile: when it gets one,
    /// it stops before it leaves the kernel.
    pub(crate) fn has_not_run(&self, tid: pid_t) -> bool {
        turns(tid) == Some(self.turns)
    }
}

/// How often a thread was given a processor, counted when it gets it (`pcount`, Documentation/scheduler/sched-stats.rst).
fn turns(tid: pid_t) -> Option<u64> {
    fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?.split_whitespace().nth(2)?.parse().ok()
}

/// The kernel's letter for what a thread does; `None`: it has ended.
fn state(tid: pid_t) -> Option<char> {
    fs::read_to_string(format!("/proc/{tid}/stat")).ok()?.rsplit(") ").next()?.chars().next()
}

/// Why a thread that was asked to stop has not, as far as the kernel tells.
pub(crate) fn why_not(tid: pid_t) -> &'static str {
    match state(tid) {
        Some('D') => "it sleeps in the kernel, at a place where it must not be left",
        Some('R') => "it is at work in the kernel, or gets no processor",
        _ => "it was still in the kernel",
    }
}
