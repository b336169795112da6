//! What is no module.

use trocar_compile::Reason;

use crate::{refused, wasm};

#[test]
fn components_are_told_from_modules() {
    refused(b"\0asm\x0d\0\x01\0", Reason::Component, "component, not a core module", "core module");
    let component = wat::parse_str("(component (core module))").unwrap();
    refused(&component, Reason::Component, "component", "wasm32-unknown-unknown");
}

#[test]
fn text_is_told_from_binaries() {
    for text in
        ["(module)", "  \n(module (func))", ";; a comment\n(module)", "(; c ;) (module)", "(component)"]
    {
        refused(text.as_bytes(), Reason::Text, "WebAssembly text", "trocar build");
    }
}

#[test]
fn other_files_are_named() {
    refused(b"", Reason::NotWasm, "empty", "trocar new");
    refused(b"\x7fELF\x02\x01", Reason::NotWasm, "ELF file", "");
    refused(b"PK\x03\x04", Reason::NotWasm, "zip", "");
    refused(b"\x1f\x8b\x08", Reason::NotWasm, "gzip", "");
    refused(b"fn main() {}", Reason::NotWasm, "does not start with \\0asm", "");
}

#[test]
fn damaged_headers_and_bodies_are_malformed() {
    refused(b"\0asm", Reason::Malformed, "ends after its first bytes", "again");
    refused(b"\0asm\x02\0\0\0", Reason::Malformed, "version 2", "");
    refused(b"\0asm\x01\0\0\0\x01", Reason::Malformed, "offset 0x", "again");
    let mut bytes = wasm(r#"(module (func (export "on_hit") (drop (i32.const 1))))"#);
    // The drop becomes a nop, so that a value is left.
    let end = bytes.len() - 2;
    assert_eq!(std::mem::replace(&mut bytes[end], 1), 0x1a);
    refused(&bytes, Reason::Malformed, "not valid at offset", "");
}
