//! What a hit adds to a call: our probes, the native floor and the peers, in turn, round after round.
//!
//! Each sample runs paired batches in the same process: added time is the probed function's minus its twin's. The
//! rounds go through all rows before the next one starts, so that a machine that slows down slows all rows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Trouble;
use crate::options::Options;
use crate::pairs::Pairs;
use crate::peers::{Frida, FridaCallback, Uprobe};
use crate::probed::Probed;
use crate::probes::Probe;
use crate::program::{Binary, Program, Variant};

/// Calls of a batch of something that takes nanoseconds.
const CALLS: u32 = 1000;
/// Pairs between two looks after the session: the command looks as often.
const CHUNK: u32 = 200;
/// Pairs between two looks when events are written: on no thread more than its ring holds (256 KiB, 80 bytes for each
/// event), so that the reader keeps up.
const EVENT_CHUNK: u32 = 3;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Untouched,
    Floor(Variant),
    Trocar(Probe),
    /// A probe at this place of the calls within calls.
    Deep(Probe, &'static str),
    ClosedGate,
    AfterDetach,
    Uprobe(Variant),
    Frida(FridaCallback),
}

const CASES: &[(Case, &str)] = &[
    (Case::Untouched, "nothing, before any probe"),
    (Case::AfterDetach, "nothing, after a probe was taken out"),
    (Case::ClosedGate, "closed gate (quarantined probe)"),
    (Case::Trocar(Probe::NativeCounter), "counter, as native code"),
    (Case::Trocar(Probe::NativeHist), "argument, condition, histogram, native"),
    (Case::Trocar(Probe::Empty), "empty probe"),
    (Case::Trocar(Probe::Counter), "counter"),
    (Case::Trocar(Probe::Hash), "argument + hash-map update"),
    (Case::Trocar(Probe::Time), "a timed call: entry, exit, histogram"),
    (Case::Trocar(Probe::Read), "fault-safe read, 64 bytes"),
    (Case::Trocar(Probe::Event), "event, 64 bytes"),
    (Case::Floor(Variant::FloorBare), "floor: jump, increment, jump"),
    (Case::Floor(Variant::FloorFull), "floor: all saved, native call"),
    (Case::Deep(Probe::NativeCounter, "deep7"), "native counter just before a call"),
    (Case::Deep(Probe::NativeCounter, "deep7+0x5"), "native counter on a call"),
    (Case::Deep(Probe::Counter, "deep7"), "counter just before a call"),
    (Case::Floor(Variant::DeepEven), "floor: a call made elsewhere"),
    (Case::Floor(Variant::DeepOdd), "floor: a call so, predictor off"),
    (Case::Uprobe(Variant::WorkNop5), "uprobe + eBPF count, nop5 start"),
    (Case::Uprobe(Variant::WorkPush), "uprobe + eBPF count, push start"),
    (Case::Uprobe(Variant::Work), "uprobe + eBPF count, lea start"),
    (Case::Frida(FridaCallback::Probe), "Frida, C callback as probe"),
    (Case::Frida(FridaCallback::Listener), "Frida, C callback as onEnter"),
];

/// What the issue aims at, nanoseconds added at best.
fn aim(case: Case) -> Option<f64> {
    match case {
        Case::ClosedGate => Some(2.0),
        Case::Trocar(Probe::NativeCounter | Probe::NativeHist) => Some(5.0),
        Case::Trocar(Probe::Counter) => Some(22.0),
        Case::Trocar(Probe::Hash | Probe::Event) => Some(40.0),
        Case::Trocar(Probe::Time) => Some(60.0),
        Case::Untouched
        | Case::AfterDetach
        | Case::Deep(..)
        | Case::Floor(_)
        | Case::Trocar(_)
        | Case::Uprobe(_)
        | Case::Frida(_) => None,
    }
}

/// A row's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// The function that was probed.
    pub function: &'static str,
    /// Threads that called it at the same time.
    pub threads: usize,
    /// Nanoseconds added to a call: fastest probed batch minus fastest twin batch. `None` of processor time, of which the
    /// kernel books a part elsewhere now and then: the fastest batch is one that was booked wrong.
    pub added_min_ns: Option<f64>,
    /// Nanoseconds added to a call: median difference within a pair.
    pub added_median_ns: Option<f64>,
    /// The same, divided by what saving everything around a native call adds.
    pub times_floor: Option<f64>,
    /// All of the target's figures.
    pub pairs: Option<Pairs>,
    /// Calls that were made while somebody counted, those to warm up included; `None` where nobody counts.
    pub calls: Option<u64>,
    /// Hits that were counted; of timed calls those in the histogram.
    pub hits: Option<u64>,
    /// Losses by reason.
    pub losses: BTreeMap<&'static str, u64>,
    /// Events that were read.
    pub events: u64,
    /// Aim of the issue for `added_min_ns`.
    pub aim_ns: Option<f64>,
    /// Why there are no figures.
    pub absent: Option<String>,
}

