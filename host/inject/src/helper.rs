//! A thread of ours in the target, for some milliseconds: it makes our system calls and boots the agent, so that no
//! thread of the program is away for longer than it takes to create one.
//!
//! One thread of the target lends itself: it is stopped, brought to the [`Foothold`], creates the helper, and has its
//! registers back after some ten microseconds (`lender.rs`). The helper has a table of descriptors of its own, so that what
//! it opens is never one of the program's; all signals are blocked in it; and it ends by itself if we are killed.
//!
//! It takes letters from a mailbox, because a system call through ptrace alone is two stops and some twenty
//! microseconds. Its loop lies on a page that is never writable.
#![expect(
    unsafe_code,
    reason = "code for the target is assembled here, and its bytes have no safe name in Rust"
)]

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_abi::PAGE;
use trocar_target::{Failure, FailureKind, Mapping};

use crate::foothold::{self, Foothold};
use crate::lender::{born, lend};
use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::memory_file::{make_file, open_memory_file};
use crate::ptrace::{self, Event, Registers};
use crate::request::Stops;
use crate::stop::{Stopped, gone, is_gone, pause};

/// How long one step of the helper may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

core::arch::global_asm!(
    ".pushsection .rodata.trocar_helper, \"a\", @progbits",
    ".balign 16",
    "trocar_helper:",
    // rbx: the mailbox, kept by what is called. See `Mailbox offsets` below.
    "cld",
    "fninit",
    "ldmxcsr [rbx + 56]",
    "30: mov r12d, [rbx + 40]",
    "mov r15d, {naps}",
    // Wait for a letter: first attentively, then in naps, and if none comes for long, nobody is there any more.
    "31: pause",
    "mov rax, [rbx]",
    "cmp rax, [rbx + 8]",
    "jne 33f",
    "dec r12d",
    "jnz 31b",
    "mov r12d, [rbx + 44]",
    "dec r15d",
    "jz 36f",
    "cmp r12d, 1",
    "jne 31b",
    "mov eax, 35", // nanosleep
    "lea rdi, [rbx + 24]",
    "xor esi, esi",
    "syscall",
    "jmp 31b",
    // A letter: a function to call, or system calls.
    "33: mov r13, [rbx + 16]",
    "lea r14, [rbx + 64]",
    "test r13, r13",
    "jnz 34f",
    "mov rdi, [r14 + 8]",
    "mov rsi, [r14 + 16]",
    "mov rsp, [r14 + 24]",
    "call [r14]",
    "jmp 35f",
    "34: mov rax, [r14]",
    "mov rdi, [r14 + 8]",
    "mov rsi, [r14 + 16]",
    "mov rdx, [r14 + 24]",
    "mov r10, [r14 + 32]",
    "mov r8, [r14 + 40]",
    "mov r9, [r14 + 48]",
    "syscall",
    "mov [r14 + 56], rax",
    "add r14, 64",
    "dec r13",
    "jnz 34b",
    "35: mov rax, [rbx]",
    "mov [rbx + 8], rax",
    "jmp 30b",
    "36: mov eax, 60",
    "xor edi, edi",
    "syscall",
    "ud2",
    "trocar_helper_end:",
    ".popsection",
    naps = const NAPS,
);

/// Looks before the helper takes naps: about a millisecond. Then one between two naps.
const ROUNDS: [u32; 2] = [20_000, 1];
/// Under a seccomp filter it takes none, but looks on as often as this instead of each: if we are killed, the filter is in
/// force again, and may forbid to nap.
const ROUNDS_FILTERED: [u32; 2] = [20_000, 2_000];
/// Naps until it takes us for dead: at 100 µs and a timer's slack each, some three seconds.
const NAPS: u32 = 20_000;
const NAP_NS: u64 = 100_000;

