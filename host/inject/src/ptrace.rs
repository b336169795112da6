//! The ptrace requests that we use, one function each. All must be called from the thread that seized the tracee.
#![expect(unsafe_code, reason = "ptrace has no safe interface; every request is on this page")]

use std::io;
use std::mem;

use libc::{c_int, c_long, pid_t};

/// General registers, as the kernel's `user_regs_struct`.
pub(crate) type Registers = libc::user_regs_struct;

/// What a wait reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Stopped by `interrupt`, or in a group stop.
    Stopped,
    /// About to get this signal, which is held back until the tracee is let go with it.
    Signal(c_int),
    /// At the entry to, or the exit from, a system call.
    SystemCall,
    /// Has created a thread, which is traced too.
    Cloned,
    /// Ended.
    Gone,
}

fn check(result: c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches without stopping. `unfiltered`: while it lasts, the tracee's seccomp filters do not apply, so that system
/// calls of ours in it cannot make them kill the program; needs CAP_SYS_ADMIN.
pub(crate) fn seize(tid: pid_t, unfiltered: bool) -> io::Result<()> {
    let suspend = if unfiltered { libc::PTRACE_O_SUSPEND_SECCOMP } else { 0 };
    let options = (libc::PTRACE_O_TRACESYSGOOD | suspend) as usize;
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0usize, options) })
}

/// From now on the stopped tracee says when it creates a thread, and that thread is traced as well. Asked only of a
/// thread that is about to create one for us: one of the program's own is nobody's business.
pub(crate) fn tell_clones(tid: pid_t, unfiltered: bool) -> io::Result<()> {
    let suspend = if unfiltered { libc::PTRACE_O_SUSPEND_SECCOMP } else { 0 };
    let options = (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | suspend) as usize;
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, tid, 0usize, options) })
}

/// What a stopped tracee has to say of its last event: after [`Event::Cloned`] the new thread's id.
pub(crate) fn message(tid: pid_t) -> io::Result<u64> {
    let mut message = 0u64;
    // SAFETY: the kernel writes one word.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0usize, &raw mut message) })?;
    Ok(message)
}

/// Asks a tracee to stop. It does so at once, or when it comes back from an uninterruptible sleep.
pub(crate) fn interrupt(tid: pid_t) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0usize, 0usize) })
}

/// Lets a stopped tracee go for good, with a signal that was held back, or zero.
pub(crate) fn detach(tid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0usize, signal as usize) })
}

/// Lets a stopped tracee run, up to the next system call if `to_system_call`.
pub(crate) fn resume(tid: pid_t, to_system_call: bool) -> io::Result<()> {
    let request = if to_system_call { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(request, tid, 0usize, 0usize) })
}

/// General registers of a stopped tracee.
pub(crate) fn registers(tid: pid_t) -> io::Result<Registers> {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut registers: Registers = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one `user_regs_struct`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0usize, &raw mut registers) })?;
    Ok(registers)
}

/// Sets the general registers of a stopped tracee.
pub(crate) fn set_registers(tid: pid_t, registers: &Registers) -> io::Result<()> {
    // SAFETY: the kernel reads one `user_regs_struct` and checks it.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0usize, &raw const *registers) })
}

/// The mask of blocked signals of a stopped tracee.
pub(crate) fn signal_mask(tid: pid_t) -> io::Result<u64> {
    let mut mask = 0u64;
    // SAFETY: the kernel writes a mask of eight bytes.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid, 8usize, &raw mut mask) })?;
    Ok(mask)
}

/// Sets the mask of blocked signals.
pub(crate) fn set_signal_mask(tid: pid_t, mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads a mask of eight bytes.
    check(unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid, 8usize, &raw const mask) })
}

/// Address of the thread's restartable-sequence area, zero if it has none (Linux 5.13; older kernels: as if none).
pub(crate) fn rseq_area(tid: pid_t) -> u64 {
    const GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
    let mut answer = [0u64; 3]; // struct ptrace_rseq_configuration: its first word is the address
    // SAFETY: the kernel writes at most the 24 bytes that it is told there are.
    let size =
        unsafe { libc::ptrace(GET_RSEQ_CONFIGURATION, tid, size_of_val(&answer), answer.as_mut_ptr()) };
    let [address, ..] = answer;
    if size > 0 { address } else { 0 }
}

/// What happened to the tracee, if anything has. Never blocks.
pub(crate) fn poll(tid: pid_t) -> io::Result<Option<Event>> {
    let mut status = 0;
    // SAFETY: the kernel writes one status word.
    let got = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
    if got == -1 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(Some(Event::Gone)) } else { Err(error) };
    }
    if got == 0 {
        return Ok(None);
    }
    if !libc::WIFSTOPPED(status) {
        return Ok(Some(Event::Gone));
    }
    let signal = libc::WSTOPSIG(status);
    Ok(Some(if status >> 16 == libc::PTRACE_EVENT_STOP {
        Event::Stopped
    } else if status >> 16 == libc::PTRACE_EVENT_CLONE {
        Event::Cloned
    } else if signal == libc::SIGTRAP | 0x80 {
        Event::SystemCall
    } else {
        Event::Signal(signal)
    }))
}
