//! What the sites of one session have taken of the text, so that no two of them write the same byte.
//!
//! A site takes its window, the bytes that are written there, and its slack. Slack lies up to 128 bytes away
//! from its site, in another function even, so that comparing windows is not enough.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::site_plan::SitePlan;

/// Ranges of text that are taken, in link-time addresses of one module.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Start to end; not overlapping.
    taken: BTreeMap<u64, u64>,
}

impl Claims {
    /// Nothing is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what a site touches.
    pub fn claim(&mut self, plan: &SitePlan) {
        plan.touched().into_iter().for_each(|r| self.take(r));
    }

    /// Takes a range: one in which another tool has written, for example.
    pub fn take(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // What it meets becomes a part of it.
        while let Some((s, e)) = self.meets(&(start..end)) {
            self.taken.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.taken.insert(start, end);
    }

    /// The taken range that overlaps this one, if one does.
    #[must_use]
    pub fn overlap(&self, range: &Range<u64>) -> Option<Range<u64>> {
        self.meets(range).map(|(start, end)| start..end)
    }

    fn meets(&self, range: &Range<u64>) -> Option<(u64, u64)> {
        let (start, end) = self.taken.range(..range.end).next_back()?;
        (*end > range.start && range.start < range.end).then_some((*start, *end))
    }
}
