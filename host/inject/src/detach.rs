//! Taking everything away: gates first, then the text, then the memory, and the proof.
//!
//! The text is restored in one stop, whatever the threads do: one inside a trampoline runs on in memory that is still
//! there. Our memory goes in the first stop in which no thread is in it, no context is inside a hit, and no signal
//! frame on any stack would return into it. What is still in use at the deadline is named and left.

use std::ops::Range;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_abi::PAGE;
use trocar_patch::Trampoline;
use trocar_target::{Failure, Mapping, maps};

use crate::arm::{open, restore};
use crate::helper::{Call, Helper, Lenders};
use crate::load::{LETTER, borrowable};
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::Stops;
use crate::semaphores::Raised;
use crate::stacks::{handler_returns, of_all_stacks};
use crate::stop::World;

/// How long a session waits for its hits in flight.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be taken away.
pub(crate) struct Detach<'a> {
    pub(crate) pid: pid_t,
    pub(crate) memory: &'a RemoteMemory,
    pub(crate) trampolines: &'a [Trampoline],
    pub(crate) gates: &'a [u64],
    /// Region and blocks.
    pub(crate) ranges: &'a [Range<u64>],
    /// Semaphores of the sessions, which are lowered.
    pub(crate) semaphores: &'a [Raised],
    /// Addresses of the contexts; the word that says "inside" is their first.
    pub(crate) contexts: &'a [u64],
    /// Text pages that were clean file pages before they were written, and what was in them.
    pub(crate) clean_pages: &'a [(u64, Vec<u8>)],
    /// Of these files they were.
    pub(crate) files: &'a [FileId],
    pub(crate) filtered: bool,
    /// How long hits in flight are waited for before our memory is left behind.
    pub(crate) patience: Duration,
}

/// What is left.
pub(crate) struct Gone {
    pub(crate) restored: bool,
    pub(crate) residue: Vec<String>,
    pub(crate) mappings_left: usize,
    /// When the text was written back.
    pub(crate) restored_at: Instant,
}

/// Detaches. Runs on a tracer thread.
pub(crate) fn detach(job: &Detach<'_>, stops: &mut Stops) -> Result<Gone, Failure> {
    open(job.pid, job.memory, job.gates, 0)?;
    job.semaphores.iter().for_each(|raised| raised.lower(job.memory, job.trampolines));
    let began = Instant::now();
    // A jump in slack is ours too: whoever is at it is as good as in a trampoline.
    let mut slack: Vec<u64> = job.trampolines.iter().filter_map(Trampoline::slack).collect();
    slack.sort_unstable();
    let in_slack = |ip: u64| slack.binary_search(&ip).is_ok();
    let ours = |ip: u64| in_slack(ip) || job.ranges.iter().any(|r| r.contains(&ip));
    let mut changed: Option<Vec<u64>> = None;
    let mut restored_at = began;
    let mut awaited = false;
    let mut rest = Duration::from_millis(1);
    loop {
        let map_list = maps(job.pid)?;
        let mut world = World::stop(job.pid, |ip| !ours(ip))?;
        let map_list = of_all_stacks(job.pid, map_list, &world.threads)?;
        // Again while a signal handler was about to return to slack, or something could not be restored.
        if awaited || changed.as_ref().is_none_or(|c| !c.is_empty()) {
            awaited = !slack.is_empty()
                && world.threads.iter().any(|t| handler_returns(job.memory, t, &map_list, in_slack));
            changed = Some(restore(job.memory, job.trampolines, awaited));
            restored_at = Instant::now();
        }
        let left = changed.as_deref().unwrap_or(&[]);
        // What is there instead may lead to us all the same: another tool has moved our jump, or it could not be undone.
        let is_text = |at: &&u64| map_list.iter().any(|m| m.execute && m.range().contains(at));
        let reachable: Vec<u64> = left.iter().filter(is_text).copied().collect();
        let sites: Vec<String> =
            left.iter().map(|s| format!("the site at {s:#x} is not as we left it")).collect();
        let restored = sites.is_empty();
        move_out(job, &mut world);
        let mut busy = in_use(job, &world, &map_list, ours);
        busy.extend(reachable.iter().map(|at| format!("what is at {at:#x} now may lead to our trampoline")));
        if busy.is_empty() {
            // The text is restored and nobody is in our memory, so nobody can come back to it: the others may run while
            // it goes.
            stops.add(world.release());
            let mut residue = unmap(job, stops)?;
            // By name: where our memory was, the program may have its own by now. What could not be unmapped is residue.
            let ours =
                |m: &&Mapping| m.path.as_ref().is_some_and(|p| p.to_string_lossy().contains("memfd:trocar-"));
            let named = maps(job.pid)?
                .iter()
                .filter(ours)
                .filter(|m| job.ranges.iter().any(|r| overlaps(r, m)))
                .count();
            let mappings_left = named.max(residue.len());
            residue.extend(sites);
            return Ok(Gone { restored, mappings_left, residue, restored_at });
        }
        stops.add(world.release());
        if began.elapsed() > job.patience {
            let left = map_list.iter().filter(|m| job.ranges.iter().any(|r| overlaps(r, m))).count();
            return Ok(Gone {
                restored,
                residue: busy.into_iter().chain(sites).collect(),
                mappings_left: left,
                restored_at,
            });
        }
        // Each look stops the target: further and further apart.
        std::thread::sleep(rest);
        rest = (rest * 2).min(Duration::from_millis(200));
    }
}

