//! Second transaction: the jumps are written, in one stop of the whole process, or in several where there are very many. The
//! gates are opened afterwards.
//!
//! Everything slow was done before. In a stop: threads between two instructions of a window go on in its copy;
//! stacks are searched for instruction pointers that a signal handler, or a goroutine, would return to inside a window;
//! then the few bytes of each site. A window that somebody would come back into waits for another stop, and is left out
//! if there is no better one.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::pid_t;
use trocar_abi::{PAGE, round_up};
use trocar_patch::{Patch, Trampoline, reaches_in};
use trocar_target::{Failure, FailureKind, Mapping, maps};

use crate::goroutines::{Goroutines, HIT, Known, above};
use crate::load::{lost, unreadable};
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::Stops;
use crate::semaphores::Raised;
use crate::stacks::{frames, is_in_session, live_stacks, mappings, of_all_stacks};
use crate::stop::{Stopped, World, gone, tasks};
use crate::threads::Seen;
use crate::tracer;
use crate::uprobed::{restore_around, uprobed};
use crate::watched::{Watched, holds_our_jump};

/// Tries before a site that somebody would come back into is given up.
const TRIES: u64 = 50;
/// Longest rest between two tries: a goroutine that was preempted runs again after some ten milliseconds.
const REST_MS: u64 = 10;

/// Most sites that are written, or restored, in one stop: some milliseconds.
pub(crate) const AT_ONCE: usize = 512;

/// What arming saw.
#[derive(Debug)]
pub(crate) struct Armed {
    /// Threads that were stopped.
    pub(crate) threads: usize,
    /// Those of them that have registers.
    pub(crate) seen: Vec<Seen>,
    /// Indexes of the sites that were not written: at every try somebody would have come back inside.
    pub(crate) left_out: Vec<u32>,
}

/// What is to be armed.
pub(crate) struct Arm<'a> {
    pub(crate) trampolines: &'a [Trampoline],
    pub(crate) modules: &'a [Watched],
    pub(crate) semaphores: &'a [Raised],
    pub(crate) goroutines: Option<&'a Goroutines>,
    /// Set before the program's text is first written, be it with what is there.
    pub(crate) touched: &'a AtomicBool,
}

