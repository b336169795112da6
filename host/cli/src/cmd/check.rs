//! `trocar check`: what a probe is and what it may do, before it goes anywhere.
//!
//! The facts are the verifier's; the measured price is a rehearsal's. `build` prints the same for what it has built.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trocar_compile::verify::START_FUEL;
use trocar_compile::{Facts, Verified, VerifyError, VerifyOptions, lower, verify_with};
use trocar_package::{Event, Map, Param, ParamType, ParamValue};
use trocar_rehearse::{Probe, Rehearsal, RehearseError, made_up};
use trocar_session::not_compiled;
use trocar_session::reply::Limits;
use trocar_sinks::{Align, Grid, Line, Tone};
use trocar_target::Failure;

use crate::out::Out;
use crate::probe::{self, ProbeFile};
use crate::quantity;
use crate::trouble::{Outcome, Trouble, bad_probe};

const EXAMPLES: &str = "\
Examples:
  trocar check slow.wasm
  trocar check redis-commands -o json
  trocar check big.wasm --memory 4MiB";

/// Verifies a probe and says what it may do and what it costs: capabilities, features, memory, fuel and system calls of a
/// hit of each handler.
///
/// Capabilities follow from what the module imports, not from what it says of itself. A bound on fuel or system calls
/// is proven from the code, for the dearest way through it; where a loop, recursion or the like makes that impossible, a hit
/// is metered and cut at the limit of fuel, and the reason is told. The price is
/// measured here, outside any process, on a made-up hit: without the trampoline and without system calls. A probe that
/// cannot be used ends with status 8 and the reason.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// The probe: a .wasm or .wat file, or a bundled name
    #[arg(value_name = "PROBE")]
    probe: PathBuf,
    /// Check against this limit of linear memory, for example 64K or 2MiB
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    memory: Option<u64>,
}

impl Check {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let file = probe::read(&self.probe)?;
        let verified = verify(&file, self.memory)?;
        show(&self.probe.display().to_string(), &verified, out)?;
        Ok(0)
    }
}

/// Verifies a probe.
pub(crate) fn verify(file: &ProbeFile, memory: Option<u64>) -> Result<Verified, Failure> {
    let options = VerifyOptions { name: Some(&file.name), memory_bytes: memory };
    verify_with(&file.wasm, &options).map_err(|e| refusal(&e))
}

/// The verifier's reason as a failure.
pub(crate) fn refusal(error: &VerifyError) -> Failure {
    let failure = bad_probe(error.message.clone());
    match &error.hint {
        Some(hint) => failure.hint(hint.clone()),
        None => failure.hint("build it again; a probe to start from: trocar new rust|c|wat NAME"),
    }
}

/// A checked probe as an object.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    ok: bool,
    probe: &'a str,
    version: &'a str,
    description: &'a str,
    manifest: bool,
    bytes: usize,
    functions: usize,
    handlers: Vec<HandlerRow<'a>>,
    capabilities: Vec<&'static str>,
    host_calls: Vec<&'static str>,
    imports: Vec<ImportRow>,
    features: Vec<&'static str>,
    memory_pages: u64,
    memory_pages_max: Option<u64>,
    memory_limit: u64,
    floats: bool,
    start_function: bool,
    initialize: bool,
    start_fuel_limit: u64,
    fuel_limit: u64,
    worst_fuel: Option<u64>,
    system_calls_per_hit: Option<u32>,
    system_calls_per_call: u32,
    most_system_calls: Option<u64>,
    ns_per_hit: Option<f64>,
    params: &'a [Param],
    maps: &'a [Map],
    events: &'a [Event],
    notes: &'a [String],
}

#[derive(Serialize)]
struct HandlerRow<'a> {
    name: &'a str,
    returns_condition: bool,
    worst_fuel: Option<u64>,
    unbounded: Option<&'static str>,
    system_calls_per_hit: Option<u32>,
    tier: u32,
    not_native: Option<String>,
    points: &'a [String],
}

