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
//! Zeros are not taken for padding: a table that follows a jump may begin with zeros (GHC puts tables before
//! code), and linkers fill text with nops or `int3`.

use std::ops::Range;

use crate::JUMP;
use crate::analysis::Analysis;
use crate::claims::Claims;
use crate::window::table_reaches;

/// How far a two-byte jump reaches, from its end.
const REACH: Range<i64> = -128..128;

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
        if table_reaches(self, index, part.start, |at| run.contains(&at)).is_err() {
            return none;
        }
        end
    }

    /// A place for a long jump that a short one ending at `from` reaches: dead, free, and not in `own`.
    /// Taken from the far end of the padding: a return before it may need the near one for itself.
    pub(crate) fn slack(&self, from: u64, own: &Range<u64>, claims: &Claims) -> Option<Range<u64>> {
        let jump = JUMP as u64;
        let low = from.saturating_add_signed(REACH.start);
        let high = from.saturating_add_signed(REACH.end);
        let first = self.sweep.padding.partition_point(|r| r.end <= low);
        let near = self.sweep.padding.iter().enumerate().skip(first).take_while(|(_, r)| r.start < high);
        for (index, run) in near {
            if run.end - run.start < jump {
                continue;
            }
            let dead = self.dead_run(index);
            let mut end = dead.end.min(high.saturating_add(jump - 1));
            while let Some(start) = end.checked_sub(jump).filter(|s| *s >= dead.start.max(low)) {
                let place = start..end;
                let mine = own.start < place.end && place.start < own.end;
                if !mine && claims.overlap(&place).is_none() && self.allowed(&place).is_ok() {
                    return Some(place);
                }
                end -= 1;
            }
        }
        None
    }
}
