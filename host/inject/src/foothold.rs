//! Some bytes of code of ours in the target, where the program has none: what a thread of the target executes to create
//! our helper thread, and what that helper falls into when nobody guides it.
//!
//! The code must exist before any memory of ours does, so it is put into slack: the rest of an executable page behind
//! the end of the segment that the file put there (or behind the vdso). The program can neither run nor read these
//! bytes on purpose. They are written through `/proc/PID/mem` and taken away again before the transaction ends.
//!
//! INVARIANT (we may die): at every moment, whatever thread has been brought here goes on by itself if we are killed.
//! The lender's registers are kept beside the code, and it loads them itself; the helper ends. That is why nothing is
//! done to the lender by ptrace but one jump to `lend` and, where it matters, one return: its signal mask is changed by the
//! code, too, and by us only when it stands there.
#![expect(
    unsafe_code,
    reason = "code for the target is assembled here, and its bytes have no safe name in Rust"
)]

use std::ops::Range;

use trocar_target::{Failure, FailureKind, Mapping};

use crate::goroutines::Known;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::ptrace::Registers;
use crate::stacks::handler_returns;
use crate::stop::{Stopped, starts_again};

core::arch::global_asm!(
    ".pushsection .rodata.trocar_foothold, \"a\", @progbits",
    ".balign 16",
    "trocar_foothold:",
    // The lender comes in at `syscall` with rt_sigprocmask(SIG_SETMASK, all, NULL, 8) in its registers: no handler of
    // the program runs on the new thread, and none on this one before its registers are its own again.
    "20: syscall",
    "mov eax, 56", // clone(CLONE_VM | FILES | SIGHAND | PTRACE | THREAD | SYSVSEM, no stack of its own)
    "mov edi, 0x52d00",
    "mov esi, 0",
    "mov edx, 0",
    "mov r10d, 0",
    "mov r8d, 0",
    "syscall",
    "17: xchg rax, rcx", // zero in the new thread; tested without flags, which are the lender's
    "mov r8, rcx",       // kept to the end: what became of it can be told wherever the lender stops
    "18: jrcxz 23f",
    "mov eax, 14",
    "mov edi, 2",
    "lea rsi, [rip + 26f]",
    "mov edx, 0",
    "mov r10d, 8",
    "syscall",
    // No flag is changed above, and the rest of the lender's state was not touched.
    "21: mov rax, [rip + 27f]",
    "mov rcx, [rip + 27f + 8]",
    "mov rdx, [rip + 27f + 16]",
    "mov rsi, [rip + 27f + 24]",
    "mov rdi, [rip + 27f + 32]",
    "mov r9, [rip + 27f + 48]",
    "mov r10, [rip + 27f + 56]",
    "mov r11, [rip + 27f + 64]",
    "19: mov r8, [rip + 27f + 40]",
    "jmp [rip + 27f + 72]",
    // What the helper is made to call one at a time; left alone, it ends.
    "22: syscall",
    "23: mov eax, 60", // exit(0), of this thread alone
    "mov edi, 0",
    "syscall",
    "ud2",
    "24: .asciz \"trocar-helper\"", // the name of the helper's memory file
    ".balign 8",
    "25: .quad -1", // all signals
    "26: .quad 0",  // the lender's own mask
    "27: .fill 10, 8, 0",
    "28:",
    ".balign 8",
    "trocar_foothold_table:", // offsets, in the order of `Table`
    ".quad 20b - trocar_foothold, 22b - trocar_foothold, 24b - trocar_foothold, 25b - trocar_foothold",
    ".quad 26b - trocar_foothold, 27b - trocar_foothold, 28b - trocar_foothold",
    ".quad 17b - trocar_foothold, 18b - trocar_foothold, 19b - trocar_foothold",
    ".popsection",
);

/// What clone says inside the kernel while something waits for the thread (`copy_process` in `kernel/fork.c`).
const ERESTARTNOINTR: i64 = -513;

