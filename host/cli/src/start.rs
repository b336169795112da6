//! A command of the user's, started so that probes can be put in before it runs.
//!
//! ```text
//! trocar ── spawn ──▶ trocar __start COMMAND     asks to be traced, becomes COMMAND
//!    │  exec stop  ◀── COMMAND                    nothing of it has run
//!    │  to its entry point, or, if it is static,
//!    │  until it has a thread pointer
//!    │  stop       ◀── COMMAND                    libraries are loaded, no constructor of the program and no `main` has run
//!    └─ let go, stopped by SIGSTOP ──▶ probes in ──▶ SIGCONT
//! ```
//! The detour over our own program is there because only a process itself can ask to be traced before it becomes
//! another, and what runs between fork and exec cannot be written in safe Rust. If this process dies on the way, the
//! command stays stopped and never ran; dropping [`Started`] kills it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use trocar_target::{Failure, FailureKind};

use crate::trouble::usage;

/// First word of the detour.
const START: &str = "__start";
/// Exit status of the detour when the command cannot be executed, as shells have it.
const NOT_FOUND: i32 = 127;
/// The same, when it is there but may not be executed.
const NOT_EXECUTABLE: i32 = 126;
/// `int3`.
const BREAKPOINT: u8 = 0xcc;
/// Most edges of system calls that a static program may need to get a thread pointer; libc's need four at most.
const EDGES: u32 = 64;
/// Keys of the auxiliary vector (getauxval(3)).
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;

/// In the detour: becomes the command. Returns only if these are the words of another command, or with the exit
/// status of a failure.
pub(crate) fn become_command() -> Option<u8> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != OsStr::new(START) {
        return None;
    }
    let program = words.next()?;
    if ptrace::traceme().is_err() {
        return Some(1);
    }
    let error = Command::new(program).args(words).exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    u8::try_from(status).ok()
}

/// A command that was started and stands still until [`Started::go`].
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    pid: Pid,
    runs: bool,
}

