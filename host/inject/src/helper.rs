//! A thread of ours in the target, for some milliseconds: it makes our system calls and boots the agent, so that no
//! thread of the program is away for longer than it takes to create one.
//!
//! One thread of the target lends itself: it is stopped, brought to the [`Foothold`], creates the helper, and has its
//! registers back after some ten microseconds. The helper has a table of descriptors of its own, so that what it opens
//! is never one of the program's; all signals are blocked in it; and it ends by itself if we are killed.
//!
//! It takes letters from a mailbox, because a system call through ptrace alone is two stops and some twenty
//! microseconds. Its loop lies on a page that is never writable.
#![expect(
    unsafe_code,
    reason = "code for the target is assembled here, and its bytes have no safe name in Rust"
)]

use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_abi::PAGE;
use trocar_target::{Failure, FailureKind, Mapping};

use crate::foothold::Foothold;
use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::ptrace::{self, Event, Registers};
use crate::request::Stops;
use crate::stop::{Stopped, World, gone, is_gone, pause};

/// How long one step of the helper may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the lender may take to create the helper.
const LEND_DEADLINE: Duration = Duration::from_millis(200);

core::arch::global_asm!(
    ".pushsection .rodata.trocar_helper, \"a\", @progbits",
    ".balign 16",
    "trocar_helper:",
    // rbx: the mailbox, kept by what is called. See `Mailbox offsets` below.
    "cld",
    "fninit",
    "ldmxcsr [rbx + 56]",
    "30: mov r12d, {rounds}",
    "mov r15d, {naps}",
    // Wait for a letter: first attentively, then in naps, and if none comes for long, nobody is there any more.
    "31: pause",
    "mov rax, [rbx]",
    "cmp rax, [rbx + 8]",
    "jne 33f",
    "dec r12d",
    "jnz 31b",
    "mov r12d, 1",
    "dec r15d",
    "jz 36f",
    "mov eax, 35", // nanosleep
    "lea rdi, [rbx + 32]",
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
    rounds = const ROUNDS,
    naps = const NAPS,
);

/// Looks before the helper takes naps: about a millisecond.
const ROUNDS: u32 = 20_000;
/// Naps until it takes us for dead: at 100 µs and a timer's slack each, five to ten seconds.
const NAPS: u32 = 40_000;
const NAP_NS: u64 = 100_000;

/// Mailbox offsets.
///
/// ```text
///   0  number of the letter, written by us, last
///   8  number of the last answer, written by the helper, last
///  16  number of system calls in the letter; none: a function is to be called
///  32  the time of a nap, a `timespec`
///  48  the helper's thread pointer leads here: a word that holds its own address
///  56  MXCSR's default
///  64  for each call: its number, six arguments, the kernel's answer; or the function, two arguments, the stack
/// ```
const LETTER: u64 = 0;
const ANSWER: u64 = 8;
const COUNT: u64 = 16;
const NAP: u64 = 32;
const SELF: u64 = 48;
const MXCSR: u64 = 56;
const CALLS: u64 = 64;
/// Most calls of one letter: what fits on the mailbox's page.
const CALLS_MAX: usize = 63;

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
        let mut foothold = Foothold::put(memory, maps)?;
        let tid = lend(pid, filtered, &foothold, usable, stops)?;
        let registers = match born(pid, tid) {
            Ok(registers) => registers,
            Err(failure) => {
                // Unguided it ends; the foothold must outlive it.
                let _ = ptrace::detach(tid, 0);
                foothold.keep_unless(wait_gone(pid, tid));
                return Err(failure);
            }
        };
        let mut helper =
            Self { pid, tid, memory, foothold, registers, pages: RemoteAddress(0), letters: 0, ended: false };
        helper.settle()?;
        Ok(helper)
    }

    /// A table of descriptors of its own, its two pages, and the loop.
    fn settle(&mut self) -> Result<(), Failure> {
        const CLOSE_RANGE: libc::c_long = 436;
        const UNSHARE: u64 = 2;
        let (rw, rx) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        self.step(CLOSE_RANGE, [0, u64::from(u32::MAX), UNSHARE, 0, 0, 0])?;
        let at = self.step(libc::SYS_mmap, [0, 2 * PAGE, rx as u64, anonymous, u64::MAX, 0])?;
        self.pages = RemoteAddress(at);
        let mailbox = self.mailbox();
        let fixed = anonymous | libc::MAP_FIXED as u64;
        self.step(libc::SYS_mmap, [mailbox.0, PAGE, rw as u64, fixed, u64::MAX, 0])?;
        let lost = |e: io::Error| lost(self.pid, &e);
        self.memory.write(self.pages, code()).map_err(lost)?;
        self.memory.write_word(mailbox.plus(NAP + 8), NAP_NS).map_err(lost)?;
        self.memory.write_word(mailbox.plus(SELF), mailbox.plus(SELF).0).map_err(lost)?;
        self.memory.write_word(mailbox.plus(MXCSR), 0x1f80).map_err(lost)?; // Intel SDM 1, 10.2.3
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
        ptrace::resume(self.tid, false).map_err(|e| self.trouble("starting", &e))
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
            ptrace::resume(self.tid, true).map_err(|e| self.trouble(&what, &e))?;
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
                Some(Event::Signal(signal)) if is_fault(signal) => {
                    let at = ptrace::registers(self.tid).map(|r| r.rip).unwrap_or(0);
                    return Err(Failure::new(
                        FailureKind::Bug,
                        format!("signal {signal} at {at:#x} on our helper in process {pid}"),
                    ));
                }
                // A stop of the whole process, which ends when it ends; other signals are blocked.
                Some(_) => ptrace::resume(self.tid, false).map_err(|e| self.trouble("a letter", &e))?,
            }
            if rounds > 128 && is_gone(pid, self.tid) {
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
        ptrace::resume(self.tid, false).map_err(|e| self.trouble("ending", &e))?;
        self.foothold.keep_unless(wait_gone(self.pid, self.tid));
        Ok(())
    }

    fn wait_for(&self, what: &str, wanted: Event) -> Result<(), Failure> {
        let until = Instant::now() + DEADLINE;
        for rounds in 0.. {
            match ptrace::poll(self.tid).map_err(|e| self.trouble(what, &e))? {
                Some(event) if event == wanted => return Ok(()),
                Some(Event::Gone) => return Err(self.vanished()),
                Some(_) => ptrace::resume(self.tid, wanted == Event::SystemCall)
                    .map_err(|e| self.trouble(what, &e))?,
                None if Instant::now() > until => break,
                None if rounds > 128 && is_gone(self.pid, self.tid) => return Err(self.vanished()),
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

/// Lets a thread of the target create the helper. Returns the helper's id.
fn lend(
    pid: pid_t,
    filtered: bool,
    foothold: &Foothold<'_>,
    usable: impl Fn(&Stopped) -> bool,
    stops: &mut Stops,
) -> Result<pid_t, Failure> {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        let began = Instant::now();
        let mut thread = World::stop_one(pid, filtered, &usable)?;
        let born = lend_one(pid, filtered, &mut thread, foothold);
        thread.let_go();
        stops.add(began.elapsed());
        if let Some(helper) = born? {
            return Ok(helper);
        }
    }
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("the signals of process {pid} leave no thread alone long enough to work for us"),
    )
    .hint("the target was let go untouched; try again"))
}

