//! Counters, histograms and hash tables, as the host reads them in the shard.

use trocar_abi::import::errno::ENOSPC;
use trocar_abi::map::{HIST_BUCKETS, KEY_MAX, MapKind};
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Rig, Setup, module, on_hit, tell};

/// A counter map, a histogram map and another counter map that nobody touches.
fn three() -> Setup {
    Setup {
        maps: vec![(MapKind::Counter, 4, 0), (MapKind::Hist, 2, 0), (MapKind::Counter, 4, 0)],
        ..Setup::default()
    }
}

/// Every word of the three maps.
fn all_words(rig: &Rig) -> Vec<u64> {
    let sizes = [4, 2 * HIST_BUCKETS as u64, 4];
    sizes
        .iter()
        .enumerate()
        .flat_map(|(map, &n)| (0..n).map(move |i| (map, i)))
        .map(|(m, i)| rig.word(m, i))
        .collect()
}

#[test]
fn counters_add_up_and_wrap() {
    let mut rig = three().start(&on_hit(
        "(call $counter_add (i32.const 0) (i32.const 3) (i64.const 5))
         (call $counter_add (i32.const 0) (i32.const 1) (i64.const -1))",
    ));
    for _ in 0..3 {
        assert_eq!(rig.hit(), Outcome::Executed);
    }
    assert_eq!([0, 1, 2, 3].map(|i| rig.word(0, i)), [0, 3u64.wrapping_neg(), 0, 15]);
    assert_eq!([0, 1, 2, 3].map(|i| rig.word(2, i)), [0; 4]);
}

#[test]
fn a_histogram_counts_by_powers_of_two() {
    let buckets = [
        (0u64, 0),
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 3),
        (255, 8),
        (256, 9),
        (1 << 62, 63),
        (1 << 63, 64),
        (u64::MAX, 64),
    ];
    for (value, bucket) in buckets {
        let code =
            format!("(call $hist_add (i32.const 1) (i32.const 1) (i64.const {}))", value.cast_signed());
        let mut rig = three().start(&on_hit(&code));
        assert_eq!(rig.hit(), Outcome::Executed);
        let found: Vec<u64> = (0..2 * HIST_BUCKETS as u64).filter(|&i| rig.word(1, i) == 1).collect();
        assert_eq!(found, [HIST_BUCKETS as u64 + bucket], "{value}");
    }
}

#[test]
fn a_map_or_an_entry_that_is_not_there_traps_and_changes_nothing() {
    for call in [
        "counter_add (i32.const 0) (i32.const 4)", // the first entry past the end
        "counter_add (i32.const 0) (i32.const -1)", // as unsigned the last there could be
        "counter_add (i32.const 0) (i32.const 0x20000000)", // whose byte offset would be zero in 32 bits
        "counter_add (i32.const 1) (i32.const 0)", // a histogram
        "counter_add (i32.const 3) (i32.const 0)", // no such map
        "counter_add (i32.const -1) (i32.const 0)",
        "hist_add (i32.const 1) (i32.const 2)",
        "hist_add (i32.const 1) (i32.const -1)",
        "hist_add (i32.const 0) (i32.const 0)", // a counter
        "hist_add (i32.const 9) (i32.const 0)",
    ] {
        let mut rig = three().start(&on_hit(&format!("(call ${call} (i64.const 1))")));
        rig.traps(TrapCode::HostCall);
        assert!(all_words(&rig).iter().all(|&w| w == 0), "{call}");
    }
    for call in ["hash_add", "hash_set"] {
        for map in [0, 1, 3, -1] {
            let code =
                format!("(drop (call ${call} (i32.const {map}) (i32.const 0) (i32.const 1) (i64.const 1)))");
            let mut rig = three().start(&on_hit(&code));
            rig.traps(TrapCode::HostCall);
            assert!(all_words(&rig).iter().all(|&w| w == 0), "{call} {map}");
        }
    }
    three()
        .start(&on_hit("(drop (call $hash_get (i32.const 0) (i32.const 0) (i32.const 1)))"))
        .traps(TrapCode::HostCall);
}

/// A probe whose key is the first argument: as many bytes of it as the second says. It tells what the call answered.
fn keyed(call: &str, value: &str) -> String {
    let answer = format!(
        "(call ${call} (i32.const 0) (i32.const 0) (i32.wrap_i64 (call $arg (i32.const 1))) {value})"
    );
    let answer = if call == "hash_get" { answer } else { format!("(i64.extend_i32_s {answer})") };
    module(&format!(
        r#"(func (export "on_hit") (i64.store (i32.const 0) (call $arg (i32.const 0)))
           (i64.store (i32.const 64) {answer}) (call $emit (i32.const 0) (i32.const 64) (i32.const 8)))"#
    ))
}

/// One hit with this key.
fn hit_with(rig: &mut Rig, key: u64, len: u64) -> u64 {
    rig.frame.rdi = key;
    rig.frame.rsi = len;
    rig.told()
}

fn table(entries: u32, key_bytes: u32) -> Setup {
    Setup { maps: vec![(MapKind::Hash, entries, key_bytes)], ..Setup::default() }
}

