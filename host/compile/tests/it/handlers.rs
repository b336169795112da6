//! Handlers, manifests, start functions and exports (GUESTS.md, G2 G3 G9).

use trocar_abi::import::MANIFEST_SECTION;
use trocar_compile::verify::{Options, verify_with};
use trocar_compile::{Reason, verify};
use trocar_package::{Manifest, attach_section};

use crate::{accepted, refused, wasm};

fn with_handlers(text: &str, handlers: &str) -> Vec<u8> {
    let toml = format!("abi = 1\nname = 'p'\nhandlers = [{handlers}]\n");
    attach_section(&wasm(text), &Manifest::from_toml(&toml).unwrap()).unwrap()
}

#[test]
fn without_manifest_the_handler_is_on_hit() {
    let bytes = wasm(r#"(module (func (export "on_hit") (result i32) (i32.const 1)))"#);
    let verified = verify_with(&bytes, &Options { name: Some("my-probe"), ..Options::default() }).unwrap();
    assert_eq!((verified.manifest.name.as_str(), verified.has_manifest), ("my-probe", false));
    assert_eq!(verified.handlers.len(), 1);
    assert!(verified.handlers[0].returns_condition);
    assert_eq!(verified.wasm, bytes);
}

#[test]
fn handlers_come_in_the_order_of_the_manifest() {
    let text = r#"(module (func (export "a")) (func (export "b") (result i32) (i32.const 1)))"#;
    let verified = verify(&with_handlers(text, "{name='b'},{name='a'}")).unwrap();
    let found: Vec<(&str, bool)> =
        verified.handlers.iter().map(|h| (h.name.as_str(), h.returns_condition)).collect();
    assert_eq!(found, [("b", true), ("a", false)]);
    assert!(verified.has_manifest);
}

#[test]
fn a_missing_handler_lists_exports_of_the_right_type() {
    let text = r#"(module (memory (export "memory") 1) (func (export "on_hitt")) (func (export "other") (result i32) (i32.const 1))
        (func (export "helper") (param i32)) (func (export "_initialize")))"#;
    refused(
        &wasm(text),
        Reason::Handler,
        "no handler `on_hit`, which a module without manifest has",
        "on_hitt, other;",
    );
    refused(&wasm(text), Reason::Handler, "did you mean `on_hitt`?", "");
    refused(
        &with_handlers(text, "{name='on_call'}"),
        Reason::Handler,
        "`on_call`, which the manifest names",
        "",
    );
    refused(&wasm("(module)"), Reason::Handler, "no handler `on_hit`", "no export has that type");
}

#[test]
fn a_handler_of_the_wrong_type_shows_it() {
    let text = r#"(module (func (export "on_hit") (param i32 i64) (result i64) (i64.const 0)))"#;
    refused(&wasm(text), Reason::Handler, "of type (i32, i64) -> (i64)", "with `arg`");
    let memory = r#"(module (memory (export "on_hit") 1))"#;
    refused(&wasm(memory), Reason::Handler, "no handler `on_hit`", "");
}

#[test]
fn wrong_and_newer_manifests_are_refused() {
    let with_section = |json: &str| {
        let mut bytes = wasm(r#"(module (func (export "on_hit")))"#);
        let section =
            wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data: json.as_bytes().into() };
        wasm_encoder::Section::append_to(&section, &mut bytes);
        bytes
    };
    refused(&with_section(r#"{"abi":2,"name":"p"}"#), Reason::NewerAbi, "ABI version 2", "update trocar");
    refused(&with_section(r#"{"name":"p"}"#), Reason::Manifest, "field `abi`: missing", "abi = 1");
    refused(&with_section(r#"{"abi":1,"name":"p","x":1}"#), Reason::Manifest, "field `x`", "");
}

#[test]
fn start_functions_and_initialize_are_noted() {
    let verified =
        accepted(r#"(module (func $s) (start $s) (func (export "_initialize")) (func (export "on_hit")))"#);
    assert!(verified.has_start && verified.runs_once == Some("_initialize"));
    let once = |v: &trocar_compile::Verified| {
        v.report().into_iter().find(|(label, _)| *label == "runs once before").map(|(_, text)| text)
    };
    assert_eq!(
        once(&verified).as_deref(),
        Some("start function, then _initialize: metered, cut at 10000000 fuel")
    );
    let plain = accepted(r#"(module (func (export "on_hit")))"#);
    assert_eq!((plain.has_start, plain.runs_once, once(&plain)), (false, None, None));
    let ctors = accepted(r#"(module (func (export "__wasm_call_ctors")) (func (export "on_hit")))"#);
    assert_eq!(once(&ctors).as_deref(), Some("__wasm_call_ctors: metered, cut at 10000000 fuel"));
    let both = r#"(module (func (export "__wasm_call_ctors")) (func (export "_initialize")) (func (export "on_hit")))"#;
    assert_eq!(accepted(both).runs_once, Some("_initialize"), "it calls the constructors itself");
}

#[test]
fn extra_exports_are_normal() {
    accepted(
        r#"(module (memory (export "memory") 1) (table (export "__indirect_function_table") 1 funcref)
            (global (export "__data_end") i32 (i32.const 1024)) (global (export "__heap_base") i32 (i32.const 2048))
            (global (export "__stack_pointer") (mut i32) (i32.const 0))
            (func (export "stackAlloc") (param i32) (result i32) (local.get 0)) (func (export "on_hit")))"#,
    );
}

#[test]
fn a_host_call_is_no_handler() {
    // Its type would do: `() -> (i32)`.
    let text = r#"(module (import "trocar" "cpu" (func $cpu (result i32))) (export "on_hit" (func $cpu)))"#;
    refused(&wasm(text), Reason::Handler, "`on_hit` is a host call", "a function that calls it");
}