/// Writes every jump and raises the semaphores. Returns the threads that were stopped. If it fails, what was written may
/// still be there.
pub(crate) fn arm(
    pid: pid_t,
    memory: &RemoteMemory,
    what: &Arm<'_>,
    stops: &mut Stops,
) -> Result<Armed, Failure> {
    let Arm { trampolines, goroutines, .. } = *what;
    for trampoline in trampolines {
        unchanged(pid, memory, trampoline)?;
        // Afterwards sites of our own would be somebody's patch in front of their neighbours.
        nothing_in_front(pid, memory, trampoline)?;
    }
    for some in trampolines.chunks(AT_ONCE) {
        copy_pages(pid, memory, what, some, stops)?;
    }
    let mut rest: Vec<&Trampoline> = trampolines.iter().collect();
    rest.sort_by_key(|t| t.window.start);
    let mut waiting: Vec<&Trampoline> = Vec::new();
    // One for each module in which something was written: as long as its jump is there, the module was not loaded anew.
    let mut witnesses: Vec<&Trampoline> = Vec::new();
    let mut attempt = 0;
    loop {
        let later = rest.split_off(rest.len().min(AT_ONCE));
        let windows = Windows::of(&rest);
        // Anew each time: a stack that lies beside memory which is gone since would count as one that cannot be searched.
        let maps = mappings(pid)?;
        let known = goroutines.and_then(|g| g.list(memory)).unwrap_or_default();
        // Once before: what is read anew takes half as long, and the target stands still then.
        let mut here = memory.in_stop().map_err(|e| lost(pid, &e))?;
        here.ahead(pid, &maps, pieces(what, &rest));
        let mut world = World::stop(pid, |ip| windows.inside(ip).is_none())?;
        let threads = world.threads.len();
        same_program(pid, memory)?;
        let maps = of_all_stacks(pid, maps, &world.threads)?;
        here.ahead(pid, &maps, pieces(what, &rest));
        let search = Search { memory: &here, goroutines, known: &known };
        let awaited = search.all(&world.threads, &maps, &Windows::of(&windows.inner()));
        let waits = |t: &Trampoline| match &awaited {
            Ok(starts) => starts.contains(&t.window.start),
            // What cannot be searched may come back into any that has an inside.
            Err(_) => has_inside(t),
        };
        let (wait, free): (Vec<&Trampoline>, _) = rest.iter().partition(|t| waits(t));
        waiting.extend(wait);
        let is_last = later.is_empty() && (waiting.is_empty() || attempt == TRIES);
        let mut count = 0;
        let mut written = still_there(&here, what, &witnesses);
        if free.len() == trampolines.len() {
            written = written.and_then(|()| free.iter().try_for_each(|t| nothing_in_front(pid, &here, t)));
        }
        written = written.and_then(|()| write(memory, &here, &mut world, &free, &mut count));
        if written.is_err() {
            // Only what was written here: what another tool has at the next site is not ours to undo.
            restore(memory, free.iter().copied().take(count), false);
        }
        for module in what.modules {
            let of_module = |t: &&&Trampoline| holds(module, t);
            if !witnesses.iter().any(|t| holds(module, t)) {
                witnesses.extend(free.iter().find(of_module));
            }
        }
        if is_last {
            let armed = |t: &&Trampoline| !waiting.iter().any(|w| w.site_index == t.site_index);
            let armed: Vec<&Trampoline> = trampolines.iter().filter(armed).collect();
            // One that cannot be raised is the caller's to undo, with the text.
            written = written.and_then(|()| what.semaphores.iter().try_for_each(|s| s.raise(memory, &armed)));
        }
        let mut seen: Vec<Seen> = world.threads.iter().filter_map(Seen::of).collect();
        let stopped = world.release();
        stops.add(stopped);
        written?;
        if is_last {
            if waiting.len() == trampolines.len() {
                return Err(nowhere(awaited.err()));
            }
            // Who slept is known when it has stopped, which may be after the others went on.
            seen.extend(tracer::drain());
            // Others in its memory may have the thread pointer of one of its own.
            let own = tasks(pid).unwrap_or_default();
            seen.retain(|s| own.contains(&s.tid));
            let left_out = waiting.iter().map(|t| t.site_index).collect();
            return Ok(Armed { threads, seen, left_out });
        }
        if later.is_empty() {
            attempt += 1;
            rest = std::mem::take(&mut waiting);
            std::thread::sleep(Duration::from_millis(attempt.min(REST_MS)));
        } else {
            rest = later;
            // The program has at least half of the time.
            std::thread::sleep(stopped);
        }
    }
}

/// What the checks of a stop read, by address and length: the windows with what lies in front of what is written, and the
/// heads of the modules.
fn pieces<'a>(what: &'a Arm<'_>, trampolines: &'a [&Trampoline]) -> impl Iterator<Item = (u64, usize)> + 'a {
    let sites = trampolines.iter().flat_map(|t| {
        t.patches().iter().map(|patch| {
            let end = patch.range().end.max(if patch.address == t.window.start { t.window.end } else { 0 });
            let start = patch.address.saturating_sub(patch.before.len() as u64);
            (start, usize::try_from(end.saturating_sub(start)).unwrap_or(0))
        })
    });
    sites.chain(what.modules.iter().filter_map(|m| m.head.as_ref()).map(|h| (h.address, h.bytes.len())))
}

/// Makes our private copies of the pages that will be written, by writing what is there, so that no stop is made longer by
/// both. In a stop of its own: at any other time a module may go, and what comes in its place is not ours to write.
fn copy_pages(
    pid: pid_t,
    memory: &RemoteMemory,
    what: &Arm<'_>,
    trampolines: &[Trampoline],
    stops: &mut Stops,
) -> Result<(), Failure> {
    let mut here = memory.in_stop().map_err(|e| lost(pid, &e))?;
    let trampolines: Vec<&Trampoline> = trampolines.iter().collect();
    let maps = maps(pid)?;
    here.ahead(pid, &maps, pieces(what, &trampolines));
    let world = World::stop(pid, |_| true)?;
    same_program(pid, memory)?;
    what.touched.store(true, Ordering::Relaxed);
    here.ahead(pid, &maps, pieces(what, &trampolines));
    let copied = still_there(&here, what, &[]).and_then(|()| {
        trampolines.iter().try_for_each(|trampoline| {
            unchanged(pid, &here, trampoline)?;
            trampoline.patches().iter().try_for_each(|patch| {
                memory.write(RemoteAddress(patch.address), &patch.original).map_err(|e| lost(pid, &e))
            })
        })
    });
    let stopped = world.release();
    stops.add(stopped);
    copied?;
    if what.trampolines.len() > AT_ONCE {
        // The program has at least half of the time.
        std::thread::sleep(stopped);
    }
    Ok(())
}

