//! Who runs the compiler: a child with limits, in every program that can be one.
//!
//! ```text
//! program ── spawn ──▶ program __compile        limits itself, reads a module, writes code
//!    │  memory file ◀── code, or a reason        it ends, or is ended
//! ```
//! Compiling takes time and memory that the size of a module does not bound: a function of some hundred kilobytes can
//! keep Cranelift busy for minutes. So it happens in a process of its own, with limits on processor time, memory and
//! output, and with a deadline that its parent keeps. Whatever becomes of it, the parent goes on and says why.
//!
//! The child is this very program, started anew: there is no other file to find or to trust. A program can be one if its
//! `main` calls [`become_compiler`] before anything else; in a program that does not (a test, a benchmark of modules of
//! its own), the compiler runs in the program itself, without limits.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, set_parent_process_death_signal,
    setrlimit,
};

use crate::precompile::{CompileError, Output, compile};
use crate::verify::MODULE_BYTES_MAX;

/// First word of the child.
const COMPILE: &str = "__compile";
/// Its second word, if a map of addresses is wanted.
const MAP: &str = "map";
/// Processor time of the child in seconds. A module of the greatest size that a compiler made takes some seconds.
const PROCESSOR_SECONDS: u64 = 15;
/// Time of the child, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(90);
/// Address space of the child in bytes. A module of Go, with the whole runtime, takes more than 1 GiB of it.
const MEMORY_BYTES: u64 = 3 << 29;
/// Most bytes of code.
const CODE_BYTES_MAX: u64 = 32 << 20;
/// Most bytes of a reason that are read.
const REASON_BYTES_MAX: u64 = 4096;
/// Exit status of the child when the compiler has refused the module; its output is the reason.
const REFUSED: u8 = 3;

/// This program is its own compiler: set once, at the start of `main`.
static IS_COMPILER: AtomicBool = AtomicBool::new(false);

/// In the child: compiles, and gives the exit status. Elsewhere `None`, and from then on this program compiles in
/// children. To be called first in `main`, by every program that takes modules from others.
#[must_use]
pub fn become_compiler() -> Option<u8> {
    if std::env::args_os().nth(1).is_some_and(|word| word == OsStr::new(COMPILE)) {
        return Some(serve().unwrap_or_else(|error| {
            // The last line there is the reason that the parent tells.
            let _ = writeln!(io::stderr(), "{error}");
            1
        }));
    }
    IS_COMPILER.store(true, Ordering::Relaxed);
    None
}

/// Compiles a module, in a child if this program has one.
pub(crate) fn run(wasm: &[u8], output: Output) -> Result<Vec<u8>, CompileError> {
    if !IS_COMPILER.load(Ordering::Relaxed) {
        return compile(wasm, output);
    }
    let mut child = Command::new("/proc/self/exe");
    child.arg(COMPILE).args((output == Output::CodeAndMap).then_some(MAP)).env_clear();
    let started = Worker::start(child, wasm).map_err(|e| CompileError::NoCompiler(e.to_string()))?;
    started.finish(DEADLINE)
}

// ---- the child ----------------------------------------------------------------------------------------------------

/// The child's whole life. Its standard error is a file of its parent's, and so is where a panic is told.
fn serve() -> io::Result<u8> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Ours may be lower already, and may not be raised.
    let limit = |resource, most: u64, end: u64| {
        let end = getrlimit(resource).maximum.map_or(end, |ours| ours.min(end));
        setrlimit(resource, Rlimit { current: Some(most.min(end)), maximum: Some(end) })
    };
    // At the first of the two the kernel sends a signal of its own; at the second it kills.
    limit(Resource::Cpu, PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1)?;
    limit(Resource::As, MEMORY_BYTES, MEMORY_BYTES)?;
    limit(Resource::Fsize, CODE_BYTES_MAX, CODE_BYTES_MAX)?;
    limit(Resource::Core, 0, 0)?;
    let mut wasm = Vec::new();
    io::stdin().take(MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut wasm)?;
    let map = std::env::args_os().nth(2).is_some_and(|word| word == OsStr::new(MAP));
    let (status, answer) = match compile(&wasm, if map { Output::CodeAndMap } else { Output::Code }) {
        Ok(code) => (0, code),
        Err(
            CompileError::Refused(reason) | CompileError::Stopped(reason) | CompileError::NoCompiler(reason),
        ) => (REFUSED, reason.into_bytes()),
    };
    let mut out = io::stdout();
    out.write_all(&answer)?;
    out.flush()?;
    Ok(status)
}

// ---- its parent ---------------------------------------------------------------------------------------------------

/// A child at work. Dropped, it is killed.
#[derive(Debug)]
struct Worker {
    child: Child,
    answer: File,
    errors: File,
}

