//! First transaction: memory in the target, the agent in that memory, the engine started.
//!
//! The descriptors of the two memory files exist in the target only while every thread is stopped, so that no fork can
//! carry one away. Everything slow (filling, starting the engine) happens after the others run again, on one borrowed
//! thread.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::pid_t;
use trocar_abi::control::{Control, MAGIC, Op, flags};
use trocar_abi::{PAGE, round_up};
use trocar_target::{Failure, FailureKind};

use crate::borrow::Borrowed;
use crate::image::Image;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;
use crate::region::{Block, ENTRY_CELL, Region};
use crate::request::Stops;
use crate::stop::{STOP_DEADLINE, Stopped, World};

/// What is to be loaded.
pub(crate) struct Load<'a> {
    pub(crate) pid: pid_t,
    pub(crate) memory: &'a RemoteMemory,
    pub(crate) image: &'a Image,
    pub(crate) module: &'a [u8],
    pub(crate) region: &'a Region,
    pub(crate) blocks: &'a [Block],
    /// Code of each block.
    pub(crate) block_code: &'a [Vec<u8>],
    pub(crate) shared_len: u64,
    /// Contexts to create.
    pub(crate) contexts: u32,
    /// Makes the private part for a region at this address and these further flags: control block first.
    pub(crate) private: &'a (dyn Fn(u64, u32) -> Vec<u8> + Sync),
    /// Address of a `syscall` instruction.
    pub(crate) instruction: RemoteAddress,
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
const MEMFD_FLAGS: u64 = (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL) as u64;
const NO_FILE: u64 = u64::MAX;