/// That what is stopped is the program that the plan was made for: between two stops it may have become another one, whose
/// threads are none of ours to move, and which is read ahead in its place.
fn same_program(pid: pid_t, memory: &RemoteMemory) -> Result<(), Failure> {
    if memory.is_alive() { Ok(()) } else { Err(gone(pid)) }
}

fn nowhere(who: Option<Unsearched>) -> Failure {
    let what = match who {
        Some(Unsearched::Thread(tid)) => format!("the stacks of thread {tid} cannot be searched"),
        Some(Unsearched::Goroutines) => "the stacks of goroutines cannot be searched".to_owned(),
        None => {
            "a thread in a signal handler, or a goroutine, would return into the middle of every site".into()
        }
    };
    Failure::new(FailureKind::NothingPatched, what)
        .hint("try again later, or at another instruction: trocar points --plan")
}

/// Writes the jumps, in ascending order of address.
fn write(
    memory: &RemoteMemory,
    here: &RemoteMemory,
    world: &mut World,
    trampolines: &[&Trampoline],
    count: &mut usize,
) -> Result<(), Failure> {
    let windows = Windows::of(trampolines);
    let pid = world.pid;
    for thread in &mut world.threads {
        let Some(mut registers) = thread.registers else { continue };
        let Some(window) = windows.inside(registers.rip) else { continue };
        let Some(twin) = window.twin_of(registers.rip) else {
            return Err(Failure::new(
                FailureKind::Bug,
                format!("thread {} of {pid} is at {:#x}, inside an instruction", thread.tid, registers.rip),
            ));
        };
        registers.rip = twin;
        thread.set_registers(registers).map_err(|e| lost(pid, &e))?;
    }
    trampolines.iter().try_for_each(|t| unchanged(pid, here, t))?;
    for trampoline in trampolines {
        // If writing fails half way, what was written is undone.
        *count += 1;
        for patch in trampoline.patches() {
            memory.write(RemoteAddress(patch.address), &patch.bytes).map_err(|e| lost(pid, &e))?;
        }
    }
    Ok(())
}

/// Whether the module has this site.
fn holds(module: &Watched, trampoline: &Trampoline) -> bool {
    usize::try_from(trampoline.site_index).is_ok_and(|site| module.sites.contains(&site))
}

/// That the modules are still the ones that the plan was made for, and where jumps of ours were written.
fn still_there(memory: &RemoteMemory, what: &Arm<'_>, witnesses: &[&Trampoline]) -> Result<(), Failure> {
    let other = |m: &&Watched| {
        let is_anew = |t: &&Trampoline| holds(m, t) && !holds_our_jump(memory, t);
        m.head.as_ref().is_some_and(|head| !head.is_there(memory)) || witnesses.iter().any(is_anew)
    };
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
    Ok(())
}

/// That no patch in front reaches into what is written.
fn nothing_in_front(pid: pid_t, memory: &RemoteMemory, trampoline: &Trampoline) -> Result<(), Failure> {
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
            } else if uprobed(patch, &live) && !keep {
                restore_around(memory, patch, &live).is_ok()
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

/// Windows in ascending order of address.
struct Windows<'a> {
    all: &'a [&'a Trampoline],
    /// From the first one's start to the last one's end.
    span: Range<u64>,
}

