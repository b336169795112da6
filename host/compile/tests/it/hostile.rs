//! Damaged modules: refused or accepted, never a panic.

use trocar_compile::verify;
use trocar_package::{Manifest, attach_section};

use crate::wasm;

fn sample() -> Vec<u8> {
    let bytes = wasm(
        r#"(module (type $t (func (param i32) (result i32)))
            (import "trocar" "arg" (func $arg (param i32) (result i64)))
            (import "trocar" "hash_add" (func $add (param i32 i32 i32 i64) (result i32)))
            (memory (export "memory") 1 2) (table 2 funcref) (elem (i32.const 0) $f) (global (mut i32) (i32.const 7))
            (data (i32.const 8) "data") (data "passive")
            (func $f (type $t) (local i64 f64) (if (result i32) (local.get 0) (then (i32.const 1)) (else (i32.const 2))))
            (func $init) (start $init) (func (export "_initialize"))
            (func (export "on_hit") (result i32) (local $n i32)
                (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 3))
                (block (loop (br_if 1 (i32.eqz (local.get $n))) (br 0)))
                (drop (call $add (i32.const 0) (i32.const 8) (i32.const 4) (call $arg (i32.const 0))))
                (br_table 0 0 (call_indirect (type $t) (i32.const 1) (i32.const 0)) (i32.const 0))))"#,
    );
    let manifest = Manifest::from_toml(
        "abi=1\nname='p'\nmaps=[{name='m',kind='hash',key=[{name='k',type='str',bytes=4}]}]\n",
    )
    .unwrap();
    attach_section(&bytes, &manifest).unwrap()
}

#[test]
fn the_sample_itself_is_accepted() {
    let v = verify(&sample()).unwrap_or_else(|e| panic!("{e}"));
    assert!(v.has_start && v.runs_once.is_some() && v.uses_floats && v.has_manifest);
}

#[test]
fn truncations_are_refused_or_lose_whole_sections() {
    let bytes = sample();
    for end in 0..bytes.len() {
        if let Ok(v) = verify(&bytes[..end]) {
            assert!(!v.has_manifest, "the manifest is the last section");
        }
    }
}

#[test]
fn single_bit_flips_never_panic() {
    let bytes = sample();
    let (mut good, mut bad) = (0, 0);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            match verify(&flipped) {
                Ok(v) => {
                    assert!(!v.handlers.is_empty());
                    assert!(!v.report().is_empty());
                    good += 1;
                }
                Err(e) => {
                    assert!(!e.message.is_empty() && !e.message.contains(char::is_control), "{e:?}");
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 100 && bad > 1000, "{good} accepted, {bad} refused");
}

#[test]
fn double_damage_and_inserted_bytes_never_panic() {
    // A linear congruential sequence: the same damage in every run.
    let bytes = sample();
    let mut state = 12345u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3_000 {
        let mut damaged = bytes.clone();
        for _ in 0..3 {
            let at = next(damaged.len());
            match next(3) {
                0 => damaged[at] = u8::try_from(next(256)).unwrap(),
                1 => damaged.insert(at, u8::try_from(next(256)).unwrap()),
                _ => drop(damaged.remove(at)),
            }
        }
        if let Ok(v) = verify(&damaged) {
            assert!(!v.handlers.is_empty());
        }
    }
}
