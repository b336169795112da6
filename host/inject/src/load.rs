//! First transaction: memory in the target, the agent in that memory, the engine started.
//!
//! The descriptors of the two memory files exist in the target only while every thread is stopped, so that no fork can
//! carry one away. Everything slow (filling, starting the engine) happens after the others run again, on one borrowed
//! thread.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use libc::pid_t;
use trocar_abi::control::{Control, MAGIC, Op, flags};
use trocar_abi::{PAGE, round_up};
use trocar_target::{Failure, FailureKind};

use crate::borrow::Borrowed;
use crate::image::Image;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;
use crate::ptrace::Registers;
use crate::region::{Block, ENTRY_CELL, Region};
use crate::request::Stops;
use crate::server::{Call, Server};
use crate::stop::{Stopped, World};
use crate::threads::Seen;

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
    /// The threads there were.
    pub(crate) seen: Vec<Seen>,
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
    let thread = World::stop_one(load.pid, load.filtered, |t| borrowable(load.memory, t))?;
    let mut borrowed = Borrowed::new(load.pid, thread, load.instruction)?;
    let mut mapped: Vec<Range<u64>> = Vec::new();
    let result = put(load, &mut borrowed, &mut mapped, stops);
    if result.is_err() {
        for range in mapped {
            // The cause is on its way to the user already; a second failure here means that the target is gone.
            let _ =
                borrowed.system_call(libc::SYS_munmap, [range.start, range.end - range.start, 0, 0, 0, 0]);
        }
    }
    borrowed.give_back()?.let_go(load.pid);
    result
}

fn put(
    load: &Load<'_>,
    borrowed: &mut Borrowed,
    mapped: &mut Vec<Range<u64>>,
    stops: &mut Stops,
) -> Result<Loaded, Failure> {
    let tid = borrowed.tid();
    let own = borrowed.original();
    let mut server = Server::start(borrowed, load.memory)?;
    let result = map(load, &mut server, (tid, &own), mapped, stops);
    server.end()?;
    let Mapped { base, code, shared, flags, seen } = result?;
    fill(load, base, &code, flags)?;
    boot(load, borrowed, base, Op::Init)?;
    let control = boot(load, borrowed, base, Op::Fill)?;
    for block in load.blocks {
        let cell = RemoteAddress(block.address + ENTRY_CELL);
        load.memory.write_word(cell, control.hit_entry).map_err(|e| lost(load.pid, &e))?;
    }
    Ok(Loaded { base, shared, control, seen })
}

/// Maps everything. What needs no file is mapped while the other threads run; the files exist in the target only while
/// every thread is stopped.
fn map(
    load: &Load<'_>,
    server: &mut Server<'_>,
    (tid, own): (pid_t, &Registers),
    mapped: &mut Vec<Range<u64>>,
    stops: &mut Stops,
) -> Result<Mapped, Failure> {
    let region = load.region;
    for block in load.blocks {
        let free = ANONYMOUS | libc::MAP_FIXED_NOREPLACE as u64;
        server.call(libc::SYS_mmap, [block.address, block.len, RW, free, NO_FILE, 0])?;
        mapped.push(block.range());
    }
    // After the blocks: the kernel could choose for it the very gap that was chosen for one of them.
    let base = server.call(libc::SYS_mmap, [0, region.len, RW, ANONYMOUS, NO_FILE, 0])?;
    mapped.push(base..base + region.len);
    let scratch = base + region.private;
    refuse_forbidden_ticks(load, server, scratch)?;
    let names = b"trocar-code\0trocar-shared\0";
    load.memory.write(RemoteAddress(scratch), names).map_err(|e| lost(load.pid, &e))?;

    let world = World::stop(load.pid, Some(tid), |_| true)?;
    let files = map_files(load, server, base, tid);
    let seen = world.threads.iter().filter_map(|t| Some((t.tid, t.registers?))).chain([(tid, *own)]);
    let seen: Vec<Seen> = seen.map(|(tid, r)| Seen { tid, pointer: r.fs_base, sp: r.rsp }).collect();
    stops.add(world.release());
    let (code, shared) = files?;
    // A memory file may be mapped before it has its length; so that is set when the others run again.
    for (file, len) in [(&code, block_offsets(load).1), (&shared, load.shared_len)] {
        let made = file.set_len(len).and_then(|()| seal(file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW));
        made.map_err(|e| {
            Failure::new(FailureKind::Bug, format!("a memory file cannot be made {len} bytes long: {e}"))
        })?;
    }
    let flags = thread_pointer_flags(load, &seen)?;
    Ok(Mapped { base, code, shared, flags, seen })
}