impl Started {
    /// Starts a command and stops it at its entry point. Its standard output is our standard error.
    ///
    /// # Errors
    /// `Usage` if there is no such program, `NoProcess` if it ended before its entry point.
    pub(crate) fn start(words: &[OsString]) -> Result<Self, Failure> {
        let name = words.first().map(|w| w.to_string_lossy().into_owned()).unwrap_or_default();
        let own =
            std::env::current_exe().map_err(|e| bug(format!("our own program cannot be found: {e}")))?;
        let child = Command::new(own)
            .arg(START)
            .args(words)
            .stdout(Stdio::from(std::io::stderr()))
            .spawn()
            .map_err(|e| Failure::new(FailureKind::NotPermitted, format!("no new process: {e}")))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|_| bug("a process id over 2^31"))?);
        let started = Self { child, pid, runs: false };
        started.to_entry(&name)?;
        Ok(started)
    }

    /// Its process id.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets it run.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn go(&mut self) -> Result<(), Failure> {
        self.runs = true;
        kill(self.pid, Signal::SIGCONT).map_err(|e| gone(format!("the command is gone before it ran: {e}")))
    }

    /// From the fork to the entry point.
    fn to_entry(&self, name: &str) -> Result<(), Failure> {
        let quoted = name.escape_debug();
        match self.wait()? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Exited(_, NOT_FOUND) => {
                return Err(
                    usage(format!("there is no command \"{quoted}\"")).hint(format!("which {quoted}"))
                );
            }
            WaitStatus::Exited(_, NOT_EXECUTABLE) => {
                return Err(usage(format!("\"{quoted}\" cannot be executed")).hint(format!("ls -l {quoted}")));
            }
            other => return Err(gone(format!("\"{quoted}\" did not start: {other:?}"))),
        }
        match self.entry()? {
            Some(entry) => self.run_to(entry, name)?,
            None => self.run_to_thread_pointer(name)?,
        }
        let traced = |e: nix::errno::Errno| bug(format!("the command cannot be let go: {e}"));
        ptrace::detach(self.pid, Some(Signal::SIGSTOP)).map_err(traced)?;
        match self.wait()? {
            WaitStatus::Stopped(..) => Ok(()),
            other => Err(gone(format!("\"{quoted}\" ended at its entry point: {other:?}"))),
        }
    }

    fn wait(&self) -> Result<WaitStatus, Failure> {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.map_err(|e| gone(format!("the command is gone: {e}"))),
            }
        }
    }

    /// The program's entry point, if a dynamic linker runs before it.
    fn entry(&self) -> Result<Option<u64>, Failure> {
        let path = format!("/proc/{}/auxv", self.pid);
        let bytes = fs::read(&path).map_err(|e| gone(format!("{path} cannot be read: {e}")))?;
        let (words, _) = bytes.as_chunks::<8>();
        let (pairs, _) = words.as_chunks::<2>();
        let value = |key: u64| {
            let found = pairs.iter().find(|[k, _]| u64::from_ne_bytes(*k) == key);
            found.map_or(0, |[_, v]| u64::from_ne_bytes(*v))
        };
        Ok((value(AT_BASE) != 0).then(|| value(AT_ENTRY)))
    }

    /// Runs it up to an address. Signals on the way are passed on.
    fn run_to(&self, address: u64, name: &str) -> Result<(), Failure> {
        let memory = self.memory()?;
        let touch = |e: std::io::Error| bug(format!("the entry point {address:#x} cannot be reached: {e}"));
        let mut original = [0u8];
        memory.read_exact_at(&mut original, address).map_err(touch)?;
        memory.write_all_at(&[BREAKPOINT], address).map_err(touch)?;
        let mut signal = None;
        loop {
            ptrace::cont(self.pid, signal).map_err(|e| gone(format!("the command is gone: {e}")))?;
            match self.wait()? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => break,
                WaitStatus::Stopped(_, other) => signal = Some(other),
                other => {
                    return Err(gone(format!(
                        "\"{}\" ended before its entry point: {other:?}",
                        name.escape_debug()
                    )));
                }
            }
        }
        memory.write_all_at(&original, address).map_err(touch)?;
        let trace = |e: nix::errno::Errno| bug(format!("registers of the command: {e}"));
        let mut registers = ptrace::getregs(self.pid).map_err(trace)?;
        // The breakpoint's trap leaves the address behind it.
        registers.rip = address;
        ptrace::setregs(self.pid, registers).map_err(trace)
    }

    /// Runs it, from one edge of a system call to the next, until it has a thread pointer: a thread without one
    /// cannot be told from another, and a static program sets its own before it does anything else. What never sets
    /// one is left where it is.
    fn run_to_thread_pointer(&self, name: &str) -> Result<(), Failure> {
        let trace = |e: nix::errno::Errno| bug(format!("the command cannot be traced: {e}"));
        ptrace::setoptions(self.pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).map_err(trace)?;
        let mut signal = None;
        for _ in 0..EDGES {
            ptrace::syscall(self.pid, signal.take())
                .map_err(|e| gone(format!("the command is gone: {e}")))?;
            match self.wait()? {
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Stopped(_, other) => {
                    signal = Some(other);
                    continue;
                }
                other => {
                    return Err(gone(format!(
                        "\"{}\" ended before it had a thread: {other:?}",
                        name.escape_debug()
                    )));
                }
            }
            if ptrace::getregs(self.pid).map_err(trace)?.fs_base != 0 {
                break;
            }
        }
        Ok(())
    }

    fn memory(&self) -> Result<File, Failure> {
        let path = format!("/proc/{}/mem", self.pid);
        let open = OpenOptions::new().read(true).write(true).open(&path);
        open.map_err(|e| bug(format!("{path} cannot be opened: {e}")))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.runs {
            // Collects it if it has ended; else it runs on, and is nobody's business of ours.
            drop(self.child.try_wait());
        } else {
            // It has never run: nobody misses it. Both fail only if it is gone.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn gone(message: String) -> Failure {
    Failure::new(FailureKind::NoProcess, message)
}

fn bug(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Bug, message)
}
