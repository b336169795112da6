//! What `count` and `load` have in common: options, the target or the command to be started, and the way from a probe
//! to its last receipt.
//!
//! A request is prepared for every target before any of them is touched; if one cannot be attached, the others are let
//! go again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde::Serialize;
use trocar_session::reply::Limits;
use trocar_session::{Prepared, Request, RequestedPoint};
use trocar_sinks::{Align, Grid, Line, Tone};
use trocar_target::Failure;

use crate::interrupt::Interrupt;
use crate::later::LaterOptions;
use crate::live::{self, Ends};
use crate::out::Out;
use crate::probe::ProbeFile;
use crate::quantity;
use crate::replay::Again;
use crate::start::Started;
use crate::target::Targets;
use crate::trouble::{Outcome, Trouble};

/// Options of every command that puts a probe into a process.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["pids", "command"])))]
pub(crate) struct Arming {
    #[command(flatten)]
    targets: Targets,
    /// Show sites, capabilities and limits, and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// Fail if any site is refused
    #[arg(long)]
    strict: bool,
    /// Wait for points that name nothing yet: they are armed in modules that the program loads later
    #[arg(long)]
    pending: bool,
    /// End after N hits that were executed (a few more may be counted)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    hits: Option<u64>,
    /// End after this time, for example 10s, 500ms or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = quantity::duration)]
    time: Option<Duration>,
    /// Fuel for each hit, in units of about 0.6 ns [default: what the probe asks for, else 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    fuel: Option<u64>,
    /// Linear memory of each instance, for example 64K or 2MiB [default: what the probe asks for, else 1088 KiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    memory: Option<u64>,
    /// The probe's time to live: then it is taken out and the command ends [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    ttl: Option<Duration>,
    /// Most records a second, a KiB of a large one counted as one; more are dropped and counted [default: 10000/s]
    #[arg(long, value_name = "N/s", value_parser = quantity::rate)]
    rate: Option<u32>,
    /// Run one hit in N of each thread at each site, and count the others
    #[arg(long, value_name = "1/N", value_parser = quantity::sample)]
    sample: Option<u32>,
    /// Most that the probe may use of a core: it is suspended for the rest of a second whose part is used up [default:
    /// 5 for `load`, no limit for `count` and `time`]
    #[arg(long, value_name = "PERCENT", value_parser = quantity::percent)]
    max_core: Option<f64>,
    #[command(flatten)]
    later: LaterOptions,
    /// Start this command with the probes in place.
    ///
    /// It is stopped at its entry point, when its libraries are loaded and before its constructors and `main` run (a
    /// static program a little later, when it has a thread pointer); the probes are put in, and it goes on. Its standard output goes to standard error, away from our data. When it ends,
    /// this command ends too, with status 0. When this command ends first (`--hits`, `--for`), it runs on without probes.
    #[arg(last = true, value_name = "COMMAND", id = "command")]
    command: Vec<OsString>,
}

/// What is to be armed.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// How the user named the probe, if it is the user's.
    pub(crate) word: Option<PathBuf>,
    /// The probe.
    pub(crate) probe: ProbeFile,
    /// Where.
    pub(crate) points: Vec<RequestedPoint>,
    /// Parameters.
    pub(crate) sets: Vec<(String, String)>,
    /// Share of a core unless the user says another; `None`: no limit.
    pub(crate) max_core: Option<f64>,
    /// Functions that the probe can tell apart, if that matters to it.
    pub(crate) functions_max: Option<u32>,
}

impl Arming {
    /// From a probe to its last receipt.
    pub(crate) fn run(&self, wanted: &Wanted, out: &mut Out) -> Outcome {
        self.later.refuse()?;
        let interrupt = Interrupt::listen()?;
        let (pids, mut started) = if self.command.is_empty() {
            (self.targets.resolve()?, None)
        } else {
            let started = Started::start(&self.command)?;
            (vec![started.pid()], Some(started))
        };
        let mut prepared = Vec::with_capacity(pids.len());
        for pid in pids {
            if !self.dry_run {
                reap(pid, out)?;
            }
            let one = Prepared::new(&self.request(pid, wanted)).map_err(|failure| with_pid(failure, pid))?;
            if let Some(most) = wanted.functions_max.filter(|most| one.functions() > *most as usize) {
                return Err(with_pid(super::time::too_many(one.functions(), most), pid).into());
            }
            prepared.push((pid, one));
        }
        if self.dry_run {
            for (pid, prepared) in &prepared {
                show(*pid, prepared, out)?;
            }
            return Ok(0);
        }
        let mut sessions = Vec::with_capacity(prepared.len());
        for (_, prepared) in prepared {
            match prepared.attach() {
                Ok(session) => sessions.push(session),
                Err(failure) => {
                    live::let_go(sessions, out);
                    return Err(failure.into());
                }
            }
        }
        let ends =
            Ends { hits: self.hits, time: self.time, target_ended: if started.is_some() { 0 } else { 5 } };
        if let Some(started) = &mut started
            && let Err(failure) = started.go()
        {
            live::let_go(sessions, out);
            return Err(failure.into());
        }
        let request = self.request(0, wanted);
        let again = Again { word: wanted.word.as_deref(), request: &request };
        live::run(sessions, &ends, &again, &interrupt, out)
    }

