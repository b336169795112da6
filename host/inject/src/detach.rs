//! Taking everything away: gates first, then the text, then the memory, and the proof.
//!
//! The text is restored in one stop (that of very many sites in several), whatever the threads do: one inside a trampoline
//! runs on in memory that is still there. Our memory goes in the first stop in which no thread is in it, no context is inside a hit
//! that may go on, and no signal frame on any stack would return into it. What is still in use at the deadline is named and left.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use libc::pid_t;
use trocar_abi::PAGE;
use trocar_abi::hit::{HitFrame, inside};
use trocar_patch::Trampoline;
use trocar_target::{Failure, FailureKind, Mapping, maps};

use crate::arm::{AT_ONCE, open, restore};
use crate::goroutines::{Goroutines, Known};
use crate::helper::{Call, Helper, Lenders};
use crate::load::{LETTER, borrowable};
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::Stops;
use crate::semaphores::Raised;
use crate::stacks::{handler_returns, of_all_stacks};
use crate::stop::{Stopped, World};
use crate::uprobed::breakpoints_in;
use crate::watched::{Watched, present};

/// How long a session waits for its hits in flight.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be taken away.
pub(crate) struct Detach<'a> {
    pub(crate) pid: pid_t,
    pub(crate) memory: &'a RemoteMemory,
    pub(crate) trampolines: &'a [Trampoline],
    /// Their modules, as far as they are known: those that are gone are found in the stop, and left alone.
    pub(crate) modules: &'a mut [Watched],
    pub(crate) gates: &'a [u64],
    /// Region and blocks.
    pub(crate) ranges: &'a [Range<u64>],
    /// Semaphores of the sessions, which are lowered.
    pub(crate) semaphores: &'a [Raised],
    /// Addresses of the contexts; the word that says what is inside is their first.
    pub(crate) contexts: &'a [u64],
    /// By context, the stacks of threads that seem to have ended in a hit.
    pub(crate) ended: &'a HashMap<u64, Range<u64>>,
    /// Text pages that were clean file pages before they were written, and what was in them.
    pub(crate) clean_pages: &'a [(u64, Vec<u8>)],
    /// Of these files they were.
    pub(crate) files: &'a [FileId],
    pub(crate) filtered: bool,
    pub(crate) goroutines: Option<&'a Goroutines>,
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
    /// Somebody is still in our memory, so that it stays.
    pub(crate) in_use: bool,
}

