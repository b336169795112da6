//! Parameters: numbers, and strings that a number points to.

use trocar_sandbox::Outcome;

use crate::rig::{Rig, Setup, on_hit, tell};

fn with(params: &[u64], strings: &[u8]) -> Setup {
    Setup { params: params.to_vec(), strings: strings.to_vec(), ..Setup::default() }
}

#[test]
fn a_number_is_given_by_its_index_and_is_zero_where_there_is_none() {
    for (n, want) in [(0, 5), (1, u64::MAX), (2, 0), (-1, 0)] {
        let mut rig = with(&[5, u64::MAX], b"").start(&tell(&format!("(call $param (i32.const {n}))")));
        assert_eq!(rig.told(), want, "{n}");
    }
}

/// Copies string parameter `n` to 256 with room for `room` bytes; the answer and sixteen of the bytes.
fn copy(setup: Setup, n: u32, room: u32) -> (u32, Vec<u8>) {
    let mut rig: Rig = setup.start(&on_hit(&format!(
        "(memory.fill (i32.const 0) (i32.const 0xee) (i32.const 512))
         (i32.store (i32.const 252) (call $param_str (i32.const {n}) (i32.const 256) (i32.const {room})))
         (call $emit (i32.const 0) (i32.const 252) (i32.const 20))"
    )));
    assert_eq!(rig.hit(), Outcome::Executed);
    let payload = rig.payload();
    (u32::from_le_bytes(payload[..4].try_into().unwrap()), payload[4..].to_vec())
}

#[test]
fn a_string_is_copied_as_far_as_there_is_room_and_tells_its_whole_length() {
    let two = || with(&[3, 3 << 32 | 5], b"GETvalue");
    for (n, room, want, bytes) in [
        (0, 16, 3, &b"GET\xee"[..]),
        (1, 16, 5, b"value\xee"),
        (1, 5, 5, b"value\xee"),
        (1, 2, 5, b"va\xee\xee"),
        (1, 0, 5, b"\xee\xee"),
    ] {
        let (answer, found) = copy(two(), n, room);
        assert_eq!((answer, &found[..bytes.len()]), (want, bytes), "{n} {room}");
    }
}

#[test]
fn a_string_that_is_not_there_is_empty() {
    // No such parameter; and a number that is no place in the strings, as an integer parameter usually is.
    for (params, n) in
        [(vec![3], 1), (vec![], 0), (vec![3 << 32 | 6], 0), (vec![u64::MAX], 0), (vec![9 << 32], 0)]
    {
        let (answer, found) = copy(with(&params, b"GETvalue"), n, 16);
        assert_eq!((answer, found[0]), (0, 0xee), "{params:?}");
    }
}
