//! What parts of a session that are gone have counted.

use trocar_collect::{MergedMap, SiteTotals};
use trocar_inject::Detached;

use crate::part::Part;

/// The sums of all parts that were taken out.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    totals: Vec<SiteTotals>,
    maps: Vec<Option<MergedMap>>,
    /// Hits that were executed and that `--hits` counts.
    pub(crate) executed: u64,
    /// Fuel that was billed.
    pub(crate) fuel: u64,
    pub(crate) traps: u32,
    pub(crate) abandoned: u64,
    /// What their detaching has proven.
    pub(crate) detached: Detached,
}

impl Kept {
    /// Keeps what a part has counted, when nothing of it is in the target any more.
    pub(crate) fn keep(&mut self, part: &mut Part, maps: usize, detached: Detached) {
        self.fuel = self.fuel.saturating_add(part.fuel());
        self.executed = self.executed.saturating_add(part.executed());
        part.add_totals(&mut self.totals);
        let status = part.collector.status();
        self.traps = self.traps.saturating_add(status.traps);
        self.abandoned = self.abandoned.saturating_add(status.abandoned);
        self.maps.resize(maps, None);
        for (index, map) in self.maps.iter_mut().enumerate() {
            *map = sum(map.take(), part.collector.map(index));
        }
        self.detached.add(detached);
    }

    /// The counters of each site.
    pub(crate) fn totals(&self, sites: usize) -> Vec<SiteTotals> {
        let mut totals = self.totals.clone();
        totals.resize(sites.max(totals.len()), SiteTotals::default());
        totals
    }

    /// A map, with what these parts have of it.
    pub(crate) fn map(&self, index: usize, parts: &[Part]) -> Option<MergedMap> {
        let kept = self.maps.get(index).cloned().flatten();
        parts.iter().fold(kept, |all, part| sum(all, part.collector.map(index)))
    }
}

fn sum(one: Option<MergedMap>, other: Option<MergedMap>) -> Option<MergedMap> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.and(other)),
        (one, other) => one.or(other),
    }
}
