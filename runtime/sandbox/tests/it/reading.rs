//! Reads of the target's memory: what a probe is told, and what the target is asked for.

use trocar_abi::import::errno::{EFAULT, EPERM};
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Fake, Rig, Setup, on_hit};

/// A page that is mapped, between two that are not.
const PAGE_START: u64 = 0x7f00_0000_2000;
const PAGE_END: u64 = PAGE_START + 4096;
/// Two pages that are mapped, in one piece.
const TWO_PAGES: u64 = 0x10_0000;

fn target() -> Fake {
    let mut page = vec![b'.'; 4096];
    page[4096 - 8..].copy_from_slice(b"tail...\0");
    let mut two = vec![b'x'; 8192];
    two[4096 - 3..4096 + 5].copy_from_slice(b"joined!\0");
    Fake { memory: vec![(PAGE_START, page), (TWO_PAGES, two)], ..Fake::default() }
}

/// A probe that reads `len` bytes at `address` to 256, over bytes of 0xee, and tells the answer and 64 of the bytes.
fn reader(call: &str, address: u64, len: u32, target: Fake) -> Rig {
    let code = format!(
        "(memory.fill (i32.const 0) (i32.const 0xee) (i32.const 16384))
         (i32.store (i32.const 252) (call ${call} (i64.const {}) (i32.const 256) (i32.const {len})))
         (call $emit (i32.const 0) (i32.const 252) (i32.const 68))",
        address.cast_signed()
    );
    Setup { target, ..Setup::default() }.start(&on_hit(&code))
}

/// The answer, the bytes, and the reads that the target saw.
fn read(call: &str, address: u64, len: u32, target: Fake) -> (i32, Vec<u8>, Vec<(u64, usize)>) {
    let mut rig = reader(call, address, len, target);
    assert_eq!(rig.hit(), Outcome::Executed);
    let payload = rig.payload();
    let reads = rig.target.reads.lock().unwrap().clone();
    (i32::from_le_bytes(payload[..4].try_into().unwrap()), payload[4..].to_vec(), reads)
}

#[test]
fn a_read_copies_all_bytes_and_no_more() {
    let (answer, bytes, reads) = read("read", PAGE_END - 8, 8, target());
    assert_eq!((answer, &bytes[..10]), (0, &b"tail...\0\xee\xee"[..]));
    assert_eq!(reads, [(PAGE_END - 8, 8)]);
    let (answer, bytes, reads) = read("read", TWO_PAGES + 4096 - 3, 7, target());
    assert_eq!((answer, &bytes[..8]), (0, &b"joined!\xee"[..]), "across pages in one call");
    assert_eq!(reads.len(), 1);
}

#[test]
fn an_address_that_is_not_readable_is_an_answer() {
    for (address, len) in
        [(0, 1), (PAGE_START - 1, 2), (PAGE_END, 1), (u64::MAX, 1), (u64::MAX - 3, 8), (1 << 63, 8)]
    {
        for call in ["read", "read_str"] {
            assert_eq!(read(call, address, len, target()).0, EFAULT, "{call} {address:#x} {len}");
        }
    }
    assert_eq!(read("read", PAGE_END - 1, 2, target()).0, EFAULT, "the second byte is not there");
}

#[test]
fn a_target_that_may_not_be_read_is_another_answer() {
    for call in ["read", "read_str"] {
        let target = Fake { refuse: Some(EPERM), ..target() };
        assert_eq!(read(call, PAGE_START, 8, target).0, EPERM, "{call}");
    }
}

#[test]
fn a_string_ends_at_its_nul() {
    let (answer, bytes, _) = read("read_str", TWO_PAGES + 4096 - 3, 64, target());
    assert_eq!((answer, &bytes[..8]), (7, &b"joined!\0"[..]));
}

#[test]
fn a_string_that_ends_with_mapped_memory_is_read() {
    let (answer, bytes, reads) = read("read_str", PAGE_END - 8, 64, target());
    assert_eq!((answer, &bytes[..9]), (7, &b"tail...\0\xee"[..]));
    assert_eq!(reads, [(PAGE_END - 8, 8)], "nothing of the next page");
}

#[test]
fn a_string_without_nul_is_cut_at_the_room_there_is() {
    let (answer, bytes, _) = read("read_str", PAGE_START, 5, target());
    assert_eq!((answer, &bytes[..6]), (5, &b".....\xee"[..]));
    let (answer, _, _) = read("read_str", PAGE_END - 8, 7, target());
    assert_eq!(answer, 7, "the NUL is the first byte that found no room");
}

#[test]
fn a_string_that_runs_into_unmapped_memory_is_an_error() {
    let mut target = target();
    target.memory[0].1[4095] = b'!';
    assert_eq!(read("read_str", PAGE_END - 8, 64, target).0, EFAULT);
}

#[test]
fn a_string_asks_for_two_pages_at_most_whatever_room_it_is_given() {
    let all = Fake { memory: vec![(0x1000, vec![b'x'; 65_536])], ..Fake::default() };
    let (answer, _, reads) = read("read_str", 0x1ff0, 16_000, all);
    assert_eq!(answer, 4096);
    assert_eq!(reads, [(0x1ff0, 16), (0x2000, 4080)]);
}

#[test]
fn reading_nothing_asks_the_target_for_nothing_it_could_fault_on() {
    let (answer, bytes, reads) = read("read_str", 0, 0, target());
    assert_eq!((answer, bytes[0], reads.len()), (0, 0xee, 0));
    let (_, bytes, reads) = read("read", PAGE_START, 0, target());
    assert_eq!(bytes[0], 0xee);
    assert!(reads.iter().all(|&(_, len)| len == 0));
}

#[test]
fn a_string_at_the_end_of_the_address_space_does_not_wrap() {
    let last = Fake { memory: vec![(u64::MAX - 7, vec![b'z'; 8])], ..Fake::default() };
    let (answer, _, reads) = read("read_str", u64::MAX - 7, 64, last);
    assert_eq!(answer, EFAULT);
    assert_eq!(reads, [(u64::MAX - 7, 8)]);
}

#[test]
fn a_read_to_a_range_outside_memory_is_the_probes_bug() {
    let code = "(drop (call $read (i64.const 0) (i32.const 65535) (i32.const 2)))";
    Rig::of(&on_hit(code)).traps(TrapCode::HostCall);
}