impl<'a> Windows<'a> {
    fn of(all: &'a [&'a Trampoline]) -> Self {
        let start = all.first().map_or(0, |t| t.window.start);
        Self { all, span: start..all.last().map_or(start, |t| t.window.end) }
    }

    /// The window that an address lies inside, past its start.
    fn inside(&self, address: u64) -> Option<&'a Trampoline> {
        // Hardly any word of a stack is.
        if !self.span.contains(&address) {
            return None;
        }
        let before = self.all.partition_point(|t| t.window.start < address).checked_sub(1)?;
        self.all.get(before).copied().filter(|t| address < t.window.end)
    }

    /// The start of that window.
    fn start(&self, address: u64) -> Option<u64> {
        self.inside(address).map(|t| t.window.start)
    }

    /// Those with more than one instruction.
    fn inner(&self) -> Vec<&'a Trampoline> {
        self.all.iter().copied().filter(|t| has_inside(t)).collect()
    }
}

fn has_inside(trampoline: &Trampoline) -> bool {
    trampoline.twins.len() > 1
}

/// The search for those who will come back into a window.
struct Search<'a> {
    memory: &'a RemoteMemory,
    goroutines: Option<&'a Goroutines>,
    known: &'a Known,
}

/// Who may come back to anywhere.
enum Unsearched {
    Thread(pid_t),
    Goroutines,
}

impl Search<'_> {
    /// The starts of the windows into which somebody will come back.
    fn all(
        &self,
        threads: &[Stopped],
        maps: &[Mapping],
        windows: &Windows<'_>,
    ) -> Result<Vec<u64>, Unsearched> {
        let mut found = Vec::new();
        if windows.all.is_empty() {
            return Ok(found);
        }
        for thread in threads {
            self.thread(thread, maps, windows, &mut found).ok_or(Unsearched::Thread(thread.tid))?;
        }
        if let Some(goroutines) = self.goroutines {
            let note = |word| found.extend(windows.start(word));
            goroutines.interrupted(self.memory, self.known, note).ok_or(Unsearched::Goroutines)?;
        }
        Ok(found)
    }

    /// Those into which the thread will: the live part of its stacks holds a saved instruction pointer that a signal
    /// handler, or a stored context, would come back to. Windows contain no call, so no return address is one. `None`:
    /// what cannot be searched may hold one.
    ///
    /// In Go's code only signals interrupt, and the call of `asyncPreempt` that they leave behind is where the thread is;
    /// what looks like another one is left over from one that is past.
    fn thread(
        &self,
        thread: &Stopped,
        maps: &[Mapping],
        windows: &Windows<'_>,
        found: &mut Vec<u64>,
    ) -> Option<()> {
        let memory = self.memory;
        let stacks = live_stacks(memory, thread, maps, self.known)?;
        let is_go = |word: u64| self.goroutines.is_some_and(|g| g.is_code(word));
        let words = stacks.iter().flat_map(|s| &s.words).copied();
        found.extend(words.filter(|word| !is_go(*word)).filter_map(|word| windows.start(word)));
        if self.goroutines.is_some() {
            // In a hit that has not left this stack yet, its own frames come first.
            let deep = if is_in_session(maps, thread.ip) { HIT } else { 0 };
            for (stack, deep) in stacks.iter().zip(std::iter::once(deep).chain(std::iter::repeat(0))) {
                let words = above(memory, stack.sp, deep)?;
                found.extend(words.into_iter().filter_map(|word| windows.start(word)));
            }
            for frame in stacks.iter().flat_map(|stack| frames(stack, maps)) {
                let interrupted =
                    above(memory, frame.sp, if is_in_session(maps, frame.ip) { HIT } else { 0 });
                let interrupted = interrupted.unwrap_or_default();
                found
                    .extend(interrupted.into_iter().chain([frame.ip]).filter_map(|word| windows.start(word)));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_become_another_program_is_not_taken_for_the_one_that_it_was() {
        let mut shell =
            Command::new("sh").args(["-c", "read line && exec cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = shell.id().cast_signed();
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        while name() != "sh\n" {
            std::thread::yield_now();
        }
        let memory = RemoteMemory::open(pid).unwrap();
        same_program(pid, &memory).unwrap();
        shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        while name() != "cat\n" {
            std::thread::yield_now();
        }
        assert_eq!(same_program(pid, &memory).unwrap_err().kind, FailureKind::NoProcess);
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
    }
}
