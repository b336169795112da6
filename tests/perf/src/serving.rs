//! Throughput of a redis-server with a counter on every command, against the same server with none.
//!
//! Runs of redis-benchmark come in pairs, one with the probe and one without, and either comes first in turn. The probe
//! is attached and taken out while nothing runs; attaching in mid-load is a test's business.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;
use trocar_test_support::Redis;

use crate::Trouble;
use crate::options::Options;
use crate::pairs::{median, quantile};
use crate::probed::Probed;
use crate::probes::Probe;

/// How often the session is looked after: as the command does it.
const LOOK: Duration = Duration::from_millis(20);
/// What redis-benchmark runs.
const TESTS: &str = "get,set";

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct Serving {
    /// Pairs of runs.
    pub pairs: usize,
    /// Requests of each test in a run.
    pub requests: u64,
    /// Median requests per second with the probe, all tests together.
    pub probed_rps: f64,
    /// The same without.
    pub bare_rps: f64,
    /// Median over the pairs of throughput with, divided by throughput without.
    pub ratio: f64,
    /// Lower quartile of the same.
    pub ratio_low: f64,
    /// Upper quartile of the same.
    pub ratio_high: f64,
    /// Median over the pairs of runs without a probe, each divided by the one before it: what the machine does alone.
    pub noise_low: f64,
    /// The upper quartile of the same.
    pub noise_high: f64,
    /// Commands that the probe counted.
    pub hits: u64,
    /// Commands that redis counted meanwhile.
    pub commands: u64,
    /// Hits that were lost.
    pub lost: u64,
}

/// Runs the pairs.
///
/// # Errors
/// redis is not installed, or a session fails.
pub fn measure(options: &Options, note: &dyn Fn(&str)) -> Result<Serving, Trouble> {
    for program in ["/usr/bin/redis-server", "/usr/bin/redis-benchmark"] {
        if !std::path::Path::new(program).exists() {
            return Err(format!("absent: no {program} (Debian packages redis-server and redis-tools)"));
        }
    }
    let mut redis = Redis::start();
    let requests = options.redis_requests;
    bare(&redis, requests)?;
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hits, mut commands, mut lost) = (0, 0, 0);
    for pair in 1..=options.redis_pairs {
        note(&format!("redis-benchmark, pair {pair} of {}", options.redis_pairs));
        let first = if pair % 2 == 0 { Some(bare(&redis, requests)?) } else { None };
        let counted = probed(&mut redis, requests)?;
        let bare = first.map_or_else(|| bare(&redis, requests), Ok)?;
        hits += counted.hits;
        commands += counted.commands;
        lost += counted.lost;
        with.push(counted.rps);
        without.push(bare);
        ratios.push(counted.rps / bare);
    }
    let noise: Vec<f64> = without.iter().zip(without.iter().skip(1)).map(|(a, b)| b / a).collect();
    let of = |values: &[f64], percent| quantile(values, percent).unwrap_or_default();
    Ok(Serving {
        pairs: ratios.len(),
        requests,
        probed_rps: median(&with).unwrap_or_default(),
        bare_rps: median(&without).unwrap_or_default(),
        ratio: median(&ratios).unwrap_or_default(),
        ratio_low: of(&ratios, 25),
        ratio_high: of(&ratios, 75),
        noise_low: of(&noise, 25),
        noise_high: of(&noise, 75),
        hits,
        commands,
        lost,
    })
}

/// Requests per second of all tests together, each having the same number of requests: their harmonic mean.
fn together(rps: impl ExactSizeIterator<Item = f64>) -> Result<f64, Trouble> {
    let tests = u32::try_from(rps.len()).unwrap_or_default();
    let seconds: f64 = rps.map(|r| 1.0 / r).sum();
    if seconds > 0.0 { Ok(f64::from(tests) / seconds) } else { Err("redis-benchmark said no figure".into()) }
}

fn bare(redis: &Redis, requests: u64) -> Result<f64, Trouble> {
    together(redis.benchmark(TESTS, requests).finish().into_values().collect::<Vec<_>>().into_iter())
}

struct Counted {
    rps: f64,
    hits: u64,
    commands: u64,
    lost: u64,
}

fn probed(redis: &mut Redis, requests: u64) -> Result<Counted, Trouble> {
    let mut probed = Probed::attach(redis.pid(), Probe::Counter, "redis-server:processCommand")?;
    // INFO counts itself after its own answer: the first one is in the difference, the second is not.
    let before: u64 = redis.commandstats().into_values().sum();
    let load = redis.benchmark(TESTS, requests);
    let rows = std::thread::scope(|scope| {
        let (done, waiting) = channel();
        scope.spawn(move || done.send(load.finish()));
        loop {
            match waiting.recv_timeout(LOOK) {
                Ok(rows) => return Ok(rows),
                Err(RecvTimeoutError::Timeout) => probed.poll()?,
                Err(RecvTimeoutError::Disconnected) => return Err("redis-benchmark failed".to_owned()),
            };
        }
    })?;
    let after: u64 = redis.commandstats().into_values().sum();
    let counts = probed.detach()?;
    Ok(Counted {
        rps: together(rows.into_values().collect::<Vec<_>>().into_iter())?,
        // Both INFO commands were hits; only one of them is in the difference.
        hits: counts.hits.saturating_sub(1),
        commands: after.saturating_sub(before),
        lost: counts.losses.values().sum(),
    })
}
