//! `trocar test`: a probe at work outside any process, on made-up or recorded hits.
//!
//! The run is `trocar-rehearse`'s; this is how it is asked for and shown. Events, logs and maps are shown as a session
//! shows them, with process 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trocar_abi::shared::TrapCode;
use trocar_collect::{Decoded, NamedRow};
use trocar_compile::verify::DEFAULT_MEMORY_BYTES;
use trocar_compile::{VerifyOptions, verify_with};
use trocar_package::{FieldValue, Manifest, ParamValue};
use trocar_rehearse::{
    HitResult, Outcome as HitOutcome, Probe, RecordedHit, Rehearsal, RehearseError, made_up,
};
use trocar_session::not_compiled;
use trocar_session::reply::{
    Event, Evidence, Limits, LogLine, MapRows, Reply, Row, Value, arguments, frames,
};
use trocar_sinks::{Align, Grid, Line, Tone, evidence_lines};
use trocar_target::Failure;

use super::load::sets;
use crate::out::Out;
use crate::probe::{self, ProbeFile};
use crate::quantity;
use crate::trouble::{Outcome, Trouble, bad_probe, usage};

const EXAMPLES: &str = "\
Examples:
  trocar test slow.wasm
  trocar test slow.wasm --count 1000 --set limit=4096
  trocar test redis-commands --hit '{\"args\":[\"0x5000\"],\"memory\":[{\"address\":\"0x5048\",\"hex\":\"05000000\"}]}'
  trocar test slow.wasm --hit @hits.jsonl -o json
  trocar test slow.wasm --hostile