#[test]
fn a_hash_map_sums_by_key_and_tells_lengths_apart() {
    let mut rig = table(16, 8).start(&keyed("hash_add", "(i64.const 10)"));
    for (key, len) in [(0x61, 1), (0x62, 1), (0x61, 1), (0x61, 2), (0, 0), (0x61, 8)] {
        assert_eq!(hit_with(&mut rig, key, len), 0);
    }
    let wanted: [(&[u8], u64); 5] =
        [(b"", 10), (b"a", 20), (b"a\0", 10), (b"a\0\0\0\0\0\0\0", 10), (b"b", 10)];
    assert_eq!(rig.rows(0), wanted.map(|(key, n)| (key.to_vec(), n)));
    assert_eq!((rig.word(0, 0), rig.word(0, 1)), (5, 0), "used, dropped");
}

#[test]
fn a_value_is_set_and_read_back() {
    let code = "(drop (call $hash_set (i32.const 0) (i32.const 0) (i32.const 4) (i64.const 77)))
        (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 4) (i64.const -2)))";
    let get = "(call $hash_get (i32.const 0) (i32.const 0) (i32.const 4))";
    let mut rig = table(16, 4).start(&on_hit(&format!(
        "(i64.store (i32.const 64) {get}) {code} (i64.store (i32.const 72) {get})
         (call $emit (i32.const 0) (i32.const 64) (i32.const 16))"
    )));
    assert_eq!(rig.hit(), Outcome::Executed);
    let payload = rig.payload();
    assert_eq!(payload[..8], 0u64.to_le_bytes(), "absent");
    assert_eq!(payload[8..], 75u64.to_le_bytes());
}

#[test]
fn looking_a_key_up_does_not_make_it() {
    let mut rig = table(16, 8).start(&keyed("hash_get", ""));
    assert_eq!(hit_with(&mut rig, 1, 8), 0);
    assert!(rig.rows(0).is_empty());
    assert_eq!(rig.word(0, 0), 0, "used");
}

#[test]
fn a_full_table_answers_enospc_and_counts_what_it_dropped() {
    let mut rig = table(16, 8).start(&keyed("hash_add", "(i64.const 1)"));
    for key in 0..16 {
        assert_eq!(hit_with(&mut rig, key, 8), 0, "{key}");
    }
    for key in 16..20 {
        assert_eq!(hit_with(&mut rig, key, 8), i64::from(ENOSPC).cast_unsigned(), "{key}");
    }
    assert_eq!(hit_with(&mut rig, 3, 8), 0, "a key that is there is still found");
    let wanted: Vec<(Vec<u8>, u64)> =
        (0..16u64).map(|key| (key.to_le_bytes().to_vec(), if key == 3 { 2 } else { 1 })).collect();
    assert_eq!(rig.rows(0), wanted);
    assert_eq!((rig.word(0, 0), rig.word(0, 1)), (16, 4), "used, dropped");
}

#[test]
fn a_large_table_holds_what_it_says_before_it_drops() {
    // Sixteen steps of probing: up to half full a table of 1024 must not lose a key.
    let mut rig = table(1024, 8).start(&keyed("hash_add", "(i64.const 1)"));
    for key in 0..512 {
        assert_eq!(hit_with(&mut rig, key, 8), 0, "{key}");
    }
    assert_eq!(rig.rows(0).len(), 512);
    assert_eq!((rig.word(0, 0), rig.word(0, 1)), (512, 0), "used, dropped");
}

#[test]
fn a_key_longer_than_the_map_allows_traps() {
    for (key_bytes, len) in [(8, 9), (1, 2), (0, 1), (KEY_MAX, KEY_MAX + 1), (12, 16)] {
        for call in ["hash_add", "hash_set", "hash_get"] {
            let value = if call == "hash_get" { "" } else { "(i64.const 1)" };
            let code = |len: u32| {
                format!("(drop (call ${call} (i32.const 0) (i32.const 0) (i32.const {len}) {value}))")
            };
            let mut rig = table(16, key_bytes).start(&on_hit(&code(len)));
            rig.traps(TrapCode::HostCall);
            assert!(rig.rows(0).is_empty(), "{call} {key_bytes}");
            let mut rig = table(16, key_bytes).start(&on_hit(&code(key_bytes)));
            assert_eq!(rig.hit(), Outcome::Executed, "{call} {key_bytes}");
        }
    }
}

#[test]
fn a_key_of_full_length_does_not_touch_the_next_slot() {
    // Keys of twelve bytes are padded to sixteen; all slots are in use, so every neighbour is checked.
    let setup = table(16, 12);
    let mut rig = setup.start(&on_hit(
        "(i64.store (i32.const 0) (call $arg (i32.const 0))) (i32.store (i32.const 8) (i32.const -1))
         (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 12) (i64.const 1)))",
    ));
    for key in 0..16u64 {
        rig.frame.rdi = key;
        assert_eq!(rig.hit(), Outcome::Executed);
    }
    let wanted: Vec<(Vec<u8>, u64)> =
        (0..16u64).map(|key| ([&key.to_le_bytes()[..], &[0xff; 4]].concat(), 1)).collect();
    assert_eq!(rig.rows(0), wanted);
}

#[test]
fn maps_without_entries_or_of_no_kind_hold_nothing() {
    let mut empty = table(0, 8).start(&tell(
        "(i64.extend_i32_s (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))",
    ));
    // A table of no entries is not made by the host; if it were, its head still counts what was dropped.
    assert_eq!(empty.told(), i64::from(ENOSPC).cast_unsigned());
    assert_eq!(empty.word(0, 1), 1, "dropped");
    let mut none = Setup { maps: vec![(MapKind::Counter, 0, 0)], ..Setup::default() }
        .start(&on_hit("(call $counter_add (i32.const 0) (i32.const 0) (i64.const 1))"));
    none.traps(TrapCode::HostCall);
}
