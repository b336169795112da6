//! What a host that was killed has left in a target: found by its traces in memory, and removed.
//!
//! There are three kinds of traces. A session leads from the head of its shared memory to its control block and its
//! record ([`Journal`]); it is an orphan when the kernel has marked its host's futex word, or when nobody ever took that
//! word. A helper leaves its two pages and a note of what it had mapped until then. And a foothold leaves its code.
//!
//! The traces lie in the target's memory, so they are hostile: what they say is believed only as far as the mappings
//! there are ours by name, text is touched only where a jump of ours lies, and counters are lowered only in writable data.
//! The worst that a forged trace does is to make a process lose memory of its own, or a count in it.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;
use std::time::{Duration, Instant};

use trocar_abi::PAGE;
use trocar_abi::control::{Control, MAGIC};
use trocar_abi::shared::{self, OWNER_DIED, SharedHead};
use trocar_patch::Trampoline;
use trocar_target::{Failure, Mapping, Process, Seccomp, maps};

use crate::detach::{Detach, detach};
use crate::foothold::{clear_left, left};
use crate::helper::{NAME, noted};
use crate::journal::{JOURNAL_MAX, Journal};
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;
use crate::region::GATE;
use crate::request::Stops;
use crate::semaphores::Raised;
use crate::stop::World;
use crate::tracer::transaction;

/// An abandoned helper naps for some seconds before it gives up and ends.
const PATIENCE: Duration = Duration::from_secs(12);
/// How the names of our memory files begin, as `/proc/PID/maps` shows them.
const CODE: &str = "/memfd:trocar-code";
const SHARED: &str = "/memfd:trocar-shared";

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Sessions whose host was killed.
    pub sessions: usize,
    /// Sites that were restored.
    pub sites: usize,
    /// Whether every one of them is as before.
    pub restored: bool,
    /// Mappings of ours that are left.
    pub mappings_left: usize,
    /// What is left, and why.
    pub residue: Vec<String>,
}

/// All that is to be removed from one process.
#[derive(Debug, Default)]
struct Orphans {
    sessions: usize,
    trampolines: Vec<Trampoline>,
    gates: Vec<u64>,
    ranges: Vec<Range<u64>>,
    contexts: Vec<u64>,
    semaphores: Vec<Raised>,
}

/// Removes what killed hosts have left in a process. `None`: there is nothing.
///
/// # Errors
/// The process ended, or may not be traced.
pub fn reap(pid: i32) -> Result<Option<Reaped>, Failure> {
    let Ok(memory) = RemoteMemory::open(pid) else { return Ok(None) };
    let map_list = maps(pid)?;
    if !map_list.iter().any(|m| named(m, CODE) || named(m, NAME)) && left(&memory, &map_list).is_empty() {
        return Ok(None);
    }
    let lock = memory.lock(pid)?;
    let map_list = maps(pid)?;
    // First: the helper that removes the rest needs such a place.
    clear_footholds(pid, &memory, &map_list)?;
    let orphans = find(&memory, &map_list);
    let mut reaped = None;
    if !orphans.ranges.is_empty() {
        let filtered = Process::inspect(pid)?.threads()?.iter().any(|t| t.seccomp != Seccomp::Off);
        let mut job = Detach {
            pid,
            memory: &memory,
            trampolines: &orphans.trampolines,
            modules: &mut [],
            gates: &orphans.gates,
            ranges: &orphans.ranges,
            semaphores: &orphans.semaphores,
            contexts: &orphans.contexts,
            ended: &HashMap::new(),
            clean_pages: &[],
            files: &[],
            filtered,
            goroutines: None,
            patience: PATIENCE,
        };
        let gone = transaction(|| detach(&mut job, &mut Stops::default()))?;
        reaped = Some(Reaped {
            sessions: orphans.sessions,
            sites: orphans.trampolines.len(),
            restored: gone.restored,
            mappings_left: gone.mappings_left,
            residue: gone.residue,
        });
    }
    drop(lock);
    Ok(reaped)
}

