//! Second transaction: the jumps are written, in one stop of the whole process. The gates are opened afterwards.
//!
//! Everything slow was done before. In the stop: threads between two instructions of a window go on in its copy;
//! stacks are searched for instruction pointers that a signal handler would return to inside a window; then the few
//! bytes of each site.

use std::ops::Range;

use libc::pid_t;
use trocar_abi::{PAGE, round_up};
use trocar_patch::{Patch, Trampoline, reaches_in};
use trocar_target::{Failure, FailureKind, Mapping};

use crate::load::{lost, unreadable};
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::Stops;
use crate::semaphores::Raised;
use crate::stacks::{live_stacks, of_all_stacks};
use crate::stop::{Stopped, World};
use crate::threads::Seen;
use crate::tracer;
use crate::watched::Watched;

/// Tries before a site that some thread will not leave is given up.
const TRIES: u32 = 50;

/// Sites whose pages are copied in one stop.
const COPIED_AT_ONCE: usize = 128;

/// What arming saw.
#[derive(Debug)]
pub(crate) struct Armed {
    /// Threads that were stopped.
    pub(crate) threads: usize,
    /// Those of them that have registers.
    pub(crate) seen: Vec<Seen>,
}

/// What is to be armed.
pub(crate) struct Arm<'a> {
    pub(crate) trampolines: &'a [Trampoline],
    pub(crate) modules: &'a [Watched],
    pub(crate) semaphores: &'a [Raised],
}

/// Writes every jump and raises the semaphores. Returns the threads that were stopped.
pub(crate) fn arm(
    pid: pid_t,
    memory: &RemoteMemory,
    what: &Arm<'_>,
    stops: &mut Stops,
) -> Result<Armed, Failure> {
    let trampolines = what.trampolines;
    if trampolines.len() > COPIED_AT_ONCE {
        trampolines.chunks(COPIED_AT_ONCE).try_for_each(|some| copy_pages(pid, memory, what, some, stops))?;
    }
    let mut windows: Vec<&Trampoline> = trampolines.iter().collect();
    windows.sort_by_key(|t| t.window.start);
    let inner: Vec<Range<u64>> =
        windows.iter().filter(|t| t.twins.len() > 1).map(|t| t.window.clone()).collect();
    let inside = |ip: u64| {
        let after = windows.partition_point(|t| t.window.start < ip);
        after.checked_sub(1).and_then(|i| windows.get(i)).filter(|t| ip < t.window.end).copied()
    };
    for attempt in 0.. {
        // Anew each time: a stack that lies beside memory which is gone since would count as one that cannot be searched.
        let maps = trocar_target::maps(pid)?;
        let mut world = World::stop(pid, |ip| inside(ip).is_none())?;
        let threads = world.threads.len();
        let maps = of_all_stacks(pid, maps, &world.threads)?;
        if let Some(thread) = world.threads.iter().find(|t| returns_into(memory, t, &maps, &inner)) {
            let tid = thread.tid;
            stops.add(world.release());
            if attempt == TRIES {
                return Err(Failure::new(
                    FailureKind::NothingPatched,
                    format!(
                        "thread {tid} sleeps in a signal handler that would return into the middle of a site"
                    ),
                )
                .hint("try again later, or at another instruction: trocar points --plan"));
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        let mut count = 0;
        let written = still_there(memory, what)
            .and_then(|()| write(pid, memory, &mut world, trampolines, &inside, &mut count));
        if written.is_err() {
            // Only what was written here: what another tool has at the next site is not ours to undo.
            restore(memory, trampolines.iter().take(count), false);
        }
        // One that cannot be raised is the caller's to undo, with the text.
        let written = written.and_then(|()| what.semaphores.iter().try_for_each(|s| s.raise(memory)));
        let mut seen: Vec<Seen> = world.threads.iter().filter_map(Seen::of).collect();
        stops.add(world.release());
        written?;
        // Who slept is known when it has stopped, which may be after the others went on.
        seen.extend(tracer::drain());
        return Ok(Armed { threads, seen });
    }
    Err(Failure::new(FailureKind::Bug, "arming ended without a result"))
}

fn write<'a>(
    pid: pid_t,
    memory: &RemoteMemory,
    world: &mut World,
    trampolines: &[Trampoline],
    inside: &impl Fn(u64) -> Option<&'a Trampoline>,
    count: &mut usize,
) -> Result<(), Failure> {
    for thread in &mut world.threads {
        let Some(mut registers) = thread.registers else { continue };
        let Some(window) = inside(registers.rip) else { continue };
        let Some(twin) = window.twin_of(registers.rip) else {
            return Err(Failure::new(
                FailureKind::Bug,
                format!("thread {} of {pid} is at {:#x}, inside an instruction", thread.tid, registers.rip),
            ));
        };
        registers.rip = twin;
        thread.set_registers(registers).map_err(|e| lost(pid, &e))?;
    }
    // All before any is written: afterwards sites of our own would be somebody's patch in front of their neighbours.
    trampolines.iter().try_for_each(|t| unchanged(pid, memory, t))?;
    for trampoline in trampolines {
        // If writing fails half way, what was written is undone.
        *count += 1;
        for patch in trampoline.patches() {
            memory.write(RemoteAddress(patch.address), &patch.bytes).map_err(|e| lost(pid, &e))?;
        }
    }
    Ok(())
}

/// Makes our private copies of the pages under many sites before the stop in which all of them are written, which would
/// take too long else: by writing what is there. In a stop too: a module may go at any other time, and what comes to lie
/// in its place is not ours to write.
fn copy_pages(
    pid: pid_t,
    memory: &RemoteMemory,
    what: &Arm<'_>,
    trampolines: &[Trampoline],
    stops: &mut Stops,
) -> Result<(), Failure> {
    let world = World::stop(pid, |_| true)?;
    still_there(memory, what)?;
    for trampoline in trampolines {
        unchanged(pid, memory, trampoline)?;
        for patch in trampoline.patches() {
            memory.write(RemoteAddress(patch.address), &patch.original).map_err(|e| lost(pid, &e))?;
        }
    }
    stops.add(world.release());
    Ok(())
}

/// That the modules are still the ones that the plan was made for.
fn still_there(memory: &RemoteMemory, what: &Arm<'_>) -> Result<(), Failure> {
    let other = |m: &&Watched| m.head.as_ref().is_some_and(|head| !head.is_there(memory));
    let Some(module) = what.modules.iter().find(other) else { return Ok(()) };
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("{} was unloaded while we were about to patch it", module.name),
    )
    .hint("run the command again: what is loaded by then is probed"))
}

