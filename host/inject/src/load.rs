//! First transaction: memory in the target, the agent in that memory, the engine started.
//!
//! All of it is done by a helper thread (see `helper`) while the program runs. The descriptors of the two memory files
//! are in the helper's own table and go with it, so that no fork of the program can carry one away.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::pid_t;
use trocar_abi::control::{Control, MAGIC, Op, flags};
use trocar_abi::shared::SharedHead;
use trocar_abi::{PAGE, round_up};
use trocar_target::{Failure, FailureKind};

use crate::helper::{Call, Helper, Lenders};
use crate::image::Image;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::memory_file::{make_file, open_memory_file};
use crate::plain::from_bytes;
use crate::region::{Block, ENTRY_CELL, Region};
use crate::request::Stops;
use crate::stop::{Stopped, USER_CS};
use crate::threads::Seen;

/// What is to be loaded.
pub(crate) struct Load<'a> {
    pub(crate) pid: pid_t,
    pub(crate) memory: &'a RemoteMemory,
    pub(crate) image: &'a Image,
    pub(crate) module: &'a [u8],
    /// Empty: there is none.
    pub(crate) stub: &'a [u8],
    pub(crate) region: &'a Region,
    pub(crate) blocks: &'a [Block],
    /// Code of each block.
    pub(crate) block_code: &'a [Vec<u8>],
    pub(crate) shared_len: u64,
    /// Contexts to create.
    pub(crate) contexts: u32,
    /// Makes the private part for a region at this address and these further flags: control block first.
    pub(crate) private: &'a (dyn Fn(u64, u32) -> Vec<u8> + Sync),
    pub(crate) maps: &'a [trocar_target::Mapping],
    /// Some thread has a seccomp filter.
    pub(crate) filtered: bool,
}

/// What was loaded.
pub(crate) struct Loaded {
    /// Address of the region.
    pub(crate) base: u64,
    /// The shared memory's file.
    pub(crate) shared: File,
    /// The control block as the agent left it.
    pub(crate) control: Control,
}

/// Code of all blocks follows the module and the agent's text in one sealed file.
fn block_offsets(load: &Load<'_>) -> (Vec<u64>, u64) {
    let mut offset = load.region.data;
    let mut offsets = Vec::new();
    for block in load.blocks {
        offsets.push(offset);
        offset += block.len - block.gates;
    }
    (offsets, offset)
}

const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const RX: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
const FIXED: u64 = libc::MAP_FIXED as u64;
const NO_FILE: u64 = u64::MAX;

/// Loads and boots. On failure everything that was mapped is unmapped again.
pub(crate) fn load(load: &Load<'_>, stops: &mut Stops) -> Result<Loaded, Failure> {
    let Load { pid, memory, maps, filtered, .. } = *load;
    let lenders = Lenders { pid, memory, maps, filtered };
    let mut helper = Helper::start(&lenders, |t| borrowable(memory, t), stops)?;
    let mut mapped: Vec<Range<u64>> = Vec::new();
    let result = put(load, &mut helper, &mut mapped);
    if result.is_err() {
        let unmap = mapped.iter().map(|r| (libc::SYS_munmap, [r.start, r.end - r.start, 0, 0, 0, 0]));
        // The cause is on its way to the user already; a second failure here means that the target is gone.
        let _ = helper.forget_notes();
        let _ = helper.calls(&unmap.collect::<Vec<Call>>());
    }
    let ended = helper.end();
    let loaded = result?;
    ended.map(|()| loaded)
}

fn put(load: &Load<'_>, helper: &mut Helper<'_>, mapped: &mut Vec<Range<u64>>) -> Result<Loaded, Failure> {
    let Mapped { base, code, shared } = map(load, helper, mapped)?;
    fill(load, base, &code)?;
    let at = std::mem::offset_of!(SharedHead, control) as u64;
    let control = base + load.region.private;
    shared
        .write_all_at(&control.to_le_bytes(), at)
        .map_err(|e| Failure::new(FailureKind::Bug, format!("writing the shared memory's head: {e}")))?;
    boot(load, helper, base, Op::Init)?;
    let control = boot(load, helper, base, Op::Fill)?;
    for block in load.blocks {
        let cell = RemoteAddress(block.address + ENTRY_CELL);
        load.memory.write_word(cell, control.hit_entry).map_err(|e| lost(load.pid, &e))?;
    }
    Ok(Loaded { base, shared, control })
}

