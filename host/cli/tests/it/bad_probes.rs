//! Files that are no probes: each has its status and its message, for `check` and for `load` alike.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::run::run;

/// Checks and loads a file; both refuse it, before any target is looked at.
fn refused(name: &str, bytes: &[u8], words: &[&str]) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    refused_path(&path, words);
}

fn refused_path(path: &Path, words: &[&str]) {
    let path = path.to_str().unwrap();
    run(&["check", path]).failed(8, words);
    // No process has this number: that it is not what is told shows that the probe is judged first.
    run(&["load", path, "-p", "999999999", "--at", "work"]).failed(8, words);
}

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn bytes_that_are_no_module() {
    refused("p.wasm", b"", &["wasm"]);
    refused("p.wasm", b"\x7fELF and more", &["not", "wasm"]);
    refused("p.wasm", b"\0asm\x01\0\0\0\x01\xff", &[]);
    refused("p.wasm", b"\0asm\x0d\0\x01\0", &["component"]);
    refused("p.wasm", &vec![0; 5 << 20], &[]);
}

#[test]
fn text_where_a_module_should_be() {
    refused("p.wasm", b"(module)", &["text"]);
    refused("p.wat", b"(module\n  (func (export \"on_hit\") (i32.ad))\n)", &["p.wat:2", "unknown operator"]);
    refused("p.wat", b"(module \xff)", &["not UTF-8", "byte 8"]);
}

#[test]
fn modules_that_cannot_be_probes() {
    let handler = r#"(func (export "on_hit"))"#;
    refused("p.wasm", &module("(module)"), &["on_hit"]);
    refused(
        "p.wasm",
        &module(&format!(r#"(module (import "trocar" "nothing" (func)) {handler})"#)),
        &["nothing", "counter_add"],
    );
    refused(
        "p.wasm",
        &module(&format!(r#"(module (import "trocar" "override" (func)) {handler})"#)),
        &["override", "reserved"],
    );
    let wasi = format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32))) {handler})"#
    );
    refused("p.wasm", &module(&wasi), &["fd_read", "fd_write"]);
    refused(
        "p.wasm",
        &module(&format!(r#"(module (memory (export "memory") 500) {handler})"#)),
        &["500 pages", "--memory"],
    );
}

#[test]
fn manifests_that_do_not_fit() {
    let with = |json: &str| {
        let quoted = json.replace('"', "\\\"");
        module(&format!(r#"(module (func (export "on_hit")) (@custom "trocar.manifest" "{quoted}"))"#))
    };
    refused("p.wasm", &with(r#"{"name":"old"}"#), &["abi"]);
    refused("p.wasm", &with(r#"{"abi":2,"name":"new"}"#), &["abi", "2"]);
    refused("p.wasm", &with("nonsense"), &["manifest"]);
    refused("p.wasm", &with(r#"{"abi":1,"name":"other","handlers":[{"name":"on_his"}]}"#), &["on_his"]);
}

#[test]
fn files_that_are_not_there() {
    refused_path(Path::new("/no/such/probe.wasm"), &["/no/such/probe.wasm", "call-count"]);
    refused_path(TempDir::new().unwrap().path(), &[]);
    let folder = TempDir::new().unwrap();
    refused_path(folder.path(), &["folder", "trocar build"]);
}

/// A module within all limits of sizes that needs more memory than the compiler may have: thousands of variables, each
/// of which may have come from any of thousands of places.
fn hostile() -> Vec<u8> {
    let mut code = String::new();
    for n in 0..9_000 {
        let (from, to, also) = (n % 5000, (n * 7 + 1) % 5000, n * 13 % 5000);
        code += &format!(
            "(if (local.get {from}) (then (local.set {to} (i32.add (local.get {also}) (i32.const {n})))))"
        );
    }
    module(&format!(r#"(module (func (export "on_hit") (local {}) {code}))"#, "i32 ".repeat(5000)))
}

#[test]
fn a_module_that_the_compiler_cannot_master_ends_the_compiler_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("p.wasm");
    fs::write(&path, hostile()).unwrap();
    let path = path.to_str().unwrap();
    for verb in ["check", "test"] {
        run(&[verb, path]).failed(8, &["stopped", "1536 MiB of memory", "very large", "-Os"]);
    }
}
