//! `trocar test --hostile`: each handler against each kind of adversarial hit, and the worst that came of it.

use serde::Serialize;
use trocar_abi::shared::TrapCode;
use trocar_package::Manifest;
use trocar_rehearse::{HOSTILE, HitResult, HostileKind, Outcome as HitOutcome, Rehearsal};
use trocar_session::reply::Limits;
use trocar_sinks::{Align, Grid, Line, Tone};

use crate::out::Out;
use crate::trouble::{Outcome, bad_probe, usage};

/// Hits of each kind for each handler, unless told otherwise.
const ROUNDS: u64 = 16;

/// What came of all hits of a kind.
#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    probe: &'a str,
    handler: &'a str,
    input: &'static str,
    about: &'static str,
    hits: u64,
    executed: u64,
    condition_false: u64,
    ring_full: u64,
    traps: u64,
    out_of_fuel: u64,
    worst_fuel: u64,
    most_reads: u64,
    /// Of the first hit that was stopped.
    why: Option<&'static str>,
    /// Its round.
    round: Option<u64>,
}

impl<'a> Row<'a> {
    fn new(probe: &'a str, handler: &'a str, kind: &HostileKind) -> Self {
        Self {
            pid: 0,
            probe,
            handler,
            input: kind.name,
            about: kind.about,
            hits: 0,
            executed: 0,
            condition_false: 0,
            ring_full: 0,
            traps: 0,
            out_of_fuel: 0,
            worst_fuel: 0,
            most_reads: 0,
            why: None,
            round: None,
        }
    }

    fn add(&mut self, round: u64, result: &HitResult) {
        self.hits += 1;
        let (count, why) = match result.outcome {
            HitOutcome::Executed => (&mut self.executed, None),
            HitOutcome::ConditionFalse => (&mut self.condition_false, None),
            HitOutcome::RingFull | HitOutcome::RateLimited => (&mut self.ring_full, None),
            HitOutcome::Trapped(TrapCode::OutOfFuel) => (&mut self.out_of_fuel, Some("out of fuel")),
            HitOutcome::Trapped(code) => (&mut self.traps, Some(code.text())),
        };
        *count += 1;
        if self.why.is_none() && why.is_some() {
            (self.why, self.round) = (why, Some(round));
        }
        self.worst_fuel = self.worst_fuel.max(result.fuel);
        self.most_reads = self.most_reads.max(result.reads);
    }

    const fn stopped(&self) -> u64 {
        self.traps + self.out_of_fuel
    }

    fn cells(&self) -> Vec<Line> {
        let cell = |text: &str| Line::new().with(Tone::Plain, text);
        let tone = if self.why.is_some() { Tone::Bad } else { Tone::Good };
        let what = match self.why {
            Some(why) => format!("{} stopped: {why}", self.stopped()),
            None => "none stopped".to_owned(),
        };
        vec![
            cell(self.handler),
            cell(self.input),
            cell(&self.hits.to_string()),
            Line::new().with(tone, &what),
            cell(&self.worst_fuel.to_string()),
            cell(&self.most_reads.to_string()),
            Line::new().with(Tone::Faint, self.about),
        ]
    }
}

/// Rehearses every handler, and tells.
pub(super) fn run(
    rehearsal: &mut Rehearsal,
    manifest: &Manifest,
    fuel: u64,
    rounds: Option<u64>,
    out: &mut Out,
) -> Outcome {
    let mut grid = Grid::new(&[
        ("HANDLER", Align::Left),
        ("HITS ARE", Align::Left),
        ("HITS", Align::Right),
        ("OUTCOME", Align::Left),
        ("WORST FUEL", Align::Right),
        ("READS", Align::Right),
        ("ABOUT", Align::Left),
    ]);
    let (mut stopped, mut worst, mut first) = (0, 0, None);
    for handler in &manifest.handlers {
        for kind in HOSTILE {
            let mut row = Row::new(&manifest.name, &handler.name, &kind);
            for round in 0..rounds.unwrap_or(ROUNDS) {
                let hit = kind.hit(&handler.name, round);
                let result = rehearsal.hit(&hit).map_err(|e| usage(e.to_string()))?;
                row.add(round, &result);
            }
            stopped += row.stopped();
            worst = worst.max(row.worst_fuel);
            if let Some(why) = row.why.filter(|_| first.is_none()) {
                first =
                    Some(format!("{why} in {} at hits of kind {}", handler.name.escape_debug(), row.input));
            }
            grid.row(row.cells());
            out.row("hostile", &row)?;
        }
    }
    out.grid(grid)?;
    out.say(&format!("at most {worst} of {fuel} fuel a hit; {stopped} hits were stopped"))?;
    let limit = u64::from(Limits::default().traps);
    match first {
        Some(first) if stopped >= limit => Err(bad_probe(format!(
            "in a process the probe would be quarantined: {stopped} hits were stopped, and at {limit} it is; the first was \
             {first}"
        ))
        .hint("check every length and pointer before it is used, and bound every loop; what is read may be anything")
        .into()),
        _ => Ok(0),
    }
}