/// Maps everything.
fn map(load: &Load<'_>, helper: &mut Helper<'_>, mapped: &mut Vec<Range<u64>>) -> Result<Mapped, Failure> {
    let region = load.region;
    for block in load.blocks {
        let free = ANONYMOUS | libc::MAP_FIXED_NOREPLACE as u64;
        helper.call(libc::SYS_mmap, [block.address, block.len, RW, free, NO_FILE, 0])?;
        helper.note(block.range())?;
        mapped.push(block.range());
    }
    // After the blocks: the kernel could choose for it the very gap that was chosen for one of them.
    let base = helper.call(libc::SYS_mmap, [0, region.len, RW, ANONYMOUS, NO_FILE, 0])?;
    helper.note(base..base + region.len)?;
    mapped.push(base..base + region.len);
    let scratch = base + region.private;
    refuse_forbidden_ticks(load, helper, scratch)?;
    let names = b"trocar-code\0trocar-shared\0";
    load.memory.write(RemoteAddress(scratch), names).map_err(|e| lost(load.pid, &e))?;

    let (code, shared) = map_files(load, helper, base)?;
    // A memory file may be mapped before it has its length.
    for (file, len) in [(&code, block_offsets(load).1), (&shared, load.shared_len)] {
        let made = file.set_len(len).and_then(|()| seal(file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW));
        made.map_err(|e| {
            Failure::new(FailureKind::Bug, format!("a memory file cannot be made {len} bytes long: {e}"))
        })?;
    }
    Ok(Mapped { base, code, shared })
}

/// What [`map`] mapped.
struct Mapped {
    base: u64,
    code: File,
    shared: File,
}

/// Makes both memory files, opens them here and maps them there. Their descriptors end with the helper.
fn map_files(load: &Load<'_>, helper: &mut Helper<'_>, base: u64) -> Result<(File, File), Failure> {
    let region = load.region;
    let names = [base + region.private, base + region.private + 12];
    let made =
        names.map(|name| make_file(|flags| helper.call(libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0])));
    let numbers: Vec<u64> = made.iter().flatten().copied().collect();
    let files: Vec<io::Result<File>> =
        numbers.iter().map(|fd| open_memory_file(load.pid, helper.tid(), *fd)).collect();
    let mut calls: Vec<Call> = Vec::new();
    if let ([code, shared], [Ok(_), Ok(_)]) = (numbers.as_slice(), files.as_slice()) {
        let private = libc::MAP_PRIVATE as u64 | FIXED;
        let public = libc::MAP_SHARED as u64 | FIXED;
        calls.push((libc::SYS_mmap, [base, region.data, RX, private, *code, 0]));
        calls.push((libc::SYS_mmap, [base + region.shared, load.shared_len, RW, public, *shared, 0]));
        for (block, offset) in load.blocks.iter().zip(block_offsets(load).0) {
            let place = block.code();
            calls.push((libc::SYS_mmap, [place.start, place.end - place.start, RX, private, *code, offset]));
        }
    }
    for letter in calls.chunks(LETTER) {
        for answer in helper.calls(letter)? {
            answer?;
        }
    }
    for answer in made {
        answer?;
    }
    let mut files = files.into_iter();
    match (files.next(), files.next()) {
        (Some(Ok(code)), Some(Ok(shared))) => Ok((code, shared)),
        (Some(Err(error)), _) | (_, Some(Err(error))) => Err(Failure::new(
            FailureKind::NotPermitted,
            format!("a memory file of the target {} cannot be opened: {error}", load.pid),
        )),
        _ => Err(Failure::new(FailureKind::Bug, "a memory file is missing")),
    }
}

/// Calls of one letter.
pub(crate) const LETTER: usize = 32;

/// Whether a thread may be taken away from where it is for a moment. Not in the middle of a restartable sequence, which
/// would then run on as if it had not been interrupted (rseq(2); `struct rseq_cs` in `linux/rseq.h`); not in 32-bit code
/// or in a call that was not made by `syscall`, where numbers and registers mean something else; not where the program
/// has its own system calls handed to itself; not one that single-steps itself, or that never runs code of the program
/// (a worker of io_uring).
pub(crate) fn borrowable(memory: &RemoteMemory, thread: &Stopped) -> bool {
    const X32: u64 = 0x4000_0000;
    const TRAP_FLAG: u64 = 0x100;
    let Some(registers) = thread.registers else { return false };
    let by_syscall =
        || memory.bytes(RemoteAddress(registers.rip.wrapping_sub(2)), 2).is_ok_and(|b| b == [0x0f, 0x05]);
    let in_call = registers.orig_rax.cast_signed() >= 0;
    let native = registers.cs == USER_CS && (!in_call || (registers.orig_rax & X32 == 0 && by_syscall()));
    let steps = registers.eflags & TRAP_FLAG != 0;
    if !native || steps || registers.rip == 0 || crate::ptrace::dispatches_calls(thread.tid) {
        return false;
    }
    let area = crate::ptrace::rseq_area(thread.tid);
    if area == 0 {
        return true;
    }
    let word = |at: u64| memory.word(RemoteAddress(at)).unwrap_or(0);
    let section = word(area.wrapping_add(8));
    let (start, len) = (word(section.wrapping_add(8)), word(section.wrapping_add(16)));
    section == 0 || !(start..start.saturating_add(len)).contains(&thread.ip)
}

