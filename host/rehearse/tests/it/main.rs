//! Rehearsals: the sandbox and the collector together, outside any target. The command around them is tested in
//! `host/cli`.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use trocar_collect::{Decoded, NamedRow};
use trocar_package::{Manifest, ParamValue};
use trocar_rehearse::{HOSTILE, HitError, Outcome, Probe, RecordedHit, Rehearsal, made_up};

/// A rehearsal of a probe in WAT whose manifest is this TOML.
fn rehearsal(text: &str, toml: &str, params: &[ParamValue]) -> Rehearsal {
    let wasm = wat::parse_str(text).unwrap();
    let manifest = Manifest::from_toml(&format!("abi = 1\nname = \"test\"\n{toml}")).unwrap();
    let probe = Probe { wasm: &wasm, manifest: &manifest, params, fuel: 10_000, memory_bytes: 1 << 20 };
    Rehearsal::new(&probe).unwrap()
}

fn hit(json: &str) -> RecordedHit {
    RecordedHit::from_json(json).unwrap()
}

const READER: &str = r#"(module
    (import "trocar" "arg" (func $arg (param i32) (result i64)))
    (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
    (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
    (memory (export "memory") 1 1)
    (func (export "on_hit") (result i32) (local $n i32)
      (local.set $n (call $read_str (call $arg (i32.const 0)) (i32.const 0) (i32.const 32)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (i32.const 0))))
      (drop (call $hash_add (i32.const 0) (i32.const 0) (local.get $n) (i64.const 1)))
      (i32.const 1)))"#;
const NAMES: &str = r#"
    [[maps]]
    name = "names"
    kind = "hash"
    key = [{ name = "name", type = "str", bytes = 32 }]"#;

