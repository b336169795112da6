//! This test binary, which knows addresses of its own.

use trocar_symbols::{Elf, MappedRange, Point, Resolver};

use crate::module;

/// A Rust function with a path.
#[inline(never)]
fn landmark(x: u64) -> u64 {
    std::hint::black_box(x) + 1
}

fn own_mappings(path: &str) -> Vec<MappedRange> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.ends_with(path));
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            let execute = words[1].contains('x');
            MappedRange { start: hex(start), end: hex(end), offset: hex(words[2]), execute }
        })
        .collect()
}

#[test]
fn a_rust_path_leads_to_the_address_that_the_program_itself_has() {
    let path = std::env::current_exe().unwrap();
    let elf = Elf::parse(std::fs::read(&path).unwrap()).unwrap();
    let bias = elf.bias(&own_mappings(path.to_str().unwrap())).unwrap();
    assert!(elf.is_pie() && bias != 0);
    let resolver = Resolver::new(vec![module("it", elf, bias)]);
    let found = resolver.resolve(&Point::parse("it::own::landmark").unwrap()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let real = landmark as fn(u64) -> u64 as usize as u64;
    assert_eq!(found[0].address, real);
    assert_eq!(found[0].symbol.as_deref(), Some("it::own::landmark"));
    assert_eq!(resolver.symbolize(real + 1), Some((0, "it::own::landmark".into(), 1)));
    assert_eq!(landmark(1), 2);

    let by_address = resolver.resolve(&Point::parse(&format!("{:#x}", real)).unwrap()).unwrap();
    assert_eq!((by_address[0].vaddr, by_address[0].offset), (real - bias, 0));
}
