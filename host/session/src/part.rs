//! A part of a session: the sites that were armed in one transaction, and what is counted there. The first holds what was
//! there at attach; each other one what came with modules that were loaded later.

use std::time::{Duration, Instant};

use trocar_abi::loss::Loss;
use trocar_abi::shared::{HIT_FUEL, SPAN_FUEL};
use trocar_collect::{Collector, SiteTotals};
use trocar_inject::{AttachPlan, Attachment, Detached, Span};
use trocar_target::{Failure, FailureKind};

use crate::probe::Probe;
use crate::reply::{Refused, Site};
use crate::sites::{PlannedPlace, PlannedSites, occupied};

/// How long a part that is still in use is left in peace before it is looked at again.
const REST: Duration = Duration::from_millis(100);

/// Sites that were armed together.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) attachment: Attachment,
    pub(crate) collector: Collector,
    /// The session's index of each site.
    pub(crate) sites: Vec<u32>,
    /// For each site, what a hit costs besides its handler, in fuel, and whether it is one that `--hits` counts.
    prices: Vec<(u64, bool)>,
    /// Fuel that a hit of the native code is billed, where there is such code.
    pub(crate) stub_fuel: Option<u64>,
    /// Its hits may read the target's memory.
    reads: bool,
    /// When it is tried next to take it out.
    next_try: Instant,
}

impl Part {
    /// Puts a probe in place, at sites that have their numbers in the session.
    pub(crate) fn attach(plan: &AttachPlan, probe: &Probe, planned: &PlannedSites) -> Result<Self, Failure> {
        let mut attachment = Attachment::attach(plan)?;
        let (specs, _) = probe.verified.manifest.map_specs();
        let rate = plan.ticks_per_nanosecond;
        let collector = match Collector::new(attachment.view(), attachment.layout(), specs, rate) {
            Ok(collector) => collector,
            Err(error) => {
                attachment.detach()?;
                let what = format!("the shared memory is not as we made it: {error}");
                return Err(Failure::new(FailureKind::Bug, what));
            }
        };
        let price = |span: Span| match span {
            Span::None => (HIT_FUEL, true),
            Span::Entry => (HIT_FUEL + SPAN_FUEL, false),
            Span::Exit => (HIT_FUEL + SPAN_FUEL, true),
        };
        let prices = planned.sites.iter().map(|s| price(s.span)).collect();
        let stub_fuel = plan.probe.stub.as_ref().filter(|_| attachment.has_stub()).map(|s| s.fuel);
        let sites = planned.sites.iter().map(|s| s.site.site).collect();
        let reads = probe.reads(planned);
        Ok(Self { attachment, collector, sites, prices, stub_fuel, reads, next_try: Instant::now() })
    }

    /// The session's index of a site.
    pub(crate) fn site(&self, index: u32) -> u32 {
        let index = usize::try_from(index).ok();
        index.and_then(|i| self.sites.get(i)).copied().unwrap_or(u32::MAX)
    }

    /// The session's indexes of some of its sites, without those that were left out: their numbers may be others' by now.
    pub(crate) fn numbers(&self, sites: &[usize]) -> Vec<u32> {
        let left_out = self.attachment.left_out();
        let armed = |site: &&usize| u32::try_from(**site).is_ok_and(|site| !left_out.contains(&site));
        sites.iter().filter(armed).filter_map(|site| self.sites.get(*site)).copied().collect()
    }

    /// Of the sites that it was made of, those that were armed, and why the others were not.
    pub(crate) fn armed(&self, planned: Vec<PlannedPlace>) -> (Vec<Site>, Vec<Refused>) {
        let left_out: Vec<u32> = self.attachment.left_out().iter().map(|index| self.site(*index)).collect();
        let sites = planned.into_iter().map(|place| place.site);
        let (left, armed): (Vec<Site>, Vec<Site>) = sites.partition(|site| left_out.contains(&site.site));
        (armed, left.iter().map(occupied).collect())
    }

    /// Whether its hits would read memory, and a filter of the target forbids it.
    pub(crate) fn is_kept_from_reading(&self) -> bool {
        self.reads && self.attachment.forbids_reading()
    }

    /// Hits that were executed and that `--hits` counts.
    pub(crate) fn executed(&self) -> u64 {
        let totals = self.collector.totals();
        let counted = totals.iter().zip(&self.prices).filter(|(_, (_, counts))| *counts);
        counted.fold(0, |n, (t, _)| n.saturating_add(t.executed))
    }

    /// Fuel to be billed so far.
    pub(crate) fn fuel(&self) -> u64 {
        // Read before the hits, so that they are not more.
        let stub_hits = self.collector.stub_hits();
        let totals = self.collector.totals();
        let ways = totals.iter().zip(&self.prices);
        let fuel = ways.fold(self.collector.fuel(), |sum, (site, (price, _))| {
            sum.saturating_add(site.hits.saturating_mul(*price))
        });
        // Hits of native code cost less.
        let Some(price) = self.stub_fuel else { return fuel };
        let others = fuel.saturating_sub(stub_hits.saturating_mul(HIT_FUEL));
        others.saturating_add(stub_hits.saturating_mul(price))
    }

    /// Adds its counters to those of the session's sites.
    pub(crate) fn add_totals(&mut self, all: &mut Vec<SiteTotals>) {
        let mut totals = self.collector.totals();
        let no_room = Loss::NoStackRoom as usize;
        for (site, turned_away) in totals.iter_mut().zip(self.attachment.turned_away()) {
            // Counted by the trampoline, before the agent could count the hit.
            site.hits = site.hits.saturating_add(*turned_away);
            if let Some(loss) = site.losses.get_mut(no_room) {
                *loss = loss.saturating_add(*turned_away);
            }
        }
        for (total, index) in totals.iter().zip(&self.sites) {
            let index = usize::try_from(*index).unwrap_or(usize::MAX);
            if index >= all.len() && index < usize::MAX {
                all.resize(index + 1, SiteTotals::default());
            }
            all.get_mut(index).into_iter().for_each(|sum| sum.add(total));
        }
    }

    /// Takes it out if its modules are all gone and nobody is in its memory any more.
    pub(crate) fn detach_if_over(&mut self) -> Option<Detached> {
        if !self.attachment.is_retired() || Instant::now() < self.next_try {
            return None;
        }
        self.next_try = Instant::now() + REST;
        // What fails is tried again, at the session's end at the latest.
        self.attachment.detach_if_idle().ok().flatten()
    }
}