/// A thread whose reading of the time-stamp counter faults (PR_SET_TSC) would die of our timing of hits.
fn refuse_forbidden_ticks(load: &Load<'_>, helper: &mut Helper<'_>, scratch: u64) -> Result<(), Failure> {
    const FAULTS: u32 = 2; // PR_TSC_SIGSEGV
    helper.call(libc::SYS_prctl, [libc::PR_GET_TSC as u64, scratch, 0, 0, 0, 0])?;
    let mut answer = [0; 4];
    load.memory.read(RemoteAddress(scratch), &mut answer).map_err(|e| lost(load.pid, &e))?;
    if u32::from_le_bytes(answer) == FAULTS {
        return Err(Failure::new(
            FailureKind::NothingPatched,
            format!("process {} forbids itself to read the time-stamp counter (PR_SET_TSC)", load.pid),
        ));
    }
    Ok(())
}

/// The flag of [`thread_pointers`] while no thread of the program has been seen: what our helper can do.
fn helpers_flag() -> u32 {
    if has_fsgsbase() { 0 } else { flags::FS0_SELF }
}

/// Whether `fs:0` may stand for the thread pointer: it does where it holds it in every thread.
pub(crate) fn thread_pointers(
    memory: &RemoteMemory,
    pointers: impl Iterator<Item = u64>,
) -> Result<u32, Failure> {
    let mut pointers = pointers;
    if pointers.all(|p| p != 0 && memory.word(RemoteAddress(p)).is_ok_and(|word| word == p)) {
        return Ok(flags::FS0_SELF);
    }
    if has_fsgsbase() {
        return Ok(0);
    }
    Err(Failure::new(
        FailureKind::NothingPatched,
        "the target's threads do not keep their thread pointer at fs:0, and this machine has no FSGSBASE",
    ))
}

/// Where in their control blocks all threads have their ids, as bits of [`flags`]: so a thread is told from a later one that has
/// the same thread pointer, but not the same stack. Zero: not known. `threads`: with the ids that they have in their own
/// namespace.
pub(crate) fn thread_ids(memory: &RemoteMemory, threads: &[Seen]) -> u32 {
    /// `tid` in `struct pthread` of glibc (behind a head of 704 bytes and a list) and of musl (`pthread_impl.h`).
    const PLACES: [u32; 2] = [0x2d0, 0x30];
    let is_at = |place: u32| {
        threads.iter().all(|thread| {
            let mut word = [0; 4];
            let at = RemoteAddress(thread.pointer).plus(u64::from(place));
            memory.read(at, &mut word).is_ok() && i32::from_le_bytes(word) == thread.tid
        })
    };
    let place = PLACES.into_iter().find(|place| !threads.is_empty() && is_at(*place));
    place.unwrap_or(0) << flags::THREAD_ID_SHIFT
}

/// Whether user code may read the thread pointer (`asm/hwcap2.h`, HWCAP2_FSGSBASE).
#[expect(unsafe_code, reason = "the auxiliary vector has no safe interface in std")]
fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: takes a number.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

fn fill(load: &Load<'_>, base: u64, code: &File) -> Result<(), Failure> {
    let wrong = |e: io::Error| Failure::new(FailureKind::Bug, format!("filling the code of the agent: {e}"));
    code.write_all_at(load.module, load.region.module).map_err(wrong)?;
    code.write_all_at(load.stub, load.region.stub).map_err(wrong)?;
    code.write_all_at(&load.image.text, load.region.text).map_err(wrong)?;
    let (offsets, _) = block_offsets(load);
    for (bytes, offset) in load.block_code.iter().zip(offsets) {
        code.write_all_at(bytes, offset).map_err(wrong)?;
    }
    // After this nobody can write the code, neither the target nor we.
    seal(code, libc::F_SEAL_WRITE | libc::F_SEAL_SEAL).map_err(wrong)?;
    let gone = |e: io::Error| lost(load.pid, &e);
    let data = load.image.data_at(base + load.region.text)?;
    load.memory.write(RemoteAddress(base + load.region.data), &data).map_err(gone)?;
    load.memory
        .write(RemoteAddress(base + load.region.private), &(load.private)(base, helpers_flag()))
        .map_err(gone)
}

