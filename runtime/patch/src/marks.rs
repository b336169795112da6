//! A set of text addresses as one bit per byte of text: constant time to mark and to ask, an eighth of the
//! text in memory. A sorted list of the branch targets of a large text takes more, and longer to build.

use std::ops::Range;

use crate::image::Segment;

/// Marked addresses of one or more text segments.
#[derive(Clone, Debug)]
pub struct Marks {
    /// First and last+1 address of each segment with its bits, sorted, not overlapping.
    ranges: Vec<(u64, u64, Vec<u64>)>,
}

impl Marks {
    /// No address marked.
    pub fn new(text: &[Segment]) -> Self {
        let ranges = text.iter().map(|s| (s.vaddr, s.end(), vec![0; s.bytes.len().div_ceil(64)])).collect();
        Self { ranges }
    }

    /// Marks an address; one outside the text is passed over.
    #[inline]
    pub fn mark(&mut self, vaddr: u64) {
        let range = match self.ranges.as_mut_slice() {
            [only] => only,
            many => {
                let after = many.partition_point(|r| r.0 <= vaddr);
                match after.checked_sub(1).and_then(|i| many.get_mut(i)) {
                    Some(range) => range,
                    None => return,
                }
            }
        };
        if vaddr < range.0 || vaddr >= range.1 {
            return;
        }
        let bit = vaddr - range.0;
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|i| range.2.get_mut(i)) {
            *word |= 1 << (bit % 64);
        }
    }

    /// Whether an address is marked.
    #[inline]
    pub fn has(&self, vaddr: u64) -> bool {
        let after = self.ranges.partition_point(|r| r.0 <= vaddr);
        let Some(range) = after.checked_sub(1).and_then(|i| self.ranges.get(i)) else { return false };
        let bit = vaddr - range.0;
        let word = usize::try_from(bit / 64).ok().and_then(|i| range.2.get(i));
        word.is_some_and(|w| w >> (bit % 64) & 1 != 0)
    }

    /// The first marked address of a range. Made for ranges of a few bytes to a few pages.
    pub fn first(&self, range: Range<u64>) -> Option<u64> {
        let mut at = range.start;
        while at < range.end {
            let after = self.ranges.partition_point(|r| r.0 <= at);
            let (from, to, words) = self.ranges.get(after.checked_sub(1)?)?;
            if at >= *to {
                // Between two segments: on with the next one.
                at = self.ranges.get(after)?.0;
                continue;
            }
            let bit = at - from;
            let word = usize::try_from(bit / 64).ok().and_then(|i| words.get(i)).copied().unwrap_or(0);
            let left = word >> (bit % 64);
            if left != 0 {
                let found = at + u64::from(left.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            at += 64 - bit % 64;
        }
        None
    }

    /// The addresses marked here and not in `other`, which covers the same text.
    pub fn without(&self, other: &Self) -> Vec<u64> {
        let mut out = Vec::new();
        for (mine, theirs) in self.ranges.iter().zip(&other.ranges) {
            for (i, (a, b)) in mine.2.iter().zip(&theirs.2).enumerate() {
                let mut left = a & !b;
                while left != 0 {
                    out.push(mine.0 + 64 * i as u64 + u64::from(left.trailing_zeros()));
                    left &= left - 1;
                }
            }
        }
        out
    }

    /// Number of marked addresses.
    pub fn count(&self) -> u64 {
        self.ranges.iter().flat_map(|r| &r.2).map(|w| u64::from(w.count_ones())).sum()
    }
}
