//! Reading and writing another process, at the edges of what is mapped, past its protections, and after its end.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use trocar_inject::{RemoteAddress, RemoteMemory};

use crate::child::Cat;

fn own() -> RemoteMemory {
    RemoteMemory::open(std::process::id().cast_signed()).unwrap()
}

#[test]
fn addresses_add_and_wrap() {
    assert_eq!(RemoteAddress(5).plus(3), RemoteAddress(8));
    assert_eq!(RemoteAddress(u64::MAX).plus(2), RemoteAddress(1));
}

#[test]
fn words_and_bytes_are_read_and_written() {
    // Atomics, because the kernel writes them behind the compiler's back.
    let words = [const { AtomicU64::new(0) }; 3];
    words[1].store(0x1122_3344_5566_7788, Ordering::SeqCst);
    let at = |index: usize| RemoteAddress(words[index].as_ptr().addr() as u64);
    let memory = own();
    assert_eq!(memory.word(at(1)).unwrap(), 0x1122_3344_5566_7788);
    assert_eq!(memory.bytes(at(1), 3).unwrap(), [0x88, 0x77, 0x66]);
    assert_eq!(memory.bytes(at(1), 0).unwrap(), [0u8; 0]);
    let mut two = [0; 2];
    memory.read(at(1).plus(6), &mut two).unwrap();
    assert_eq!(two, [0x22, 0x11]);

    memory.write_word(at(1), u64::MAX).unwrap();
    memory.write(at(1).plus(7), &[0]).unwrap();
    assert_eq!(words.each_ref().map(|w| w.load(Ordering::SeqCst)), [0, u64::MAX >> 8, 0]);
}

/// The end of a mapping behind which nothing is mapped: that of the stack.
fn edge(cat: &Cat) -> u64 {
    let maps = cat.maps();
    let (_, end, ..) = maps.iter().find(|m| m.3 == "[stack]").unwrap().clone();
    assert!(!maps.iter().any(|m| m.0 == end), "something lies behind the stack");
    end
}

#[test]
fn a_read_across_the_end_of_a_mapping_fails_whole_and_some_stops_there() {
    let cat = Cat::start();
    let memory = RemoteMemory::open(cat.pid()).unwrap();
    let edge = RemoteAddress(edge(&cat));
    let before = RemoteAddress(edge.0 - 24);
    let known = memory.bytes(before, 24).unwrap();
    assert!(memory.bytes(before, 25).is_err());
    assert!(memory.word(RemoteAddress(edge.0 - 4)).is_err());
    assert!(memory.word(edge).is_err());
    assert_eq!(memory.some(before, 24), known);
    assert_eq!(memory.some(before, 10_000), known);
    assert_eq!(memory.some(before, 5), known[..5]);
    assert!(memory.some(edge, 100).is_empty());
    assert!(memory.some(before, 0).is_empty());
}

#[test]
fn some_goes_on_over_mappings_that_touch() {
    let cat = Cat::start();
    let memory = RemoteMemory::open(cat.pid()).unwrap();
    let maps = cat.maps();
    let readable = |m: &(u64, u64, String, String)| m.2.starts_with('r') && !m.3.starts_with("[v");
    let pair = maps.windows(2).find(|w| w[0].1 == w[1].0 && readable(&w[0]) && readable(&w[1])).unwrap();
    let start = RemoteAddress(pair[0].1 - 100);
    assert_eq!(memory.some(start, 200).len(), 200);
    assert_eq!(memory.bytes(start, 200).unwrap(), memory.some(start, 200));
}

#[test]
fn addresses_that_nobody_has_are_errors() {
    let memory = own();
    for address in [0, 8, 1 << 47, 1 << 63, u64::MAX - 7, u64::MAX] {
        assert!(memory.word(RemoteAddress(address)).is_err(), "{address:#x}");
        assert!(memory.write(RemoteAddress(address), &[0]).is_err(), "{address:#x}");
        assert!(memory.some(RemoteAddress(address), 16).is_empty(), "{address:#x}");
    }
}

#[test]
fn a_write_goes_past_protections_and_stays_in_the_process() {
    let mut cat = Cat::start();
    let memory = RemoteMemory::open(cat.pid()).unwrap();
    // The ELF header of the program: a private mapping of its file that may only be read.
    let maps = cat.maps();
    let header = maps.iter().find(|m| m.2 == "r--p" && m.3.starts_with('/')).unwrap();
    let at = RemoteAddress(header.0);
    assert_eq!(memory.bytes(at, 4).unwrap(), b"\x7fELF");
    let on_disk = fs::read(&header.3).unwrap();
    memory.write(at.plus(9), b"trocar").unwrap(); // padding of the identification, which nobody reads
    assert_eq!(memory.bytes(at.plus(9), 6).unwrap(), b"trocar");
    memory.write(at.plus(9), &on_disk[9..15]).unwrap();
    assert_eq!(memory.bytes(at, 16).unwrap(), on_disk[..16]);
    assert_eq!(fs::read(&header.3).unwrap(), on_disk, "the file is as it was");
    assert_eq!(cat.maps(), maps, "and so are the mappings");
    cat.answers();
}

#[test]
fn after_the_end_of_the_process_everything_fails() {
    let mut cat = Cat::start();
    let memory = RemoteMemory::open(cat.pid()).unwrap();
    let stack = RemoteAddress(edge(&cat) - 8);
    memory.word(stack).unwrap();
    let pid = cat.pid();
    cat.end();
    assert!(memory.word(stack).is_err());
    assert!(memory.write_word(stack, 0).is_err());
    assert!(memory.some(stack, 8).is_empty());
    assert!(RemoteMemory::open(pid).is_err());
}
