//! A probe's share of a core: a budget for each second.
//!
//! A limit of 5 % is 50 ms of each second. What hits cost is billed by their fuel, a fixed price for the way to the handler
//! and back included, at the price in nanoseconds that this machine was seen to take for a unit. When the budget of a
//! second is used up the probe is suspended until the second is over; what was used beyond it, because the host looks only
//! so often, is taken off the seconds that follow. So over any longer time the share is kept, and a probe that is too dear
//! still sees a part of the hits. Knows no clock and no target: both come in.

use std::time::Duration;

/// The time that a budget is for.
const SECOND: Duration = Duration::from_secs(1);
/// Nanoseconds of a unit of fuel until a hit was timed.
const UNIT_NS: f64 = trocar_abi::import::FUEL_PICOSECONDS as f64 / 1000.0;
/// How far the price of a unit may be from that. The least is what keeps a probe that makes its timed hits cheap from
/// being billed nothing; the most, one that has dear ones only, all preempted, from being billed for others.
const UNIT_RANGE: (f64, f64) = (UNIT_NS / 2.0, UNIT_NS * 20.0);

/// The budget.
#[derive(Debug)]
pub(crate) struct CoreBudget {
    /// Share of a core, 1 is all of one.
    limit: f64,
    /// Fuel that was billed.
    billed: u64,
    /// When the second began, and the nanoseconds used since, with what is left to be paid of the seconds before.
    began: Duration,
    used: f64,
    /// Of `used`, what is left of the seconds before.
    carried: f64,
    suspended: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Go,
    /// Suspend the probe: it used so much of a core during this time.
    Suspend { share: f64, during: Duration },
    /// Let it go on.
    Resume,
}

impl CoreBudget {
    /// A budget that begins now.
    pub(crate) const fn new(limit: f64, now: Duration) -> Self {
        Self { limit, billed: 0, began: now, used: 0.0, carried: 0.0, suspended: false }
    }

    /// The share that may be used.
    pub(crate) const fn limit(&self) -> f64 {
        self.limit
    }

    /// Bills what was used until now: `fuel` in all, at `unit_ns` nanoseconds.
    pub(crate) fn bill(&mut self, fuel: u64, unit_ns: Option<f64>, now: Duration) -> Verdict {
        let (least, most) = UNIT_RANGE;
        let unit = unit_ns.unwrap_or(UNIT_NS).clamp(least, most);
        // The target's numbers: one that sinks is not paid back.
        self.used += fuel.saturating_sub(self.billed) as f64 * unit;
        self.billed = self.billed.max(fuel);
        let elapsed = now.saturating_sub(self.began);
        let budget = |time: Duration| self.limit * time.as_nanos() as f64;
        if elapsed >= SECOND {
            self.carried = (self.used - budget(elapsed)).max(0.0);
            self.used = self.carried;
            self.began = now;
            if self.suspended && self.used < budget(SECOND) {
                self.suspended = false;
                return Verdict::Resume;
            }
        } else if !self.suspended && self.used > budget(SECOND) {
            self.suspended = true;
            let share = (self.used - self.carried) / elapsed.as_nanos().max(1) as f64;
            return Verdict::Suspend { share, during: elapsed };
        }
        Verdict::Go
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreBudget, UNIT_NS, UNIT_RANGE, Verdict};
    use std::time::Duration;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Fuel that takes so many milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
    fn fuel(ms: f64) -> u64 {
        (ms * 1e6 / UNIT_NS) as u64
    }

    #[test]
    fn a_probe_within_its_budget_is_left_alone() {
        let mut budget = CoreBudget::new(0.05, ms(0));
        for tick in 1..500 {
            // 4.9 % of a core.
            let used = fuel(tick as f64 * 20.0 * 0.049);
            assert_eq!(budget.bill(used, None, ms(tick * 20)), Verdict::Go, "tick {tick}");
        }
    }

    #[test]
    fn one_that_uses_a_second_s_budget_is_suspended_until_the_second_is_over() {
        let mut budget = CoreBudget::new(0.05, ms(0));
        assert_eq!(budget.bill(fuel(49.0), None, ms(490)), Verdict::Go);
        let Verdict::Suspend { share, during } = budget.bill(fuel(51.0), None, ms(510)) else { panic!() };
        assert!((share - 0.1).abs() < 1e-3 && during == ms(510), "{share} {during:?}");
        assert_eq!(budget.bill(fuel(51.0), None, ms(980)), Verdict::Go);
        assert_eq!(budget.bill(fuel(51.0), None, ms(1000)), Verdict::Resume);
    }

    #[test]
    fn what_was_used_beyond_it_is_taken_off_the_seconds_that_follow() {
        let mut budget = CoreBudget::new(0.05, ms(0));
        // Eight threads for 20 ms: 160 ms, the budget of 3.2 seconds.
        let Verdict::Suspend { share, .. } = budget.bill(fuel(160.0), None, ms(20)) else { panic!() };
        assert!((share - 8.0).abs() < 1e-3, "{share}");
        for second in 1..3 {
            assert_eq!(budget.bill(fuel(160.0), None, ms(second * 1000)), Verdict::Go, "{second}");
        }
        assert_eq!(budget.bill(fuel(160.0), None, ms(3000)), Verdict::Resume);
        // 40 ms are left of this one.
        assert_eq!(budget.bill(fuel(160.0 + 39.0), None, ms(3500)), Verdict::Go);
        let verdict = budget.bill(fuel(160.0 + 41.0), None, ms(3520));
        assert!(matches!(verdict, Verdict::Suspend { share, .. } if share < 0.1), "{verdict:?}");
    }

    #[test]
    fn hits_that_are_only_counted_can_keep_it_suspended() {
        let mut budget = CoreBudget::new(0.05, ms(0));
        assert!(matches!(budget.bill(fuel(60.0), None, ms(100)), Verdict::Suspend { .. }));
        for second in 1..20 {
            let used = fuel(60.0 + second as f64 * 120.0);
            assert_eq!(budget.bill(used, None, ms(second * 1000)), Verdict::Go, "{second}");
        }
    }

    #[test]
    fn the_price_of_a_unit_is_what_was_seen_within_reason() {
        let used = |unit| {
            let mut budget = CoreBudget::new(0.05, ms(0));
            budget.bill(1000, Some(unit), ms(1));
            budget.used
        };
        assert!((used(0.7) - 700.0).abs() < 1e-6);
        assert!((used(0.0) - 1000.0 * UNIT_RANGE.0).abs() < 1e-6);
        assert!((used(1e9) - 1000.0 * UNIT_RANGE.1).abs() < 1e-6);
    }

    #[test]
    fn fuel_that_sinks_is_no_refund() {
        let mut budget = CoreBudget::new(0.05, ms(0));
        budget.bill(fuel(40.0), None, ms(100));
        assert_eq!(budget.bill(0, None, ms(200)), Verdict::Go);
        assert_eq!(budget.bill(fuel(40.0), None, ms(300)), Verdict::Go);
        assert!(matches!(budget.bill(fuel(51.0), None, ms(400)), Verdict::Suspend { .. }));
    }
}
