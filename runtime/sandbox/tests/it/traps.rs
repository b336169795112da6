//! Each trap, by its code; and that the instance serves the next hit as if nothing had been.

use std::fs;

use trocar_abi::map::MapKind;
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Rig, Setup, WASM_PAGE, module, on_hit, tell_code};

/// A module whose handler runs `code` while the first argument is not zero, and always counts in its memory before.
/// Its second handler tells that count.
fn trapping(code: &str, rest: &str) -> String {
    let count = "(i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1)))";
    module(&format!(
        r#"{rest} (func $bad {code})
           (func (export "on_hit") {count} (if (i64.ne (call $arg (i32.const 0)) (i64.const 0)) (then (call $bad))))
           (func (export "count") {})"#,
        tell_code("(i64.load (i32.const 0))")
    ))
}

/// Checks that `code` traps like this, that memory is kept, and that the next hit runs.
fn traps(code: &str, rest: &str, want: TrapCode) {
    let setup = Setup { handlers: vec!["on_hit", "count"], fuel: 100_000, ..Setup::default() };
    let mut rig = setup.start(&trapping(code, rest));
    for _ in 0..3 {
        rig.frame.rdi = 1;
        assert_eq!(rig.hit(), Outcome::Trapped(want), "{code}");
        rig.frame.rdi = 0;
        assert_eq!(rig.hit(), Outcome::Executed, "after {code}");
    }
    assert_eq!(rig.hit_handler(1), Outcome::Executed);
    assert_eq!(rig.payload(), 6u64.to_le_bytes(), "hits counted in memory: {code}");
}

#[test]
fn unreachable() {
    traps("unreachable", "", TrapCode::Unreachable);
}

#[test]
fn division() {
    for (ty, op) in [("i32", "div_s"), ("i32", "div_u"), ("i32", "rem_s"), ("i64", "rem_u"), ("i64", "div_s")]
    {
        let code = format!("(drop ({ty}.{op} ({ty}.const 1) ({ty}.load (i32.const 1000))))");
        traps(&code, "", TrapCode::DivideByZero);
    }
    traps(
        "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 1000)) (i32.const 1))))",
        "",
        TrapCode::Integer,
    );
    traps(
        "(drop (i64.div_s (i64.const 0x8000000000000000) (i64.sub (i64.load (i32.const 1000)) (i64.const 1))))",
        "",
        TrapCode::Integer,
    );
}

#[test]
fn floats_that_are_no_integers() {
    for float in ["nan", "inf", "-inf", "1e30", "-1e30"] {
        for op in
            ["i32.trunc_f64_s (f64", "i64.trunc_f32_s (f32", "i32.trunc_f32_u (f32", "i64.trunc_f64_u (f64"]
        {
            traps(&format!("(drop ({op}.const {float})))"), "", TrapCode::Integer);
        }
    }
}

#[test]
fn memory_out_of_bounds() {
    for code in [
        "(drop (i32.load (i32.const 65533)))",
        "(drop (i64.load8_u (i32.const 65536)))",
        "(i64.store (i32.const 65529) (i64.const -1))",
        "(i32.store8 offset=65535 (i32.const 1) (i32.const 1))",
        "(drop (i32.load offset=0xffffffff (i32.const 0xffffffff)))",
        "(drop (i32.load (i32.const -4)))",
        "(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))",
        "(memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))",
        "(memory.copy (i32.const -1) (i32.const 0) (i32.const 2))",
    ] {
        traps(code, "", TrapCode::MemoryOutOfBounds);
    }
    traps(
        "(memory.init $d (i32.const 0) (i32.const 2) (i32.const 4))",
        r#"(data $d "four!")"#,
        TrapCode::MemoryOutOfBounds,
    );
}

#[test]
fn the_last_bytes_of_memory_are_there() {
    let mut rig = Rig::of(&on_hit(
        "(i64.store (i32.const 65528) (i64.const -1)) (drop (i32.load8_u offset=65535 (i32.const 0)))",
    ));
    assert_eq!(rig.hit(), Outcome::Executed);
}

#[test]
fn indirect_calls() {
    let rest = "(type $plain (func)) (type $other (func (param i64))) (table 4 funcref) (func $f) (elem (i32.const 1) $f)";
    let call = |ty: &str, arguments: &str, index: i64| {
        format!("(call_indirect (type ${ty}) {arguments} (i32.const {index}))")
    };
    traps(&call("plain", "", 0), rest, TrapCode::Table);
    traps(&call("plain", "", 4), rest, TrapCode::Table);
    traps(&call("plain", "", -1), rest, TrapCode::Table);
    traps(&call("other", "(i64.const 0)", 1), rest, TrapCode::BadSignature);
    let setup = Setup { handlers: vec!["on_hit", "count"], ..Setup::default() };
    let mut good = setup.start(&trapping(&call("plain", "", 1), rest));
    good.frame.rdi = 1;
    assert_eq!(good.hit(), Outcome::Executed);
}