/// What [`map`] mapped.
struct Mapped {
    base: u64,
    code: File,
    shared: File,
    flags: u32,
    seen: Vec<Seen>,
}

/// Makes both memory files, opens them here, maps them and closes them there: two letters to the server.
fn map_files(
    load: &Load<'_>,
    server: &mut Server<'_>,
    base: u64,
    tid: pid_t,
) -> Result<(File, File), Failure> {
    let region = load.region;
    let names = [base + region.private, base + region.private + 12];
    let make = |flags: u64| names.map(|name| (libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0]));
    let mut made = server.calls(&make(MEMFD_FLAGS))?;
    if made.iter().all(Result::is_err) {
        // Before Linux 6.3 there was no MFD_NOEXEC_SEAL.
        made = server.calls(&make(u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)))?;
    }
    let numbers: Vec<u64> = made.iter().flatten().copied().collect();
    let files: Vec<io::Result<File>> = numbers.iter().map(|fd| open_memory_file(tid, *fd)).collect();
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
    // Whatever became of the rest, the descriptors do not stay.
    let close = numbers.iter().map(|fd| (libc::SYS_close, [*fd, 0, 0, 0, 0, 0]));
    let letters: Vec<Call> = calls.into_iter().chain(close).collect();
    for letter in letters.chunks(LETTER) {
        for answer in server.calls(letter)? {
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
const LETTER: usize = 48;

/// Opens a memory file of the target here. Works across mount and pid namespaces.
fn open_memory_file(tid: pid_t, fd: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(format!("/proc/{tid}/fd/{fd}"))?;
    // A file of ours is new and nameless. Whatever else the target's number leads to (a program that shares the memory
    // could forge it) must not be touched with our rights.
    let facts = file.metadata()?;
    if facts.len() != 0 || facts.nlink() != 0 || !can_be_sealed(&file) {
        return Err(io::Error::other("the descriptor is not the memory file that was made"));
    }
    Ok(file)
}

/// Whether a thread may be taken away from where it is: not in the middle of a restartable sequence, which would then run
/// on as if it had not been interrupted (rseq(2); `struct rseq_cs` in `linux/rseq.h`).
pub(crate) fn borrowable(memory: &RemoteMemory, thread: &Stopped) -> bool {
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
fn refuse_forbidden_ticks(load: &Load<'_>, server: &mut Server<'_>, scratch: u64) -> Result<(), Failure> {
    const FAULTS: u32 = 2; // PR_TSC_SIGSEGV
    server.call(libc::SYS_prctl, [libc::PR_GET_TSC as u64, scratch, 0, 0, 0, 0])?;
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

/// Whether `fs:0` may stand for the thread pointer: it does where it holds it in every thread.
fn thread_pointer_flags(load: &Load<'_>, seen: &[Seen]) -> Result<u32, Failure> {
    let mut pointers = seen.iter().map(|s| s.pointer);
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

#[expect(unsafe_code, reason = "seals have no safe interface in std")]
fn can_be_sealed(file: &File) -> bool {
    // SAFETY: a request on a descriptor of ours, without an argument. Only memory files answer it.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) >= 0 }
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
    Failure::new(
        FailureKind::NoProcess,
        format!("the memory of process {pid} cannot be reached any more: {error}"),
    )
    .hint("it has ended, or it has started another program")
}

/// Address of a `syscall` instruction: in the vdso, which every process has, else in any text.
pub(crate) fn find_syscall(
    memory: &RemoteMemory,
    maps: &[trocar_target::Mapping],
) -> Result<RemoteAddress, Failure> {
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