/// Detaches. Runs on a tracer thread.
pub(crate) fn detach(job: &mut Detach<'_>, stops: &mut Stops) -> Result<Gone, Failure> {
    open(job.pid, job.memory, job.gates, 0)?;
    let began = Instant::now();
    let slack = slack_of(job.trampolines.iter());
    let ranges = job.ranges;
    let ours =
        |slack: &[u64], ip: u64| slack.binary_search(&ip).is_ok() || ranges.iter().any(|r| r.contains(&ip));
    let mut still_raised = Vec::new();
    let mut restored_at = began;
    let mut there: Option<Vec<&Trampoline>> = None;
    // Not restored yet, and those of them that could not be.
    let mut todo: Vec<&Trampoline> = Vec::new();
    let mut stuck: Vec<(&Trampoline, Vec<u64>)> = Vec::new();
    let mut rest = Duration::from_millis(1);
    loop {
        let map_list = maps(job.pid)?;
        let known = job.goroutines.and_then(|g| g.list(job.memory)).unwrap_or_default();
        let mut world = World::stop(job.pid, |ip| !ours(&slack, ip))?;
        // Nothing comes or goes now. Later on, what holds a jump of ours is ours: see `watched`.
        let is_first = there.is_none();
        let there = there.get_or_insert_with(|| present(job.memory, job.modules, job.trampolines));
        let slack = slack_of(there.iter().copied());
        let in_slack = |ip: u64| slack.binary_search(&ip).is_ok();
        let ours = |ip: u64| ours(&slack, ip);
        if is_first {
            still_raised = job.semaphores.iter().flat_map(|raised| raised.lower(job.memory, there)).collect();
            todo = there.clone();
        }
        let map_list = of_all_stacks(job.pid, map_list, &world.threads)?;
        // Again while a signal handler was about to return to slack, or something could not be restored.
        if !todo.is_empty() || !stuck.is_empty() {
            let awaited = !slack.is_empty()
                && world.threads.iter().any(|t| handler_returns(job.memory, t, &map_list, &known, in_slack));
            let again = if todo.is_empty() { std::mem::take(&mut stuck) } else { Vec::new() };
            let now = todo.drain(..todo.len().min(AT_ONCE)).chain(again.into_iter().map(|(t, _)| t));
            let tried = now.map(|t| (t, restore(job.memory, [t], awaited)));
            stuck.extend(tried.filter(|(_, left)| !left.is_empty()));
            restored_at = Instant::now();
        }
        if !todo.is_empty() {
            let stopped = world.release();
            stops.add(stopped);
            // The program has at least half of the time.
            std::thread::sleep(stopped);
            continue;
        }
        let left: Vec<u64> = stuck.iter().flat_map(|(_, left)| left).copied().collect();
        // What is there instead may lead to us all the same: another tool has moved our jump, or it could not be undone.
        let is_text = |at: &&u64| map_list.iter().any(|m| m.execute && m.range().contains(at));
        let reachable: Vec<u64> = left.iter().filter(is_text).copied().collect();
        let sites: Vec<String> =
            left.iter().map(|s| format!("the site at {s:#x} is not as we left it")).collect();
        move_out(job.memory, there, &mut world);
        let mut busy = in_use(job, &world, &map_list, &known, ours);
        busy.extend(reachable.iter().map(|at| format!("what is at {at:#x} now may lead to our trampoline")));
        if busy.is_empty() {
            // The text is restored and nobody is in our memory, so nobody can come back to it: the others may run while
            // it goes.
            stops.add(world.release());
            let breakpoints = breakpoints(job.memory, there);
            let restored = sites.is_empty() && breakpoints.is_empty();
            let mut residue = unmap(job, stops)?;
            // By name: where our memory was, the program may have its own by now. What could not be unmapped is residue.
            let ours =
                |m: &&Mapping| m.path.as_ref().is_some_and(|p| p.to_string_lossy().contains("memfd:trocar-"));
            let now = told(maps(job.pid), &mut residue)?.unwrap_or_default();
            let named = now.iter().filter(ours).filter(|m| job.ranges.iter().any(|r| overlaps(r, m))).count();
            let mappings_left = named.max(residue.len());
            residue.extend(sites.into_iter().chain(breakpoints).chain(still_raised));
            return Ok(Gone { restored, mappings_left, residue, restored_at, in_use: false });
        }
        stops.add(world.release());
        if began.elapsed() > job.patience {
            let breakpoints = breakpoints(job.memory, there);
            let restored = sites.is_empty() && breakpoints.is_empty();
            let left = map_list.iter().filter(|m| job.ranges.iter().any(|r| overlaps(r, m))).count();
            return Ok(Gone {
                restored,
                residue: busy.into_iter().chain(sites).chain(breakpoints).chain(still_raised).collect(),
                mappings_left: left,
                restored_at,
                in_use: true,
            });
        }
        // Each look stops the target: further and further apart.
        std::thread::sleep(rest);
        rest = (rest * 2).min(Duration::from_millis(200));
    }
}

/// A failure after which something of ours is still in the target, if that has not ended, with what it means for the program.
pub(crate) fn stays(pid: pid_t, failure: Failure) -> Failure {
    if failure.kind == FailureKind::NoProcess {
        return failure;
    }
    let hint = failure.hint.clone().unwrap_or_else(|| "look at what the program does".to_owned());
    let hint = format!(
        "{hint}; what is left in process {pid} is closed and runs no probe, and the next command that probes it takes it away"
    );
    failure.hint(hint)
}

/// What the kernel has at the sites by now, to be told. Not looked for in a stop: of many sites that would be most of it.
fn breakpoints(memory: &RemoteMemory, trampolines: &[&Trampoline]) -> Vec<String> {
    let all = trampolines.iter().flat_map(|t| t.undo()).flat_map(|patch| breakpoints_in(memory, patch));
    let is_there = |at: u64| {
        format!("a breakpoint of another tool (a uprobe) is at {at:#x}; the text around it is restored")
    };
    all.map(is_there).collect()
}