A hit is a JSON object; everything in it may be left out, numbers may be texts such as \"0x2a\":
  args      integer arguments, at most six           regs      registers by name: {\"rax\":1}
  memory    what can be read: [{\"address\":…,\"hex\":\"00ff\"}] or \"text\":\"…\" (a NUL follows); the rest
            of its pages is zero, every other page is unreadable
  tid, site, function, cpu, time_ns, span_ns         handler   the export's name
  go        true: `args` of the probe are Go's registers, as `regs` has them
Made-up hits: arg0 points to 256 pointers to the text `made-up`, arg1 counts from 0, arg2 is a power of two.";

/// Runs a probe outside any process, on made-up or recorded hits, and shows what each hit did.
///
/// The sandbox is the one that runs in a process: host calls, fuel, traps, maps and events behave as there; only reads
/// of memory are answered from the hit, and random numbers are the same each time. Ends with status 8 if a hit trapped
/// or ran out of fuel, and says in which function, at which offset of the module and, if it has DWARF, at which line.
///
/// With --hostile the hits are what an enemy would make up: null and dangling pointers, pages that end too early, texts and
/// lists without an end, the greatest lengths, noise. It says the worst fuel and what was stopped, for each handler and kind
/// of hit, and ends with status 8 if a process would have quarantined the probe.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Test {
    /// The probe: a .wasm or .wat file, or a bundled name
    #[arg(value_name = "PROBE")]
    probe: PathBuf,
    /// A recorded hit as JSON, or @FILE with one on each line
    #[arg(long = "hit", value_name = "JSON|@FILE")]
    hits: Vec<String>,
    /// Against hostile hits instead of made-up ones
    #[arg(long, conflicts_with = "hits")]
    hostile: bool,
    /// All of WASI, which a process has not: what is printed comes to standard error, clock and random numbers are real
    #[arg(long, conflicts_with = "hostile")]
    wasi: bool,
    /// How often: made-up hits [default: 10], rounds of the recorded ones [default: 1], hostile hits of each kind [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: Option<u64>,
    /// Value of a parameter
    #[arg(long = "set", value_name = "NAME=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Fuel for each hit [default: what the probe asks for, else 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fuel: Option<u64>,
    /// Linear memory, for example 64K or 2MiB [default: what the probe asks for, else 1088 KiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    memory: Option<u64>,
}

/// Most hits that are shown one by one in a table.
const SHOWN: u64 = 20;
/// Most bytes of a file of hits.
const FILE_MAX: u64 = 64 << 20;

/// A hit as an object.
#[derive(Serialize)]
struct HitRow<'a> {
    pid: i32,
    probe: &'a str,
    hit: u64,
    outcome: &'static str,
    why: Option<&'static str>,
    fuel: u64,
    reads: u64,
    records: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'a Evidence>,
}

/// All hits together.
#[derive(Default)]
struct Sums {
    outcomes: BTreeMap<&'static str, u64>,
    why: Option<&'static str>,
    most_fuel: u64,
    most_reads: u64,
    /// Of the last hit that trapped, with where it did.
    evidence: Option<(Vec<u32>, Evidence)>,
}

impl Test {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let file = probe::read(&self.probe)?;
        let manifest = self.accepted(&file)?;
        let given = sets(&self.set)?;
        let pairs: Vec<(&str, &str)> = given.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let params: Vec<ParamValue> =
            manifest.resolve_params(&pairs).map_err(|e| usage(format!("--set: {e}")))?;
        let fuel = self.fuel.or(manifest.limits.fuel).unwrap_or(Limits::default().fuel);
        let memory_bytes = self.memory.or(manifest.limits.memory_bytes).unwrap_or(DEFAULT_MEMORY_BYTES);
        let probe = Probe { wasm: &file.wasm, manifest: &manifest, params: &params, fuel, memory_bytes };
        let made = if self.wasi { Rehearsal::with_wasi(&probe) } else { Rehearsal::new(&probe) };
        let mut rehearsal = made.map_err(|e| match e {
            RehearseError::Compile(e) => not_compiled(&e),
            RehearseError::Start(what) => bad_probe(format!("the probe cannot be run: {what}"))
                .hint(format!("trocar check {}", self.probe.display())),
        })?;
        if self.hostile {
            return super::hostile::run(&mut rehearsal, &manifest, fuel, self.count, out);
        }
        let recorded = self.recorded(&rehearsal)?;

        let mut grid = Grid::new(&[
            ("HIT", Align::Right),
            ("OUTCOME", Align::Left),
            ("FUEL", Align::Right),
            ("READS", Align::Right),
            ("RECORDS", Align::Right),
        ]);
        let mut sums = Sums::default();
        let mut first_trap = None;
        let rounds = self.count.unwrap_or(if recorded.is_empty() { 10 } else { 1 });
        let each = u64::try_from(recorded.len()).unwrap_or(u64::MAX).max(1);
        for number in 0..rounds.saturating_mul(each) {
            let index = usize::try_from(number % each).unwrap_or(0);
            let made;
            let hit = match recorded.get(index) {
                Some(hit) => hit,
                None => {
                    made = made_up(number);
                    &made
                }
            };
            let result = rehearsal.hit(hit).map_err(|e| usage(format!("--hit: {e}")))?;
            let row = sums.add(number, &manifest, &file.wasm, &rehearsal, hit, &result);
            if number < SHOWN {
                grid.row(cells(&row));
            }
            out.row("hit", &row)?;
            if first_trap.is_none() {
                first_trap = row.evidence.cloned();
            }
            for record in result.records {
                out.reply(&record_reply(record, &manifest.name, hit))?;
            }
        }
        out.grid(grid)?;
        for line in first_trap.iter().flat_map(evidence_lines) {
            out.line(&line)?;
        }
        for map in rehearsal.maps() {
            out.reply(&Reply::Map(MapRows {
                pid: 0,
                session: "test".into(),
                probe: manifest.name.clone(),
                name: map.name,
                map_type: map.map_type.into(),
                rows: map.rows.into_iter().map(row).collect(),
                dropped: map.dropped,
            }))?;
        }
        out.flush()?;
        sums.tell(fuel, out)
    }

    /// The manifest of a probe that is acceptable.
    fn accepted(&self, file: &ProbeFile) -> Result<Manifest, Failure> {
        let options = VerifyOptions { name: Some(&file.name), memory_bytes: self.memory };
        match verify_with(&file.wasm, &options) {
            Ok(verified) => Ok(verified.manifest),
            Err(error) => Err(super::check::refusal(&error)),
        }
    }

    fn recorded(&self, rehearsal: &Rehearsal) -> Result<Vec<RecordedHit>, Failure> {
        let mut hits = Vec::new();
        for word in &self.hits {
            let text = match word.strip_prefix('@') {
                None => word.clone(),
                Some(path) => read(path)?,
            };
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let place =
                    if word.starts_with('@') { format!("{word}:{}", index + 1) } else { "--hit".to_owned() };
                let hit = RecordedHit::from_json(line).map_err(|e| {
                    usage(format!("{place}: {e}"))
                        .hint("for example: --hit '{\"args\":[1,\"0x2a\"]}'; all of it: trocar test --help")
                })?;
                if let Some(name) =
                    hit.handler.as_ref().filter(|name| rehearsal.handlers().all(|h| h != *name))
                {
                    let names: Vec<&str> = rehearsal.handlers().collect();
                    return Err(usage(format!(
                        "{place}: the probe has no handler {name:?}; it has {}",
                        names.join(", ")
                    )));
                }
                hits.push(hit);
            }
        }
        Ok(hits)
    }
}

fn read(path: &str) -> Result<String, Failure> {
    let cannot = |what: String| usage(format!("--hit @{path}: {what}"));
    let size = fs::metadata(path).map_err(|e| cannot(e.to_string()))?.len();
    if size > FILE_MAX {
        return Err(cannot(format!("{size} bytes are more than {FILE_MAX}")));
    }
    fs::read_to_string(path).map_err(|e| cannot(e.to_string()))
}

