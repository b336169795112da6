//! The ptrace requests that we use, one function each. All must be called from the thread that seized the tracee.
#![expect(unsafe_code, reason = "ptrace has no safe interface; every request is on this page")]

use std::io;
use std::mem;

use libc::{c_int, c_long, pid_t};

use crate::seccomp::{Instruction, LENGTH_MAX};

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

/// Lets a stopped tracee run, up to the next system call if `to_system_call`, with a signal or zero.
pub(crate) fn resume(tid: pid_t, to_system_call: bool, signal: c_int) -> io::Result<()> {
    let request = if to_system_call { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    // SAFETY: takes numbers only.
    check(unsafe { libc::ptrace(request, tid, 0usize, signal as usize) })
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
///
/// A stop is looked at, not consumed: a signal that is about to be delivered is forgotten by the kernel when its stop was
/// consumed and the tracer ends before it hands the signal on (`ptrace_stop` in `kernel/signal.c`). So the same stop is
/// reported until the tracee is resumed.
pub(crate) fn poll(tid: pid_t) -> io::Result<Option<Event>> {
    let all = libc::WEXITED | libc::WSTOPPED;
    let Some((code, status)) = look(tid, all | libc::WNOWAIT)? else { return Ok(None) };
    if code != libc::CLD_TRAPPED && code != libc::CLD_STOPPED {
        reap(tid);
        return Ok(Some(Event::Gone));
    }
    // As `waitpid` has it in the upper part of its status.
    let (signal, event) = (status & 0xff, status >> 8);
    Ok(Some(if event == libc::PTRACE_EVENT_STOP {
        Event::Stopped
    } else if event == libc::PTRACE_EVENT_CLONE {
        Event::Cloned
    } else if signal == libc::SIGTRAP | 0x80 {
        Event::SystemCall
    } else {
        Event::Signal(signal)
    }))
}

/// Takes the end of a tracee into account, if it has ended: until somebody does, an exec in its process waits. Any thread
/// of the tracer's process may do this.
pub(crate) fn reap(tid: pid_t) {
    // A wait for ends also takes in a tracee's stops, which are the tracer's to see: so look first.
    let ended = look(tid, libc::WEXITED | libc::WNOWAIT);
    if matches!(ended, Ok(Some((code, _))) if ![libc::CLD_TRAPPED, libc::CLD_STOPPED].contains(&code)) {
        // Nothing is to be done if another thread was first.
        let _ = look(tid, libc::WEXITED);
    }
}

/// Code and status of a child's state, `None` if there is no news; a child that nobody knows has ended.
fn look(tid: pid_t, what: c_int) -> io::Result<Option<(c_int, c_int)>> {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut facts: libc::siginfo_t = unsafe { mem::zeroed() };
    let id = tid.cast_unsigned();
    // SAFETY: the kernel writes one `siginfo_t`.
    let got = unsafe { libc::waitid(libc::P_PID, id, &raw mut facts, what | libc::__WALL | libc::WNOHANG) };
    if got == -1 {
        let error = io::Error::last_os_error();
        let unknown = error.raw_os_error() == Some(libc::ECHILD);
        return if unknown { Ok(Some((libc::CLD_EXITED, 0))) } else { Err(error) };
    }
    // SAFETY: a field that `waitid` fills, zero if there was no news.
    if unsafe { facts.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    Ok(Some((facts.si_code, unsafe { facts.si_status() })))
}

/// Whether the signal that a tracee is about to get was raised by what it did itself (a fault, a forbidden call), not sent.
pub(crate) fn raised_by_itself(tid: pid_t) -> bool {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut facts: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one `siginfo_t`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0usize, &raw mut facts) };
    got == 0 && facts.si_code > 0
}

/// Whether a tracee that [`interrupt`] has stopped would not run without us either: its whole process is suspended (ptrace(2),
/// "PTRACE_EVENT_STOP": the signal is then not SIGTRAP).
pub(crate) fn is_suspended(tid: pid_t) -> bool {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut facts: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one `siginfo_t`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0usize, &raw mut facts) };
    got == 0 && facts.si_signo != libc::SIGTRAP
}

/// A seccomp filter of a stopped tracee, by its index from the oldest on (ENOENT: there are no more). Needs CAP_SYS_ADMIN,
/// and that this thread has no filter itself.
pub(crate) fn seccomp_filter(
    tid: pid_t,
    index: usize,
    room: &mut [Instruction],
) -> io::Result<&[Instruction]> {
    const GET_FILTER: libc::c_uint = 0x420c;
    // The kernel is not told how much room there is, and another thread of the tracee may replace its filters meanwhile.
    if room.len() < LENGTH_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the kernel writes one filter, which has at most LENGTH_MAX instructions; that many fit, as was looked at above.
    let len = unsafe { libc::ptrace(GET_FILTER, tid, index, room.as_mut_ptr()) };
    check(len)?;
    let len = usize::try_from(len).unwrap_or(0);
    room.get(..len).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether system calls of the thread are handed to its own program instead (PR_SET_SYSCALL_USER_DISPATCH, Linux 5.11).
/// Kernels that cannot tell (before 6.4) are taken to say no.
pub(crate) fn dispatches_calls(tid: pid_t) -> bool {
    const GET_CONFIGURATION: libc::c_uint = 0x4211;
    let mut answer = [0u64; 4]; // struct ptrace_sud_config: its first word is the mode
    // SAFETY: the kernel writes the 32 bytes that it is told there are, and no others.
    let got = unsafe { libc::ptrace(GET_CONFIGURATION, tid, size_of_val(&answer), answer.as_mut_ptr()) };
    let [mode, ..] = answer;
    got == 0 && mode != 0
}

/// Gives a thread of ours the ordinary schedule, there the first place, and every processor, whatever it has inherited: it
/// lives for milliseconds, unless it has to wait for its turn among many. Not the real-time schedule: a guest's start
/// function runs on it.
pub(crate) fn make_ours(tid: pid_t) {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads one `sched_param`. Refusal leaves it as it is.
    unsafe { libc::sched_setscheduler(tid, libc::SCHED_OTHER, &raw const parameters) };
    // SAFETY: takes numbers. Refusal, without CAP_SYS_NICE, leaves it as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, tid.unsigned_abs(), -20) };
    let everywhere = [u64::MAX; 16];
    // SAFETY: the kernel reads that many bytes of processors, and takes those that there are.
    unsafe { libc::sched_setaffinity(tid, size_of_val(&everywhere), everywhere.as_ptr().cast()) };
}
