//! A borrowed thread: one stopped thread of the target that makes system calls for us and runs the agent's boot code,
//! and then goes on as if it had only been preempted.
//!
//! What is saved: all registers, the extended state, the signal mask. While borrowed, all signals are blocked, so no
//! handler of the target runs on our stack. A system call that the stop interrupted is finished by the kernel's own
//! restart logic: the thread is brought to a fresh stop, and gets its registers back there, the call's number and
//! "restart me" answer included, before it is let go.

use std::io;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::memory::RemoteAddress;
use crate::ptrace::{self, Event, Registers};
use crate::stop::{Stopped, gone, is_gone, pause};

/// How long one system call or one operation of the agent may take before the thread is given back.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A borrowed thread.
#[derive(Debug)]
pub(crate) struct Borrowed {
    pid: pid_t,
    thread: Stopped,
    original: Registers,
    mask: u64,
    extended: Vec<u8>,
    /// Address of a `syscall` instruction in the target.
    instruction: RemoteAddress,
    held: i32,
    given_back: bool,
}

impl Borrowed {
    /// Borrows a thread that `World` has stopped.
    pub(crate) fn new(pid: pid_t, thread: Stopped, instruction: RemoteAddress) -> Result<Self, Failure> {
        let Some(original) = thread.registers else {
            return Err(Failure::new(FailureKind::Bug, "a sleeping thread cannot be borrowed"));
        };
        let tid = thread.tid;
        let mask = ptrace::signal_mask(tid).map_err(|e| trouble(pid, "reading its signal mask", &e))?;
        let extended =
            ptrace::extended_state(tid).map_err(|e| trouble(pid, "reading its extended state", &e))?;
        ptrace::set_signal_mask(tid, u64::MAX).map_err(|e| trouble(pid, "blocking its signals", &e))?;
        Ok(Self { pid, thread, original, mask, extended, instruction, held: 0, given_back: false })
    }

    /// The borrowed thread's id.
    pub(crate) fn tid(&self) -> pid_t {
        self.thread.tid
    }

    /// The process.
    pub(crate) fn pid(&self) -> pid_t {
        self.pid
    }

    /// Its registers when it was borrowed.
    pub(crate) fn original(&self) -> Registers {
        self.original
    }

