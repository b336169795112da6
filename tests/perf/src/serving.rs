//! Throughput of a redis-server with a counter on every command, against the same server with none.
//!
//! Runs of redis-benchmark come in pairs, one with the probe and one without, and either comes first in turn. The probe
//! is attached and taken out while nothing runs; attaching in mid-load is a test's business.
//!
//! Throughput is what the issue asks for, and what a busy machine spoils: redis-benchmark and the server want a processor
//! each. So the processor time of the server's main thread for each command is taken from the same runs.

use std::collections::BTreeMap;
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
/// What every command goes through.
pub(crate) const COMMAND: &str = "redis-server:processCommand";

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
    /// Median nanoseconds that the server's main thread ran for each command, with the probe.
    pub probed_cpu_ns: f64,
    /// The same without.
    pub bare_cpu_ns: f64,
    /// Median over the pairs of processor time with, divided by the same without.
    pub cpu_ratio: f64,
    /// Lower quartile of the same.
    pub cpu_ratio_low: f64,
    /// Upper quartile of the same.
    pub cpu_ratio_high: f64,
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
    is_installed()?;
    let mut redis = Redis::start();
    let requests = options.redis_requests;
    bare(&redis, TESTS, requests)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut total = Counted::default();
    for pair in 1..=options.redis_pairs {
        note(&format!("redis-benchmark, pair {pair} of {}", options.redis_pairs));
        let first = if pair % 2 == 0 { Some(bare(&redis, TESTS, requests)?) } else { None };
        let (run, counted) = counted(&mut redis, requests)?;
        with.push(run);
        without.push(first.map_or_else(|| bare(&redis, TESTS, requests), Ok)?);
        total.hits += counted.hits;
        total.commands += counted.commands;
        total.lost += counted.lost;
    }
    let each =
        |of: fn(&Run, &Run) -> f64| with.iter().zip(&without).map(|(w, o)| of(w, o)).collect::<Vec<_>>();
    let (ratios, cpu) = (each(|w, o| w.rps / o.rps), each(|w, o| w.cpu_ns / o.cpu_ns));
    let noise: Vec<f64> = without.iter().zip(without.iter().skip(1)).map(|(a, b)| b.rps / a.rps).collect();
    let of = |values: &[f64], percent| quantile(values, percent).unwrap_or_default();
    let middle = |runs: &[Run], of: fn(&Run) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
    Ok(Serving {
        pairs: ratios.len(),
        requests,
        probed_rps: middle(&with, |r| r.rps).unwrap_or_default(),
        bare_rps: middle(&without, |r| r.rps).unwrap_or_default(),
        ratio: median(&ratios).unwrap_or_default(),
        ratio_low: of(&ratios, 25),
        ratio_high: of(&ratios, 75),
        noise_low: of(&noise, 25),
        noise_high: of(&noise, 75),
        probed_cpu_ns: middle(&with, |r| r.cpu_ns).unwrap_or_default(),
        bare_cpu_ns: middle(&without, |r| r.cpu_ns).unwrap_or_default(),
        cpu_ratio: median(&cpu).unwrap_or_default(),
        cpu_ratio_low: of(&cpu, 25),
        cpu_ratio_high: of(&cpu, 75),
        hits: total.hits,
        commands: total.commands,
        lost: total.lost,
    })
}

/// What both parts with redis need.
pub(crate) fn is_installed() -> Result<(), Trouble> {
    for program in ["/usr/bin/redis-server", "/usr/bin/redis-benchmark"] {
        if !std::path::Path::new(program).exists() {
            return Err(format!("absent: no {program} (Debian packages redis-server and redis-tools)"));
        }
    }
    Ok(())
}

/// One run of redis-benchmark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Requests per second of all tests together, each having the same number of requests: their harmonic mean.
    pub rps: f64,
    /// Nanoseconds that the server's main thread ran for each request.
    pub cpu_ns: f64,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds and requests far below 2^52, for people")]
    fn new(rps: &BTreeMap<String, f64>, requests: u64, cpu_ns: u64) -> Result<Self, Trouble> {
        let seconds: f64 = rps.values().map(|r| 1.0 / r).sum();
        if seconds <= 0.0 {
            return Err("redis-benchmark said no figure".into());
        }
        let tests = rps.len() as f64;
        Ok(Self { rps: tests / seconds, cpu_ns: cpu_ns as f64 / (requests as f64 * tests) })
    }
}

/// Nanoseconds that the main thread of a process has run. Source: first field of `/proc/PID/schedstat`.
fn cpu_ns(pid: u32) -> Result<u64, Trouble> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    text.split(' ').next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("{path} says {text:?}"))
}

/// A run without a probe.
pub(crate) fn bare(redis: &Redis, tests: &str, requests: u64) -> Result<Run, Trouble> {
    let before = cpu_ns(redis.pid())?;
    let rows = redis.benchmark(tests, requests).finish();
    Run::new(&rows, requests, cpu_ns(redis.pid())?.saturating_sub(before))
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    hits: u64,
    commands: u64,
    lost: u64,
}

/// A run with a counter on every command, checked against what redis counts.
fn counted(redis: &mut Redis, requests: u64) -> Result<(Run, Counted), Trouble> {
    let probed = Probed::attach(redis.pid(), Probe::Counter, COMMAND)?;
    let commands = redis.commandstats().into_values().sum();
    let (run, probed) = loaded(redis, probed, TESTS, requests)?;
    let after: u64 = redis.commandstats().into_values().sum();
    let counts = probed.detach()?;
    let counted = Counted {
        // Both INFO were hits; redis counts an INFO after it is answered, so only the first is in the difference.
        hits: counts.hits.saturating_sub(1),
        commands: after.saturating_sub(commands),
        lost: counts.losses.values().sum(),
    };
    Ok((run, counted))
}

/// A run with a probe that is in place, which is looked after meanwhile.
pub(crate) fn loaded(
    redis: &Redis,
    mut probed: Probed,
    tests: &str,
    requests: u64,
) -> Result<(Run, Probed), Trouble> {
    let before = cpu_ns(redis.pid())?;
    let load = redis.benchmark(tests, requests);
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
    let run = Run::new(&rows, requests, cpu_ns(redis.pid())?.saturating_sub(before))?;
    Ok((run, probed))
}