/// Mailbox offsets.
///
/// ```text
///   0  number of the letter, written by us, last
///   8  number of the last answer, written by the helper, last
///  16  number of system calls in the letter; none: a function is to be called
///  24  the time of a nap, a `timespec`
///  40  looks before the first nap, and between naps
///  48  the helper's thread pointer leads here: a word that holds its own address
///  56  MXCSR's default
///  64  for each call: its number, six arguments, the kernel's answer; or the function, two arguments, the stack
/// 3072  number of ranges that were mapped for the session, and each range: for who finds us without our host
/// ```
const LETTER: u64 = 0;
const ANSWER: u64 = 8;
const COUNT: u64 = 16;
const NAP: u64 = 24;
const LOOKS: u64 = 40;
const SELF: u64 = 48;
const MXCSR: u64 = 56;
/// Intel SDM 1, 10.2.3.
const DEFAULT_MXCSR: [u8; 4] = [0x80, 0x1f, 0, 0];
const CALLS: u64 = 64;
/// Most calls of one letter: what fits before the notes.
const CALLS_MAX: usize = 47;
const NOTES: u64 = 3072;
/// Most ranges that are noted; more are found by the session's record alone.
const NOTES_MAX: u64 = 63;
const _: () = assert!(CALLS + 64 * CALLS_MAX as u64 <= NOTES && NOTES + 8 + 16 * NOTES_MAX <= PAGE);

fn code() -> &'static [u8] {
    unsafe extern "C" {
        #[link_name = "trocar_helper"]
        static START: u8;
        #[link_name = "trocar_helper_end"]
        static END: u8;
    }
    let (start, end) = (&raw const START, &raw const END);
    // SAFETY: from one label to the next, constant bytes that are assembled above.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// How the name of a helper's mapping begins in `/proc/PID/maps`.
pub(crate) const NAME: &str = "/memfd:trocar-helper";

/// The ranges that a helper whose host was killed has noted. `pages`: its two pages.
pub(crate) fn noted(memory: &RemoteMemory, pages: &Range<u64>) -> Vec<Range<u64>> {
    let notes = RemoteAddress(pages.start + PAGE + NOTES);
    let count = memory.word(notes).unwrap_or(0).min(NOTES_MAX);
    let bytes = memory.some(notes.plus(8), usize::try_from(16 * count).unwrap_or(0));
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    words.as_chunks::<2>().0.iter().map(|[start, end]| *start..*end).collect()
}

/// A system call and its arguments.
pub(crate) type Call = (libc::c_long, [u64; 6]);

/// Where helpers can be had: what a transaction knows of the target.
pub(crate) struct Lenders<'a> {
    pub(crate) pid: pid_t,
    pub(crate) memory: &'a RemoteMemory,
    pub(crate) maps: &'a [Mapping],
    /// Some thread has a seccomp filter, which is suspended for those that work for us.
    pub(crate) filtered: bool,
}

/// The thread, while it serves.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    pid: pid_t,
    tid: pid_t,
    memory: &'a RemoteMemory,
    foothold: Foothold<'a>,
    /// As it was born.
    registers: Registers,
    /// Its pages: the loop, and the mailbox behind it. Zero until they are there.
    pages: RemoteAddress,
    letters: u64,
    notes: u64,
    filtered: bool,
    ended: bool,
}

impl<'a> Helper<'a> {
    /// Creates a helper. `usable` says by program counter and stack pointer whether a thread may lend itself. How long
    /// it was away is a stop.
    pub(crate) fn start(
        lenders: &Lenders<'a>,
        usable: impl Fn(&Stopped) -> bool,
        stops: &mut Stops,
    ) -> Result<Self, Failure> {
        let Lenders { pid, memory, maps, filtered } = *lenders;
        let left = foothold::left(memory, maps);
        let mut foothold = Foothold::put(memory, maps)?;
        // Not one that a killed host has brought to another foothold, and that will go on by itself.
        let usable = |t: &Stopped| !left.iter().any(|r| r.contains(&t.ip)) && usable(t);
        let tid = lend(lenders, &mut foothold, usable, stops)?;
        let registers = born(pid, tid)?;
        let mut helper = Self {
            pid,
            tid,
            memory,
            foothold,
            registers,
            pages: RemoteAddress(0),
            letters: 0,
            notes: 0,
            filtered,
            ended: false,
        };
        helper.settle()?;
        Ok(helper)
    }

