//! What the seccomp filters of a process forbid to hits.
//!
//! Each thread has filters of its own. They are never taken away, and a thread begins with those of the one that creates
//! it. So a thread whose filters were read is known as long as their number stays the same, and so is one that came later
//! with the least number that any thread had. Everything else is read, thread by thread, each stopped for that; until it
//! could be, everything is forbidden.
//!
//! Reading asks of the kernel what suspending a filter does (`kernel/seccomp.c`, `ptrace_check_options` in `kernel/ptrace.c`): CAP_SYS_ADMIN, and a tracer that has no filter itself. Where
//! it is refused, so is attaching. Their number is in `/proc` since Linux 5.9; before, everything is forbidden.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_abi::control::flags;

use crate::look::Look;
use crate::ptrace;
use crate::request::Stops;
use crate::seccomp::{Data, Instruction, LENGTH_MAX, allows, data};
use crate::stop::{World, is_gone, tasks};
use crate::tracer::transaction;

/// Threads that are stopped to be read for one attachment. What is not read then is forbidden for good.
const READINGS: u32 = 4096;
/// How often threads that did not stop in time are tried again before anything is loaded: on a busy machine each needs its
/// turn on a processor first.
const TRIES: u32 = 25;
/// Not after this time: one that cannot stop (a vfork parent) has taken so long at the first try.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the target runs between two tries.
const BACK_OFF: Duration = Duration::from_millis(1);

/// The filters of a process.
#[derive(Debug)]
pub(crate) struct Filters {
    pid: pid_t,
    /// The process's id in its own namespace, which is an argument of what it is asked.
    pid_inside: u32,
    /// Number of filters of each thread whose filters are known.
    known: HashMap<pid_t, u32>,
    /// The least number of filters that a thread had; `None`: not every thread was read.
    least: Option<u32>,
    /// Threads that are to be read.
    unread: Vec<pid_t>,
    /// Some thread has a filter.
    exist: bool,
    /// Bits of [`flags`]: what those filters that were read forbid.
    forbidden: u32,
    readings: u32,
}

impl Filters {
    /// The filters that there are. Threads that have some are stopped, one by one.
    pub(crate) fn of(pid: pid_t, pid_inside: pid_t, stops: &mut Stops) -> Self {
        let mut filters = Self {
            pid,
            pid_inside: pid_inside.cast_unsigned(),
            known: HashMap::new(),
            least: None,
            unread: Vec::new(),
            exist: false,
            forbidden: 0,
            readings: READINGS,
        };
        filters.consider(&counts(pid, &tasks(pid).unwrap_or_default()));
        let began = Instant::now();
        for _ in 0..TRIES {
            filters.read(stops);
            if !filters.can_read() || began.elapsed() >= PATIENCE {
                break;
            }
            std::thread::sleep(BACK_OFF);
        }
        if filters.unread.is_empty() {
            filters.least = filters.known.values().copied().min();
        }
        filters
    }

    /// Whether any thread has a filter.
    pub(crate) fn exist(&self) -> bool {
        self.exist
    }

    /// Whether a filter that was read forbids this.
    pub(crate) fn forbid(&self, call: u32) -> bool {
        self.forbidden & call != 0
    }

    /// Bits of [`flags`]: what hits must not do.
    pub(crate) fn forbidden(&self) -> u32 {
        if self.unread.is_empty() { self.forbidden } else { flags::NO_CALLS }
    }

    /// These flags, with what hits must not do.
    pub(crate) fn applied_to(&self, flags: u32) -> u32 {
        flags & !flags::NO_CALLS | self.forbidden()
    }

    /// Looks for filters that came since, in some of the threads.
    pub(crate) fn look(&mut self, look: &Look) {
        if self.forbidden == flags::NO_CALLS {
            return;
        }
        let there = look.tids();
        self.known.retain(|tid, _| there.contains(&tid.cast_unsigned()));
        self.unread.retain(|tid| there.contains(&tid.cast_unsigned()));
        self.consider(look.filters());
    }

    /// Whether there is something to be read, which could allow something.
    pub(crate) fn can_read(&self) -> bool {
        self.readings > 0 && !self.unread.is_empty() && self.forbidden != flags::NO_CALLS
    }

