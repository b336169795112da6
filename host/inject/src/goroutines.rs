//! Goroutines: which of them will go on in the middle of a window.
//!
//! A goroutine stops between two instructions only where a signal preempted it: the handler makes it call
//! `asyncPreempt`, which saves all registers and calls `asyncPreempt2`, which gives the thread away (Go's
//! `src/runtime/preempt.go`). Everywhere else it stops in a call, and comes back behind it: no window has a call inside.
//! So what has to be found is the address that the handler pushed:
//!
//! ```text
//!  sched.sp ─▶ asyncPreempt2's frame     the goroutine is on no thread, and sched.pc is in asyncPreempt2
//!              asyncPreempt's frame      or it is on one, whose stack pointer is here or below
//!              interrupted address       all of this is less than 800 bytes, which the runtime itself checks when it
//!  hi ───────▶ …                         starts (`asyncPreemptStack`): a function without a stack check has no more
//! ```
//! Its stack may grow, shrink and move meanwhile: `sched` and the bounds say where it is. Before the handler has returned
//! the address is in the signal's frame. Deeper in the stack there is none: `asyncPreempt2` calls nothing but, in newer
//! versions, `xRegRestore`, which counts among those 800 bytes; neither is ever patched, so no hit comes between.
//! The scheduler's own stacks hold none either, since only a thread's current goroutine is preempted.
//!
//! ```text
//!  g:  0 stack.lo │ 8 stack.hi │ … │ 56 sched.sp │ 64 sched.pc │ 72 sched.g, which is this g itself
//! ```
//! That this is the layout is proven by every goroutine of the program (`runtime2.go`: gobuf's place is the same in
//! all versions that the caller lets through). A `g` is never freed, and the list of all only grows, so the list is
//! read before the stop, and in it only what was added. While a goroutine runs, `sched.sp` is zero or stale, and its
//! address is found with its thread's.

use std::ops::Range;
use std::time::Duration;

use trocar_target::Mapping;

use crate::memory::{RemoteAddress, RemoteMemory};

/// Most goroutines, the ended ones that the runtime keeps included: to look at so many takes some ten milliseconds.
const MOST: u64 = 100_000;
/// Most bytes that are read for them.
const BYTES: u64 = 64 << 20;
/// Goroutines that lie so near to one another are read at once.
const GAP: u64 = 1024;
/// How far above a stack pointer an interrupted address may be.
const FRAME: u64 = 1024;
/// Bytes of a stack that a hit takes before it leaves it for one of ours, at most: twice what it saves and calls.
pub(crate) const HIT: u64 = 2048;
/// Looks until a goroutine that is just being made must be there.
const LOOKS: u32 = 20;

const LO: usize = 0;
const HI: usize = 1;
const SP: usize = 7;
const PC: usize = 8;
const SELF: usize = 9;
/// Words of a `g` up to the last one that is looked at.
const WORDS: usize = 10;

const FAR: &str = "its goroutines are not where they were expected";
const MANY: &str = "it has more goroutines than can be searched in a short stop";

/// Where a Go program has its goroutines.
#[derive(Clone, Debug)]
pub struct Goroutines {
    /// Address of the slice of all: pointer, length, capacity.
    list: u64,
    preempted: Vec<Range<u64>>,
    text: Range<u64>,
}

/// What is told of a Go program, at addresses in the process.
#[derive(Clone, Debug)]
pub struct GoProgram {
    /// What the function names that adds to the list of all goroutines, in ascending order.
    pub named: Vec<u64>,
    /// The function in which a goroutine waits that was preempted asynchronously.
    pub preempted: Vec<Range<u64>>,
    /// Its module.
    pub text: Range<u64>,
}

/// The list of all goroutines as it was, and in ascending order of address.
#[derive(Default)]
pub(crate) struct Known {
    listed: Vec<u64>,
    ordered: Vec<u64>,
}

impl Goroutines {
    /// Finds the list of all goroutines, and proves by them that they are as is known.
    ///
    /// # Errors
    /// Why they cannot be searched, as people read it.
    pub fn find(memory: &RemoteMemory, program: GoProgram) -> Result<Self, &'static str> {
        let GoProgram { named, preempted, text } = program;
        let is = |at: u64| named.binary_search(&at).is_ok();
        let mut lists = named.iter().copied().filter(|at| is(at + 8) && is(at + 16));
        let (Some(list), None) = (lists.next(), lists.next()) else { return Err(FAR) };
        let others: Vec<u64> =
            named.iter().copied().filter(|at| !(list..list + 24).contains(at) && at % 8 == 0).collect();
        let found = Self { list, preempted, text };
        let mut answer = FAR;
        // The program runs: the list may be being added to, and a goroutine be being made.
        for _ in 0..LOOKS {
            match found.prove(memory, &others) {
                Ok(true) => return Ok(found),
                Ok(false) => answer = FAR,
                Err(why) => answer = why,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(answer)
    }

    /// Whether the words are a list that is also kept as pointer and length elsewhere, and all that is in it goroutines.
    fn prove(&self, memory: &RemoteMemory, others: &[u64]) -> Result<bool, &'static str> {
        let word = |at: u64| memory.word(RemoteAddress(at)).ok();
        let (Some(pointer), Some(count), Some(capacity)) =
            (word(self.list), word(self.list + 8), word(self.list + 16))
        else {
            return Ok(false);
        };
        let kept = |value: u64| others.iter().any(|&at| word(at) == Some(value));
        if count == 0 || count > capacity || !kept(pointer) || !kept(count) {
            return Ok(false);
        }
        if count > MOST {
            return Err(MANY);
        }
        let heads = self.list(memory).and_then(|known| heads(memory, &known.ordered));
        let Some(heads) = heads else { return Ok(false) };
        // One that was never started, or that has ended and given its stack back, says nothing.
        let mut told = heads.iter().filter(|(_, g)| g[LO] != 0 && g[SP] != 0).peekable();
        Ok(told.peek().is_some() && told.all(|(at, g)| whole(*at, g)))
    }