fn overlaps(range: &Range<u64>, mapping: &Mapping) -> bool {
    mapping.start < range.end && range.start < mapping.end
}

/// Threads at a boundary of a window's copy go on in the restored text.
fn move_out(job: &Detach<'_>, world: &mut World) {
    for thread in &mut world.threads {
        let Some(mut registers) = thread.registers else { continue };
        let back = job.trampolines.iter().find_map(|t| Some((t, t.original_of(registers.rip)?)));
        // Where the text is not restored, the copy goes on being used.
        let restored =
            |t: &Trampoline| job.memory.some(RemoteAddress(t.window.start), t.original.len()) == t.original;
        if let Some((_, ip)) = back.filter(|(t, _)| restored(t)) {
            registers.rip = ip;
            // If this fails the thread is gone, and does not use our memory any more.
            let _ = thread.set_registers(registers);
        }
    }
}

/// Who still uses our memory, by name.
fn in_use(job: &Detach<'_>, world: &World, maps: &[Mapping], ours: impl Fn(u64) -> bool) -> Vec<String> {
    let mut busy = Vec::new();
    for thread in &world.threads {
        if ours(thread.ip) {
            busy.push(format!("thread {} runs in a trampoline or in the agent", thread.tid));
        } else if ours(thread.sp) {
            busy.push(format!("thread {} is on a stack of the agent", thread.tid));
        } else if handler_returns(job.memory, thread, maps, &ours) {
            busy.push(format!("a signal handler of thread {} will return into a trampoline", thread.tid));
        }
    }
    for &context in job.contexts {
        let mut inside = [0; 4];
        if job.memory.read(RemoteAddress(context), &mut inside).is_ok() && u32::from_le_bytes(inside) != 0 {
            busy.push(format!("the context at {context:#x} is inside a hit"));
        }
    }
    busy
}

/// A file: its device and its inode.
pub(crate) type FileId = ((u32, u32), u64);

/// Unmaps our memory and drops restored pages back to their file.
fn unmap(job: &Detach<'_>, stops: &mut Stops) -> Result<Vec<String>, Failure> {
    let Detach { pid, memory, filtered, .. } = *job;
    let map_list = maps(pid)?;
    let lenders = Lenders { pid, memory, maps: &map_list, filtered };
    let mut helper = Helper::start(&lenders, |t| borrowable(memory, t), stops)?;
    let mut what = Vec::new();
    let mut calls: Vec<Call> = Vec::new();
    for range in job.ranges {
        what.push(format!("mapping at {:#x}", range.start));
        calls.push((libc::SYS_munmap, [range.start, range.end - range.start, 0, 0, 0, 0]));
    }
    for (page, before) in job.clean_pages {
        // Not if anything is different now: another session's jump, a debugger's breakpoint, another module; and not if the
        // program has laid a copy of its text there meanwhile, which has no file behind it, or one with our jumps in it.
        let its_own =
            |m: &Mapping| !m.shared && job.files.contains(&(m.device, m.inode)) && m.range().contains(page);
        if !map_list.iter().any(its_own) || memory.some(RemoteAddress(*page), before.len()) != *before {
            continue;
        }
        what.push(format!("private copy of the text page at {page:#x}"));
        calls.push((libc::SYS_madvise, [*page, PAGE, libc::MADV_DONTNEED as u64, 0, 0, 0]));
    }
    let mut residue = Vec::new();
    for (what, calls) in what.chunks(LETTER).zip(calls.chunks(LETTER)) {
        for (what, answer) in what.iter().zip(helper.calls(calls)?) {
            if let Err(failure) = answer {
                residue.push(format!("{what}: {}", failure.message));
            }
        }
    }
    helper.end()?;
    Ok(residue)
}