/// Jumps in slack are ours too: whoever is at one is as good as in a trampoline.
fn slack_of<'a>(trampolines: impl Iterator<Item = &'a Trampoline>) -> Vec<u64> {
    let mut slack: Vec<u64> = trampolines.filter_map(Trampoline::slack).collect();
    slack.sort_unstable();
    slack
}

fn overlaps(range: &Range<u64>, mapping: &Mapping) -> bool {
    mapping.start < range.end && range.start < mapping.end
}

/// Threads at a boundary of a window's copy go on in the restored text.
fn move_out(memory: &RemoteMemory, trampolines: &[&Trampoline], world: &mut World) {
    for thread in &mut world.threads {
        let Some(mut registers) = thread.registers else { continue };
        let back = trampolines.iter().find_map(|t| Some((*t, t.original_of(registers.rip)?)));
        // Where the text is not restored, the copy goes on being used.
        let restored =
            |t: &Trampoline| memory.some(RemoteAddress(t.window.start), t.original.len()) == t.original;
        if let Some((_, ip)) = back.filter(|(t, _)| restored(t)) {
            registers.rip = ip;
            // If this fails the thread is gone, and does not use our memory any more.
            let _ = thread.set_registers(registers);
        }
    }
}

/// Who still uses our memory, by name.
fn in_use(
    job: &Detach<'_>,
    world: &World,
    maps: &[Mapping],
    known: &Known,
    ours: impl Fn(u64) -> bool,
) -> Vec<String> {
    let mut busy = Vec::new();
    for thread in &world.threads {
        if ours(thread.ip) {
            busy.push(format!("thread {} runs in a trampoline or in the agent", thread.tid));
        } else if ours(thread.sp) {
            busy.push(format!("thread {} is on a stack of the agent", thread.tid));
        } else if handler_returns(job.memory, thread, maps, known, &ours) {
            busy.push(format!("a signal handler of thread {} will return into a trampoline", thread.tid));
        }
    }
    for &context in job.contexts {
        if may_go_on(job, &world.threads, context, &ours) {
            busy.push(format!("the context at {context:#x} is inside a hit"));
        }
    }
    busy
}

/// Whether a context is inside a hit that somebody may come back to, from whatever stack. Who does goes back by the frame of
/// that hit: where it is no more, the hit was left for good (`agent/retired.rs`), as it was where the agent says so, and
/// where it is on the own stack of a thread that has ended. One whose control block is there now has that stack for its own.
fn may_go_on(job: &Detach<'_>, threads: &[Stopped], context: u64, ours: impl Fn(u64) -> bool) -> bool {
    let word = |at: u64| job.memory.word(RemoteAddress(at)).ok();
    let Some(within) = word(context).filter(|w| inside::is_hit(*w)) else { return false };
    let frame = within & inside::FRAME;
    let is_used = |stack: &Range<u64>| {
        let uses =
            |t: &Stopped| t.registers.is_none_or(|r| stack.contains(&r.fs_base)) || stack.contains(&t.sp);
        threads.iter().any(uses)
    };
    if job.ended.get(&context).is_some_and(|stack| stack.contains(&frame) && !is_used(stack)) {
        return false;
    }
    word(frame.saturating_add(offset_of!(HitFrame, trampoline) as u64)).is_some_and(ours)
}

/// A file: its device and its inode.
pub(crate) type FileId = ((u32, u32), u64);

/// Unmaps our memory and drops restored pages back to their file. What could not be done is told. An error: nothing was, or
/// the process has ended.
fn unmap(job: &Detach<'_>, stops: &mut Stops) -> Result<Vec<String>, Failure> {
    take(job, job.clean_pages, stops)
}

/// Unmaps our memory alone, and stops nobody for it: no text was written yet, so that nobody can have come there. What could
/// not be done is told.
pub(crate) fn take_memory(job: &Detach<'_>, stops: &mut Stops) -> Result<Vec<String>, Failure> {
    take(job, &[], stops)
}

