//! Prints, for ELF files, how many function entries and how many instructions can be patched, by rung and
//! by refusal, and how long the analysis takes.
//!
//! `cargo run --release -p trocar-patch --example coverage -- FILE… [--show REASON]`

#[path = "../tests/it/elf.rs"]
mod elf;

use std::collections::BTreeMap;
use std::time::Instant;

use trocar_patch::{Analysis, Refusal, SitePlan};

fn main() {
    let mut files = Vec::new();
    let mut show = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--show" { show = arguments.next() } else { files.push(argument) }
    }
    for name in files {
        match std::fs::read(&name) {
            Ok(file) => report(&name, &file, show.as_deref()),
            Err(e) => eprintln!("{name}: {e}"),
        }
    }
}

fn report(name: &str, file: &[u8], show: Option<&str>) {
    let image = elf::image(file);
    let mut starts: Vec<u64> = image.functions.iter().map(|f| f.start).collect();
    starts.sort_unstable();
    starts.dedup();
    let text: Vec<_> = image.text.iter().map(|t| t.vaddr..t.end()).collect();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let image = image.clone();
        let before = Instant::now();
        let analysis = Analysis::new(image);
        best = best.min(before.elapsed().as_secs_f64());
        drop(analysis);
    }
    let analysis = Analysis::new(image);
    println!("{name}: analysis {:.1} ms (best of 5)\n  {:?}", best * 1e3, analysis.statistics());
    let before = Instant::now();
    let entries: Vec<_> = starts.iter().map(|s| analysis.plan(*s)).collect();
    println!("  {} entries planned in {:.1} ms", starts.len(), before.elapsed().as_secs_f64() * 1e3);
    table("entries", &entries);
    for refusal in entries.iter().filter_map(|e| e.as_ref().err()).filter(|r| show == Some(r.reason.name())) {
        println!("    {refusal}");
    }
    let all: Vec<_> = text
        .into_iter()
        .flatten()
        .filter(|a| analysis.is_instruction(*a))
        .map(|a| analysis.plan(a))
        .filter(|p| !matches!(p, Err(r) if r.reason == trocar_patch::Reason::NoFunction))
        .collect();
    table("instructions of functions", &all);
}

fn table(what: &str, plans: &[Result<SitePlan, Refusal>]) {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for plan in plans {
        let name = match plan {
            Ok(plan) => plan.rung.name(),
            Err(refusal) => refusal.reason.name(),
        };
        *rows.entry(name).or_default() += 1;
    }
    let ok = plans.iter().flatten().count();
    let dead = plans.iter().flatten().filter(|p| p.red_zone_dead).count();
    let share = |n: usize| 100.0 * n as f64 / plans.len().max(1) as f64;
    println!(
        "  {what}: {} of {} patchable ({:.1} %), red zone proven dead in {dead}",
        ok,
        plans.len(),
        share(ok)
    );
    for (name, count) in rows {
        println!("    {name:26} {count:8} {:6.2} %", share(count));
    }
}