    /// A table of descriptors of its own, its two pages, and the loop. The pages come from a memory file, so that they
    /// hold what they must, and have a name that tells whose they are, from the moment they are there.
    fn settle(&mut self) -> Result<(), Failure> {
        const CLOSE_RANGE: libc::c_long = 436;
        const UNSHARE: u64 = 2;
        let (rw, rx) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
        let (private, fixed) = (libc::MAP_PRIVATE as u64, libc::MAP_FIXED as u64);
        // A fault with its signal blocked would take the program's own handler away (`force_sig_info_to_task` in
        // `kernel/signal.c`); not blocked, it stops here, and nobody delivers it.
        let faults = FAULTS.iter().fold(0, |set, signal| set | 1u64 << (signal - 1));
        ptrace::set_signal_mask(self.tid, !faults).map_err(|e| self.trouble("starting", &e))?;
        self.step(CLOSE_RANGE, [0, u64::from(u32::MAX), UNSHARE, 0, 0, 0])?;
        let file = make_file(|flags| {
            let name = self.foothold.name().0;
            self.step(libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0])
        })?;
        self.fill(file)?;
        let at = self.step(libc::SYS_mmap, [0, 2 * PAGE, rx as u64, private, file, 0])?;
        self.pages = RemoteAddress(at);
        let mailbox = self.mailbox();
        self.step(libc::SYS_mmap, [mailbox.0, PAGE, rw as u64, private | fixed, file, PAGE])?;
        self.memory.write_word(mailbox.plus(SELF), mailbox.plus(SELF).0).map_err(|e| lost(self.pid, &e))?;
        let registers = Registers {
            rip: self.pages.0,
            rbx: mailbox.0,
            rsp: mailbox.0,
            orig_rax: u64::MAX,
            eflags: 0x202,
            fs_base: mailbox.plus(SELF).0,
            ..self.registers
        };
        ptrace::set_registers(self.tid, &registers).map_err(|e| self.trouble("starting", &e))?;
        self.resume(false, Event::Stopped)
    }

    /// Writes the two pages into the helper's memory file.
    fn fill(&self, file: u64) -> Result<(), Failure> {
        let wrong = |e: io::Error| {
            Failure::new(
                FailureKind::NotPermitted,
                format!("our helper's memory file in process {}: {e}", self.pid),
            )
        };
        let file = open_memory_file(self.pid, self.tid, file).map_err(wrong)?;
        let mut pages = vec![0; usize::try_from(2 * PAGE).unwrap_or(0)];
        let [first, between] = if self.filtered { ROUNDS_FILTERED } else { ROUNDS };
        let parts: [(u64, &[u8]); 5] = [
            (0, code()),
            (PAGE + NAP + 8, &NAP_NS.to_le_bytes()),
            (PAGE + LOOKS, &first.to_le_bytes()),
            (PAGE + LOOKS + 4, &between.to_le_bytes()),
            (PAGE + MXCSR, &DEFAULT_MXCSR),
        ];
        for (at, bytes) in parts {
            let at = usize::try_from(at).unwrap_or(0);
            if let Some(to) = pages.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        }
        file.write_all_at(&pages, 0).map_err(wrong)
    }

    fn mailbox(&self) -> RemoteAddress {
        self.pages.plus(PAGE)
    }

    /// The helper's id.
    pub(crate) fn tid(&self) -> pid_t {
        self.tid
    }

    /// One system call through ptrace, while the loop does not run.
    fn step(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Result<u64, Failure> {
        let what = format!("system call {number}");
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let registers = Registers {
            rip: self.foothold.call().0,
            rax: number.cast_unsigned(),
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        ptrace::set_registers(self.tid, &registers).map_err(|e| self.trouble(&what, &e))?;
        for _ in ["entry", "exit"] {
            self.resume(true, Event::Stopped)?;
            self.wait_for(&what, Event::SystemCall)?;
        }
        let answer = ptrace::registers(self.tid).map_err(|e| self.trouble(&what, &e))?.rax;
        checked(self.pid, number, answer)
    }

    /// Makes one system call. The kernel's answer, or its error.
    pub(crate) fn call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Result<u64, Failure> {
        let answers = self.calls(&[(number, arguments)])?;
        answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(Failure::new(FailureKind::Bug, "a letter without an answer")))
    }

    /// Makes several system calls, one after another whatever becomes of each, by one letter. The kernel's answers.
    pub(crate) fn calls(&mut self, calls: &[Call]) -> Result<Vec<Result<u64, Failure>>, Failure> {
        let pid = self.pid;
        let Some(calls) = calls.get(..calls.len().min(CALLS_MAX)).filter(|c| !c.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut letter = Vec::with_capacity(calls.len() * 64);
        for (number, arguments) in calls {
            letter.extend(number.to_le_bytes());
            letter.extend(arguments.iter().flat_map(|a| a.to_le_bytes()));
            letter.extend([0; 8]);
        }
        self.send(&letter, calls.len() as u64)?;
        let bytes = self.memory.bytes(self.mailbox().plus(CALLS), letter.len()).map_err(|e| lost(pid, &e))?;
        let answers = bytes.as_chunks::<8>().0.iter().skip(7).step_by(8).map(|b| u64::from_le_bytes(*b));
        Ok(calls.iter().zip(answers).map(|((number, _), answer)| checked(pid, *number, answer)).collect())
    }

    /// Calls a function of ours with two arguments, on a stack of ours whose top is aligned to 16 bytes.
    pub(crate) fn run(
        &mut self,
        function: RemoteAddress,
        arguments: [u64; 2],
        stack: RemoteAddress,
    ) -> Result<(), Failure> {
        let [first, second] = arguments;
        let letter: Vec<u8> =
            [function.0, first, second, stack.0].iter().flat_map(|w| w.to_le_bytes()).collect();
        self.send(&letter, 0)
    }

    /// Puts a letter into the mailbox and waits for the answer.
    fn send(&mut self, letter: &[u8], count: u64) -> Result<(), Failure> {
        let (pid, mailbox) = (self.pid, self.mailbox());
        self.letters += 1;
        self.memory.write(mailbox.plus(CALLS), letter).map_err(|e| lost(pid, &e))?;
        self.memory.write_word(mailbox.plus(COUNT), count).map_err(|e| lost(pid, &e))?;
        self.memory.write_word(mailbox.plus(LETTER), self.letters).map_err(|e| lost(pid, &e))?;
        let until = Instant::now() + DEADLINE;
        let mut rounds = 0;
        while self.memory.word(mailbox.plus(ANSWER)).map_err(|e| lost(pid, &e))? != self.letters {
            match ptrace::poll(self.tid).map_err(|e| self.trouble("a letter", &e))? {
                None => {}
                Some(Event::Gone) => return Err(self.vanished()),
                Some(Event::Signal(signal))
                    if FAULTS.contains(&signal) && ptrace::raised_by_itself(self.tid) =>
                {
                    let at = ptrace::registers(self.tid).map(|r| r.rip).unwrap_or(0);
                    return Err(Failure::new(
                        FailureKind::Bug,
                        format!("signal {signal} at {at:#x} on our helper in process {pid}"),
                    ));
                }
                Some(event) => self.resume(false, event)?,
            }
            if rounds > 128 && is_gone(self.tid) {
                return Err(self.vanished());
            }
            pause(rounds);
            rounds += 1;
            if Instant::now() > until {
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("our helper in process {pid} took too long"),
                ));
            }
        }
        Ok(())
    }

    /// Leaves a note of a range that was mapped for the session.
    pub(crate) fn note(&mut self, range: Range<u64>) -> Result<(), Failure> {
        if self.notes < NOTES_MAX {
            let (count, at) = (self.mailbox().plus(NOTES), self.mailbox().plus(NOTES + 8 + 16 * self.notes));
            self.notes += 1;
            let words = [range.start, range.end].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
            let written =
                self.memory.write(at, &words).and_then(|()| self.memory.write_word(count, self.notes));
            written.map_err(|e| lost(self.pid, &e))?;
        }
        Ok(())
    }

    /// Takes the notes back: before the ranges are unmapped, since afterwards they may be the program's.
    pub(crate) fn forget_notes(&mut self) -> Result<(), Failure> {
        self.notes = 0;
        self.memory.write_word(self.mailbox().plus(NOTES), 0).map_err(|e| lost(self.pid, &e))
    }

    /// Lets the helper run on after an event. A stop of the whole process does not hold it up, but the process gets the
    /// signal; one of a fault's that somebody has sent is for the program's own threads.
    fn resume(&self, to_system_call: bool, event: Event) -> Result<(), Failure> {
        let signal = if let Event::Signal(signal) = event { signal } else { 0 };
        let fault = FAULTS.contains(&signal);
        if fault && !ptrace::raised_by_itself(self.tid) {
            send(self.pid, signal);
        }
        ptrace::resume(self.tid, to_system_call, if fault { 0 } else { signal })
            .map_err(|e| self.trouble("going on", &e))
    }

    /// Takes the helper's pages away and ends it.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        // Not stopped yet where the loop runs; where something went wrong it may be.
        if ptrace::registers(self.tid).is_err() {
            ptrace::interrupt(self.tid).map_err(|e| self.trouble("ending", &e))?;
            self.wait_for("ending", Event::Stopped)?;
        }
        let registers = Registers {
            rip: self.foothold.call().0,
            rax: libc::SYS_munmap.cast_unsigned(),
            orig_rax: u64::MAX,
            rdi: self.pages.0,
            rsi: if self.pages.0 == 0 { 0 } else { 2 * PAGE },
            ..self.registers
        };
        ptrace::set_registers(self.tid, &registers).map_err(|e| self.trouble("ending", &e))?;
        self.resume(false, Event::Stopped)?;
        if wait_gone(self.tid) {
            self.foothold.free();
        }
        Ok(())
    }

    fn wait_for(&self, what: &str, wanted: Event) -> Result<(), Failure> {
        let until = Instant::now() + DEADLINE;
        for rounds in 0.. {
            match ptrace::poll(self.tid).map_err(|e| self.trouble(what, &e))? {
                Some(event) if event == wanted => return Ok(()),
                Some(Event::Gone) => return Err(self.vanished()),
                Some(event) => self.resume(wanted == Event::SystemCall, event)?,
                None if Instant::now() > until => break,
                None if rounds > 128 && is_gone(self.tid) => return Err(self.vanished()),
                None => pause(rounds),
            }
        }
        Err(Failure::new(FailureKind::Bug, format!("{what} of our helper in {} took too long", self.pid)))
    }

    /// The helper is not there any more: with the process, or because the process started another program.
    fn vanished(&self) -> Failure {
        gone(self.pid)
    }

    fn trouble(&self, doing: &str, error: &io::Error) -> Failure {
        if error.raw_os_error() == Some(libc::ESRCH) {
            return self.vanished();
        }
        Failure::new(FailureKind::Bug, format!("{doing} of our helper in process {}: {error}", self.pid))
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        // On the way out of an error; a failure here means that the process is gone.
        let _ = self.leave();
    }
}

