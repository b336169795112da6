//! Dead padding: bytes between pieces of code that no thread executes, and into which a patch may grow.
//!
//! INVARIANT (dead padding). A byte is dead when all of this holds:
//! 1. it lies in a run of nops or `int3` that begins right after a return or an unconditional jump, and that
//!    instruction belongs to a known function which decodes up to there: straight code does not fall in. (A
//!    call or a trap does not count: that it never comes back is the callee's, or the handler's, affair.);
//! 2. no direct branch, call, symbol, relocation, landing pad, pointer in data, taken address or jump table
//!    names a byte from the run's start up to it: whoever arrived there would run on into it. Tables of the
//!    function are read as far as they could possibly reach. Unlike inside a window this is asked of *every*
//!    byte, since padding has no instructions that would rule some of them out;
//! 3. no second reading of the text (a branch past a prefix) runs into it;
//! 4. nothing reads it as data: no instruction's operand lies in the run, and none in the function before it;
//! 5. it is not the room of somebody's sled: a jump over exactly this run (XRay) says that it will be
//!    written.
//!
//! Where there is no dead padding in reach, a *nop that is run through* will do: seven or more bytes that align the
//! target of a branch. It becomes a jump over itself, and the bytes behind that jump are as good as dead:
//!
//! ```text
//!     nopw 0(rax,rax) ; 9 bytes     ▶     jmp +7 │ jmp trampoline │ two bytes of the old nop
//!  head:                                                             ▶ head:
//! ```
//! It is one instruction, so that no thread is inside it, and it is closed as a window of one instruction is. Nops
//! that align nothing are left alone: they may be somebody's marks (a USDT probe is a nop).
//!
//! Zeros are not taken for padding: a table that follows a jump may begin with zeros (GHC puts tables before
//! code), and linkers fill text with nops or `int3`.

use std::ops::Range;

use crate::analysis::Analysis;
use crate::claims::Claims;
use crate::window::{closed, table_reaches};
use crate::{JUMP, SHORT_JUMP};

/// How far a two-byte jump reaches, from its end.
const REACH: Range<i64> = -128..128;
/// What compilers align the targets of branches to, at least, when they do.
const ALIGNMENT: u64 = 16;

impl Analysis {
    /// Where the dead bytes end that follow an instruction which ends at `end`; `end` itself if there are none.
    pub(crate) fn dead_after(&self, end: u64) -> u64 {
        let found = self.sweep.padding.binary_search_by_key(&end, |r| r.start);
        found.ok().map_or(end, |index| self.dead_run(index).end)
    }

    /// The dead bytes of a run of padding; proven when first asked for.
    fn dead_run(&self, index: usize) -> Range<u64> {
        let Some(run) = self.sweep.padding.get(index).cloned() else { return 0..0 };
        let end = self.dead.get(index).map_or(run.start, |d| *d.get_or_init(|| self.prove(&run)));
        run.start..end
    }

    /// The end of the dead bytes of a run.
    fn prove(&self, run: &Range<u64>) -> u64 {
        let none = run.start;
        let Some((index, part)) = run.start.checked_sub(1).and_then(|at| self.part_at(at)) else {
            return none;
        };
        if !part.function || part.bad.is_some_and(|bad| bad < run.start) {
            return none;
        }
        let own = part.start + 1..run.end;
        if self.sweep.reads.first(own.clone()).is_some() || self.sweep.leas.first(own).is_some() {
            return none;
        }
        let s = &self.sweep;
        let arrivals = [&s.jumps, &s.calls, &s.taken, &s.second, &self.entries, &self.pointers, &self.tables];
        let end = arrivals.iter().filter_map(|m| m.first(run.clone())).min().unwrap_or(run.end);
        if table_reaches(self, index, part.start, run, |_| true).is_err() {
            return none;
        }
        end
    }

    /// A place for a long jump that a short one ending at `from` reaches: free, and not in `own`.
    pub(crate) fn slack(&self, from: u64, own: &Range<u64>, claims: &Claims) -> Option<Range<u64>> {
        let reach = from.saturating_add_signed(REACH.start)..from.saturating_add_signed(REACH.end);
        let free = |place: &Range<u64>| {
            let mine = own.start < place.end && place.start < own.end;
            !mine && claims.overlap(place).is_none() && self.allowed(place).is_ok()
        };
        self.dead_slack(&reach, free).or_else(|| self.nop_slack(&reach, free))
    }

    /// Dead padding whose first byte is in reach. Taken from the far end: a return before it may need the near one
    /// for itself.
    fn dead_slack(&self, reach: &Range<u64>, free: impl Fn(&Range<u64>) -> bool) -> Option<Range<u64>> {
        let jump = JUMP as u64;
        let first = self.sweep.padding.partition_point(|r| r.end <= reach.start);
        let near = self.sweep.padding.iter().enumerate().skip(first).take_while(|(_, r)| r.start < reach.end);
        for (index, run) in near {
            if run.end - run.start < jump {
                continue;
            }
            let dead = self.dead_run(index);
            let mut end = dead.end.min(reach.end.saturating_add(jump - 1));
            while let Some(start) = end.checked_sub(jump).filter(|s| *s >= dead.start.max(reach.start)) {
                if free(&(start..end)) {
                    return Some(start..end);
                }
                end -= 1;
            }
        }
        None
    }

    /// A long nop, all of it, whose third byte is in reach.
    fn nop_slack(&self, reach: &Range<u64>, free: impl Fn(&Range<u64>) -> bool) -> Option<Range<u64>> {
        let low = reach.start.saturating_sub(SHORT_JUMP as u64);
        let first = self.sweep.nops.partition_point(|r| r.start < low);
        let near = self.sweep.nops.iter().skip(first);
        near.take_while(|r| r.start + (SHORT_JUMP as u64) < reach.end)
            .find(|r| free(r) && self.aligns(r))
            .cloned()
    }

    /// Whether a nop aligns the target of a branch, and control comes only to its start.
    fn aligns(&self, nop: &Range<u64>) -> bool {
        let Some((index, part)) = self.part_at(nop.start) else { return false };
        let decodes = part.bad.is_none_or(|bad| bad > nop.start);
        let head = nop.end.is_multiple_of(ALIGNMENT) && self.sweep.jumps.has(nop.end);
        let one = self.decode(part, nop.start);
        decodes && head && one.is_some_and(|i| closed(self, index, &[i], nop).is_ok())
    }
}
