//! Throughput of a redis-server under a probe that burns nearly all of its fuel at every command, against none.
//!
//! Without a limit such a probe would take most of it. By default it has 5 % of a core in each second, then it is suspended
//! until the second is over, so redis keeps the rest. Runs come in pairs, either first in turn; each takes some seconds, so
//! that the budget of a second that a run only begins with weighs little. A core's second is one by the clock: on a machine
//! that gives redis only half of a core, those 5 % are a tenth of what redis has.

use serde::Serialize;
use trocar_session::reply::Limits;
use trocar_test_support::Redis;

use crate::Trouble;
use crate::options::Options;
use crate::pairs::{median, quantile};
use crate::probed::Probed;
use crate::probes::Probe;
use crate::serving::{COMMAND, Run, bare, is_installed, loaded};

/// What redis-benchmark runs.
const TESTS: &str = "get";

/// The figures of one probe.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The probe.
    pub probe: &'static str,
    /// Pairs of runs.
    pub pairs: usize,
    /// Requests of a run.
    pub requests: u64,
    /// Median requests per second with the probe.
    pub probed_rps: f64,
    /// The same without.
    pub bare_rps: f64,
    /// Median over the pairs of throughput with, divided by throughput without.
    pub ratio: f64,
    /// The least of the same.
    pub ratio_least: f64,
    /// Lower quartile of runs without a probe, each divided by the one before it: what the machine does alone.
    pub noise_low: f64,
    /// The upper quartile of the same.
    pub noise_high: f64,
    /// Median over the pairs of the processor time of a command without, divided by the same with: the share of its core
    /// that redis keeps, whatever else ran on the machine.
    pub kept: f64,
    /// The least of the same.
    pub kept_least: f64,
    /// Median over the pairs of the share of a core that the probe took: what a command takes more of the processor with it
    /// than without, times commands a second.
    pub used: f64,
    /// Commands that came to the probe.
    pub hits: u64,
    /// Of them, those in which its handler ran.
    pub executed: u64,
    /// Of them, those that found it suspended.
    pub suspended: u64,
    /// How often it was suspended.
    pub suspensions: usize,
    /// Why, the last time.
    pub why: String,
}

/// Runs the pairs for each probe.
///
/// # Errors
/// redis is not installed, a session fails, or a probe was not suspended at all.
pub fn measure(options: &Options, note: &dyn Fn(&str)) -> Result<Vec<Share>, Trouble> {
    is_installed()?;
    [Probe::Spins, Probe::Divides].into_iter().map(|probe| of(probe, options, note)).collect()
}

fn of(probe: Probe, options: &Options, note: &dyn Fn(&str)) -> Result<Share, Trouble> {
    let (redis, requests) = (Redis::start(), options.share_requests);
    let share = Limits::default().max_core_percent.map(|percent| percent / 100.0);
    bare(&redis, TESTS, requests / 10)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut hits, mut executed, mut suspended) = (0, 0, 0);
    let mut suspensions = Vec::new();
    for pair in 1..=options.share_pairs {
        note(&format!("a probe that {}, pair {pair} of {}", probe.name(), options.share_pairs));
        let first = if pair % 2 == 0 { Some(bare(&redis, TESTS, requests)?) } else { None };
        let probed = Probed::attach_within(redis.pid(), probe, COMMAND, share)?;
        let (run, probed) = loaded(&redis, probed, TESTS, requests)?;
        let counts = probed.detach()?;
        with.push(run);
        without.push(first.map_or_else(|| bare(&redis, TESTS, requests), Ok)?);
        hits += counts.hits;
        executed += counts.executed;
        suspended += counts.losses.get("suspended").copied().unwrap_or_default();
        suspensions.extend(counts.suspensions);
    }
    let each =
        |of: fn(&Run, &Run) -> f64| with.iter().zip(&without).map(|(w, o)| of(w, o)).collect::<Vec<_>>();
    let (ratios, kept) = (each(|w, o| w.rps / o.rps), each(|w, o| o.cpu_ns / w.cpu_ns));
    let used = each(|w, o| (w.cpu_ns - o.cpu_ns) * w.rps / 1e9);
    let noise: Vec<f64> = without.iter().zip(without.iter().skip(1)).map(|(a, b)| b.rps / a.rps).collect();
    let of = |values: &[f64], percent| quantile(values, percent).unwrap_or_default();
    let middle =
        |runs: &[Run]| median(&runs.iter().map(|run| run.rps).collect::<Vec<_>>()).unwrap_or_default();
    Ok(Share {
        probe: probe.name(),
        pairs: ratios.len(),
        requests,
        probed_rps: middle(&with),
        bare_rps: middle(&without),
        ratio: median(&ratios).unwrap_or_default(),
        ratio_least: of(&ratios, 0),
        noise_low: of(&noise, 25),
        noise_high: of(&noise, 75),
        kept: median(&kept).unwrap_or_default(),
        kept_least: of(&kept, 0),
        used: median(&used).unwrap_or_default(),
        hits,
        executed,
        suspended,
        suspensions: suspensions.len(),
        why: suspensions.pop().ok_or_else(|| format!("the probe {} was never suspended", probe.name()))?,
    })
}