/// One try. `None`: a signal came first, which `thread` delivers when it is let go.
fn lend_one(
    pid: pid_t,
    filtered: bool,
    thread: &mut Stopped,
    foothold: &Foothold<'_>,
) -> Result<Option<pid_t>, Failure> {
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
    ptrace::resume(tid, false).map_err(|e| failed("borrowing", &e))?;
    let until = Instant::now() + LEND_DEADLINE;
    let mut child = None;
    let mut asked = false;
    // From here on the thread has its registers back by itself, if we are killed or the kernel refuses.
    for rounds in 0.. {
        match ptrace::poll(tid).map_err(|e| failed("waiting for", &e))? {
            Some(Event::Gone) => return Err(gone(pid)),
            Some(Event::Cloned) => {
                child = Some(ptrace::message(tid).map_err(|e| failed("asking", &e))?);
                // It comes to a stop in which the kernel's restart logic is next, before it runs any more.
                ptrace::interrupt(tid).map_err(|e| failed("stopping", &e))?;
                asked = true;
                ptrace::resume(tid, false).map_err(|e| failed("stopping", &e))?;
            }
            Some(event) => {
                let now = ptrace::registers(tid).map_err(|e| failed("reading", &e))?;
                let held = if let Event::Signal(signal) = event { signal } else { 0 };
                if foothold.contains(now.rip) {
                    ptrace::set_signal_mask(tid, mask).map_err(|e| failed("giving back", &e))?;
                    ptrace::set_registers(tid, &original).map_err(|e| failed("giving back", &e))?;
                } else {
                    // It went on by itself: it is where it is.
                    thread.registers = Some(now);
                }
                thread.hold(held);
                if child.is_none() && asked && !foothold.contains(now.rip) {
                    return Err(Failure::new(
                        FailureKind::NothingPatched,
                        format!("process {pid} may not start one more thread"),
                    )
                    .hint("a limit of processes or threads (ulimit -u, pids.max of its control group) is reached; nothing was touched"));
                }
                return child.map_or(Ok(None), |c| pid_t::try_from(c).map(Some).map_err(|_| gone(pid)));
            }
            None if Instant::now() > until && !asked => {
                // It went on by itself without a helper.
                ptrace::interrupt(tid).map_err(|e| failed("stopping", &e))?;
                asked = true;
            }
            None if rounds > 128 && is_gone(pid, tid) => return Err(gone(pid)),
            None => pause(rounds),
        }
    }
    Ok(None)
}

/// Waits for the helper's first stop. Its registers.
fn born(pid: pid_t, tid: pid_t) -> Result<Registers, Failure> {
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

/// Waits until the helper has ended; true if it has. What it executes must not be taken away before.
fn wait_gone(pid: pid_t, tid: pid_t) -> bool {
    let until = Instant::now() + DEADLINE;
    for rounds in 0.. {
        match ptrace::poll(tid) {
            Ok(Some(Event::Gone)) | Err(_) => break,
            Ok(Some(_)) => drop(ptrace::resume(tid, false)),
            Ok(None) if Instant::now() > until => break,
            Ok(None) => pause(rounds),
        }
    }
    while !is_gone(pid, tid) {
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

/// Signals that the processor raises: they mean that our own code is wrong.
fn is_fault(signal: i32) -> bool {
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP].contains(&signal)
}