/// What one round gives for a row.
#[derive(Clone, Debug, Default)]
struct Sample {
    runs: Vec<Pairs>,
    calls: Option<u64>,
    hits: Option<u64>,
    losses: BTreeMap<&'static str, u64>,
    events: u64,
}

/// The samples of a row so far, or why there are none.
type Samples = Result<Vec<Sample>, Trouble>;

/// Measures every row, with so many threads.
///
/// # Errors
/// The target program fails. A row that fails is a row with its reason.
pub fn measure(
    options: &Options,
    binary: &Binary,
    threads: usize,
    note: &dyn Fn(&str),
) -> Result<Vec<Row>, Trouble> {
    let mut program = Program::start(binary, threads);
    let cases: Vec<_> = CASES.iter().filter(|(_, what)| options.wants_row(what)).collect();
    let mut samples: Vec<Samples> = cases.iter().map(|_| Ok(Vec::new())).collect();
    for round in 1..=options.rounds {
        for ((case, what), row) in cases.iter().zip(&mut samples) {
            let Ok(so_far) = row else { continue };
            note(&format!("round {round} of {}, {threads} thread(s): {what}", options.rounds));
            match sample(*case, options, binary, &mut program) {
                Ok(one) => so_far.push(one),
                Err(trouble) => *row = Err(trouble),
            }
        }
    }
    let mut rows: Vec<Row> =
        cases.iter().zip(samples).map(|((c, what), s)| row(*c, what, threads, s)).collect();
    let full = rows.iter().find(|r| r.function == Variant::FloorFull.name()).and_then(|r| r.added_min_ns);
    for row in &mut rows {
        row.times_floor =
            row.added_min_ns.zip(full).filter(|(_, full)| *full > 0.0).map(|(a, full)| a / full);
    }
    Ok(rows)
}

fn row(case: Case, what: &'static str, threads: usize, samples: Samples) -> Row {
    let (samples, absent) = match samples {
        Ok(samples) => (samples, None),
        Err(trouble) => (Vec::new(), Some(trouble)),
    };
    let pairs = Pairs::merge(&samples.iter().flat_map(|s| s.runs.clone()).collect::<Vec<_>>());
    let mut losses = BTreeMap::new();
    for (reason, n) in samples.iter().flat_map(|s| &s.losses) {
        *losses.entry(*reason).or_insert(0) += n;
    }
    let function = match case {
        Case::Floor(variant) | Case::Uprobe(variant) => variant,
        Case::Deep(..) => Variant::Deep,
        _ => Variant::Work,
    };
    Row {
        what,
        function: function.name(),
        threads,
        added_min_ns: pairs.filter(|p| !p.processor_time).map(|p| p.added_min()),
        added_median_ns: pairs.map(|p| p.added_median),
        times_floor: None,
        calls: pairs.and(samples.iter().map(|s| s.calls).sum()),
        hits: pairs.and(samples.iter().map(|s| s.hits).sum()),
        losses,
        events: samples.iter().map(|s| s.events).sum(),
        aim_ns: aim(case),
        absent,
        pairs,
    }
}