impl Sums {
    fn add<'a>(
        &'a mut self,
        number: u64,
        manifest: &'a Manifest,
        wasm: &[u8],
        rehearsal: &Rehearsal,
        hit: &RecordedHit,
        result: &HitResult,
    ) -> HitRow<'a> {
        let (outcome, why) = match result.outcome {
            HitOutcome::Executed => ("executed", None),
            HitOutcome::ConditionFalse => ("condition_false", None),
            HitOutcome::RingFull => ("ring_full", None),
            HitOutcome::RateLimited => ("rate_limited", None),
            HitOutcome::Trapped(TrapCode::OutOfFuel) => ("out_of_fuel", Some("out of fuel")),
            HitOutcome::Trapped(code) => ("trap", Some(code.text())),
        };
        *self.outcomes.entry(outcome).or_default() += 1;
        self.why = why.or(self.why);
        self.most_fuel = self.most_fuel.max(result.fuel);
        self.most_reads = self.most_reads.max(result.reads);
        let trapped = if let HitOutcome::Trapped(code) = result.outcome { Some(code) } else { None };
        if let Some(code) = trapped {
            self.note(code, manifest, wasm, rehearsal, hit, result);
        }
        HitRow {
            pid: 0,
            probe: &manifest.name,
            hit: number,
            outcome,
            why,
            fuel: result.fuel,
            reads: result.reads,
            records: result.records.len(),
            evidence: self.evidence.as_ref().filter(|_| trapped.is_some()).map(|(_, evidence)| evidence),
        }
    }

    /// Notes where a hit trapped. Reading the module's names and lines again is left out where the last one trapped too.
    fn note(
        &mut self,
        code: TrapCode,
        manifest: &Manifest,
        wasm: &[u8],
        rehearsal: &Rehearsal,
        hit: &RecordedHit,
        result: &HitResult,
    ) {
        let (place, backtrace) = match self.evidence.take() {
            Some((same, evidence)) if same == result.trapped_at => (evidence.place, evidence.backtrace),
            _ => frames(wasm, rehearsal.spots(&result.trapped_at)),
        };
        let handler = hit.handler.clone().or_else(|| manifest.handlers.first().map(|h| h.name.clone()));
        let evidence = Evidence {
            trap: code.text().into(),
            place,
            backtrace,
            site: hit.site,
            point: String::new(),
            tid: hit.tid,
            handler: handler.unwrap_or_default(),
            args: hit.registers().map_or_else(|_| Vec::new(), |registers| arguments(&registers, hit.go)),
            replay: None,
            hit: None,
            go: hit.go,
        };
        self.evidence = Some((result.trapped_at.clone(), evidence));
    }

    /// The last line, and the exit status.
    fn tell(&self, fuel: u64, out: &mut Out) -> Result<u8, Trouble> {
        let parts: Vec<String> = self.outcomes.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let most = self.most_fuel;
        out.say(&format!(
            "{}; at most {most} of {fuel} fuel, {} reads a hit",
            parts.join(", "),
            self.most_reads
        ))?;
        match self.why {
            None => Ok(0),
            Some(why) => Err(bad_probe(format!(
                "a hit was stopped: {why}; in a process the third one quarantines the probe"
            ))
            .hint("give it more fuel with --fuel, or correct it; each hit is shown above")
            .into()),
        }
    }
}

fn cells(row: &HitRow<'_>) -> Vec<Line> {
    let cell = |text: &str| Line::new().with(Tone::Plain, text);
    let tone = if row.why.is_some() { Tone::Bad } else { Tone::Good };
    let outcome = match row.why {
        Some(why) if row.outcome == "trap" => format!("trap: {why}"),
        _ => row.outcome.to_owned(),
    };
    vec![
        cell(&row.hit.to_string()),
        Line::new().with(tone, &outcome),
        cell(&row.fuel.to_string()),
        cell(&row.reads.to_string()),
        cell(&row.records.to_string()),
    ]
}

fn record_reply(record: Decoded, probe: &str, hit: &RecordedHit) -> Reply {
    let (session, probe) = ("test".to_owned(), probe.to_owned());
    let (pid, site, tid) = (0, hit.site, hit.tid);
    match record {
        Decoded::Event { name, fields } => {
            let fields = fields.into_iter().map(|(name, v)| (name, value(v))).collect();
            Reply::Event(Event { pid, session, probe, site, tid, name, fields })
        }
        Decoded::Log { level, message } => {
            Reply::Log(LogLine { pid, session, probe, site, tid, level: level.into(), message })
        }
    }
}

fn value(value: FieldValue) -> Value {
    match value {
        FieldValue::Int(n) => Value::Int(n),
        FieldValue::Uint(n) => Value::Uint(n),
        FieldValue::Hex(n) => Value::Text(format!("{n:#x}")),
        FieldValue::Float(n) => Value::Float(n),
        FieldValue::Text(text) => Value::Text(text),
    }
}

fn row(row: NamedRow) -> Row {
    match row {
        NamedRow::Keyed { key, value: sum } => {
            Row::Keyed { key: key.into_iter().map(|(name, v)| (name, value(v))).collect(), value: sum }
        }
        NamedRow::Bucket { entry, lo, hi, count } => Row::Bucket { entry, name: None, lo, hi, count },
    }
}
