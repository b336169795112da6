//! `trocar probes`: the probes that come along.

use clap::Args;
use serde::Serialize;
use trocar_package::Manifest;
use trocar_sinks::{Align, Grid, Line, Tone};

use crate::bundled::BUNDLED;
use crate::out::Out;
use crate::trouble::{Outcome, bad_probe};

const EXAMPLES: &str = "\
Examples:
  trocar probes
  trocar probes -o json
  trocar check redis-commands                       everything about one of them";

/// Lists the bundled probes: what each is for, and where it goes by itself.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Probes {}

/// A probe as an object.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    origin: &'static str,
    points: Vec<&'a str>,
    params: Vec<&'a str>,
    bytes: usize,
}

impl Probes {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let mut grid = Grid::new(&[
            ("NAME", Align::Left),
            ("VERSION", Align::Left),
            ("POINTS", Align::Left),
            ("WHAT IT DOES", Align::Left),
        ]);
        for probe in BUNDLED {
            let damaged =
                |what: String| bad_probe(format!("the bundled probe {} is damaged: {what}", probe.name));
            let manifest = Manifest::from_module(probe.wasm).map_err(|e| damaged(e.to_string()))?;
            let manifest = manifest.ok_or_else(|| damaged("it has no manifest".into()))?;
            let points: Vec<&str> =
                manifest.handlers.iter().flat_map(|h| h.points.iter().map(String::as_str)).collect();
            let cell = |tone, text: &str| Line::new().with(tone, text);
            let where_to = if points.is_empty() { "--at POINT".to_owned() } else { points.join(", ") };
            grid.row(vec![
                cell(Tone::Strong, probe.name),
                cell(Tone::Plain, &manifest.version),
                cell(Tone::Plain, &where_to),
                cell(Tone::Plain, &manifest.description),
            ]);
            let row = Row {
                name: probe.name,
                version: &manifest.version,
                description: &manifest.description,
                origin: "bundled",
                points,
                params: manifest.params.iter().map(|p| p.name.as_str()).collect(),
                bytes: probe.wasm.len(),
            };
            out.row("probe", &row)?;
        }
        out.grid(grid)?;
        Ok(0)
    }
}