/// Waits until the helper has ended; true if it has. What it executes must not be taken away before.
fn wait_gone(tid: pid_t) -> bool {
    let until = Instant::now() + DEADLINE;
    for rounds in 0.. {
        match ptrace::poll(tid) {
            Ok(Some(Event::Gone)) | Err(_) => break,
            Ok(Some(Event::Signal(libc::SIGSTOP))) => drop(ptrace::resume(tid, false, libc::SIGSTOP)),
            Ok(Some(_)) => drop(ptrace::resume(tid, false, 0)),
            Ok(None) if Instant::now() > until => break,
            Ok(None) => pause(rounds),
        }
    }
    while !is_gone(tid) {
        if Instant::now() > until {
            return false;
        }
        pause(200);
    }
    true
}

/// The kernel's answer to a system call, or its error.
fn checked(pid: pid_t, number: libc::c_long, answer: u64) -> Result<u64, Failure> {
    let errno = answer.wrapping_neg();
    if !(1..4096).contains(&errno) {
        return Ok(answer);
    }
    let error = io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(libc::EINVAL));
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("system call {number} in process {pid} failed: {error}"),
    )
    .hint("a security policy of the target (seccomp, SELinux, a memory limit) may forbid it"))
}

/// Signals that the processor or the kernel raises for what a thread itself did: they mean that our own code is wrong.
pub(crate) const FAULTS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// Sends a signal to the whole process.
fn send(pid: pid_t, signal: i32) {
    // SAFETY: takes numbers. Failure means that the process is gone.
    unsafe { libc::kill(pid, signal) };
}
