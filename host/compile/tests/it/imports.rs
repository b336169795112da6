//! Imports: unknown names, wrong types, and what other worlds import (GUESTS.md, G6 G7 G8).

use trocar_abi::import::{Capability, IMPORTS, Ty};
use trocar_abi::shim::SHIM;
use trocar_compile::Reason;

use crate::{accepted, refused, wasm};

fn import(text: &str) -> Vec<u8> {
    wasm(&format!("(module {text} (memory (export \"memory\") 1) (func (export \"on_hit\")))"))
}

#[test]
fn every_host_call_is_accepted_with_its_type_and_gives_its_capability() {
    let name = |t: &Ty| if *t == Ty::I32 { "i32" } else { "i64" };
    for call in IMPORTS {
        let params: Vec<&str> = call.params.iter().map(name).collect();
        let result = call.result.as_ref().map_or(String::new(), |t| format!("(result {})", name(t)));
        let text = format!(
            "(module (import \"trocar\" \"{}\" (func (param {}) {result})) (memory (export \"memory\") 1)
             (func (export \"on_hit\")))",
            call.name,
            params.join(" ")
        );
        let verified = accepted(&text);
        assert_eq!(verified.capabilities, [call.capability]);
        assert_eq!(verified.imports[0].name, call.name);
        assert_eq!(verified.system_calls_per_call, call.system_calls);
    }
}

#[test]
fn capabilities_are_sorted_and_each_once() {
    let verified = accepted(
        r#"(module (import "trocar" "reg" (func (param i32) (result i64)))
            (import "trocar" "tid" (func (result i32))) (import "trocar" "arg" (func (param i32) (result i64)))
            (import "trocar" "tid" (func (result i32))) (func (export "on_hit")))"#,
    );
    assert_eq!(verified.capabilities, [Capability::Thread, Capability::Registers]);
    assert_eq!(verified.imports.iter().map(|i| i.name).collect::<Vec<_>>(), ["arg", "reg", "tid"]);
}

#[test]
fn an_unknown_name_lists_what_exists() {
    let bytes = import(r#"(import "trocar" "read_string" (func))"#);
    refused(&bytes, Reason::UnknownImport, "no `trocar.read_string`", "arg, counter_add, cpu, emit");
    refused(&bytes, Reason::UnknownImport, "did you mean `trocar.read_str`?", "");
    refused(
        &import(r#"(import "host" "arg" (func))"#),
        Reason::UnknownImport,
        "`host.arg`",
        "module `trocar` has",
    );
    refused(&import(r#"(import "env" "malloc" (func))"#), Reason::UnknownImport, "`env.malloc`", "");
}

#[test]
fn a_wrong_type_shows_both() {
    refused(
        &import(r#"(import "trocar" "arg" (func (param i64) (result i32)))"#),
        Reason::Signature,
        "imported as (i64) -> (i32), but is (i32) -> (i64)",
        "SDK",
    );
    refused(
        &import(r#"(import "trocar" "counter_add" (func (param i32 i32 i64) (result i32)))"#),
        Reason::Signature,
        "(i32, i32, i64) -> (i32), but is (i32, i32, i64) -> ()",
        "",
    );
}

#[test]
fn reserved_and_later_names_are_refused() {
    refused(&import(r#"(import "trocar" "override" (func))"#), Reason::Reserved, "reserved name", "remove");
    refused(
        &import(r#"(import "trocar:var" "order.total" (func (result i64)))"#),
        Reason::Variables,
        "not in this version",
        "`read`",
    );
}

#[test]
fn the_shim_is_accepted_with_its_types_and_gives_its_capabilities() {
    let name = |t: &Ty| if *t == Ty::I32 { "i32" } else { "i64" };
    for call in SHIM {
        let params: Vec<&str> = call.params.iter().map(name).collect();
        let result = call.result.as_ref().map_or(String::new(), |t| format!("(result {})", name(t)));
        let import = |result: &str| {
            let (module, name) = (call.module, call.name);
            import(&format!(r#"(import "{module}" "{name}" (func (param {}) {result}))"#, params.join(" ")))
        };
        let verified = trocar_compile::verify(&import(&result)).unwrap();
        assert_eq!((verified.imports[0].module, verified.imports[0].name), (call.module, call.name));
        assert_eq!(verified.capabilities, [call.capability]);
        assert_eq!((call.system_calls, verified.system_calls_per_call), (0, 0));
        refused(&import("(result f64)"), Reason::Signature, call.name, "PROBE-ABI.md");
    }
}

#[test]
fn all_else_of_wasi_is_refused_by_name_with_what_there_is() {
    let bytes = import(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
           (import "wasi_snapshot_preview1" "sock_send" (func))
           (import "wasi_snapshot_preview1" "fd_read" (func))"#,
    );
    refused(&bytes, Reason::Wasi, "probes do not have: fd_read, sock_send", "wasm32-unknown-unknown");
    refused(&bytes, Reason::Wasi, "", "of WASI there are args_get, args_sizes_get, clock_time_get");
    let without = wasm(
        r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) (func (export "on_hit")))"#,
    );
    refused(&without, Reason::Memory, "`wasi_snapshot_preview1.sched_yield`", "(export \"memory\")");
}

#[test]
fn only_functions_are_imported() {
    let memory = wasm(r#"(module (import "env" "memory" (memory 1)) (func (export "on_hit")))"#);
    refused(&memory, Reason::ImportedMemory, "`env.memory`", "--import-memory");
    let table = import(r#"(import "env" "table" (table 1 funcref))"#);
    refused(&table, Reason::ImportKind, "a table", "");
    let global = import(r#"(import "trocar" "arg" (global i32))"#);
    refused(&global, Reason::ImportKind, "a global", "");
}

#[test]
fn hostile_names_are_escaped_and_cut() {
    let long = "\\1b[2J".to_owned() + &"x".repeat(500);
    let e = trocar_compile::verify(&import(&format!(r#"(import "{long}" "{long}" (func))"#))).unwrap_err();
    assert!(e.message.len() < 300 && !e.message.contains('\u{1b}'), "{e}");
}
