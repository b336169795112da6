//! How far the search goes, in memory of this very process: a stack with a neighbour right above it.

use memmap2::{Advice, MmapMut};
use trocar_target::{Mapping, maps};

use super::{
    FRAME, Frame, SEARCH, USER_CS, cut_at, extent, frames, is_in_session, mappings, read, start_of_stack,
};
use crate::goroutines::Known;
use crate::memory::RemoteMemory;

/// Bytes of the stack, of which the upper half is in use, and of its neighbour.
const STACK: usize = 1 << 20;
const NEIGHBOUR: usize = 16 << 20;
/// Where some signal handlers would return to.
const WITHIN: u64 = 0x1111;
const BEYOND: u64 = 0x2222;

/// What the search finds in a stack below a neighbour, whose thread pointer is so far above the stack pointer: bytes, and
/// places that handlers return to. Signal frames are right below the end of what may be read, and right above.
fn searched(pointer: Option<u64>) -> (u64, Vec<u64>) {
    let mut area = MmapMut::map_anon(STACK + NEIGHBOUR).unwrap();
    let start = area.as_ptr() as u64;
    // Another mapping for the kernel, as with any other advice or protection.
    area.advise_range(Advice::DontDump, STACK, NEIGHBOUR).unwrap();
    let sp = start + STACK as u64 / 2;
    let pid = std::process::id().cast_signed();
    let list = maps(pid).unwrap();
    let code = list.iter().find(|m: &&Mapping| m.execute && m.is_file()).unwrap().start;
    let end = sp - trocar_abi::hit::RED_ZONE + SEARCH;
    let len = 8 * FRAME as u64;
    for (at, ip) in [(sp + 4096, 0x3333), (end - len, WITHIN), (end - len + 8 + len, BEYOND)] {
        let mut frame = [0; FRAME];
        frame[0] = code;
        (frame[22], frame[24]) = (ip, USER_CS);
        let from = usize::try_from(at - start).unwrap();
        for (word, to) in frame.iter().zip(area[from..].chunks_mut(8)) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    let memory = RemoteMemory::open(pid).unwrap();
    let stack = read(&memory, &list, sp, pointer.map(|above| sp + above), &Known::default()).unwrap();
    let found = frames(&stack, &list).map(|Frame { ip, .. }| ip).collect();
    (8 * stack.words.len() as u64, found)
}

#[test]
fn a_stack_with_a_neighbour_above_it_is_searched_for_eight_mebibytes_and_no_further() {
    // It may be cut by a change of protection, so what lies above may be its own.
    assert_eq!(searched(None), (8 << 20, vec![0x3333, WITHIN]));
}

#[test]
fn a_stack_that_holds_its_threads_control_block_is_searched_to_its_end_alone() {
    let (bytes, found) = searched(Some(STACK as u64 / 4));
    assert_eq!((bytes, found), (STACK as u64 / 2 + trocar_abi::hit::RED_ZONE, vec![0x3333]));
}

fn mapping(start: u64, end: u64, name: &str) -> Mapping {
    Mapping {
        start,
        end,
        read: true,
        write: name.is_empty(),
        execute: name.contains("code"),
        shared: name.contains("shared"),
        offset: 0,
        device: (0, 0),
        inode: 0,
        path: (!name.is_empty()).then(|| name.into()),
        deleted: false,
    }
}

#[test]
fn memory_of_a_session_is_between_its_code_and_what_it_shares_and_not_beside_them() {
    let (code, shared) = ("/memfd:trocar-code", "/memfd:trocar-shared");
    // A session's region, with a stack of the program above it; a block of trampolines with stacks above it, up to another
    // region; the same below nothing of ours.
    let list = [
        mapping(0x1000, 0x2000, ""),
        mapping(0x2000, 0x3000, code),
        mapping(0x3000, 0x4000, ""),
        mapping(0x4000, 0x5000, ""),
        mapping(0x5000, 0x6000, shared),
        mapping(0x6000, 0x7000, ""),
        mapping(0x8000, 0x9000, code),
        mapping(0x9000, 0xa000, ""),
        mapping(0xa000, 0xb000, code),
        mapping(0xb000, 0xc000, ""),
        mapping(0xc000, 0xd000, shared),
        mapping(0xe000, 0xf000, code),
        mapping(0xf000, 0x10000, ""),
        mapping(0x11000, 0x12000, shared),
    ];
    let ours: Vec<u64> = (0..0x12).filter(|page| is_in_session(&list, page * 0x1000 + 8)).collect();
    assert_eq!(ours, [2, 3, 4, 8, 0xa, 0xb, 0xe]);
}

#[test]
fn what_lies_above_the_first_threads_stack_is_no_part_of_it() {
    let mut list = vec![mapping(0x1000, 0x9000, "[stack]"), mapping(0x9000, 0xa000, "")];
    for m in &mut list {
        (m.read, m.write) = (true, true);
    }
    let of = |list: &[Mapping], sp| extent(list, sp, None, &Known::default()).map(|e| (e.start, e.len));
    assert_eq!(of(&list, 0x2000), Some((0x1f80, 0xa000 - 0x1f80)));
    cut_at(&mut list, 0x8004);
    assert_eq!(of(&list, 0x2000), Some((0x1f80, 0x8000 - 0x1f80)));
    assert_eq!(of(&list, 0x8000), Some((0x8000, 0x2000)), "one that is there is searched all the same");
    for address in [0, 0x1000, 0xa000, u64::MAX] {
        let mut same = list.clone();
        cut_at(&mut same, address);
        assert_eq!(same, list, "{address:#x}");
    }
}

#[test]
fn the_start_of_a_stack_is_told_by_the_kernel() {
    let fields: Vec<String> = (3..60).map(|n| n.to_string()).collect();
    let stat = format!("1 (a ) 1 (b) {}", fields.join(" "));
    assert_eq!(start_of_stack(&stat), Some(28));
    assert_eq!([start_of_stack(""), start_of_stack("1 (a) S")], [None, None]);
    let own = mappings(std::process::id().cast_signed()).unwrap();
    let named = own.iter().filter(|m| m.path.as_ref().is_some_and(|p| p.as_os_str() == "[stack]"));
    let parts: Vec<(u64, u64, bool)> = named.map(|m| (m.start, m.end, m.write)).collect();
    let [(_, end, true), (start, _, false)] = parts[..] else { panic!("{parts:x?}") };
    assert_eq!(end, start);
    // What the kernel put there first: the number of arguments, as a word.
    let mut count = [0; 8];
    let memory = RemoteMemory::open(std::process::id().cast_signed()).unwrap();
    memory.read(crate::memory::RemoteAddress(start), &mut count).unwrap();
    assert_eq!(u64::from_le_bytes(count), std::env::args_os().count() as u64);
}