fn sample(case: Case, options: &Options, binary: &Binary, program: &mut Program) -> Result<Sample, Trouble> {
    let batches = options.batches;
    match case {
        Case::Untouched => plain(program, Variant::Work, batches, CALLS),
        Case::Floor(variant) => plain(program, variant, batches, CALLS),
        Case::AfterDetach => {
            let mut probed = Probed::attach(program.pid(), Probe::Counter, Variant::Work.name())?;
            chunks(program, &mut probed, Variant::Work, [CHUNK, CHUNK, CALLS])?;
            probed.detach()?;
            plain(program, Variant::Work, batches, CALLS)
        }
        Case::ClosedGate => {
            let mut probed = Probed::attach(program.pid(), Probe::Traps, Variant::Work.name())?;
            program.run(Variant::Work, 1, CALLS)?;
            probed.until_over()?;
            let sample = plain(program, Variant::Work, batches, CALLS)?;
            probed.detach()?;
            Ok(sample)
        }
        Case::Trocar(probe) => ours(program, probe, (Variant::Work, Variant::Work.name()), batches),
        Case::Deep(probe, point) => ours(program, probe, (Variant::Deep, point), batches),
        // A peer gets a program of its own, so that what it leaves there is not in our figures.
        Case::Uprobe(variant) => {
            let mut program = Program::start(binary, program.threads());
            let uprobe = Uprobe::start(binary, &mut program, variant)?;
            // A batch stays under half a millisecond, else its median measures the scheduler.
            let (batches, calls) =
                if variant == Variant::Work { (batches / 5, 25) } else { (batches / 2, 250) };
            let sample = plain(&mut program, variant, batches, calls)?;
            Ok(counted(sample, uprobe.stop(&mut program, variant)?))
        }
        Case::Frida(callback) => {
            let mut program = Program::start(binary, program.threads());
            let frida = Frida::start(program.pid(), Variant::Work, callback)?;
            let sample = plain(&mut program, Variant::Work, batches / 2, CALLS)?;
            Ok(counted(sample, frida.stop()?))
        }
    }
}

/// What a peer counted over a sample.
fn counted(sample: Sample, hits: u64) -> Sample {
    Sample { calls: Some(sample.runs.iter().map(|r| r.calls).sum()), hits: Some(hits), ..sample }
}

fn plain(program: &mut Program, variant: Variant, batches: u32, calls: u32) -> Result<Sample, Trouble> {
    Ok(Sample { runs: vec![program.run(variant, batches.max(1), calls)?], ..Sample::default() })
}

/// Runs so many pairs in chunks of so many, of so many calls each, with a look after the session between two.
fn chunks(
    program: &mut Program,
    probed: &mut Probed,
    variant: Variant,
    [batches, chunk, calls]: [u32; 3],
) -> Result<Vec<Pairs>, Trouble> {
    let mut runs = Vec::new();
    let mut left = batches.max(1);
    while left > 0 {
        let now = left.min(chunk);
        left -= now;
        runs.push(program.run(variant, now, calls)?);
        probed.poll()?;
    }
    Ok(runs)
}

fn ours(
    program: &mut Program,
    probe: Probe,
    (variant, point): (Variant, &str),
    batches: u32,
) -> Result<Sample, Trouble> {
    let (chunk, calls) = match probe {
        Probe::Event => (EVENT_CHUNK, CALLS),
        Probe::Read => (CHUNK, CALLS / 5),
        Probe::Spins | Probe::Divides => (CHUNK, CALLS / 20),
        Probe::Empty
        | Probe::Counter
        | Probe::NativeCounter
        | Probe::NativeHist
        | Probe::Hash
        | Probe::Time
        | Probe::Traps => (CHUNK, CALLS),
    };
    let mut probed = Probed::attach(program.pid(), probe, point)?;
    // The first hits find the thread's context and touch its memory; they are counted and not timed.
    let first = chunks(program, &mut probed, variant, [1, 1, calls])?;
    probed.settle()?;
    let runs = chunks(program, &mut probed, variant, [batches, chunk, calls])?;
    let made: u64 = first.iter().chain(&runs).map(|r| r.calls).sum();
    let wrong: u64 = first.iter().chain(&runs).map(|r| r.wrong).sum();
    let counts = probed.detach()?;
    let hits_each = if probe == Probe::Time { 2 } else { 1 };
    if counts.hits != hits_each * made {
        return Err(format!("{made} calls were made, and {} hits counted", counts.hits));
    }
    if wrong != 0 {
        return Err(format!("{wrong} batches returned something else than their twins"));
    }
    let lost: u64 = counts.losses.values().sum();
    if probe == Probe::Event && counts.events + lost != made {
        return Err(format!("{made} events were written, {} read and {lost} lost", counts.events));
    }
    // What is not in the histogram lost its entry or its exit.
    if probe == Probe::Time && !(counts.values..=counts.values + lost).contains(&made) {
        return Err(format!("{made} calls were made, {} timed, and {lost} hits lost", counts.values));
    }
    Ok(Sample {
        runs,
        calls: Some(made),
        hits: Some(if probe == Probe::Time { counts.values } else { counts.hits }),
        losses: counts.losses,
        events: counts.events,
    })
}