#[derive(Serialize)]
struct ImportRow {
    name: &'static str,
    capability: &'static str,
    system_calls: u32,
    fuel: u64,
}

/// Prints a verified probe.
pub(crate) fn show(path: &str, verified: &Verified, out: &mut Out) -> Result<(), Trouble> {
    let manifest = &verified.manifest;
    let price = price(verified)?;
    let fuel_limit = manifest.limits.fuel.unwrap_or(Limits::default().fuel);
    let handlers = verified.handlers.iter().map(|handler| {
        let found = manifest.handlers.iter().find(|h| h.name == handler.name);
        let points = found.map_or(&[][..], |h| h.points.as_slice());
        let not_native = not_native(verified, &handler.name);
        HandlerRow {
            name: &handler.name,
            returns_condition: handler.returns_condition,
            worst_fuel: handler.worst_fuel.ok(),
            unbounded: handler.worst_fuel.err().map(|why| why.name()),
            system_calls_per_hit: handler.system_calls,
            tier: if not_native.is_none() { 2 } else { 1 },
            not_native,
            points,
        }
    });
    let imports = verified.imports.iter().map(|i| ImportRow {
        name: i.name,
        capability: i.capability.name(),
        system_calls: i.system_calls,
        fuel: i.fuel,
    });
    let row = Row {
        path,
        ok: true,
        probe: &manifest.name,
        version: &manifest.version,
        description: &manifest.description,
        manifest: verified.has_manifest,
        bytes: verified.wasm.len(),
        functions: verified.functions,
        handlers: handlers.collect(),
        capabilities: verified.capabilities.iter().map(|c| c.name()).collect(),
        host_calls: verified.imports.iter().map(|i| i.name).collect(),
        imports: imports.collect(),
        features: verified.features(),
        memory_pages: verified.memory.min,
        memory_pages_max: verified.memory.max,
        memory_limit: verified.memory_limit,
        floats: verified.uses_floats,
        start_function: verified.has_start,
        initialize: verified.runs_once.is_some(),
        start_fuel_limit: START_FUEL,
        fuel_limit,
        worst_fuel: verified.worst_fuel,
        system_calls_per_hit: verified.system_calls_per_hit,
        system_calls_per_call: verified.system_calls_per_call,
        most_system_calls: verified.most_system_calls(fuel_limit),
        ns_per_hit: price,
        params: &manifest.params,
        maps: &manifest.maps,
        events: &manifest.events,
        notes: &verified.notes,
    };
    out.row("check", &row)?;
    out.grid(grid(verified, &row))?;
    Ok(())
}

/// Why the handler cannot run as native code at one site with its parameters' defaults, if it cannot.
fn not_native(verified: &Verified, handler: &str) -> Option<String> {
    let (maps, _) = verified.manifest.map_specs();
    let default = |param: &Param| match &param.default {
        Some(ParamValue::Int(n)) => Some(n.cast_unsigned()),
        Some(ParamValue::Str(_)) => None,
        // To be set, and then known.
        None => (param.ty == ParamType::Int).then_some(0),
    };
    let params: Vec<Option<u64>> = verified.manifest.params.iter().map(default).collect();
    let facts = Facts { maps: &maps, params: &params, sites: 1, go: false };
    lower(&verified.wasm, verified, handler, &facts).err().map(|why| why.to_string())
}