    fn request(&self, pid: i32, wanted: &Wanted) -> Request {
        Request {
            pid,
            wasm: wanted.probe.wasm.clone(),
            name: wanted.probe.name.clone(),
            points: wanted.points.clone(),
            sets: wanted.sets.clone(),
            fuel: self.fuel,
            memory: self.memory,
            ttl: self.ttl,
            rate: self.rate.or(Limits::default().records_per_second),
            max_core: self.max_core.or(wanted.max_core),
            sample: self.sample.unwrap_or(1),
            native: std::env::var_os("TROCAR_TIER").is_none_or(|tier| tier != "1"),
            strict: self.strict,
            pending: self.pending,
            functions_max: wanted.functions_max,
        }
    }
}

/// Removes what a killed trocar has left in the process, and says so.
fn reap(pid: i32, out: &mut Out) -> Result<(), Trouble> {
    let Some(reaped) = trocar_session::reap(pid)? else { return Ok(()) };
    out.row("reaped", &reaped)?;
    let rest = match reaped.residue.as_slice() {
        [] => "nothing of it is left".to_owned(),
        left => format!("left: {}", left.join("; ")),
    };
    out.note(&format!(
        "a trocar that was killed had left {} session(s) with {} site(s) in process {pid}; removed, {rest}",
        reaped.sessions, reaped.sites
    ));
    Ok(())
}

/// The next step with the process id in place of the word PID.
pub(crate) fn with_pid(mut failure: Failure, pid: i32) -> Failure {
    failure.hint = failure.hint.map(|hint| hint.replace("-p PID", &format!("-p {pid}")));
    failure
}

/// What a dry run says of the whole.
#[derive(Serialize)]
struct Verdict<'a> {
    pid: i32,
    verdict: &'static str,
    probe: &'a str,
    sites: usize,
    refusals: usize,
    capabilities: Vec<&'static str>,
    limits: Limits,
    worst_fuel: Option<u64>,
    system_calls_per_hit: Option<u32>,
}

/// A row of a dry run with its process.
#[derive(Serialize)]
struct Of<'a, T> {
    pid: i32,
    #[serde(flatten)]
    row: &'a T,
}

/// A dry run of one target.
fn show(pid: i32, prepared: &Prepared, out: &mut Out) -> Result<(), Trouble> {
    let verified = prepared.verified();
    let verdict = Verdict {
        pid,
        verdict: "would_attach",
        probe: &verified.manifest.name,
        sites: prepared.sites().count(),
        refusals: prepared.refusals().len(),
        capabilities: verified.capabilities.iter().map(|c| c.name()).collect(),
        limits: *prepared.limits(),
        worst_fuel: verified.worst_fuel,
        system_calls_per_hit: verified.system_calls_per_hit,
    };
    let mut grid = Grid::new(&[
        ("POINT", Align::Left),
        ("MODULE", Align::Left),
        ("SYMBOL", Align::Left),
        ("ADDRESS", Align::Left),
        ("RUNG OR REASON", Align::Left),
    ]);
    let cell = |text: &str| Line::new().with(Tone::Plain, text);
    for site in prepared.sites() {
        out.row("site", &Of { pid, row: site })?;
        let symbol = super::points::place(site.symbol.as_deref(), site.offset);
        grid.row(vec![
            cell(&site.point),
            cell(&site.module),
            cell(&symbol),
            cell(&site.address),
            cell(&site.rung),
        ]);
    }
    for refused in prepared.refusals() {
        out.row("refusal", &Of { pid, row: refused })?;
        let why = Line::new()
            .with(Tone::Warning, &refused.reason)
            .with(Tone::Plain, &format!(": {}", refused.detail));
        grid.row(vec![cell(&refused.point), cell("-"), cell("-"), cell(&refused.address), why]);
    }
    for pending in prepared.pending() {
        out.row("pending", &Of { pid, row: pending })?;
        grid.row(vec![
            cell(&pending.point),
            cell("-"),
            cell("-"),
            cell("-"),
            cell("waits for a module that has it"),
        ]);
    }
    out.row("verdict", &verdict)?;
    out.grid(grid)?;
    let list =
        if verdict.capabilities.is_empty() { "none".to_owned() } else { verdict.capabilities.join(", ") };
    let fuel =
        verdict.worst_fuel.map_or_else(|| "no static bound".to_owned(), |fuel| format!("at most {fuel}"));
    let calls =
        verdict.system_calls_per_hit.map_or_else(|| "no static bound".to_owned(), |n| format!("at most {n}"));
    out.say(&format!(
        "process {pid}: {} would be attached at {} sites; nothing was touched",
        verdict.probe, verdict.sites
    ))?;
    out.say(&format!("capabilities: {list}"))?;
    out.say(&format!("fuel a hit: {fuel}, cut at {}; system calls a hit: {calls}", verdict.limits.fuel))?;
    Ok(())
}

/// A failure of an expression, with the place in it.
pub(crate) fn expression(option: &str, error: &trocar_expr::ExprError) -> Failure {
    let column = error.text.get(..error.span.start).map_or(0, |before| before.chars().count()) + 1;
    let text: String = error.text.escape_debug().collect();
    crate::trouble::usage(format!("{option}: {}, at character {column} of '{text}'", error.message))
        .hint("for example '$arg0', '*(u32*)($arg1 + 16)', 'str($arg0)', '$arg2 > 4096'; all of it: trocar count --help")
}
