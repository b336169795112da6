//! Every call that takes a pointer, at the edges of linear memory: the whole range lies within, or the call traps and
//! has done nothing.

use trocar_abi::import::IMPORTS;
use trocar_abi::map::MapKind;
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Fake, Rig, Setup, WASM_PAGE, on_hit};

/// Bytes of memory of the modules here.
const END: u32 = 65_536;

/// The call with this pointer and length, its result dropped; `None` for a call that takes no pointer.
fn call(name: &str, at: u32, len: u32) -> Option<String> {
    let range = format!("(i32.const {}) (i32.const {})", at.cast_signed(), len.cast_signed());
    Some(match name {
        "emit" | "log" => format!("(call ${name} (i32.const 0) {range})"),
        "hash_add" | "hash_set" => format!("(drop (call ${name} (i32.const 0) {range} (i64.const 1)))"),
        "hash_get" | "param_str" => format!("(drop (call ${name} (i32.const 0) {range}))"),
        "read" | "read_str" => format!("(drop (call ${name} (i64.const 0x5000) {range}))"),
        "arg" | "counter_add" | "cpu" | "function" | "hist_add" | "span_ns" | "param" | "reg" | "ret"
        | "site" | "tid" | "time_ns" => {
            return None;
        }
        _ => panic!("{name} is new: say here whether it takes a pointer"),
    })
}

fn setup() -> Setup {
    Setup {
        maps: vec![(MapKind::Hash, 16, 256)],
        params: vec![4],
        strings: b"text".to_vec(),
        target: Fake { memory: vec![(0x5000, b"seventeen letters".repeat(500))], ..Fake::default() },
        ..Setup::default()
    }
}

fn with(name: &str, at: u32, len: u32) -> Option<(Rig, Outcome)> {
    let mut rig = setup().start(&on_hit(&call(name, at, len)?));
    let outcome = rig.hit();
    Some((rig, outcome))
}

fn each(check: impl Fn(&str)) {
    let mut pointers = 0;
    for import in IMPORTS {
        if call(import.name, 0, 0).is_some() {
            pointers += 1;
            check(import.name);
        }
    }
    assert_eq!(pointers, 8, "calls that take a pointer");
}

#[test]
fn a_range_that_ends_with_memory_is_good() {
    each(|name| {
        for len in [1, 7, 8, 16] {
            let (_, outcome) = with(name, END - len, len).unwrap();
            assert_eq!(outcome, Outcome::Executed, "{name} {len}");
        }
    });
}

#[test]
fn a_range_that_crosses_the_end_traps_and_does_nothing() {
    each(|name| {
        for (at, len) in [(END - 1, 2), (END - 16, 17), (END, 1), (END + 1, 1), (0, END + 1), (1 << 31, 8)] {
            let (mut rig, outcome) = with(name, at, len).unwrap();
            assert_eq!(outcome, Outcome::Trapped(TrapCode::HostCall), "{name} {at}+{len}");
            assert!(rig.records().is_empty(), "{name} {at}+{len}");
            assert!(rig.rows(0).is_empty(), "{name} {at}+{len}");
            assert!(rig.target.reads.lock().unwrap().is_empty(), "{name} {at}+{len}");
        }
    });
}

#[test]
fn a_range_that_wraps_around_32_bits_traps() {
    // As a sum of 32 bits each of these would be a range at the start of memory.
    each(|name| {
        for (at, len) in
            [(u32::MAX, 1), (u32::MAX, 2), (0xffff_fff8, 16), (8, u32::MAX - 3), (u32::MAX, u32::MAX)]
        {
            let (mut rig, outcome) = with(name, at, len).unwrap();
            assert_eq!(outcome, Outcome::Trapped(TrapCode::HostCall), "{name} {at}+{len}");
            assert!(rig.records().is_empty() && rig.rows(0).is_empty(), "{name} {at}+{len}");
        }
    });
}

#[test]
fn an_empty_range_is_good_up_to_the_end_of_memory_and_no_further() {
    each(|name| {
        for at in [0, 1, END - 1, END] {
            assert_eq!(with(name, at, 0).unwrap().1, Outcome::Executed, "{name} {at}");
        }
        for at in [END + 1, u32::MAX] {
            let outcome = with(name, at, 0).unwrap().1;
            assert_eq!(outcome, Outcome::Trapped(TrapCode::HostCall), "{name} {at}");
        }
    });
}

#[test]
fn memory_that_grew_counts() {
    each(|name| {
        let text = format!("(drop (memory.grow (i32.const 1))) {}", call(name, END, 64).unwrap());
        let mut rig = Setup { memory_max: 2 * WASM_PAGE, ..setup() }.start(&on_hit(&text));
        assert_eq!(rig.hit(), Outcome::Executed, "{name}");
    });
}

#[test]
fn without_an_exported_memory_a_pointer_traps() {
    // The verifier refuses such a module; the sandbox does not rely on that.
    for memory in ["", "(memory 1)", r#"(memory (export "mem") 1)"#] {
        let mut rig = Rig::of(&format!(
            r#"(module (import "trocar" "emit" (func $emit (param i32 i32 i32))) {memory}
               (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 0))))"#
        ));
        rig.traps(TrapCode::HostCall);
    }
}
