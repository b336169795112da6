//! The Rust SDK.

use trocar_abi::hit::REGISTERS;
use trocar_abi::import::errno;
use trocar_abi::record::PAYLOAD_MAX;

use crate::calls::assert_is_table;
use crate::{Call, file};

/// What a type of Rust is in wasm32.
fn ty(rust: &str) -> &'static str {
    match rust {
        "u32" | "i32" | "*const u8" | "*mut u8" => "i32",
        "u64" | "i64" => "i64",
        other => panic!("unknown type in raw.rs: {other}"),
    }
}

/// `fn arg(n: u32) -> u64;`
fn call(line: &str) -> Call {
    let (name, rest) = line.split_once('(').unwrap();
    let (params, result) = rest.trim_end_matches(';').split_once(')').unwrap();
    let params = params.split(", ").filter(|p| !p.is_empty());
    Call {
        name: name.to_owned(),
        params: params.map(|p| ty(p.split_once(": ").unwrap().1)).collect(),
        result: result.trim().strip_prefix("-> ").map(ty),
    }
}

#[test]
fn the_sdk_declares_the_table() {
    let raw = file("probe-sdk/rust/src/raw.rs");
    let (_, list) = raw.split_once("\nhost_calls! {\n").unwrap();
    let declarations = list
        .lines()
        .map(str::trim)
        .filter_map(|l| l.strip_prefix("safe fn ").or_else(|| l.strip_prefix("unsafe fn ")).map(call));
    assert_is_table("raw.rs", declarations.collect());
}

#[test]
fn every_call_that_takes_an_address_is_unsafe() {
    let raw = file("probe-sdk/rust/src/raw.rs");
    for line in
        raw.lines().map(str::trim).filter(|l| l.ends_with(';') && l.contains("fn ") && !l.contains('$'))
    {
        assert_eq!(line.contains('*'), line.starts_with("unsafe fn "), "{line}");
    }
}

#[test]
fn constants_are_those_of_the_code() {
    let registers = file("probe-sdk/rust/src/register.rs");
    for (n, name) in REGISTERS.iter().enumerate() {
        let says = format!(" {} = {n},", name.to_uppercase());
        assert!(registers.contains(&says), "register.rs does not say:{says}");
    }
    let errors = file("probe-sdk/rust/src/errno.rs");
    for (name, value) in
        [("FAULT", errno::EFAULT), ("NO_SPACE", errno::ENOSPC), ("NOT_PERMITTED", errno::EPERM)]
    {
        let says = format!("pub const {name}: Self = Self({value});");
        assert!(errors.contains(&says), "errno.rs does not say: {says}");
    }
    let fields = file("probe-sdk/rust/src/field.rs");
    assert!(fields.contains(&format!("size_of::<T>() <= {PAYLOAD_MAX}")), "the longest event in field.rs");
}