/// Loads and boots. On failure everything that was mapped is unmapped again.
pub(crate) fn load(load: &Load<'_>, stops: &mut Stops) -> Result<Loaded, Failure> {
    let world = World::stop(load.pid, STOP_DEADLINE, |_| true)?;
    let tid = lender(&world)?;
    let mut world = world;
    let thread = take(&mut world, tid)?;
    let mut borrowed = Borrowed::new(load.pid, thread, load.instruction)?;
    let mut mapped: Vec<(u64, u64)> = Vec::new();
    let mut open = Vec::new();
    let flags = thread_pointer_flags(load, &world, &borrowed);
    let result = flags.and_then(|flags| {
        let (base, code, shared) = map(load, &mut borrowed, &mut mapped, &mut open)?;
        Ok((base, code, shared, flags))
    });
    for fd in open {
        // Only after a failure, whose cause is on its way to the user.
        let _ = borrowed.system_call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
    stops.add(world.release());
    let result = result.and_then(|(base, code, shared, flags)| {
        fill(load, base, &code, flags)?;
        boot(load, &mut borrowed, base, Op::Init)?;
        let control = boot(load, &mut borrowed, base, Op::Fill)?;
        for block in load.blocks {
            let cell = RemoteAddress(block.address + ENTRY_CELL);
            load.memory.write_word(cell, control.hit_entry).map_err(|e| lost(load.pid, &e))?;
        }
        Ok(Loaded { base, shared, control })
    });
    if result.is_err() {
        for (address, len) in mapped {
            // The cause is on its way to the user already; a second failure here means that the target is gone.
            let _ = borrowed.system_call(libc::SYS_munmap, [address, len, 0, 0, 0, 0]);
        }
    }
    borrowed.give_back()?.let_go(load.pid);
    result
}

/// The thread that is borrowed: one that sleeps in a system call if there is one, the first thread last, because in
/// most servers it does the work.
pub(crate) fn lender(world: &World) -> Result<pid_t, Failure> {
    let able = || world.threads.iter().filter(|t| t.registers.is_some());
    let asleep = |t: &&Stopped| t.registers.is_some_and(|r| r.orig_rax.cast_signed() >= 0);
    able().rev().find(asleep).or_else(|| able().next_back()).map(|t| t.tid).ok_or_else(|| {
        Failure::new(FailureKind::NothingPatched, "every thread of the target sleeps where it cannot be stopped")
            .hint("a vfork parent or an uninterruptible sleep; try again when it has ended")
    })
}

/// Takes one thread out of a stopped world.
pub(crate) fn take(world: &mut World, tid: pid_t) -> Result<Stopped, Failure> {
    let at = world.threads.iter().position(|t| t.tid == tid);
    at.map(|i| world.threads.swap_remove(i)).ok_or_else(|| Failure::new(FailureKind::Bug, "no such thread"))
}

/// Maps everything, while all threads are stopped. Returns the region's address and our ends of the two files.
fn map(
    load: &Load<'_>,
    borrowed: &mut Borrowed,
    mapped: &mut Vec<(u64, u64)>,
    open: &mut Vec<u64>,
) -> Result<(u64, File, File), Failure> {
    let (offsets, code_len) = block_offsets(load);
    let region = load.region;
    let base = borrowed.system_call(libc::SYS_mmap, [0, region.len, RW, ANONYMOUS, NO_FILE, 0])?;
    mapped.push((base, region.len));
    let (code_fd, code) = memory_file(load, borrowed, base, b"trocar-code\0", code_len)?;
    open.push(code_fd);
    let (shared_fd, shared) = memory_file(load, borrowed, base, b"trocar-shared\0", load.shared_len)?;
    open.push(shared_fd);
    let private = libc::MAP_PRIVATE as u64 | FIXED;
    borrowed.system_call(libc::SYS_mmap, [base, region.data, RX, private, code_fd, 0])?;
    let at = base + region.shared;
    borrowed.system_call(libc::SYS_mmap, [at, load.shared_len, RW, libc::MAP_SHARED as u64 | FIXED, shared_fd, 0])?;
    for (block, offset) in load.blocks.iter().zip(offsets) {
        let free = ANONYMOUS | libc::MAP_FIXED_NOREPLACE as u64;
        borrowed.system_call(libc::SYS_mmap, [block.address, block.len, RW, free, NO_FILE, 0])?;
        mapped.push((block.address, block.len));
        let start = block.code().start;
        borrowed.system_call(libc::SYS_mmap, [start, block.len - block.gates, RX, private, code_fd, offset])?;
    }
    while let Some(fd) = open.pop() {
        borrowed.system_call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    Ok((base, code, shared))
}

/// Whether `fs:0` may stand for the thread pointer: it does where it holds it in every thread.
fn thread_pointer_flags(load: &Load<'_>, world: &World, borrowed: &Borrowed) -> Result<u32, Failure> {
    let own = borrowed.original();
    let mut pointers = world.threads.iter().filter_map(|t| t.registers).chain([own]).map(|r| r.fs_base);
    if pointers.all(|p| p != 0 && load.memory.word(RemoteAddress(p)).is_ok_and(|word| word == p)) {
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

/// Whether user code may read the thread pointer (`asm/hwcap2.h`, HWCAP2_FSGSBASE).
#[expect(unsafe_code, reason = "the auxiliary vector has no safe interface in std")]
fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: takes a number.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

/// Makes a memory file in the target and opens it here. Works across mount and pid namespaces.
fn memory_file(
    load: &Load<'_>,
    borrowed: &mut Borrowed,
    scratch: u64,
    name: &[u8],
    len: u64,
) -> Result<(u64, File), Failure> {
    load.memory.write(RemoteAddress(scratch), name).map_err(|e| lost(load.pid, &e))?;
    let number = libc::SYS_memfd_create;
    let fd = borrowed.system_call(number, [scratch, MEMFD_FLAGS, 0, 0, 0, 0]).or_else(|_| {
        // Before Linux 6.3 there was no MFD_NOEXEC_SEAL.
        let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        borrowed.system_call(number, [scratch, flags, 0, 0, 0, 0])
    })?;
    let path = format!("/proc/{}/fd/{fd}", borrowed.tid());
    let opened = OpenOptions::new().read(true).write(true).open(path).and_then(|f| f.set_len(len).map(|()| f));
    match opened {
        Ok(file) => {
            seal(&file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW).map_err(|e| lost(load.pid, &e))?;
            Ok((fd, file))
        }
        Err(error) => {
            borrowed.system_call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
            Err(Failure::new(FailureKind::NotPermitted, format!("a memory file of the target cannot be opened: {error}")))
        }
    }
}

fn fill(load: &Load<'_>, base: u64, code: &File, flags: u32) -> Result<(), Failure> {
    let wrong = |e: io::Error| Failure::new(FailureKind::Bug, format!("filling the code of the agent: {e}"));
    code.write_all_at(load.module, load.region.module).map_err(wrong)?;
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
    load.memory.write(RemoteAddress(base + load.region.private), &(load.private)(base, flags)).map_err(gone)
}

#[expect(unsafe_code, reason = "sealing a file has no safe interface in std")]
fn seal(file: &File, seals: i32) -> io::Result<()> {
    // SAFETY: a request on a descriptor of ours, with a number.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs one operation of the agent on the borrowed thread. Returns the control block after it.
pub(crate) fn operate(
    pid: pid_t,
    memory: &RemoteMemory,
    borrowed: &mut Borrowed,
    entry: RemoteAddress,
    stack_top: RemoteAddress,
    control: RemoteAddress,
    op: Op,
) -> Result<Control, Failure> {
    let done_at = control.plus(std::mem::offset_of!(Control, done) as u64);
    memory.write(done_at, &0u32.to_le_bytes()).map_err(|e| lost(pid, &e))?;
    borrowed.run(entry, stack_top, [op as u64, control.0], |_| {
        let mut done = [0; 4];
        memory.read(done_at, &mut done).map_err(|e| lost(pid, &e))?;
        Ok(u32::from_le_bytes(done) != 0)
    })?;
    let bytes = memory.bytes(control, size_of::<Control>()).map_err(|e| lost(pid, &e))?;
    let block: Control = from_bytes(&bytes).ok_or_else(|| Failure::new(FailureKind::Bug, "a short control block"))?;
    if block.magic != MAGIC || block.failed != 0 {
        let len = usize::try_from(block.message_len).unwrap_or(0).min(block.message.len());
        let text = String::from_utf8_lossy(block.message.get(..len).unwrap_or(&[])).into_owned();
        return Err(Failure::new(FailureKind::BadProbe, format!("the agent could not start the probe: {text}")));
    }
    Ok(block)
}

fn boot(load: &Load<'_>, borrowed: &mut Borrowed, base: u64, op: Op) -> Result<Control, Failure> {
    let at = |offset: u64| RemoteAddress(base + offset);
    let control = at(load.region.private);
    if op == Op::Fill {
        let wanted = control.plus(std::mem::offset_of!(Control, contexts_wanted) as u64);
        load.memory.write(wanted, &load.contexts.to_le_bytes()).map_err(|e| lost(load.pid, &e))?;
    }
    let entry = at(load.region.text + load.image.entry);
    operate(load.pid, load.memory, borrowed, entry, at(load.region.stack_top), control, op)
}

pub(crate) fn lost(pid: pid_t, error: &io::Error) -> Failure {
    Failure::new(FailureKind::NoProcess, format!("the memory of process {pid} cannot be reached any more: {error}"))
        .hint("it has ended, or it has started another program")
}

/// Address of a `syscall` instruction: in the vdso, which every process has, else in any text.
pub(crate) fn find_syscall(memory: &RemoteMemory, maps: &[trocar_target::Mapping]) -> Result<RemoteAddress, Failure> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    const LOOK: u64 = 4 << 20;
    let mut texts: Vec<_> = maps.iter().filter(|m| m.execute && m.read).collect();
    texts.sort_by_key(|m| !m.is_special("[vdso]"));
    for text in texts {
        let len = usize::try_from((text.end - text.start).min(LOOK)).unwrap_or(0);
        let bytes = memory.some(RemoteAddress(text.start), len);
        if let Some(at) = bytes.windows(2).position(|w| w == SYSCALL) {
            return Ok(RemoteAddress(text.start + at as u64));
        }
    }
    Err(Failure::new(FailureKind::NothingPatched, "no system-call instruction was found in the target"))
}

/// Address of the vdso's clock, zero if there is none.
pub(crate) fn find_clock(memory: &RemoteMemory, maps: &[trocar_target::Mapping]) -> u64 {
    use object::{Object, ObjectSymbol};
    let Some(vdso) = maps.iter().find(|m| m.is_special("[vdso]")) else { return 0 };
    let len = usize::try_from(round_up(vdso.end - vdso.start, PAGE)).unwrap_or(0);
    let bytes = memory.some(RemoteAddress(vdso.start), len);
    let Ok(file) = object::File::parse(&*bytes) else { return 0 };
    let clock = file.dynamic_symbols().find(|s| s.name() == Ok("__vdso_clock_gettime"));
    clock.map_or(0, |s| vdso.start.wrapping_add(s.address()))
}
