//! What the host does to a probe that is at work: lets it write more records, suspends it, lets it go on; and what the
//! fuel says that it used.

use std::mem::offset_of;

use trocar_abi::shared::{ContextShared, ProbeState, SharedHead, UNIT_SCALE};

use crate::collector::Collector;

impl Collector {
    /// Fuel that handlers have used so far, in all threads.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.words(offset_of!(ContextShared, fuel)).fold(0, u64::saturating_add)
    }

    /// Hits that native code has served so far, in all threads.
    #[must_use]
    pub fn stub_hits(&self) -> u64 {
        self.words(offset_of!(ContextShared, stub_hits)).fold(0, u64::saturating_add)
    }

    /// Nanoseconds of a unit of fuel, by the cheapest hit that was timed, so that a hit during which another thread ran is
    /// not taken for what a hit costs; `None` if none was timed.
    #[must_use]
    pub fn unit_ns(&self) -> Option<f64> {
        let least = self.words(offset_of!(ContextShared, unit_ticks)).filter(|ticks| *ticks > 0).min()?;
        Some(least as f64 / UNIT_SCALE as f64 / self.ticks_per_ns).filter(|ns| ns.is_finite())
    }

    /// Lets the probe write `n` more records, `most` at once.
    pub fn grant_records(&self, n: u32, most: u32) {
        // The head is always there: the collector has looked.
        let _ = self.view.add_up_to(offset_of!(SharedHead, records) as u64, n.into(), most.into());
    }

    /// Suspends the probe: from now on hits are counted and not executed. False if it is not armed.
    pub fn suspend(&self) -> bool {
        self.change(ProbeState::Armed, ProbeState::Suspended)
    }

    /// Lets a suspended probe go on. False if it is not suspended any more.
    pub fn resume(&self) -> bool {
        self.change(ProbeState::Suspended, ProbeState::Armed)
    }

    fn change(&self, from: ProbeState, to: ProbeState) -> bool {
        let at = offset_of!(SharedHead, state) as u64;
        self.view.exchange_u32(at, from as u32, to as u32).unwrap_or(false)
    }

    /// This field of every claimed context.
    fn words(&self, field: usize) -> impl Iterator<Item = u64> {
        let at = move |context| self.layout.context(context) + field as u64;
        (0..self.claimed()).filter_map(move |context| self.view.load_u64(at(context)))
    }
}