fn take(job: &Detach<'_>, clean_pages: &[(u64, Vec<u8>)], stops: &mut Stops) -> Result<Vec<String>, Failure> {
    let Detach { pid, memory, filtered, .. } = *job;
    let map_list = maps(pid)?;
    let lenders = Lenders { pid, memory, maps: &map_list, filtered };
    let mut helper = Helper::start(&lenders, |t| borrowable(memory, t), stops)?;
    let unmap = |r: &Range<u64>| (libc::SYS_munmap, [r.start, r.end - r.start, 0, 0, 0, 0]);
    let calls: Vec<Call> = job.ranges.iter().map(unmap).collect();
    // From here on it must not be tried again: where our memory was, the program may have its own.
    let mut residue = Vec::new();
    let left = failed(&mut helper, &calls, "mapping");
    let left = told(left, &mut residue)?;
    residue.extend(left.into_iter().flatten());
    let mut rest = clean_pages.chunks(LETTER);
    while let Some(pages) = rest.next() {
        let left = drop_copies(job, &mut helper, &map_list, pages, stops);
        let Some(left) = told(left, &mut residue)? else { continue };
        match left {
            Ok(left) => residue.extend(left),
            // Nor would it stop for the others: to try that takes a second each time.
            Err(why) => {
                let all = pages.iter().chain(rest.by_ref().flatten());
                residue.extend(all.map(|(page, _)| format!("{COPY} at {page:#x}: {why}")));
            }
        }
    }
    told(helper.end(), &mut residue)?;
    Ok(residue)
}

/// What cannot be taken back any more: a failure is told, unless it is that the process has ended.
fn told<T>(result: Result<T, Failure>, residue: &mut Vec<String>) -> Result<Option<T>, Failure> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(failure) if failure.kind == FailureKind::NoProcess => Err(failure),
        Err(failure) => {
            residue.push(failure.message);
            Ok(None)
        }
    }
}

/// Drops our copies of restored pages back to their file. In a stop, so that the program does not put memory of its own in
/// their place between our look and the call, which would empty it. What could not be dropped is told; or why the target
/// did not stop for it.
fn drop_copies(
    job: &Detach<'_>,
    helper: &mut Helper<'_>,
    maps: &[Mapping],
    pages: &[(u64, Vec<u8>)],
    stops: &mut Stops,
) -> Result<Result<Vec<String>, String>, Failure> {
    let world = match World::stop_beside(job.pid, helper.tid(), |_| true) {
        Ok(world) => world,
        Err(failure) if failure.kind == FailureKind::NothingPatched => return Ok(Err(failure.message)),
        Err(failure) => return Err(failure),
    };
    let of_file = |page: u64| {
        let its_own = |m: &Mapping| !m.shared && job.files.contains(&(m.device, m.inode));
        maps.iter().any(|m| its_own(m) && m.range().contains(&page) && is_still(job.pid, m))
    };
    // Not if anything is different now: another session's jump, a debugger's breakpoint, another module, or none; and not if
    // the program has laid a copy of its text there meanwhile, which has no file behind it, or one with our jumps in it.
    let as_before = |(page, before): &&(u64, Vec<u8>)| {
        of_file(*page) && job.memory.some(RemoteAddress(*page), before.len()) == *before
    };
    let drop = |(page, _): &(u64, _)| (libc::SYS_madvise, [*page, PAGE, libc::MADV_DONTNEED as u64, 0, 0, 0]);
    let calls: Vec<Call> = pages.iter().filter(as_before).map(drop).collect();
    let residue = failed(helper, &calls, COPY);
    stops.add(world.release());
    residue.map(Ok)
}

/// Whether this very mapping of a file is there now. All mappings would take milliseconds to read, and the program stands
/// still.
fn is_still(pid: pid_t, mapping: &Mapping) -> bool {
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    let file = std::fs::read_link(link).unwrap_or_default();
    let file = file.as_os_str().as_bytes();
    mapping
        .path
        .as_ref()
        .is_some_and(|path| file.strip_suffix(b" (deleted)").unwrap_or(file) == path.as_os_str().as_bytes())
}

/// What becomes a copy of ours when it is written.
const COPY: &str = "private copy of the text page";

/// Makes calls whose first argument is an address. What could not be done, and why.
fn failed(helper: &mut Helper<'_>, calls: &[Call], what: &str) -> Result<Vec<String>, Failure> {
    let mut residue = Vec::new();
    for letter in calls.chunks(LETTER) {
        for ((_, [at, ..]), answer) in letter.iter().zip(helper.calls(letter)?) {
            if let Err(failure) = answer {
                residue.push(format!("{what} at {at:#x}: {}", failure.message));
            }
        }
    }
    Ok(residue)
}