fn grid(verified: &Verified, row: &Row<'_>) -> Grid {
    let mut grid = Grid::new(&[("WHAT", Align::Left), ("IS", Align::Left)]);
    let mut add = |tone, what: &str, is: &str| {
        grid.row(vec![Line::new().with(Tone::Faint, what), Line::new().with(tone, is)]);
    };
    for (what, is) in verified.report().iter().filter(|(what, _)| *what != "note") {
        let tone = if *what == "probe" || *what == "capabilities" { Tone::Strong } else { Tone::Plain };
        add(tone, what, is);
    }
    if let (None, Some(most)) = (verified.system_calls_per_hit, row.most_system_calls) {
        add(Tone::Plain, "system calls limit", &format!("<= {most} a hit: what its fuel pays for"));
    }
    add(Tone::Plain, "fuel limit", &format!("metered, cut at {} a hit", row.fuel_limit));
    let price = match (row.ns_per_hit, row.system_calls_per_call) {
        (None, _) => "not measured: a made-up hit traps".to_owned(),
        (Some(ns), 0) => format!("{ns:.0} ns a hit here, without trampoline"),
        (Some(ns), _) => {
            format!("{ns:.0} ns a hit here, without trampoline and system calls (each about a microsecond)")
        }
    };
    add(Tone::Plain, "measured", &price);
    for handler in &row.handlers {
        let how = match &handler.not_native {
            None => "as native code: it only counts (tier two)".to_owned(),
            Some(why) => format!("under wasmtime: {why} (tier one)"),
        };
        add(Tone::Plain, "runs", &format!("{} {how}", handler.name.escape_debug()));
    }
    for handler in row.handlers.iter().filter(|h| !h.points.is_empty()) {
        add(Tone::Plain, "points", &format!("{}: {}", handler.name, handler.points.join(", ")));
    }
    for param in row.params {
        let default = match &param.default {
            Some(ParamValue::Int(n)) => format!(" = {n}"),
            Some(ParamValue::Str(text)) => format!(" = {text:?}"),
            None => ", to be set".into(),
        };
        add(
            Tone::Plain,
            "parameter",
            &format!("{}: {}{default}  {}", param.name, param.ty.name(), param.about),
        );
    }
    for map in row.maps {
        let key: Vec<&str> = map.key.iter().map(|field| field.name.as_str()).collect();
        let by = if key.is_empty() { String::new() } else { format!(" by {}", key.join(", ")) };
        add(Tone::Plain, "map", &format!("{}: {}[{}]{by}", map.name, map.kind.kind().name(), map.entries));
    }
    for event in row.events {
        let fields: Vec<&str> = event.fields.iter().map(|field| field.name.as_str()).collect();
        add(Tone::Plain, "event", &format!("{}: {}", event.name, fields.join(", ")));
    }
    for handler in row.handlers.iter().filter(|h| h.worst_fuel.is_some_and(|worst| worst > row.fuel_limit)) {
        let note = format!(
            "The dearest way through {} is over the limit and would be cut: ask for more in `limits.fuel`, or --fuel.",
            handler.name.escape_debug()
        );
        add(Tone::Warning, "note", &note);
    }
    for note in row.notes {
        add(Tone::Warning, "note", note);
    }
    grid
}

/// Nanoseconds of a made-up hit; `None` if such a hit, or the start, is stopped.
///
/// # Errors
/// It cannot be compiled.
fn price(verified: &Verified) -> Result<Option<f64>, Failure> {
    let params: Vec<ParamValue> = verified.manifest.params.iter().map(value_or_zero).collect();
    let probe = Probe {
        wasm: &verified.wasm,
        manifest: &verified.manifest,
        params: &params,
        fuel: verified.manifest.limits.fuel.unwrap_or(Limits::default().fuel),
        memory_bytes: verified.memory_limit,
    };
    match Rehearsal::new(&probe) {
        Ok(mut rehearsal) => Ok(rehearsal.price(&made_up(1)).ok().flatten()),
        Err(RehearseError::Compile(error)) => Err(not_compiled(&error)),
        Err(RehearseError::Start(_)) => Ok(None),
    }
}

/// The default of a parameter, or nothing of its type.
pub(crate) fn value_or_zero(param: &Param) -> ParamValue {
    param.default.clone().unwrap_or_else(|| match param.ty {
        trocar_package::ParamType::Int => ParamValue::Int(0),
        trocar_package::ParamType::Str => ParamValue::Str(String::new()),
    })
}