/// What the kernel has said to a lender that asked for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet: it has not asked, or was interrupted and will ask again.
    NotYet,
    /// There is one.
    Created,
    /// There is none.
    Refused,
}

/// Offsets in the code, as the assembler found them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Table {
    lend: u64,
    call: u64,
    name: u64,
    all: u64,
    mask: u64,
    saved: u64,
    len: u64,
    answered: u64,
    kept: u64,
    last: u64,
}

/// The code's bytes, and where what is in them.
fn code() -> (&'static [u8], Table) {
    unsafe extern "C" {
        #[link_name = "trocar_foothold"]
        static CODE: u8;
        #[link_name = "trocar_foothold_table"]
        static TABLE: Table;
    }
    // SAFETY: ten constant words, aligned, assembled above in the order of `Table`.
    let table = unsafe { TABLE };
    let len = usize::try_from(table.len).unwrap_or(0);
    // SAFETY: `len` bytes that are assembled above, constant.
    (unsafe { std::slice::from_raw_parts(&raw const CODE, len) }, table)
}

/// The code, in the target.
#[derive(Debug)]
pub(crate) struct Foothold<'a> {
    memory: &'a RemoteMemory,
    at: RemoteAddress,
    table: Table,
    /// It is proven that nobody executes the code.
    free: bool,
}

impl<'a> Foothold<'a> {
    /// Puts the code into slack of the target.
    pub(crate) fn put(memory: &'a RemoteMemory, maps: &[Mapping]) -> Result<Self, Failure> {
        let (bytes, table) = code();
        let at = slack(memory, maps).ok_or_else(|| {
            Failure::new(
                FailureKind::NothingPatched,
                format!("no executable page of the target has {} free bytes behind its code", bytes.len()),
            )
            .hint("nothing was touched; please report the program that is built so")
        })?;
        let wrong = |e: std::io::Error| {
            Failure::new(FailureKind::NoProcess, format!("the target's slack at {:#x}: {e}", at.0))
        };
        let foothold = Self { memory, at, table, free: true };
        memory.write(at, bytes).map_err(wrong)?;
        Ok(foothold)
    }

    /// Registers with which a stopped thread creates the helper and goes on as it was. `mask` is its signal mask.
    pub(crate) fn lend(&self, original: &Registers, mask: u64) -> std::io::Result<Registers> {
        let (rip, rax) = resumption(original);
        let saved = [
            rax,
            original.rcx,
            original.rdx,
            original.rsi,
            original.rdi,
            original.r8,
            original.r9,
            original.r10,
            original.r11,
            rip,
        ];
        let words: Vec<u8> = saved.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.memory.write(self.at.plus(self.table.saved), &words)?;
        self.memory.write_word(self.at.plus(self.table.mask), mask)?;
        Ok(Registers {
            rip: self.at.plus(self.table.lend).0,
            rax: libc::SYS_rt_sigprocmask.cast_unsigned(),
            orig_rax: u64::MAX, // not in a system call: nothing to start again
            rdi: libc::SIG_SETMASK as u64,
            rsi: self.at.plus(self.table.all).0,
            rdx: 0,
            r10: 8,
            ..*original
        })
    }

    /// Address of a system call after which the thread ends.
    pub(crate) fn call(&self) -> RemoteAddress {
        self.at.plus(self.table.call)
    }

    /// From now on somebody may execute the code, and it stays, until the opposite is proven.
    pub(crate) fn in_use(&mut self) {
        self.free = false;
    }

    /// It is proven that nobody executes the code any more.
    pub(crate) fn free(&mut self) {
        self.free = true;
    }

    /// Address of the name of the helper's memory file.
    pub(crate) fn name(&self) -> RemoteAddress {
        self.at.plus(self.table.name)
    }

