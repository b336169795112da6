//! How long it takes to read a file's symbols and tables, step by step: median and minimum of 21 rounds each.
//!
//! `cargo run --release -p trocar-symbols --example measure -- FILE [POINT]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use trocar_symbols::{Elf, LoadedModule, Point, Resolver};

const ROUNDS: usize = 21;

fn time<T>(what: &str, mut work: impl FnMut() -> (Duration, T)) -> Option<T> {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..ROUNDS {
        let (duration, value) = work();
        times.push(duration);
        last = Some(value);
    }
    times.sort_unstable();
    let (median, least) = (times.get(ROUNDS / 2)?, times.first()?);
    println!("{what:32} median {median:>10.1?}  minimum {least:>10.1?}");
    last
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: measure FILE [POINT]")?;
    let point = Point::parse(&arguments.next().unwrap_or_else(|| "main".into()))?;
    let bytes = std::fs::read(&path)?;
    let fresh = || Elf::parse(bytes.clone());
    fresh()?;
    let parse = || {
        let bytes = bytes.clone();
        let start = Instant::now();
        let elf = Elf::parse(bytes);
        (start.elapsed(), elf)
    };
    let elf = time("headers and symbols", parse).ok_or("no rounds")??;
    println!("{:32} {}", "  symbols in text", elf.symbols().len());
    let functions = || {
        let elf = fresh();
        let start = Instant::now();
        let count = elf.as_ref().map_or(0, |elf| elf.functions().len());
        (start.elapsed(), count)
    };
    let count = time("functions (unwind tables, Go)", functions).unwrap_or_default();
    println!("{:32} {count}", "  functions");
    let image = || {
        let elf = fresh();
        let start = Instant::now();
        let counts = elf.as_ref().map_or((0, 0), |elf| {
            let image = elf.code_image();
            (image.entries.len(), image.never.len())
        });
        (start.elapsed(), counts)
    };
    let counts = time("code image, with functions", image).unwrap_or_default();
    println!("{:32} {} and {}", "  entries and never-ranges", counts.0, counts.1);
    let elf = Arc::new(elf);
    let resolver =
        Resolver::new(vec![LoadedModule { name: "m".into(), path, aliases: Vec::new(), elf, bias: 0 }]);
    let resolve = || {
        let start = Instant::now();
        let found = resolver.resolve(&point);
        (start.elapsed(), found.map_or_else(|e| e.to_string(), |found| format!("{} places", found.len())))
    };
    println!("{:32} {}", format!("  {point}"), time("resolve", resolve).unwrap_or_default());
    Ok(())
}