    /// Makes one system call in the target. The kernel's answer, or its error.
    pub(crate) fn system_call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Result<u64, Failure> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let registers = Registers {
            rip: self.instruction.0,
            rax: number.cast_unsigned(),
            orig_rax: u64::MAX, // not in a system call: nothing to start again
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.original
        };
        let tid = self.thread.tid;
        self.step(tid, &registers, number)
    }

    fn step(&mut self, tid: pid_t, registers: &Registers, number: libc::c_long) -> Result<u64, Failure> {
        let what = format!("system call {number}");
        ptrace::set_registers(tid, registers).map_err(|e| trouble(self.pid, &what, &e))?;
        for _ in ["entry", "exit"] {
            ptrace::resume(tid, true).map_err(|e| trouble(self.pid, &what, &e))?;
            self.wait(&what, true, |_| Ok(false))?;
        }
        let answer = ptrace::registers(tid).map_err(|e| trouble(self.pid, &what, &e))?.rax;
        checked(self.pid, number, answer)
    }

    /// Lets the thread run code of ours that needs no stack.
    pub(crate) fn start(&mut self, entry: RemoteAddress, argument: RemoteAddress) -> Result<(), Failure> {
        let registers =
            Registers { rip: entry.0, rdi: argument.0, orig_rax: u64::MAX, eflags: 0x202, ..self.original };
        let tid = self.thread.tid;
        ptrace::set_registers(tid, &registers).map_err(|e| trouble(self.pid, "starting the server", &e))?;
        ptrace::resume(tid, false).map_err(|e| trouble(self.pid, "starting the server", &e))
    }

    /// Sees whether something happened to the thread that runs code of ours: a signal that cannot be blocked is kept
    /// for later, a fault or the end of the thread is a failure.
    pub(crate) fn look_after(&mut self, what: &str) -> Result<(), Failure> {
        self.attend(what, false).map(|_| ())
    }

    /// As [`Borrowed::look_after`]; true at a system-call stop that was asked for.
    fn attend(&mut self, what: &str, to_system_call: bool) -> Result<bool, Failure> {
        let tid = self.thread.tid;
        match ptrace::poll(tid).map_err(|e| trouble(self.pid, what, &e))? {
            None => return Ok(false),
            Some(Event::SystemCall) if to_system_call => return Ok(true),
            Some(Event::Gone) => return Err(gone(self.pid)),
            Some(Event::Signal(signal)) if is_fault(signal) => {
                let at = ptrace::registers(tid).map(|r| r.rip).unwrap_or(0);
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!(
                        "signal {signal} at {at:#x} in {what}, on a borrowed thread of process {}",
                        self.pid
                    ),
                ));
            }
            Some(Event::Signal(signal)) => self.held = signal, // given back with the thread
            Some(Event::Stopped | Event::SystemCall) => {}
        }
        ptrace::resume(tid, to_system_call).map_err(|e| trouble(self.pid, what, &e))?;
        Ok(false)
    }

    /// Runs code of ours on a stack of ours, until `done` says that it is over.
    pub(crate) fn run(
        &mut self,
        entry: RemoteAddress,
        stack: RemoteAddress,
        arguments: [u64; 2],
        done: impl FnMut(&mut Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let [rdi, rsi] = arguments;
        let registers = Registers {
            rip: entry.0,
            rsp: stack.0,
            rdi,
            rsi,
            orig_rax: u64::MAX,
            eflags: 0x202,
            ..self.original
        };
        let tid = self.thread.tid;
        ptrace::set_registers(tid, &registers).map_err(|e| trouble(self.pid, "entering the agent", &e))?;
        ptrace::resume(tid, false).map_err(|e| trouble(self.pid, "entering the agent", &e))?;
        let result = self.wait("the agent", false, done);
        let stopped = self.stop_again();
        result.and(stopped)
    }

    /// Waits for a system-call stop, or until `done`.
    fn wait(
        &mut self,
        what: &str,
        to_system_call: bool,
        mut done: impl FnMut(&mut Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let until = Instant::now() + CALL_DEADLINE;
        for rounds in 0.. {
            if self.attend(what, to_system_call)? || done(self)? {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("{what} in process {} took too long", self.pid),
                ));
            }
            if rounds > 128 && is_gone(self.pid, self.thread.tid) {
                return Err(gone(self.pid));
            }
            pause(rounds);
        }
        Ok(())
    }

    /// Brings the running thread to a stop in which the kernel's restart logic comes next.
    pub(crate) fn stop_again(&mut self) -> Result<(), Failure> {
        ptrace::interrupt(self.thread.tid)
            .map_err(|e| trouble(self.pid, "stopping a borrowed thread", &e))?;
        self.wait_stopped()
    }

    /// Gives the thread back: to a [`Stopped`] that is as it was when it was borrowed.
    pub(crate) fn give_back(mut self) -> Result<Stopped, Failure> {
        self.restore()?;
        let mut thread = self.thread.clone();
        thread.registers = Some(self.original);
        thread.hold(self.held);
        Ok(thread)
    }

    fn restore(&mut self) -> Result<(), Failure> {
        self.given_back = true;
        let tid = self.thread.tid;
        let pid = self.pid;
        let failed = |e: io::Error| trouble(pid, "giving a borrowed thread back", &e);
        // After a system call of ours the thread stands at that call's exit, where nothing would restart the program's
        // own call: run into a fresh stop first, with harmless registers.
        let harmless = Registers { orig_rax: u64::MAX, ..self.original };
        if ptrace::set_registers(tid, &harmless).is_err() {
            // It still runs code of ours: an error came before it was stopped.
            self.stop_again()?;
            ptrace::set_registers(tid, &harmless).map_err(failed)?;
        }
        ptrace::interrupt(tid).map_err(failed)?;
        ptrace::resume(tid, false).map_err(failed)?;
        self.wait_stopped()?;
        ptrace::set_extended_state(tid, &self.extended).map_err(failed)?;
        ptrace::set_registers(tid, &self.original).map_err(failed)?;
        ptrace::set_signal_mask(tid, self.mask).map_err(failed)
    }

    fn wait_stopped(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + CALL_DEADLINE;
        for rounds in 0.. {
            match ptrace::poll(self.thread.tid).map_err(|e| trouble(self.pid, "giving a thread back", &e))? {
                Some(Event::Stopped) => return Ok(()),
                Some(Event::Gone) => return Err(gone(self.pid)),
                Some(event) => {
                    // A fault of our code cannot repeat: the registers are about to be put back.
                    if let Event::Signal(signal) = event
                        && !is_fault(signal)
                    {
                        self.held = signal;
                    }
                    let resumed = ptrace::resume(self.thread.tid, false);
                    resumed.map_err(|e| trouble(self.pid, "giving a thread back", &e))?;
                }
                None if Instant::now() > until => {
                    return Err(Failure::new(FailureKind::Bug, "a borrowed thread did not stop"));
                }
                None if rounds > 128 && is_gone(self.pid, self.thread.tid) => return Err(gone(self.pid)),
                None => pause(rounds),
            }
        }
        Ok(())
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // On the way out of an error the thread is still put back as it was; a failure means that it is gone.
        if !self.given_back && self.restore().is_ok() {
            self.thread.registers = Some(self.original);
            self.thread.hold(self.held);
            self.thread.let_go(self.pid);
        }
    }
}

/// The kernel's answer to a system call, or its error.
pub(crate) fn checked(pid: pid_t, number: libc::c_long, answer: u64) -> Result<u64, Failure> {
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

fn trouble(pid: pid_t, doing: &str, error: &io::Error) -> Failure {
    if error.raw_os_error() == Some(libc::ESRCH) {
        return gone(pid);
    }
    Failure::new(FailureKind::Bug, format!("{doing} of process {pid}: {error}"))
}
