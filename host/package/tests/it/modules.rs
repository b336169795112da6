//! Writing a manifest into a module, and modules that are none.

use trocar_package::{Manifest, ManifestError, attach_section};

use crate::reading::module;

const PROBE: &str = r#"(module (import "trocar" "tid" (func (result i32))) (memory (export "memory") 1)
    (func (export "on_hit")) (@custom "other" (after func) "kept"))"#;

#[test]
fn attaching_keeps_every_other_byte_and_is_idempotent() {
    let wasm = wat::parse_str(PROBE).unwrap();
    let manifest = Manifest::from_toml("abi = 1\nname = 'p'\n").unwrap();
    let once = attach_section(&wasm, &manifest).unwrap();
    assert_eq!(once[..wasm.len()], wasm[..]);
    assert_eq!(Manifest::from_module(&once), Ok(Some(manifest.clone())));
    assert_eq!(attach_section(&once, &manifest).unwrap(), once);
    wasmparser::validate(&once).unwrap();
}

#[test]
fn attaching_replaces_every_older_manifest() {
    let old = module(&[r#"{"abi":1,"name":"old"}"#, r#"{"handlers":[{"name":"x"}]}"#]);
    let new = Manifest::from_toml("abi = 1\nname = 'new'\n").unwrap();
    let wasm = attach_section(&old, &new).unwrap();
    assert_eq!(Manifest::from_module(&wasm), Ok(Some(new)));
}

#[test]
fn section_headers_with_padded_lengths_are_kept() {
    // A type section whose length is written in five bytes, as wasm-ld does.
    let wasm = b"\0asm\x01\0\0\0\x01\x84\x80\x80\x80\x00\x01\x60\x00\x00";
    let out = attach_section(wasm, &Manifest::default_for("p")).unwrap();
    assert_eq!(out[..wasm.len()], wasm[..]);
}

#[test]
fn components_text_and_rubbish_are_refused() {
    let m = Manifest::default_for("p");
    let component = b"\0asm\x0d\0\x01\0";
    for bytes in [&component[..], b"(module)", b"", b"\0asm", b"\x7fELF"] {
        assert!(matches!(attach_section(bytes, &m), Err(ManifestError::Module { .. })), "{bytes:?}");
        assert!(Manifest::from_module(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_manifest_out_of_bounds_is_not_attached() {
    let mut m = Manifest::default_for("p");
    m.name = "a/b".into();
    assert!(attach_section(&module(&[]), &m).unwrap_err().to_string().contains("field `name`"));
}

#[test]
fn damaged_modules_never_panic() {
    let good = attach_section(&wat::parse_str(PROBE).unwrap(), &Manifest::default_for("p")).unwrap();
    for i in 0..good.len() {
        let cut = Manifest::from_module(&good[..i]);
        assert!(cut.is_err() || cut == Ok(None), "cut at {i}");
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[i] ^= 1 << bit;
            if let Ok(again) = attach_section(&bytes, &Manifest::default_for("q")) {
                assert_eq!(Manifest::from_module(&again).unwrap().unwrap().name, "q");
            }
        }
    }
}