#[test]
fn recursion_without_end_is_stopped_within_the_wasm_stack() {
    traps("(call $bad)", "", TrapCode::StackOverflow);
    // How deep it came: each frame holds at least a return address and a frame pointer, and the stack is 32 KiB.
    let deep = r#"(global $depth (mut i64) (i64.const 0))
        (func $down (global.set $depth (i64.add (global.get $depth) (i64.const 1))) (call $down))
        (func (export "on_hit") (call $down))"#;
    let tell = format!(r#"(func (export "count") {})"#, tell_code("(global.get $depth)"));
    let setup = Setup { handlers: vec!["on_hit", "count"], ..Setup::default() };
    let mut rig = setup.start(&module(&format!("{deep} {tell}")));
    rig.traps(TrapCode::StackOverflow);
    assert_eq!(rig.hit_handler(1), Outcome::Executed);
    let depth = u64::from_le_bytes(rig.payload().try_into().unwrap());
    assert!((100..=2048).contains(&depth), "{depth} frames");
}

#[test]
fn large_frames_are_stopped_as_well() {
    // Five hundred values that live across the call: far more than registers hold.
    let sets: String =
        (0..500).map(|i| format!("(local.set {i} (i64.load (i32.const {})))", i * 8)).collect();
    let sum: String = (0..500)
        .map(|i| format!("(i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (local.get {i})))"))
        .collect();
    traps(&format!("(local {}) {sets} (call $bad) {sum}", "i64 ".repeat(500)), "", TrapCode::StackOverflow);
}

#[test]
fn memory_that_grows_over_its_limit() {
    traps("(drop (memory.grow (i32.const 17)))", "", TrapCode::OverLimit);
    traps("(loop $l (drop (memory.grow (i32.const 1))) (br $l))", "", TrapCode::OverLimit);
}

#[test]
fn memory_grows_up_to_its_limit() {
    let grow = |memory: &str| {
        format!(
            r#"(module (import "trocar" "emit" (func $emit (param i32 i32 i32))) (memory (export "memory") {memory})
               (func (export "on_hit") {}))"#,
            tell_code("(i64.extend_i32_s (memory.grow (i32.const 1)))")
        )
    };
    let three = || Setup { memory_max: 3 * WASM_PAGE, ..Setup::default() };
    let mut rig = three().start(&grow("1"));
    assert_eq!([rig.told(), rig.told()], [1, 2], "pages before");
    rig.traps(TrapCode::OverLimit);
    // A maximum of the module's own is an answer, as the language says, not a trap.
    let mut rig = three().start(&grow("1 2"));
    assert_eq!([rig.told(), rig.told()], [1, u64::MAX]);
    // So is the greatest number of pages that there can be.
    let beyond = grow("1").replace("(memory.grow (i32.const 1))", "(memory.grow (i32.const -1))");
    assert_eq!(three().start(&beyond).told(), u64::MAX);
}

#[test]
fn grown_memory_is_kept_between_hits_and_is_zero() {
    let mut rig = Setup { memory_max: 2 * WASM_PAGE, ..Setup::default() }.start(&module(&format!(
        r#"(func (export "on_hit") (if (i32.eq (memory.size) (i32.const 1)) (then (drop (memory.grow (i32.const 1)))))
           {} (i64.store (i32.const 131064) (i64.const 5)))"#,
        tell_code("(i64.load (i32.const 131064))")
    )));
    assert_eq!([rig.told(), rig.told()], [0, 5]);
}

#[test]
fn host_calls_that_no_correct_probe_makes() {
    for code in [
        "(call $counter_add (i32.const 5) (i32.const 0) (i64.const 1))",
        "(call $emit (i32.const 0) (i32.const 65536) (i32.const 1))",
        "(call $log (i32.const 70000) (i32.const 0) (i32.const 1))",
        "(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 1)))",
    ] {
        traps(code, "", TrapCode::HostCall);
    }
}

#[test]
fn endless_loops() {
    traps("(loop $l (br $l))", "", TrapCode::OutOfFuel);
    traps("(loop $l (drop (call $time_ns)) (br $l))", "", TrapCode::OutOfFuel);
}

#[test]
fn globals_maps_and_records_of_before_the_trap_are_kept() {
    let mut rig =
        Setup { maps: vec![(MapKind::Counter, 1, 0)], ..Setup::default() }.start(&module(&format!(
            r#"(global $n (mut i64) (i64.const 0))
           (func (export "on_hit")
             (global.set $n (i64.add (global.get $n) (i64.const 1)))
             (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1))
             {} unreachable)"#,
            tell_code("(global.get $n)")
        )));
    for n in 1..=5u64 {
        rig.traps(TrapCode::Unreachable);
        assert_eq!(rig.payload(), n.to_le_bytes());
        assert_eq!(rig.word(0, 0), n);
    }
}

#[test]
fn a_handler_that_does_not_exist_is_a_trap() {
    let mut rig = Rig::of(&on_hit(""));
    assert_eq!(rig.hit_handler(1), Outcome::Trapped(TrapCode::Other));
    assert_eq!(rig.hit_handler(u32::MAX), Outcome::Trapped(TrapCode::Other));
}

/// Signals that this process has handlers for.
fn caught() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("SigCgt:")).unwrap().to_owned()
}

#[test]
fn no_trap_installs_a_signal_handler() {
    let before = caught();
    for code in
        ["unreachable", "(drop (i32.load (i32.const -4)))", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"]
    {
        let mut rig = Rig::of(&on_hit(code));
        assert!(matches!(rig.hit(), Outcome::Trapped(_)));
    }
    assert_eq!(caught(), before);
}