    /// Notes what is not known of these threads.
    fn consider(&mut self, threads: &[(pid_t, Option<u32>)]) {
        for &(tid, count) in threads {
            self.exist |= count != Some(0);
            let Some(count) = count else {
                self.forbidden = flags::NO_CALLS;
                continue;
            };
            let known = self.known.get(&tid).copied().or(self.least).unwrap_or(0);
            if count == known || count == 0 {
                self.known.insert(tid, count);
            } else if !self.unread.contains(&tid) {
                self.unread.push(tid);
            }
        }
    }

    /// Reads what is not known yet. Threads that do not stop are left for the next time.
    pub(crate) fn read(&mut self, stops: &mut Stops) {
        if !self.can_read() {
            return;
        }
        let threads = std::mem::take(&mut self.unread);
        let result = transaction(|| {
            let mut room = vec![Instruction::default(); LENGTH_MAX];
            for &tid in &threads {
                let may = self.readings > 0 && self.forbidden != flags::NO_CALLS;
                let is_over = may && (self.read_one(tid, &mut room, stops) || is_gone(tid));
                if !is_over {
                    self.unread.push(tid);
                }
            }
            Ok(())
        });
        if result.is_err() {
            self.unread = threads;
        }
    }

    /// Reads the filters of one thread. False: it could not be stopped.
    fn read_one(&mut self, tid: pid_t, room: &mut [Instruction], stops: &mut Stops) -> bool {
        self.readings = self.readings.saturating_sub(1);
        let Some(world) = World::stop_thread(self.pid, tid) else { return false };
        let mut programs = Vec::new();
        let end = loop {
            match ptrace::seccomp_filter(tid, programs.len(), room) {
                Ok(program) => programs.push(program.to_vec()),
                Err(error) => break error.raw_os_error(),
            }
        };
        stops.add(world.release());
        // There are no more; anything else says that they cannot be read, now or later.
        if end == Some(libc::ENOENT) {
            self.known.insert(tid, u32::try_from(programs.len()).unwrap_or(u32::MAX));
            self.forbidden |=
                programs.iter().fold(0, |bits, program| bits | forbids(program, self.pid_inside));
        } else {
            self.forbidden = flags::NO_CALLS;
        }
        true
    }
}

/// The number of filters of each of these threads, as [`counted`] tells it. A thread whose status cannot be read is gone.
pub(crate) fn counts(pid: pid_t, tids: &[pid_t]) -> Vec<(pid_t, Option<u32>)> {
    let status = |tid: &pid_t| std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok();
    tids.iter().filter_map(|tid| Some((*tid, counted(&status(tid)?)))).collect()
}

/// Number of filters by what `/proc/TID/status` says; `None`: it does not tell, or the mode is the strict one, which
/// allows nothing.
fn counted(status: &str) -> Option<u32> {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    match field("Seccomp:") {
        None | Some("0") => Some(0),
        Some("2") => field("Seccomp_filters:")?.parse().ok().filter(|&count| count > 0),
        Some(_) => None,
    }
}

/// Bits of [`flags`]: what a filter forbids of the calls that hits make. Their arguments are those of
/// `runtime/agent/src/sys.rs`.
fn forbids(program: &[Instruction], pid: u32) -> u32 {
    let call = |bit: u32, number: libc::c_long, arguments: [Option<u64>; 6]| -> (u32, Data) {
        (bit, data(u32::try_from(number).unwrap_or(u32::MAX), arguments))
    };
    let (zero, one, any) = (Some(0), Some(1), None);
    let clock = |id| call(flags::NO_CLOCK, libc::SYS_clock_gettime, [id, any, zero, zero, zero, zero]);
    let calls = [
        call(flags::NO_THREAD_ID, libc::SYS_gettid, [zero; 6]),
        call(flags::NO_ALTERNATE_STACK, libc::SYS_sigaltstack, [zero, any, zero, zero, zero, zero]),
        call(flags::NO_READ, libc::SYS_process_vm_readv, [Some(u64::from(pid)), any, one, any, one, zero]),
        // Real time, and the monotonic clock.
        clock(zero),
        clock(one),
    ];
    calls.iter().filter(|(_, data)| !allows(program, data)).fold(0, |bits, (bit, _)| bits | bit)
}