impl Worker {
    /// Everything goes through files in memory: neither side ever waits for the other to read or write.
    fn start(mut command: Command, wasm: &[u8]) -> io::Result<Self> {
        // Before Linux 6.3 there was no NOEXEC_SEAL, and since then a machine may insist on it.
        let file = |name: &str| {
            memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
                .or_else(|_| memfd_create(name, MemfdFlags::CLOEXEC))
                .map(File::from)
        };
        let mut module = file("trocar-module")?;
        module.write_all(wasm)?;
        module.rewind()?;
        let (answer, errors) = (file("trocar-code")?, file("trocar-errors")?);
        let child = command
            // Ctrl-C is for the command; the child ends with it.
            .process_group(0)
            .stdin(module)
            .stdout(Stdio::from(answer.try_clone()?))
            .stderr(Stdio::from(errors.try_clone()?))
            .spawn()?;
        Ok(Self { child, answer, errors })
    }

    /// The code, or what became of the child.
    fn finish(mut self, deadline: Duration) -> Result<Vec<u8>, CompileError> {
        let ended = self.wait(deadline).map_err(|e| CompileError::NoCompiler(e.to_string()))?;
        let Some(status) = ended else {
            return Err(CompileError::Stopped(format!("it took longer than {} s", deadline.as_secs())));
        };
        match status.code() {
            Some(0) => self.code(),
            Some(code) if code == i32::from(REFUSED) => Err(CompileError::Refused(text(&mut self.answer))),
            _ => Err(self.reason(status)),
        }
    }

    /// Waits for its end; `None` if that does not come in time.
    fn wait(&mut self, deadline: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + deadline;
        let pid = Pid::from_child(&self.child);
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(None),
                Ok(_) => return self.child.wait().map(Some),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What it wrote, read as what a stranger wrote: of bounded size, and the caller looks into it.
    fn code(&mut self) -> Result<Vec<u8>, CompileError> {
        let unreadable = |e: io::Error| CompileError::NoCompiler(format!("its answer cannot be read: {e}"));
        let mut code = Vec::new();
        self.answer.rewind().map_err(unreadable)?;
        (&self.answer).take(CODE_BYTES_MAX).read_to_end(&mut code).map_err(unreadable)?;
        Ok(code)
    }

    /// Why it ended without an answer. The kernel's limits end it by a signal, and want of memory by its own hand.
    fn reason(&mut self, status: ExitStatus) -> CompileError {
        let said = text(&mut self.errors);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let signal = status.signal().and_then(Signal::from_named_raw);
        let memory = said.contains("memory allocation of");
        CompileError::Stopped(match signal {
            Some(Signal::XCPU) => format!("it took more than {PROCESSOR_SECONDS} s of processor time"),
            Some(Signal::XFSZ) => format!("its code would have more than {CODE_BYTES_MAX} bytes"),
            Some(Signal::ABORT) if memory => {
                format!("it needed more than {} MiB of memory", MEMORY_BYTES >> 20)
            }
            _ => format!("the compiler gave up ({status}): {said}"),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail if it has ended and was waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a file holds, as text that is safe to print.
fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // A reason that cannot be read is no reason to hide that there was a failure.
    let _ = file.rewind().and_then(|()| file.take(REASON_BYTES_MAX).read_to_end(&mut bytes));
    let plain = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(&bytes).chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What its parent says of a child that is this shell script.
    fn child(script: &str, deadline: Duration) -> Result<Vec<u8>, CompileError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        Worker::start(shell, b"module").unwrap().finish(deadline)
    }

    fn stopped(script: &str) -> String {
        match child(script, DEADLINE) {
            Err(CompileError::Stopped(why)) => why,
            other => panic!("{script}: {other:?}"),
        }
    }

    #[test]
    fn the_child_reads_the_module_and_answers_with_code_or_a_reason() {
        assert_eq!(child("cat; printf ' code'", DEADLINE), Ok(b"module code".to_vec()));
        let refused = child("printf 'too \\033[2Jstrange'; exit 3", DEADLINE);
        assert_eq!(refused, Err(CompileError::Refused("too \u{fffd}[2Jstrange".into())));
    }

    #[test]
    fn a_child_that_is_ended_is_told_by_what_ended_it() {
        for (script, words) in [
            ("kill -XCPU $$", "more than 15 s of processor time"),
            ("kill -XFSZ $$", "more than 33554432 bytes"),
            ("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$", "more than 1536 MiB of memory"),
            ("echo; echo 'it overflowed its stack' >&2; kill -ABRT $$", "it overflowed its stack"),
            ("kill -KILL $$", "signal: 9"),
            ("echo 'a panic' >&2; exit 101", "exit status: 101): a panic"),
        ] {
            let why = stopped(script);
            assert!(why.contains(words), "{why}\n  want: {words}");
        }
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let answer = child("echo $$; exec sleep 1000", Duration::from_millis(300));
        assert_eq!(answer, Err(CompileError::Stopped("it took longer than 0 s".into())));
    }
}