    /// What the kernel has answered to the lender that stopped in the code. `None`: that cannot be told any more.
    pub(crate) fn answer(&self, now: &Registers) -> Option<Answer> {
        let Table { answered, kept, last, .. } = self.table;
        let answer = match now.rip.wrapping_sub(self.at.0) {
            at if at < answered => return Some(Answer::NotYet),
            at if at == answered => now.rax,
            at if at < kept => now.rcx,
            at if at <= last => now.r8,
            _ => return None,
        };
        Some(match answer.cast_signed() {
            // It makes the call again when it goes on.
            ERESTARTNOINTR => Answer::NotYet,
            ..0 => Answer::Refused,
            _ => Answer::Created,
        })
    }

    /// Whether a thread at `ip` executes the code.
    pub(crate) fn contains(&self, ip: u64) -> bool {
        (self.at.0..self.at.0 + self.table.len).contains(&ip)
    }
}

impl Drop for Foothold<'_> {
    fn drop(&mut self) {
        if self.free {
            clear(self.memory, self.at);
        }
    }
}

/// Makes the bytes zero again, as slack is.
fn clear(memory: &RemoteMemory, at: RemoteAddress) {
    // If this fails the process is gone.
    let _ = memory.write(at, &vec![0; code().0.len()]);
}

/// Code that a killed host has left behind.
pub(crate) fn left(memory: &RemoteMemory, maps: &[Mapping]) -> Vec<Range<u64>> {
    let (bytes, table) = code();
    // The words behind the code are the lender's.
    let fixed = bytes.get(..usize::try_from(table.all).unwrap_or(0)).unwrap_or(bytes);
    let ours = |at: &RemoteAddress| memory.some(*at, fixed.len()) == fixed;
    places(memory, maps).into_iter().filter(ours).map(|at| at.0..at.0 + table.len).collect()
}

/// Takes such code away, unless some thread is still in it, or in a signal handler on top of it. The caller has stopped them all.
pub(crate) fn clear_left(memory: &RemoteMemory, maps: &[Mapping], left: &[Range<u64>], threads: &[Stopped]) {
    for range in left {
        let ours = |ip: u64| range.contains(&ip);
        let returns = |t: &Stopped| handler_returns(memory, t, maps, &Known::default(), ours);
        if !threads.iter().any(|t| ours(t.ip) || returns(t)) {
            clear(memory, RemoteAddress(range.start));
        }
    }
}

