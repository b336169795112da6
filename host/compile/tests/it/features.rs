//! Features: each refused one by its name, each accepted one (GUESTS.md, G1).

use trocar_compile::Reason;

use crate::{accepted, refused, wasm};

#[test]
fn each_refused_feature_is_named_with_the_way_out() {
    for (text, name, way) in [
        ("(func (drop (i32x4.splat (i32.const 1))))", "uses SIMD,", "-mno-simd128"),
        (
            "(func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))))",
            "uses relaxed SIMD,",
            "-mno-relaxed-simd",
        ),
        ("(memory 1 1 shared)", "uses threads", "-mno-atomics"),
        (
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
            "uses threads",
            "-Ctarget-feature=-atomics",
        ),
        ("(func $f (return_call $f))", "uses tail calls,", "-mno-tail-call"),
        ("(tag $t) (func (throw $t))", "uses exceptions,", "-fno-exceptions"),
        ("(tag $t) (func try catch $t end)", "uses legacy exceptions,", "-fno-exceptions"),
        ("(type (struct (field i32)))", "uses garbage collection,", "linear memory"),
        ("(memory i64 1)", "uses memory64,", "wasm32"),
        ("(memory 1) (memory 1)", "uses multi-memory,", "-mno-multimemory"),
        (
            "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
            "uses function references,",
            "call_indirect",
        ),
        (
            "(type $f (func)) (type $c (cont $f)) (func (param (ref $c)))",
            "uses stack switching,",
            "continuations",
        ),
        ("(func (result externref) (ref.null extern))", "uses reference types,", "-mno-reference-types"),
        ("(table 1 funcref) (table 1 funcref)", "uses reference types,", "-Ctarget-feature=-reference-types"),
        ("(memory 1 (pagesize 1))", "uses custom page sizes,", "64 KiB"),
        (
            "(func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))",
            "uses wide arithmetic,",
            "-mno-wide-arithmetic",
        ),
    ] {
        let text = format!("(module {text} (func (export \"on_hit\")))");
        refused(&wasm(&text), Reason::Feature, name, way);
    }
}

#[test]
fn several_features_are_all_named() {
    let bytes =
        wasm("(module (memory 1 1 shared) (func $f (drop (i32x4.splat (i32.const 1))) (return_call $f)))");
    let e = trocar_compile::verify(&bytes).unwrap_err();
    for name in ["threads", "SIMD", "tail calls"] {
        assert!(e.message.contains(name), "{e}");
    }
}

#[test]
fn what_compilers_emit_by_default_is_accepted_and_named() {
    let bulk = "(data \"x\") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop 0))";
    for (text, names) in [
        ("(func (drop (i32.add (i32.const 1) (i32.const 2))))", &[] as &[&str]),
        ("(global (export \"g\") (mut i32) (i32.const 0))", &["mutable globals"]),
        ("(func (drop (i32.extend8_s (i32.const 1))))", &["sign extension"]),
        ("(func (drop (i32.trunc_sat_f64_s (f64.const 1))))", &["saturating conversions", "floats"]),
        (&format!("(memory 1) {bulk}"), &["bulk memory"]),
        ("(memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 1)))", &["bulk memory"]),
        ("(func (result i32 i32) (i32.const 1) (i32.const 2))", &["multi-value"]),
        ("(func (block (result i32 i64) (i32.const 1) (i64.const 2)) (drop) (drop))", &["multi-value"]),
        (
            "(global $a i32 (i32.const 1)) (global i32 (i32.add (i32.const 1) (i32.const 2)))",
            &["extended constants"],
        ),
    ] {
        let verified = accepted(&format!("(module {text} (func (export \"on_hit\")))"));
        assert_eq!(verified.features(), names, "{text}");
    }
}

#[test]
fn the_long_table_index_of_call_indirect_is_accepted() {
    let text = r#"(module (type $t (func)) (table 1 funcref) (func (export "on_hit")
        (call_indirect (type $t) (i32.const 0))))"#;
    let short = wasm(text);
    // call_indirect, type 0, table 0: written in five bytes as wasm-ld does, in a section and a function
    // that are four bytes longer.
    let at = short.windows(3).position(|w| w == [0x11, 0, 0]).unwrap();
    let mut long = short.clone();
    long.splice(at + 2..at + 3, [0x80, 0x80, 0x80, 0x80, 0]);
    let code = short.windows(2).rposition(|w| w == [10, 9]).unwrap();
    assert_eq!(long[code..code + 4], [10, 9, 1, 7], "code section of 9 bytes, one function of 7");
    long[code + 1] += 4;
    long[code + 3] += 4;
    let verified = trocar_compile::verify(&long).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(verified.features(), ["long table index"]);
}
