//! Every system call the agent can make, on one page.
//!
//! On the hit path only `read_own_memory` (for probes that import a read) and, at a thread's first hit,
//! `thread_id` and `alternate_stack`; `clock` where the vdso has none. With exactly these arguments the host asks the
//! target's seccomp filters about them (`host/inject/src/filters.rs`). The others run on the helper thread, never in a hit.

use core::arch::asm;

const MPROTECT: usize = 10;
const MADVISE: usize = 28;
const SIGALTSTACK: usize = 131;
const GETTID: usize = 186;
const CLOCK_GETTIME: usize = 228;
const PROCESS_VM_READV: usize = 310;

const MADV_WIPEONFORK: usize = 18;

/// # Safety
/// As the call with this number asks of its arguments.
#[inline]
unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let [a0, a1, a2, a3, a4, a5] = a;
    let result: isize;
    // SAFETY: the kernel's convention (System V x86-64 ABI, A.2.1): rcx and r11 are lost, memory may change.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a0, in("rsi") a1, in("rdx") a2,
             in("r10") a3, in("r8") a4, in("r9") a5, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[repr(C)]
struct IoVec {
    base: usize,
    len: usize,
}

/// Copies memory of this process without the risk of a fault. True if every byte was copied.
pub(crate) fn read_own_memory(pid: u32, from: u64, to: &mut [u8]) -> bool {
    let local = IoVec { base: to.as_mut_ptr() as usize, len: to.len() };
    let remote = IoVec { base: from as usize, len: to.len() };
    let (local, remote) = (&raw const local as usize, &raw const remote as usize);
    // SAFETY: the kernel writes only into `to`; `remote` may be any address at all, that is what the call is for.
    let copied = unsafe { call(PROCESS_VM_READV, [pid as usize, local, 1, remote, 1, 0]) };
    copied == to.len() as isize
}

/// The kernel's id of this thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing, changes nothing.
    unsafe { call(GETTID, [0; 6]) as u32 }
}

/// Range of this thread's alternate signal stack, `(0, 0)` if it has none.
pub(crate) fn alternate_stack() -> (u64, u64) {
    /// `stack_t` of the kernel.
    #[repr(C)]
    struct Stack {
        sp: u64,
        flags: i32,
        pad: i32,
        size: u64,
    }
    const SS_DISABLE: i32 = 2;
    let mut old = Stack { sp: 0, flags: 0, pad: 0, size: 0 };
    // SAFETY: with no new stack the call only writes the old one into `old`.
    let result = unsafe { call(SIGALTSTACK, [0, &raw mut old as usize, 0, 0, 0, 0]) };
    if result != 0 || old.flags & SS_DISABLE != 0 {
        (0, 0)
    } else {
        (old.sp, old.sp.saturating_add(old.size))
    }
}

/// A clock by system call, where the vdso has none.
pub(crate) fn clock(id: i32, to: &mut [i64; 2]) {
    // SAFETY: the kernel writes one `timespec` into `to`.
    unsafe { call(CLOCK_GETTIME, [id as usize, to.as_mut_ptr() as usize, 0, 0, 0, 0]) };
}

/// Takes every permission from a page: the guard below a spare stack. True on success.
///
/// # Safety
/// The page is one of the agent's own, which nothing uses.
pub(crate) unsafe fn make_guard(page: u64, len: u64) -> bool {
    // SAFETY: the caller's contract.
    unsafe { call(MPROTECT, [page as usize, len as usize, 0, 0, 0, 0]) == 0 }
}

/// Asks that a page be zero in a fork child. True on success.
///
/// # Safety
/// The page is one of ours: a page of gates.
pub(crate) unsafe fn wipe_on_fork(page: u64) -> bool {
    // SAFETY: the caller's contract; the call does not change what the page holds here.
    unsafe { call(MADVISE, [page as usize, 4096, MADV_WIPEONFORK, 0, 0, 0]) == 0 }
}