    /// The list of all goroutines; `None`: it is too long, or not to be read now.
    pub(crate) fn list(&self, memory: &RemoteMemory) -> Option<Known> {
        let listed = self.listed(memory)?;
        let mut ordered = listed.clone();
        ordered.sort_unstable();
        Some(Known { listed, ordered })
    }

    fn listed(&self, memory: &RemoteMemory) -> Option<Vec<u64>> {
        let count = memory.word(RemoteAddress(self.list + 8)).ok().filter(|count| *count <= MOST)?;
        let pointer = memory.word(RemoteAddress(self.list)).ok()?;
        let bytes = memory.bytes(RemoteAddress(pointer), usize::try_from(8 * count).ok()?).ok()?;
        Some(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
    }

    /// In a stop: gives every word to `note` that may be where a goroutine was interrupted that is on no thread. `None`:
    /// that cannot be known now.
    pub(crate) fn interrupted(
        &self,
        memory: &RemoteMemory,
        known: &Known,
        mut note: impl FnMut(u64),
    ) -> Option<()> {
        // What was read while the program ran may have been taken from a list that it had just left.
        let listed = self.listed(memory)?;
        let mut new = listed.strip_prefix(known.listed.as_slice())?.to_vec();
        new.sort_unstable();
        for (at, g) in heads(memory, &known.ordered)?.into_iter().chain(heads(memory, &new)?) {
            if g[SP] == 0 || !self.preempted.iter().any(|r| r.contains(&g[PC])) {
                continue;
            }
            if !whole(at, &g) {
                return None;
            }
            near(memory, g[SP], (g[HI] - g[SP]).min(FRAME))?.into_iter().for_each(&mut note);
        }
        Some(())
    }

    /// Whether an address is in Go's own code.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.text.contains(&address)
    }
}

impl Known {
    /// Whether memory is of Go's heap, where its stacks are too: it is mapped together with a goroutine, or reserved with
    /// one (Go's `heapArenaBytes`, to which its parts are aligned).
    pub(crate) fn is_heap(&self, mapping: &Mapping, address: u64) -> bool {
        const ARENA: u64 = 64 << 20;
        let start = address & !(ARENA - 1);
        let any = |r: Range<u64>| {
            let at = self.ordered.partition_point(|g| *g < r.start);
            self.ordered.get(at).is_some_and(|g| r.contains(g))
        };
        any(mapping.range()) || any(start..start.saturating_add(ARENA))
    }
}

/// The words above a stack pointer, and `more` bytes of other frames, that may be where a goroutine was interrupted; `None`:
/// there is no stack.
pub(crate) fn above(memory: &RemoteMemory, sp: u64, more: u64) -> Option<Vec<u64>> {
    near(memory, sp, FRAME + more)
}

fn near(memory: &RemoteMemory, sp: u64, len: u64) -> Option<Vec<u64>> {
    let bytes = memory.some(RemoteAddress(sp), usize::try_from(len).ok()?);
    let words = bytes.as_chunks::<8>().0;
    (!words.is_empty()).then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// Whether a goroutine that is on no thread is as is known.
fn whole(at: u64, g: &[u64; WORDS]) -> bool {
    g[LO] < g[SP] && g[SP] < g[HI] && g[SP].is_multiple_of(8) && g[SELF] == at
}

/// The first words of goroutines, which are given in ascending order of address.
fn heads(memory: &RemoteMemory, goroutines: &[u64]) -> Option<Vec<(u64, [u64; WORDS])>> {
    const LEN: u64 = 8 * WORDS as u64;
    let mut all = Vec::with_capacity(goroutines.len());
    let (mut rest, mut left) = (goroutines, BYTES);
    while let [first, ..] = rest {
        let near = rest.array_windows().take_while(|[one, next]| next - one <= LEN + GAP).count();
        let (run, after) = rest.split_at_checked(near + 1)?;
        let len = run.last()?.checked_add(LEN)? - first;
        left = left.checked_sub(len)?;
        let bytes = memory.bytes(RemoteAddress(*first), usize::try_from(len).ok()?).ok()?;
        for at in run {
            let head = bytes.get(usize::try_from(at - first).ok()?..)?.first_chunk::<{ 8 * WORDS }>()?;
            let mut g = [0; WORDS];
            g.iter_mut().zip(head.as_chunks::<8>().0).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
            all.push((*at, g));
        }
        rest = after;
    }
    Some(all)
}
