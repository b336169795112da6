//! Which features are on: those that guest compilers need, and no other.

use wasmtime::Module;

use crate::rig::ENGINE;

fn compiles(text: &str) -> bool {
    let wasm = wat::parse_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    Module::new(&ENGINE, wasm).is_ok()
}

#[test]
fn what_guest_compilers_emit_is_accepted() {
    for text in [
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))))",
        "(module (memory 1) (data $d \"x\") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)))",
        "(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))",
        "(module (func (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0))))",
        "(module (func (result i32 i64) (i32.const 0) (i64.const 0)))",
        "(module (global (export \"g\") (mut i32) (i32.const 0)))",
        "(module (global $a i32 (i32.const 1)) (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    ] {
        assert!(compiles(text), "{text}");
    }
}

#[test]
fn everything_else_is_refused() {
    for text in [
        "(module (func (drop (v128.const i32x4 0 0 0 0))))",
        "(module (memory 1 1 shared))",
        "(module (memory i64 1))",
        "(module (memory 1) (memory 1))",
        "(module (func $f (return_call $f)))",
        "(module (table 1 externref))",
        "(module (table $t 1 funcref) (func (drop (table.size $t))))",
        "(module (tag $e) (func (throw $e)))",
        "(module (type (struct (field i32))))",
        "(module (func (param (ref func))))",
        "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        "(module (func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))",
        "(module (memory 1 (pagesize 1)))",
        "(component)",
    ] {
        assert!(!compiles(text), "{text}");
    }
}