#[test]
fn memory_of_a_hit_is_read_and_everything_else_is_unreadable() {
    let mut rehearsal = rehearsal(READER, NAMES, &[]);
    let get = hit(
        r#"{"args":["0x5000"],"memory":[{"address":"0x5000","hex":"67657400 0000000000000000000000000000000000000000000000000000000000"}]}"#,
    );
    for _ in 0..3 {
        let result = rehearsal.hit(&get).unwrap();
        assert_eq!((result.outcome, result.reads), (Outcome::Executed, 1));
    }
    let elsewhere = rehearsal.hit(&hit(r#"{"args":["0x5001"]}"#)).unwrap();
    assert_eq!(elsewhere.outcome, Outcome::ConditionFalse, "the memory of the hit before is gone");
    let maps = rehearsal.maps();
    let Some(NamedRow::Keyed { key, value: 3 }) = maps[0].rows.first() else { panic!("{maps:?}") };
    assert_eq!(format!("{key:?}"), r#"[("name", Text("get"))]"#);
}

#[test]
fn fuel_is_told_and_cut() {
    let loops = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64))) (func (export "on_hit") (local $i i64)
        (loop (br_if 0 (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (call $arg (i32.const 0)))))))"#;
    let mut rehearsal = rehearsal(loops, "", &[]);
    let few = rehearsal.hit(&hit(r#"{"args":[1]}"#)).unwrap().fuel;
    let more = rehearsal.hit(&hit(r#"{"args":[101]}"#)).unwrap().fuel;
    assert!(more > few + 100, "{few} {more}");
    let cut = rehearsal.hit(&hit(r#"{"args":[100000]}"#)).unwrap();
    assert!(matches!(cut.outcome, Outcome::Trapped(_)) && cut.fuel == 10_000, "{cut:?}");
    assert_eq!(rehearsal.hit(&hit(r#"{"args":[1]}"#)).unwrap().fuel, few, "the next hit has its own fuel");
}

#[test]
fn events_logs_and_parameters_come_through() {
    let text = r#"(module
        (import "trocar" "param" (func $param (param i32) (result i64)))
        (import "trocar" "param_str" (func $param_str (param i32 i32 i32) (result i32)))
        (import "trocar" "time_ns" (func $time (result i64)))
        (import "trocar" "emit" (func $emit (param i32 i32 i32)))
        (import "trocar" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1 1)
        (func (export "on_hit")
          (i64.store (i32.const 0) (call $param (i32.const 0)))
          (i64.store (i32.const 8) (call $time))
          (call $emit (i32.const 0) (i32.const 0) (i32.const 16))
          (call $log (i32.const 0) (i32.const 64) (call $param_str (i32.const 1) (i32.const 64) (i32.const 16)))))"#;
    let toml = r#"
        [[params]]
        name = "limit"
        type = "int"
        [[params]]
        name = "word"
        type = "str"
        [[events]]
        name = "seen"
        fields = [{ name = "limit", type = "i64" }, { name = "at", type = "u64" }]"#;
    let mut rehearsal = rehearsal(text, toml, &[ParamValue::Int(-5), ParamValue::Str("hello".into())]);
    let result = rehearsal.hit(&hit(r#"{"time_ns":77}"#)).unwrap();
    let Decoded::Event { name, fields } = &result.records[0] else { panic!("{result:?}") };
    assert_eq!(
        (name.as_str(), format!("{fields:?}")),
        ("seen", r#"[("limit", Int(-5)), ("at", Uint(77))]"#.to_owned())
    );
    assert_eq!(result.records[1], Decoded::Log { level: "error", message: "hello".into() });
}

#[test]
fn made_up_hits_differ_and_their_pointers_lead_to_text() {
    assert_ne!(made_up(1), made_up(2));
    let text = r#"(module
        (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
        (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
        (import "trocar" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1 1)
        (func (export "on_hit")
          (drop (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 8)))
          (call $log (i32.const 2) (i32.const 8) (call $read_str (i64.load (i32.const 0)) (i32.const 8) (i32.const 64)))))"#;
    let result = rehearsal(text, "", &[]).hit(&made_up(0)).unwrap();
    assert_eq!(result.records, [Decoded::Log { level: "info", message: "made-up".into() }], "{result:?}");
    assert_eq!(result.reads, 2);
}

#[test]
fn a_page_of_which_a_hit_has_a_byte_is_mapped_and_zero_elsewhere() {
    let text = r#"(module
        (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
        (import "trocar" "hist_add" (func $hist_add (param i32 i32 i64)))
        (memory (export "memory") 1 1)
        (func (export "on_hit") (result i32)
          (if (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 8)) (then (return (i32.const 0))))
          (call $hist_add (i32.const 0) (i32.const 0) (i64.load (i32.const 0)))
          (i32.const 1)))"#;
    let mut rehearsal = rehearsal(text, "[[maps]]\nname = \"seen\"\nkind = \"hist\"", &[]);
    let memory = r#""memory":[{"address":"0x5ffe","hex":"01ff"},{"address":"0x6000","hex":"02"}]"#;
    let mut outcome = |address: &str| {
        rehearsal.hit(&hit(&format!(r#"{{"args":["{address}"],{memory}}}"#))).unwrap().outcome
    };
    assert_eq!(outcome("0x5000"), Outcome::Executed, "all zero");
    assert_eq!(outcome("0x5ffe"), Outcome::Executed, "over the edge of two pages, both known: 0x2ff01");
    assert_eq!(outcome("0x6ff8"), Outcome::Executed);
    assert_eq!(outcome("0x6ff9"), Outcome::ConditionFalse, "the page behind is not there");
    assert_eq!(outcome("0x4fff"), Outcome::ConditionFalse, "nor the one before");
    assert_eq!(
        outcome("0xffffffffffffffff"),
        Outcome::ConditionFalse,
        "nor anything behind the last address"
    );
    let rows = rehearsal.maps().remove(0).rows;
    let counts: Vec<(u64, u64)> = rows
        .iter()
        .map(
            |row| {
                if let NamedRow::Bucket { lo, count, .. } = row { (*lo, *count) } else { panic!("{row:?}") }
            },
        )
        .collect();
    assert_eq!(counts, [(0, 2), (0x20000, 1)]);
}

#[test]
fn a_price_is_measured_unless_the_hit_traps() {
    let mut counts = rehearsal(r#"(module (func (export "on_hit")))"#, "", &[]);
    let price = counts.price(&made_up(0)).unwrap().unwrap();
    assert!(price > 0.0 && price < 1e6, "{price} ns");
    let mut traps = rehearsal(r#"(module (func (export "on_hit") unreachable))"#, "", &[]);
    assert_eq!(traps.price(&made_up(0)).unwrap(), None);
}

#[test]
fn what_cannot_be_run_is_told_with_the_reason() {
    let manifest = Manifest::default_for("test");
    let fails = |text: &str| {
        let wasm = wat::parse_str(text).unwrap();
        let probe =
            Probe { wasm: &wasm, manifest: &manifest, params: &[], fuel: 10_000, memory_bytes: 1 << 16 };
        Rehearsal::new(&probe).unwrap_err().to_string()
    };
    assert!(fails(r#"(module (import "env" "f" (func)) (func (export "on_hit")))"#).contains("env"));
    assert!(fails("(module)").contains("handler"));
    assert!(
        fails(r#"(module (func $s unreachable) (start $s) (func (export "on_hit")))"#)
            .contains("unreachable")
    );
    assert!(
        fails(r#"(module (func $s (loop (br 0))) (start $s) (func (export "on_hit")))"#).contains("fuel")
    );
    assert!(fails(r#"(module (memory 2) (func (export "on_hit")))"#).contains("memory"));
}

#[test]
fn a_hit_is_checked_when_it_is_read() {
    assert_eq!(RecordedHit::from_json(r#"{"args":[1,2,3,4,5,6,7]}"#), Err(HitError::Arguments(7)));
    assert_eq!(RecordedHit::from_json(r#"{"regs":{"ax":1}}"#), Err(HitError::Register("ax".into())));
    let negative = hit(r#"{"args":[-1],"regs":{"rip":"0xffffffffffffffff"}}"#);
    assert_eq!((negative.args[0].0, negative.regs["rip"].0), (u64::MAX, u64::MAX));
}

#[test]
fn hostile_hits_are_hits_and_the_same_in_every_run() {
    let mut names: Vec<&str> = HOSTILE.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), HOSTILE.len());
    let text = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (import "trocar" "read" (func $read (param i64 i32 i32) (result i32))) (memory (export "memory") 1)
        (func (export "on_hit") (result i32)
          (i32.eqz (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 64)))))"#;
    let mut rehearsal = rehearsal(text, "", &[]);
    for kind in HOSTILE {
        let mut readable = 0;
        for round in 0..16 {
            let hit = kind.hit("on_hit", round);
            assert_eq!(hit, kind.hit("on_hit", round), "{}", kind.name);
            readable += u32::from(rehearsal.hit(&hit).unwrap().outcome == Outcome::Executed);
        }
        // Whether 64 bytes can be read where the registers point: it is what the kinds are about.
        match kind.name {
            "null" | "all-ones" | "dangling" | "not-canonical" | "extremes" | "page-end" => {
                assert_eq!(readable, 0, "{}", kind.name);
            }
            "noise" => assert!((1..16).contains(&readable), "{readable}"),
            _ => assert_eq!(readable, 16, "{}", kind.name),
        }
    }
}
