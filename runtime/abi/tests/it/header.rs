//! `trocar.h`, for C and C++.

use trocar_abi::hit::REGISTERS;
use trocar_abi::import::errno;

use crate::calls::assert_is_table;
use crate::{Call, file};

fn header() -> String {
    file("probe-sdk/c/trocar.h")
}

/// What a type of C is in wasm32; `None` for `void`.
fn ty(c: &str) -> Option<&'static str> {
    match c {
        "void" => None,
        "uint32_t" | "int32_t" => Some("i32"),
        "uint64_t" | "int64_t" => Some("i64"),
        pointer if pointer.ends_with('*') => Some("i32"),
        other => panic!("unknown type in trocar.h: {other}"),
    }
}

/// The type of a parameter: `const void *key` without its name.
fn param(text: &str) -> Option<&'static str> {
    let name = text.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |i| i + 1);
    ty(text[..name].trim())
}

/// `TROCAR_IMPORT(arg) uint64_t trocar_arg(uint32_t n);`
fn call(line: &str) -> Call {
    let (name, rest) = line.strip_prefix("TROCAR_IMPORT(").and_then(|l| l.split_once(") ")).unwrap();
    let (head, params) = rest.strip_suffix(");").and_then(|l| l.split_once('(')).unwrap();
    let (result, function) = head.split_once(' ').unwrap();
    assert_eq!(function, format!("trocar_{name}"), "the name of the function is that of the import");
    let params =
        if params == "void" { Vec::new() } else { params.split(", ").map(|p| param(p).unwrap()).collect() };
    Call { name: name.to_owned(), params, result: ty(result) }
}

#[test]
fn the_header_declares_the_table() {
    let header = header();
    let declared = header.lines().filter(|l| l.starts_with("TROCAR_IMPORT(")).map(call).collect();
    assert_is_table("trocar.h", declared);
}

#[test]
fn constants_are_those_of_the_code() {
    let header = header();
    let value = |name: &str| {
        let line = header.lines().find(|l| l.starts_with(&format!("#define {name} "))).unwrap();
        line.split_whitespace().nth(2).unwrap().trim_matches(['(', ')']).parse::<i32>().unwrap()
    };
    assert_eq!(value("TROCAR_ABI"), i32::try_from(trocar_abi::VERSION).unwrap());
    assert_eq!(value("TROCAR_EPERM"), errno::EPERM);
    assert_eq!(value("TROCAR_EFAULT"), errno::EFAULT);
    assert_eq!(value("TROCAR_ENOSPC"), errno::ENOSPC);
    let (_, list) = header.split_once("enum trocar_register {").unwrap();
    let (list, _) = list.split_once('}').unwrap();
    let registers: Vec<String> =
        list.split(',').map(|r| r.trim().trim_start_matches("TROCAR_").to_lowercase()).collect();
    assert_eq!(registers, REGISTERS, "registers are numbered from zero in this order");
}
