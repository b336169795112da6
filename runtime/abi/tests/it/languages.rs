//! The declarations for Zig, AssemblyScript and Go, one line each.

use crate::calls::assert_is_table;
use crate::{Call, file};

/// Types of WebAssembly that a type of the language becomes.
fn lowered(ty: &str) -> &'static [&'static str] {
    match ty.trim() {
        "" | "void" => &[],
        "u32" | "i32" | "usize" | "[*]u8" | "[*]const u8" | "uint32" | "int32" | "unsafe.Pointer" => &["i32"],
        "u64" | "i64" | "uint64" | "int64" => &["i64"],
        // Go: its address and its length.
        "string" => &["i32", "i32"],
        other => panic!("a type that is not known here: {other}"),
    }
}

/// A call from its name, its parameters with types after `separator`, and its result.
fn call(name: &str, params: &str, separator: char, result: &str) -> Call {
    let typed = params.split(", ").filter(|p| !p.is_empty()).map(|p| p.split_once(separator).unwrap().1);
    Call {
        name: name.to_owned(),
        params: typed.flat_map(|t| lowered(t).iter().copied()).collect(),
        result: lowered(result).first().copied(),
    }
}

#[test]
fn the_declarations_for_zig_are_the_table() {
    let text = file("probe-sdk/zig/trocar.zig");
    let lines = text.lines().filter_map(|l| l.strip_prefix("pub extern \"trocar\" fn ")?.strip_suffix(';'));
    let declared = lines.map(|l| {
        let (name, rest) = l.split_once('(').unwrap();
        let (params, result) = rest.split_once(") ").unwrap();
        call(name, params, ':', result)
    });
    assert_is_table("trocar.zig", declared.collect());
}

#[test]
fn the_declarations_for_assemblyscript_are_the_table() {
    let text = file("probe-sdk/assemblyscript/trocar.ts");
    let lines = text.lines().filter_map(|l| l.strip_prefix("@external(\"trocar\", \"")?.strip_suffix(';'));
    let declared = lines.map(|l| {
        let (name, rest) = l.split_once("\") export declare function ").unwrap();
        let (params, result) = rest.split_once('(').unwrap().1.split_once("): ").unwrap();
        call(name, params, ':', result)
    });
    assert_is_table("trocar.ts", declared.collect());
}

#[test]
fn the_declarations_for_go_are_the_table() {
    let text = file("probe-sdk/go/trocar.go");
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("//go:wasmimport trocar ")?;
        let (params, result) = pair[1].split_once('(').unwrap().1.split_once(')').unwrap();
        Some(call(name, params, ' ', result))
    });
    assert_is_table("trocar.go", declared.collect());
}
