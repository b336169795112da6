//! The live part of a stopped thread's stacks, searched for places that it will come back to.
//!
//! A thread is on one stack, and a signal handler that it is in may have come from another one: the kernel's frame of
//! that signal says where. So all stacks are found by following whole frames, as long as a new one turns up.

use libc::pid_t;
use trocar_abi::hit::RED_ZONE;
use trocar_target::{Failure, Mapping, maps};

use crate::goroutines::Known;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::stop::{Stopped, USER_CS};

/// Most bytes of one stack that are searched.
const SEARCH: u64 = 8 << 20;
/// The same of a stack in Go's heap: a signal's frame is on a stack of 32 KiB (Go's `mpreinit`), and what lies above a stack
/// there are others.
const SEARCH_GO: u64 = 64 << 10;
/// Most stacks of one thread.
const STACKS: usize = 16;
/// Words of a signal frame up to the selectors: its return address, then `ucontext` (`struct rt_sigframe` in
/// `asm/sigframe.h`).
const FRAME: usize = 25;
/// Most frames that a hit has on a stack of ours.
const CHAIN: usize = 64;

/// A stack, from the red zone below the stack pointer up.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Where somebody is on it, or will go on.
    pub(crate) sp: u64,
    /// Address of the first word.
    start: u64,
    pub(crate) words: Vec<u64>,
}

/// A signal frame on a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Where the handler returns to, and the stack pointer and the frame pointer there.
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    bp: u64,
}

/// Whether the thread will return to an address that is `ours`, from a signal handler. What cannot be searched may hold
/// such a frame.
pub(crate) fn handler_returns(
    memory: &RemoteMemory,
    thread: &Stopped,
    maps: &[Mapping],
    go: &Known,
    ours: impl Fn(u64) -> bool,
) -> bool {
    let Some(stacks) = live_stacks(memory, thread, maps, go) else { return true };
    stacks.iter().any(|stack| frames(stack, maps).any(|frame| ours(frame.ip)))
}

/// All stacks that the thread will come back to; `None` if its own cannot be read, or if it is not known where it was before
/// it came to a stack of ours.
pub(crate) fn live_stacks(
    memory: &RemoteMemory,
    thread: &Stopped,
    maps: &[Mapping],
    go: &Known,
) -> Option<Vec<Stack>> {
    let pointer = thread.registers.map(|r| r.fs_base);
    let read = |sp| read(memory, maps, sp, pointer, go);
    let mut stacks = vec![read(thread.sp)?];
    let mut next = 0;
    while let Some(stack) = stacks.get(next) {
        let elsewhere: Vec<u64> = frames(stack, maps)
            .map(|frame| frame.sp)
            .filter(|sp| !stacks.iter().any(|s| s.holds(*sp)))
            .collect();
        // A helper of ours, which naps where its host was killed, has never been elsewhere.
        let is_helper = |m: &Mapping| m.range().contains(&thread.ip) && is_named(m, "memfd:trocar-helper");
        let behind = if is_in_session(maps, stack.sp) && !maps.iter().any(is_helper) {
            let bp = thread.registers.map(|r| r.rbp).filter(|_| next == 0);
            let mut bps = bp.into_iter().chain(frames(stack, maps).map(|frame| frame.bp));
            Some(bps.find_map(|bp| left_behind(memory, maps, bp))?)
        } else {
            None
        };
        // It is where the thread is, but for what we do there.
        if let Some(sp) = behind.filter(|sp| !stacks.iter().any(|s| s.holds(*sp))) {
            if stacks.len() == STACKS {
                return None;
            }
            stacks.push(read(sp)?);
        }
        for sp in elsewhere {
            // One that is stale by now leads nowhere.
            let new = stacks.len() < STACKS && !stacks.iter().any(|s: &Stack| s.holds(sp));
            stacks.extend(new.then(|| read(sp)).flatten());
        }
        next += 1;
    }
    Some(stacks)
}

fn is_named(mapping: &Mapping, name: &str) -> bool {
    mapping.path.as_ref().is_some_and(|p| p.to_string_lossy().contains(name))
}

/// Whether an address is in a session's memory: in code of ours, or between the code and the part that is shared with its
/// host, which are all in one piece. What merely touches code of ours is the program's.
pub(crate) fn is_in_session(maps: &[Mapping], address: u64) -> bool {
    let [code, shared] = ["memfd:trocar-code", "memfd:trocar-shared"];
    let Some(at) = maps.iter().position(|m| m.range().contains(&address)) else { return false };
    let (below, above) = maps.split_at(at);
    let Some((own, above)) = above.split_first() else { return false };
    if is_named(own, code) || is_named(own, shared) {
        return is_named(own, code);
    }
    let mut next = own.start;
    let mut below = below.iter().rev().take_while(|m| std::mem::replace(&mut next, m.start) == m.end);
    let mut next = own.end;
    let mut above = above.iter().take_while(|m| std::mem::replace(&mut next, m.end) == m.start);
    let named = |m: &&Mapping| is_named(m, code) || is_named(m, shared);
    below.find(named).is_some_and(|m| is_named(m, code))
        && above.find(named).is_some_and(|m| is_named(m, shared))
}

/// Where a thread was that is on a stack of ours, by frame pointers, which all that runs there keeps: the hit's frame is the
/// first that is elsewhere.
fn left_behind(memory: &RemoteMemory, maps: &[Mapping], bp: u64) -> Option<u64> {
    let mut at = bp;
    for _ in 0..CHAIN {
        if !is_in_session(maps, at) {
            return (at != bp).then_some(at);
        }
        at = memory.word(RemoteAddress(at)).ok().filter(|next| next.is_multiple_of(8))?;
    }
    None
}