/// Takes away code for lenders that a killed host has left. Who is in it, because it waits for a processor, is waited for.
fn clear_footholds(pid: i32, memory: &RemoteMemory, maps: &[Mapping]) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = left(memory, maps);
        if left.is_empty() || Instant::now() > until {
            return Ok(());
        }
        transaction(|| {
            let world = World::stop(pid, |ip| !left.iter().any(|r| r.contains(&ip)))?;
            clear_left(memory, maps, &left, &world.threads);
            Ok(())
        })?;
        // Gone at the next look, or its thread has to run on first.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn named(mapping: &Mapping, name: &str) -> bool {
    mapping.path.as_ref().is_some_and(|p| p.to_string_lossy().starts_with(name))
}

fn find(memory: &RemoteMemory, maps: &[Mapping]) -> Orphans {
    let mut orphans = Orphans::default();
    for shared in maps.iter().filter(|m| m.shared && named(m, SHARED)) {
        // What cannot be read whole is left: it is not as we made it.
        let _ = session(memory, maps, shared.start, &mut orphans);
    }
    for page in maps.iter().filter(|m| m.execute && named(m, NAME)) {
        let pages = page.start..page.start.saturating_add(2 * PAGE);
        for range in noted(memory, &pages) {
            if !orphans.ranges.contains(&range) && is_free_of_others(maps, &range) {
                orphans.ranges.push(range);
            }
        }
        orphans.ranges.push(pages);
    }
    orphans
}

/// Adds the session with its shared memory at `shared`, if it is an orphan.
fn session(memory: &RemoteMemory, maps: &[Mapping], shared: u64, orphans: &mut Orphans) -> Option<()> {
    let head = memory.bytes(RemoteAddress(shared), size_of::<SharedHead>()).ok()?;
    let word = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let half = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let host = half(offset_of!(SharedHead, host))?;
    if host != 0 && host & OWNER_DIED == 0 {
        return None;
    }
    let magic = word(offset_of!(SharedHead, magic))?;
    if magic != shared::MAGIC && magic != 0 {
        return None;
    }
    let control_at = word(offset_of!(SharedHead, control))?;
    let bytes = memory.bytes(RemoteAddress(control_at), size_of::<Control>()).ok()?;
    let control: Control = from_bytes(&bytes)?;
    if control.magic != MAGIC || control.version != trocar_abi::VERSION || control.journal_len > JOURNAL_MAX {
        return None;
    }
    let len = usize::try_from(control.journal_len).ok()?;
    let journal = Journal::read(&memory.bytes(RemoteAddress(control.journal), len).ok()?)?;
    let base = control_at.checked_sub(journal.private)?;
    let region = base..base.checked_add(journal.len)?;
    if base.checked_add(journal.shared)? != shared || !begins_with_code(maps, base) {
        return None;
    }
    let count = usize::try_from(control.contexts.min(control.context_capacity)).ok()?.min(1 << 20);
    let list = memory.some(RemoteAddress(control.context_list), count * 8);
    orphans.contexts.extend(list.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)));
    for block in &journal.blocks {
        let end = block.address.checked_add(block.len)?;
        // A block that is not there any more was taken away before the host was killed.
        if begins_with_code(maps, block.address.checked_add(block.gates)?) {
            orphans.gates.push(block.address + GATE);
            orphans.ranges.push(block.address..end);
        }
    }
    let raised =
        Raised { count: control_at + offset_of!(Control, raised) as u64, semaphores: journal.semaphores };
    orphans.semaphores.push(raised.within(maps));
    orphans.trampolines.extend(journal.trampolines);
    // Last: it holds the record.
    orphans.ranges.push(region);
    orphans.sessions += 1;
    Some(())
}

/// Whether code of ours is mapped from this address on.
fn begins_with_code(maps: &[Mapping], at: u64) -> bool {
    maps.iter().any(|m| m.start == at && m.execute && named(m, CODE))
}

/// Whether a range that a helper has noted holds nothing but anonymous memory and memory files of ours, without a gap.
fn is_free_of_others(maps: &[Mapping], range: &Range<u64>) -> bool {
    let mut at = range.start;
    for mapping in maps.iter().filter(|m| m.start < range.end && range.start < m.end) {
        let ours = named(mapping, CODE) || named(mapping, SHARED) || mapping.path.is_none();
        if !ours || mapping.start > at {
            return false;
        }
        at = mapping.end;
    }
    range.start < range.end && at >= range.end
}
