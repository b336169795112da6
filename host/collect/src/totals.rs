//! Counters of a site, summed; and the probe's state.
//!
//! A site's counters are read while the target counts on: within one thread they may be a hit apart.

use std::mem::offset_of;

use trocar_abi::loss::{COUNTED, LOSSES, Loss};
use trocar_abi::shared::{ProbeState, SiteStats, TrapCode};
use trocar_ring::SharedView;

/// Counters of one site over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteTotals {
    /// Hits that came.
    pub hits: u64,
    /// Hits whose handler ran to its end and whose records all went out.
    pub executed: u64,
    /// Hits whose handler answered that its condition does not hold.
    pub condition_false: u64,
    /// Losses by reason, in the order of [`Loss::ALL`].
    pub losses: [u64; LOSSES],
    /// Time-stamp counter ticks of the hits that were timed.
    pub ticks: u64,
    /// Number of hits that were timed.
    pub timed: u64,
    /// Ticks of the fastest timed hit; zero if none was.
    pub ticks_min: u32,
}

/// State of the probe in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Armed, suspended, quarantined or disarmed.
    pub state: ProbeState,
    /// Traps and out-of-fuel hits so far.
    pub traps: u32,
    /// Why the last one trapped.
    pub trap_code: TrapCode,
    /// Where.
    pub trap_site: u32,
    /// In which thread, zero if unknown.
    pub trap_tid: u32,
    /// Contexts that threads have claimed.
    pub claimed: u32,
    /// Calls whose end was never seen.
    pub abandoned: u64,
}

impl SiteTotals {
    /// The losses that happened, by name.
    pub fn losses_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Loss::ALL.into_iter().zip(self.losses).filter(|(_, n)| *n > 0).map(|(loss, n)| (loss.name(), n))
    }

    /// Adds what was counted elsewhere for the same site. Sums saturate: the numbers are the target's.
    pub fn add(&mut self, other: &Self) {
        if other.timed > 0 {
            self.ticks_min =
                if self.timed == 0 { other.ticks_min } else { self.ticks_min.min(other.ticks_min) };
        }
        let words = [&mut self.hits, &mut self.executed, &mut self.condition_false, &mut self.ticks];
        let others = [other.hits, other.executed, other.condition_false, other.ticks];
        let losses = self.losses.iter_mut().zip(other.losses);
        let sums = words.into_iter().zip(others).chain(losses).chain([(&mut self.timed, other.timed)]);
        sums.for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// All losses together.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.losses.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Hits whose outcome is known: executed, condition false, or lost.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.executed.saturating_add(self.condition_false).saturating_add(self.lost())
    }

    /// The same with `hits` set to the hits whose outcome is known, so that a report of a running target adds
    /// up. Once the target's sites are closed `hits` equals that sum anyway; then use the totals as they are.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.hits = self.accounted();
        self
    }

    /// The same when no hit goes on any more: those that have not ended were abandoned.
    #[must_use]
    pub fn over(mut self) -> Self {
        let left = self.hits.saturating_sub(self.accounted());
        if let Some(abandoned) = self.losses.get_mut(Loss::Abandoned as usize) {
            *abandoned = abandoned.saturating_add(left);
        }
        self
    }

    /// Mean ticks of the timed hits; `None` if none was timed.
    #[must_use]
    pub fn mean_ticks(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.ticks as f64 / self.timed as f64)
    }
}

/// The counters at `offset` of the view.
pub(crate) fn read(view: &SharedView, offset: u64) -> SiteTotals {
    let load = |field: usize| view.load_u64_acquire(offset + field as u64).unwrap_or(0);
    let mut site = SiteTotals::default();
    // The outcome is counted after the hit: reading outcomes first, we see no outcome without its hit.
    for (reason, count) in site.losses.iter_mut().take(COUNTED).enumerate() {
        *count = load(offset_of!(SiteStats, losses) + reason * 8);
    }
    site.executed = load(offset_of!(SiteStats, executed));
    site.condition_false = load(offset_of!(SiteStats, condition_false));
    site.hits = load(offset_of!(SiteStats, hits));
    site.ticks = load(offset_of!(SiteStats, ticks));
    let timed = load(offset_of!(SiteStats, timed));
    site.timed = timed & 0xffff_ffff;
    if site.timed > 0 {
        site.ticks_min = u32::try_from(timed >> 32).unwrap_or(u32::MAX);
    }
    site
}

#[cfg(test)]
mod tests {
    use super::SiteTotals;

    #[test]
    fn what_was_counted_in_two_attachments_is_summed_and_the_fastest_hit_is_that_of_both() {
        let mut one =
            SiteTotals { hits: 3, executed: 2, ticks: 50, timed: 2, ticks_min: 20, ..Default::default() };
        one.losses[0] = 1;
        let mut sum = SiteTotals::default();
        sum.add(&one);
        assert_eq!(sum, one);
        let other = SiteTotals {
            hits: 1,
            condition_false: 1,
            ticks: 9,
            timed: 1,
            ticks_min: 9,
            ..Default::default()
        };
        sum.add(&other);
        sum.add(&SiteTotals::default());
        let mut both =
            SiteTotals { hits: 4, executed: 2, condition_false: 1, ticks: 59, timed: 3, ticks_min: 9, ..one };
        both.losses[0] = 1;
        assert_eq!(sum, both);
        assert_eq!(sum.accounted(), 4);
    }
}