/// Whether a thread that a stop of ours interrupted in a system call has gone on by itself, exactly as far as to the call
/// that it makes again, and is about to.
pub(crate) fn is_about_to_call_again(original: &Registers, now: &Registers) -> bool {
    let (rip, rax) = resumption(original);
    let arguments = |r: &Registers| [r.rsp, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
    rip != original.rip && (now.rip, now.rax) == (rip, rax) && arguments(now) == arguments(original)
}

/// Where a thread goes on by itself, and with what in rax: a system call that a stop of ours interrupted is made again,
/// as the kernel does where no handler runs (`arch_do_signal_or_restart` in `arch/x86/kernel/signal.c`).
fn resumption(original: &Registers) -> (u64, u64) {
    const ERESTARTSYS: i64 = -512;
    const ERESTARTNOHAND: i64 = -514;
    const ERESTART_RESTARTBLOCK: i64 = -516;
    let (rip, rax) = (original.rip, original.rax);
    if original.orig_rax.cast_signed() < 0 {
        return (rip, rax);
    }
    match rax.cast_signed() {
        ERESTARTNOHAND..=ERESTARTSYS => (rip.wrapping_sub(2), original.orig_rax),
        ERESTART_RESTARTBLOCK => (rip.wrapping_sub(2), libc::SYS_restart_syscall.cast_unsigned()),
        _ if starts_again(original) => (rip.wrapping_sub(2), original.orig_rax),
        _ => (rip, rax),
    }
}

/// Where the code fits: bytes at the end of an executable mapping that belong to no segment. The vdso comes last: writing
/// to it makes a private copy of a page that all processes share.
fn places(memory: &RemoteMemory, maps: &[Mapping]) -> Vec<RemoteAddress> {
    let len = code().0.len() as u64;
    let mut texts: Vec<&Mapping> =
        maps.iter().filter(|m| m.execute && m.read && !m.write && !m.shared).collect();
    texts.sort_by_key(|m| m.is_special("[vdso]"));
    let place = |text: &Mapping| {
        let end =
            if text.is_special("[vdso]") { vdso_end(memory, text) } else { code_end(memory, maps, text) };
        let start = end?.checked_next_multiple_of(16)?;
        (start > text.start && start.checked_add(len)? <= text.end).then_some(RemoteAddress(start))
    };
    texts.into_iter().filter_map(place).collect()
}

/// The first place that holds nothing: with the linkers of today all of them, while older ones let the next segment's
/// bytes show there, and a killed host may have left its code.
fn slack(memory: &RemoteMemory, maps: &[Mapping]) -> Option<RemoteAddress> {
    let len = code().0.len();
    places(memory, maps).into_iter().find(|&at| memory.some(at, len) == vec![0; len])
}

/// Where the vdso's own bytes end, as its section headers, which come last, say.
fn vdso_end(memory: &RemoteMemory, vdso: &Mapping) -> Option<u64> {
    use object::elf::FileHeader64;
    use object::{LittleEndian, pod};
    let bytes = memory.bytes(RemoteAddress(vdso.start), size_of::<FileHeader64<LittleEndian>>()).ok()?;
    let (elf, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?;
    let headers = u64::from(elf.e_shentsize.get(LittleEndian)) * u64::from(elf.e_shnum.get(LittleEndian));
    let end = vdso.start.checked_add(elf.e_shoff.get(LittleEndian))?.checked_add(headers)?;
    (elf.e_shoff.get(LittleEndian) != 0 && vdso.range().contains(&end)).then_some(end)
}

/// Where the segment that fills an executable file mapping ends, as the program headers in memory say.
fn code_end(memory: &RemoteMemory, maps: &[Mapping], text: &Mapping) -> Option<u64> {
    use object::elf::{FileHeader64, PF_X, PT_LOAD, ProgramHeader64};
    use object::read::elf::ProgramHeader;
    use object::{LittleEndian, pod};
    let file = (text.device, text.inode);
    let header =
        maps.iter().rev().find(|m| m.start <= text.start && m.offset == 0 && (m.device, m.inode) == file)?;
    let bytes = memory.bytes(RemoteAddress(header.start), size_of::<FileHeader64<LittleEndian>>()).ok()?;
    let (elf, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?;
    if elf.e_ident.magic != object::elf::ELFMAG || text.inode == 0 {
        return None;
    }
    let (count, size) = (elf.e_phnum.get(LittleEndian), size_of::<ProgramHeader64<LittleEndian>>());
    if usize::from(elf.e_phentsize.get(LittleEndian)) != size {
        return None;
    }
    let at = header.start.checked_add(elf.e_phoff.get(LittleEndian))?;
    let table = memory.bytes(RemoteAddress(at), usize::from(count) * size).ok()?;
    let (segments, _) =
        pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(&table, usize::from(count)).ok()?;
    let loads = || segments.iter().filter(|s| s.p_type(LittleEndian) == PT_LOAD);
    let floor = |address: u64| address & !(trocar_abi::PAGE - 1);
    let first = loads().find(|s| floor(s.p_offset(LittleEndian)) == 0)?;
    let bias = header.start.wrapping_sub(floor(first.p_vaddr(LittleEndian)));
    loads().filter(|s| s.p_flags(LittleEndian) & PF_X != 0).find_map(|s| {
        let start = bias.wrapping_add(s.p_vaddr(LittleEndian));
        let (in_file, in_memory) = (s.p_filesz(LittleEndian), s.p_memsz(LittleEndian));
        let range = text.range();
        let end = start.checked_add(in_file)?;
        (in_file == in_memory && range.contains(&start) && end > range.start && end <= range.end)
            .then_some(end)
    })
}