/// That the text is still what the plan was made for: the window, and what is written outside of it.
fn unchanged(pid: pid_t, memory: &RemoteMemory, trampoline: &Trampoline) -> Result<(), Failure> {
    let window = &trampoline.window;
    let outside =
        trampoline.patches().iter().filter(|p| p.address < window.start || p.range().end > window.end);
    let outside = outside.map(|p| (p.address, &p.original));
    for (at, original) in std::iter::once((window.start, &trampoline.original)).chain(outside) {
        let live = memory.bytes(RemoteAddress(at), original.len()).map_err(|e| unreadable(pid, at, &e))?;
        if live != *original {
            return Err(Failure::new(
                FailureKind::NothingPatched,
                format!("the code at {at:#x} changed while we were about to patch it"),
            )
            .hint("another tool patches the same place, or the program patches itself"));
        }
    }
    for patch in trampoline.patches() {
        let start = RemoteAddress(patch.address.wrapping_sub(patch.before.len() as u64));
        let live = memory.bytes(start, patch.before.len()).map_err(|e| unreadable(pid, start.0, &e))?;
        if reaches_in(&patch.before, &live) {
            return Err(Failure::new(
                FailureKind::NothingPatched,
                format!("a patch in front of {:#x} reaches into what we were about to patch", patch.address),
            )
            .hint("another trocar or another tool patches the same place"));
        }
    }
    Ok(())
}

/// Puts the original bytes back where our jumps are. What is there now and is neither ours nor the original (another tool
/// came) is left alone, and where nothing is mapped any more there is nothing to restore. So is all slack while it is
/// `awaited` (a signal handler will return to a jump in it); it can be restored later. Returns the addresses of what was
/// left alone.
pub(crate) fn restore<'a>(
    memory: &RemoteMemory,
    trampolines: impl IntoIterator<Item = &'a Trampoline>,
    awaited: bool,
) -> Vec<u64> {
    let mut changed = Vec::new();
    for trampoline in trampolines {
        // The window's start comes first: as long as its jump may be there, the jump that it leads to stays.
        let mut keep = false;
        for patch in trampoline.undo() {
            let at = RemoteAddress(patch.address);
            let live = memory.some(at, patch.bytes.len());
            if live.is_empty() {
                continue;
            }
            keep |= awaited && patch.address != trampoline.window.start;
            let restored = if live != patch.original && is_ours(patch, &live) && !keep {
                memory.write(at, &patch.original).is_ok()
            } else {
                live == patch.original
            };
            if !restored {
                changed.push(patch.address);
                keep = true;
            }
        }
    }
    changed
}

/// Whether these are the bytes that we have written there. A write that was cut off between two pages leaves bytes of both.
fn is_ours(patch: &Patch, live: &[u8]) -> bool {
    let first = usize::try_from(round_up(patch.address, PAGE) - patch.address).unwrap_or(0);
    let cut = |from: &[u8], to: &[u8]| {
        let (head, tail) = live.split_at_checked(first).unwrap_or((live, &[]));
        from.starts_with(head) && to.ends_with(tail)
    };
    let whole = live.len() == patch.bytes.len();
    let (ours, theirs) = (&*patch.bytes, &*patch.original);
    live == ours || (whole && 0 < first && first < live.len() && (cut(ours, theirs) || cut(theirs, ours)))
}

/// Opens (1) or closes (0) every gate.
pub(crate) fn open(pid: pid_t, memory: &RemoteMemory, gates: &[u64], value: u64) -> Result<(), Failure> {
    gates.iter().try_for_each(|&g| memory.write_word(RemoteAddress(g), value).map_err(|e| lost(pid, &e)))
}

/// Whether the live part of the thread's stack holds an address inside a window: a saved instruction pointer that a
/// signal handler, or a stored context, would come back to. Windows contain no call, so no return address is one.
fn returns_into(memory: &RemoteMemory, thread: &Stopped, maps: &[Mapping], windows: &[Range<u64>]) -> bool {
    if windows.is_empty() {
        return false;
    }
    // What cannot be searched may hold one.
    let Some(stacks) = live_stacks(memory, thread, maps) else { return true };
    stacks.iter().flat_map(|s| &s.words).any(|&word| {
        let after = windows.partition_point(|w| w.start < word);
        after.checked_sub(1).and_then(|i| windows.get(i)).is_some_and(|w| word > w.start && word < w.end)
    })
}