#[expect(unsafe_code, reason = "sealing a file has no safe interface in std")]
fn seal(file: &File, seals: i32) -> io::Result<()> {
    // SAFETY: a request on a descriptor of ours, with a number.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs one operation of the agent on the helper. Returns the control block after it.
pub(crate) fn operate(
    pid: pid_t,
    memory: &RemoteMemory,
    helper: &mut Helper<'_>,
    entry: RemoteAddress,
    stack_top: RemoteAddress,
    control: RemoteAddress,
    op: Op,
) -> Result<Control, Failure> {
    helper.run(entry, [op as u64, control.0], stack_top)?;
    let bytes = memory.bytes(control, size_of::<Control>()).map_err(|e| lost(pid, &e))?;
    let block: Control =
        from_bytes(&bytes).ok_or_else(|| Failure::new(FailureKind::Bug, "a short control block"))?;
    if block.magic != MAGIC || block.failed != 0 {
        let len = usize::try_from(block.message_len).unwrap_or(0).min(block.message.len());
        let text = String::from_utf8_lossy(block.message.get(..len).unwrap_or(&[])).into_owned();
        return Err(Failure::new(
            FailureKind::BadProbe,
            format!("the agent could not start the probe: {text}"),
        ));
    }
    Ok(block)
}

fn boot(load: &Load<'_>, helper: &mut Helper<'_>, base: u64, op: Op) -> Result<Control, Failure> {
    let at = |offset: u64| RemoteAddress(base + offset);
    let control = at(load.region.private);
    if op == Op::Fill {
        let wanted = control.plus(std::mem::offset_of!(Control, contexts_wanted) as u64);
        load.memory.write(wanted, &load.contexts.to_le_bytes()).map_err(|e| lost(load.pid, &e))?;
    }
    let entry = at(load.region.text + load.image.entry);
    operate(load.pid, load.memory, helper, entry, at(load.region.stack_top), control, op)
}

pub(crate) fn lost(pid: pid_t, error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::NoProcess,
        format!("the memory of process {pid} cannot be reached any more: {error}"),
    )
    .hint("it has ended, or it has started another program")
}

/// Text that cannot be read while the process is there: its module was unloaded.
pub(crate) fn unreadable(pid: pid_t, at: u64, error: &io::Error) -> Failure {
    if error.raw_os_error() != Some(libc::EIO) {
        return lost(pid, error);
    }
    Failure::new(FailureKind::NothingPatched, format!("the text at {at:#x} is not there any more: {error}"))
        .hint("its module was unloaded; run the command again: what is loaded by then is probed")
}

/// Address of the vdso's clock, zero if there is none, or if it would make a system call: so it does where the machine's
/// clock is not one that user code can read (`vdso_clock_mode` in `include/vdso/clocksource.h`).
pub(crate) fn find_clock(memory: &RemoteMemory, maps: &[trocar_target::Mapping]) -> u64 {
    use object::{Object, ObjectSymbol};
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if !is_read_by_user_code(&std::fs::read_to_string(SOURCE).unwrap_or_default()) {
        return 0;
    }
    let Some(vdso) = maps.iter().find(|m| m.is_special("[vdso]")) else { return 0 };
    let len = usize::try_from(round_up(vdso.end - vdso.start, PAGE)).unwrap_or(0);
    let bytes = memory.some(RemoteAddress(vdso.start), len);
    let Ok(file) = object::File::parse(&*bytes) else { return 0 };
    let clock = file.dynamic_symbols().find(|s| s.name() == Ok("__vdso_clock_gettime"));
    clock.map_or(0, |s| vdso.start.wrapping_add(s.address()))
}

/// Whether the vdso reads this clock by itself.
fn is_read_by_user_code(source: &str) -> bool {
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"].contains(&source.trim())
}

#[cfg(test)]
mod tests {
    use super::is_read_by_user_code;

    #[test]
    fn only_clocks_that_user_code_can_read_are_asked_in_a_hit() {
        assert!(
            ["tsc\n", "kvm-clock\n", "hyperv_clocksource_tsc_page\n"].into_iter().all(is_read_by_user_code)
        );
        assert!(!["hpet\n", "acpi_pm\n", "jiffies\n", "xen\n", ""].into_iter().any(is_read_by_user_code));
    }
}
