//! The result of paired batches, as the target program reports it, and how several are put together.

use serde::{Deserialize, Serialize};

/// Nanoseconds for each call, over all pairs of batches of all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Pairs {
    /// Number of pairs.
    pub pairs: u64,
    /// Calls of the probed function, those to warm up included.
    pub calls: u64,
    /// Fastest batch of the twin.
    pub twin_min: f64,
    /// Fastest batch of the probed function.
    pub probed_min: f64,
    /// Median batch of the twin.
    pub twin_median: f64,
    /// Median batch of the probed function.
    pub probed_median: f64,
    /// Lower quartile of the difference within a pair.
    pub added_low: f64,
    /// Median difference within a pair.
    pub added_median: f64,
    /// Upper quartile of the difference within a pair.
    pub added_high: f64,
    /// Batches whose result was another one than the twin's: a probe that changes what the function returns.
    pub wrong: u64,
    /// All of this is processor time of the threads, and not time on the wall.
    pub processor_time: bool,
}

impl Pairs {
    /// What the probe adds to a call at best: fastest batch minus fastest batch.
    #[must_use]
    pub fn added_min(&self) -> f64 {
        self.probed_min - self.twin_min
    }

    /// Several runs as one: least of the least, median of the medians, sums of the counts. `None` if there are none.
    #[must_use]
    pub fn merge(runs: &[Self]) -> Option<Self> {
        let least = |of: fn(&Self) -> f64| runs.iter().map(of).min_by(f64::total_cmp);
        let middle = |of: fn(&Self) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
        Some(Self {
            pairs: runs.iter().map(|r| r.pairs).sum(),
            calls: runs.iter().map(|r| r.calls).sum(),
            twin_min: least(|r| r.twin_min)?,
            probed_min: least(|r| r.probed_min)?,
            twin_median: middle(|r| r.twin_median)?,
            probed_median: middle(|r| r.probed_median)?,
            added_low: middle(|r| r.added_low)?,
            added_median: middle(|r| r.added_median)?,
            added_high: middle(|r| r.added_high)?,
            wrong: runs.iter().map(|r| r.wrong).sum(),
            processor_time: runs.iter().all(|r| r.processor_time),
        })
    }
}

/// Least, median and greatest of some figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// What 99 in 100 do not exceed.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            min: values.iter().copied().min_by(f64::total_cmp)?,
            median: median(values)?,
            p99: quantile(values, 99)?,
            max: values.iter().copied().max_by(f64::total_cmp)?,
        })
    }

    /// Of nanoseconds, in microseconds; `None` if there are none.
    #[must_use]
    pub fn of_ns_in_us(ns: &[u64]) -> Option<Self> {
        Self::of(&ns.iter().map(|n| microseconds(*n)).collect::<Vec<_>>())
    }
}

/// Nanoseconds as microseconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "durations far below 2^52 ns, for people")]
pub fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// The value at this share of the sorted values; `None` if there are none.
#[must_use]
pub fn quantile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? * percent.min(100) / 100).copied()
}

/// The median: of an even number of values the mean of the middle two; `None` if there are none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn quantiles_run_from_the_least_to_the_greatest() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0, 25, 50, 75, 100].map(|q| quantile(&values, q).unwrap()), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(quantile(&[], 50), None);
    }

    #[test]
    fn merged_runs_keep_the_least_and_the_middle() {
        let run = |min: f64, added: f64| Pairs {
            pairs: 10,
            calls: 100,
            twin_min: 2.0,
            probed_min: min,
            added_median: added,
            ..Pairs::default()
        };
        let merged = Pairs::merge(&[run(9.0, 5.0), run(7.0, 8.0), run(8.0, 6.0)]).unwrap();
        assert_eq!((merged.pairs, merged.calls), (30, 300));
        assert_eq!((merged.added_min(), merged.added_median), (5.0, 6.0));
        assert_eq!(Pairs::merge(&[]), None);
    }
}