/// The mappings, as the search wants them: the first thread's stack ends where the kernel set it up. What lies above are
/// arguments, environment and random padding, often more than the stack itself, and nobody returns to there; a stack that
/// a program has made of it is a mapping of its own here.
pub(crate) fn mappings(pid: pid_t) -> Result<Vec<Mapping>, Failure> {
    let mut list = maps(pid)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    cut_at(&mut list, start_of_stack(&stat).unwrap_or(0));
    Ok(list)
}

/// Where the kernel set up the first thread's stack: field 28 of `/proc/PID/stat`, `startstack` (proc_pid_stat(5)); the name
/// in the second may hold anything.
fn start_of_stack(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(28 - 3)?.parse().ok()
}

/// Makes the part of a mapping from `address` up, if that is inside one that can be written, another one, which no stack goes
/// on into.
fn cut_at(list: &mut Vec<Mapping>, address: u64) {
    let address = address & !7;
    let inside = |m: &Mapping| m.write && m.start < address && address < m.end;
    let Some((at, mapping)) = list.iter_mut().enumerate().find(|(_, m)| inside(m)) else { return };
    let rest = Mapping { start: address, write: false, ..mapping.clone() };
    mapping.end = address;
    list.insert(at + 1, rest);
}

/// The mappings, read anew in the stop if some thread is on a stack that is not among them: it was made since, or grew.
pub(crate) fn of_all_stacks(
    pid: pid_t,
    known: Vec<Mapping>,
    threads: &[Stopped],
) -> Result<Vec<Mapping>, Failure> {
    let all = threads.iter().all(|t| known.iter().any(|m| m.range().contains(&t.sp)));
    if all { Ok(known) } else { mappings(pid) }
}

impl Stack {
    fn holds(&self, sp: u64) -> bool {
        (self.start..self.start + 8 * self.words.len() as u64).contains(&sp)
    }
}

/// The part of a stack that is searched.
struct Extent {
    start: u64,
    len: usize,
    /// So much of it must be there; what was added is a guess.
    own: usize,
}

/// That of the stack from `sp` up, of a thread with the thread pointer `pointer`, if that is known.
fn extent(maps: &[Mapping], sp: u64, pointer: Option<u64>, go: &Known) -> Option<Extent> {
    let at = maps.iter().position(|m| m.range().contains(&sp))?;
    let most = if go.is_heap(maps.get(at)?, sp) { SEARCH_GO } else { SEARCH };
    let mut end = maps.get(at)?.end;
    // A stack that was cut by a change of protection or advice goes on. With its thread's control block it is whole, and
    // what lies above is another's: to read that costs milliseconds.
    let whole = pointer.is_some_and(|p| (sp..end).contains(&p));
    for next in maps.get(at + 1..)?.iter().take_while(|m| !whole && m.read && m.write) {
        if next.start != end {
            break;
        }
        end = next.end;
    }
    let floor = maps.get(at)?.start;
    let start = sp.saturating_sub(RED_ZONE).max(floor) & !7;
    let len = usize::try_from(end.saturating_sub(start).min(most)).ok()?;
    // The first mapping must be there whole.
    let own = usize::try_from((maps.get(at)?.end - start).min(most)).ok()?;
    Some(Extent { start, len, own })
}

/// Reads the stack from `sp` up; as [`extent`].
fn read(memory: &RemoteMemory, maps: &[Mapping], sp: u64, pointer: Option<u64>, go: &Known) -> Option<Stack> {
    let Extent { start, len, own } = extent(maps, sp, pointer, go)?;
    let bytes = memory.some(RemoteAddress(start), len);
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    (bytes.len() >= own).then_some(Stack { sp, start, words })
}

/// The live signal frames of a stack.
///
/// Stacks are full of what was, so a frame must be whole: its return address leads to code, its flags and link are what
/// the kernel writes, its selectors begin with cs = 0x33 (`ucontext` and `sigcontext_64` in `asm/ucontext.h` and
/// `asm/sigcontext.h`). One that lies on its signal stack is stale too if the thread is not there any more: in Go
/// both kinds of stack come from one heap.
pub(crate) fn frames<'a>(stack: &'a Stack, maps: &'a [Mapping]) -> impl Iterator<Item = Frame> + 'a {
    let is_code = |address: u64| maps.iter().any(|m| m.execute && m.range().contains(&address));
    // The last word first: hardly any other has this value.
    let last = stack.words.iter().enumerate().skip(FRAME - 1);
    let last = last.filter(|(_, selectors)| **selectors & 0xffff == USER_CS);
    last.filter_map(move |(last, _)| {
        let at = last + 1 - FRAME;
        let frame = stack.words.get(at..=last)?;
        // r8 to r15, rdi, rsi; rbp; rbx, rdx, rax, rcx; rsp, rip, eflags (`struct sigcontext_64` in `asm/sigcontext.h`).
        let [restorer, flags, link, base, _, size, .., bp, _, _, _, _, saved, ip, _, _] = frame else {
            return None;
        };
        let whole = *flags <= 0xff && *link == 0 && is_code(*restorer);
        let signal_stack = *base..base.saturating_add(*size);
        let address = stack.start.wrapping_add(8 * at as u64);
        let stale = signal_stack.contains(&address) && !signal_stack.contains(&stack.sp);
        (whole && !stale).then_some(Frame { ip: *ip, sp: *saved, bp: *bp })
    })
}

#[cfg(test)]
mod tests;
