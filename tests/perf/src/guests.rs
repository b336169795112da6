//! What each guest language costs: the grid's probe (`tests/e2e/guests`), built here, compiled, and rehearsed.
//!
//! Fuel is exact and the same on every machine, as long as the compiler is the same. Nanoseconds are the least of many,
//! without trampoline and system calls: a hit as `trocar check` prices it. The first hit of an instance is measured on
//! fresh ones.

use std::time::Instant;

use trocar_compile::{VerifyOptions, precompile, verify_with};
use trocar_rehearse::{Outcome, Probe, RecordedHit, Rehearsal};
use trocar_test_support::guest::{LANGUAGES, Language};

use crate::Trouble;

/// Instances whose first hit is timed.
const FRESH: u32 = 20;

/// A language's row.
#[derive(Clone, Debug)]
struct Row {
    language: &'static str,
    wasm_bytes: usize,
    code_bytes: usize,
    pages: u64,
    first_fuel: u64,
    next_fuel: u64,
    first_ns: f64,
    next_ns: f64,
}

/// The table of all languages whose compilers are here, in Markdown.
///
/// # Errors
/// A probe does not build or does not run.
pub fn table(note: &dyn Fn(&str)) -> Result<String, Trouble> {
    let mut text = String::from(HEAD);
    for language in LANGUAGES {
        if !language.is_there() {
            text += &format!("| {} | no compiler on this machine | | | | | | |\n", language.name);
            continue;
        }
        note(language.name);
        let row = measure(language)?;
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.0} |\n",
            row.language,
            row.wasm_bytes,
            row.code_bytes,
            row.pages,
            row.first_fuel,
            row.next_fuel,
            row.first_ns,
            row.next_ns
        );
    }
    Ok(text)
}

const HEAD: &str = "\
# What each guest language costs

Written by `just guests`. The same probe in each language (`tests/e2e/guests`): it counts, and writes an event of eight
bytes. Sizes of the module and of its machine code; pages of 64 KiB that an instance begins with; fuel and least
nanoseconds of an instance's first hit and of a later one, outside a target, without the trampoline.

| language | wasm, bytes | code, bytes | pages | first hit, fuel | next, fuel | first hit, ns | next, ns |
|---|--:|--:|--:|--:|--:|--:|--:|
";

fn measure(language: Language) -> Result<Row, Trouble> {
    let trouble = |what: &dyn std::fmt::Display| format!("{}: {what}", language.name);
    let project = language.grid();
    let wasm = std::fs::read(project.build()).map_err(|e| trouble(&e))?;
    let verified = verify_with(&wasm, &VerifyOptions::default()).map_err(|e| trouble(&e))?;
    let code_bytes = precompile(&wasm).map_err(|e| trouble(&e))?.code().len();
    let manifest = &verified.manifest;
    let params = manifest.resolve_params(&[]).map_err(|e| trouble(&e))?;
    let probe = Probe {
        wasm: &wasm,
        manifest,
        params: &params,
        fuel: manifest.limits.fuel.unwrap_or(10_000),
        memory_bytes: verified.memory_limit,
    };
    let hit = RecordedHit::default();
    let (mut first_ns, mut fuel, mut next_ns) = (f64::INFINITY, (0, 0), f64::INFINITY);
    for round in 0..FRESH {
        let mut rehearsal = Rehearsal::new(&probe).map_err(|e| trouble(&e))?;
        let began = Instant::now();
        let first = rehearsal.hit(&hit).map_err(|e| trouble(&e))?;
        first_ns = first_ns.min(began.elapsed().as_secs_f64() * 1e9);
        if first.outcome != Outcome::Executed {
            return Err(trouble(&format!("the first hit: {:?}", first.outcome)));
        }
        fuel = (first.fuel, rehearsal.hit(&hit).map_err(|e| trouble(&e))?.fuel);
        if round == 0 {
            let price = rehearsal.price(&hit).map_err(|e| trouble(&e))?;
            next_ns = price.ok_or_else(|| trouble(&"a hit traps"))?;
        }
    }
    Ok(Row {
        language: language.name,
        wasm_bytes: wasm.len(),
        code_bytes,
        pages: verified.memory.min,
        first_fuel: fuel.0,
        next_fuel: fuel.1,
        first_ns,
        next_ns,
    })
}
