//! Second transaction: the jumps are written, all in one stop of the whole process where that can be. The gates are
//! opened afterwards.
//!
//! Everything slow was done before. In the stop: threads between two instructions of a window go on in its copy;
//! stacks are searched for instruction pointers that a signal handler, or a goroutine, would return to inside a window;
//! then the few bytes of each site. A window that somebody would come back into waits for another stop, and is left out
//! if there is no better one.

use std::time::Duration;

use libc::pid_t;
use trocar_patch::{Trampoline, reaches_in};
use trocar_target::{Failure, FailureKind, Mapping};

use crate::goroutines::{Goroutines, Known, above};
use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::Stops;
use crate::stacks::{frames, live_stacks, of_all_stacks};
use crate::stop::{Stopped, World};
use crate::threads::Seen;
use crate::tracer;

/// Tries before a site that somebody would come back into is given up.
const TRIES: u32 = 50;
/// Longest rest between two tries: a goroutine that was preempted runs again after some ten milliseconds.
const REST_MS: u64 = 10;

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

/// Writes every jump. Returns the threads that were stopped. If it fails, what was written may still be there.
pub(crate) fn arm(
    pid: pid_t,
    memory: &RemoteMemory,
    trampolines: &[Trampoline],
    goroutines: Option<&Goroutines>,
    stops: &mut Stops,
) -> Result<Armed, Failure> {
    // Writing a page's own bytes makes our private copy of it now, so that the stop does not wait for that.
    for trampoline in trampolines {
        unchanged(pid, memory, trampoline)?;
        nothing_in_front(pid, memory, trampoline)?;
        for patch in trampoline.patches() {
            memory.write(RemoteAddress(patch.address), &patch.original).map_err(|e| lost(pid, &e))?;
        }
    }
    let mut rest: Vec<&Trampoline> = trampolines.iter().collect();
    rest.sort_by_key(|t| t.window.start);
    for attempt in 0.. {
        let windows = Windows(&rest);
        // Anew each time: a stack that lies beside memory which is gone since would count as one that cannot be searched.
        let maps = trocar_target::maps(pid)?;
        let known = goroutines.and_then(|g| g.list(memory)).unwrap_or_default();
        let search = Search { memory, goroutines, known: &known };
        let mut world = World::stop(pid, |ip| windows.inside(ip).is_none())?;
        let threads = world.threads.len();
        let maps = of_all_stacks(pid, maps, &world.threads)?;
        let awaited = search.all(&world.threads, &maps, &Windows(&windows.inner()));
        let waits = |t: &Trampoline| match &awaited {
            Ok(starts) => starts.contains(&t.window.start),
            // What cannot be searched may come back into any that has an inside.
            Err(_) => has_inside(t),
        };
        let (wait, free): (Vec<&Trampoline>, _) = rest.iter().partition(|t| waits(t));
        let mut count = 0;
        if attempt == 0 {
            // Afterwards sites of our own would be somebody's patch in front of their neighbours.
            trampolines.iter().try_for_each(|t| nothing_in_front(pid, memory, t))?;
        }
        let written = write(pid, memory, &mut world, &free, &mut count);
        if written.is_err() {
            // Only what was written here: what another tool has at the next site is not ours to undo.
            restore(memory, free.iter().copied().take(count), false);
        }
        let mut seen: Vec<Seen> = world.threads.iter().filter_map(Seen::of).collect();
        stops.add(world.release());
        written?;
        if wait.is_empty() || attempt == TRIES {
            if wait.len() == trampolines.len() {
                return Err(nowhere(awaited.err()));
            }
            // Who slept is known when it has stopped, which may be after the others went on.
            seen.extend(tracer::drain());
            return Ok(Armed { threads, seen, left_out: wait.iter().map(|t| t.site_index).collect() });
        }
        rest = wait;
        std::thread::sleep(Duration::from_millis(u64::from(attempt + 1).min(REST_MS)));
    }
    Err(Failure::new(FailureKind::Bug, "arming ended without a result"))
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
    pid: pid_t,
    memory: &RemoteMemory,
    world: &mut World,
    trampolines: &[&Trampoline],
    count: &mut usize,
) -> Result<(), Failure> {
    let windows = Windows(trampolines);
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

/// That the text is still what the plan was made for: the window, and what is written outside of it.
fn unchanged(pid: pid_t, memory: &RemoteMemory, trampoline: &Trampoline) -> Result<(), Failure> {
    let window = &trampoline.window;
    let outside =
        trampoline.patches().iter().filter(|p| p.address < window.start || p.range().end > window.end);
    let outside = outside.map(|p| (p.address, &p.original));
    for (at, original) in std::iter::once((window.start, &trampoline.original)).chain(outside) {
        let live = memory.bytes(RemoteAddress(at), original.len()).map_err(|e| lost(pid, &e))?;
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
        let live = memory.bytes(start, patch.before.len()).map_err(|e| lost(pid, &e))?;
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

/// Puts the original bytes back where our jumps are. What is there now and is neither ours nor the original (the module
/// was unloaded, another tool came) is left alone. So is all slack while it is `awaited` (a signal handler will return to
/// a jump in it); it can be restored later. Returns the addresses of what was left alone.
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
            keep |= awaited && patch.address != trampoline.window.start;
            // A write that was cut off between two pages leaves bytes of both.
            let ours = live.len() == patch.bytes.len()
                && live
                    .iter()
                    .zip(patch.bytes.iter().zip(&patch.original))
                    .all(|(l, (b, o))| l == b || l == o);
            let restored = if live != patch.original && ours && !keep {
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

/// Opens (1) or closes (0) every gate.
pub(crate) fn open(pid: pid_t, memory: &RemoteMemory, gates: &[u64], value: u64) -> Result<(), Failure> {
    gates.iter().try_for_each(|&g| memory.write_word(RemoteAddress(g), value).map_err(|e| lost(pid, &e)))
}

/// Windows in ascending order of address.
struct Windows<'a>(&'a [&'a Trampoline]);

impl<'a> Windows<'a> {
    /// The window that an address lies inside, past its start.
    fn inside(&self, address: u64) -> Option<&'a Trampoline> {
        let before = self.0.partition_point(|t| t.window.start < address).checked_sub(1)?;
        self.0.get(before).copied().filter(|t| address < t.window.end)
    }

    /// The start of that window.
    fn start(&self, address: u64) -> Option<u64> {
        self.inside(address).map(|t| t.window.start)
    }

    /// Those with more than one instruction.
    fn inner(&self) -> Vec<&'a Trampoline> {
        self.0.iter().copied().filter(|t| has_inside(t)).collect()
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
        if windows.0.is_empty() {
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
            found.extend(above(memory, thread.sp)?.into_iter().filter_map(|word| windows.start(word)));
            for frame in stacks.iter().flat_map(|stack| frames(stack, thread.sp, maps)) {
                let interrupted = above(memory, frame.sp).unwrap_or_default();
                found
                    .extend(interrupted.into_iter().chain([frame.ip]).filter_map(|word| windows.start(word)));
            }
        }
        Some(())
    }
}
