//! Memory and sizes (GUESTS.md, G5).

use trocar_abi::import::{IMPORTS, Ty};
use trocar_compile::verify::{Options, verify_with};
use trocar_compile::{Reason, verify};

use crate::{accepted, refused, wasm};

fn pages(n: u32) -> Vec<u8> {
    wasm(&format!(r#"(module (memory (export "memory") {n}) (func (export "on_hit")))"#))
}

#[test]
fn the_default_limit_admits_the_default_memory_of_rust() {
    let verified = verify(&pages(17)).unwrap();
    assert_eq!((verified.memory.min, verified.memory.max), (17, None));
    assert!(verified.notes.iter().any(|n| n.contains("-zstack-size=8192")), "{:?}", verified.notes);
    assert!(verify(&pages(1)).unwrap().notes.is_empty());
}

#[test]
fn memory_over_the_limit_says_how_to_shrink_it() {
    refused(
        &pages(18),
        Reason::Memory,
        "18 pages of memory, 1179648 bytes; the limit is 1114112",
        "stack-size=8192",
    );
    // zig's default for WASI, and emscripten's.
    refused(&pages(257), Reason::Memory, "257 pages", "--stack 8192");
    let one_page = Options { memory_bytes: Some(65_536), ..Options::default() };
    assert!(verify_with(&pages(1), &one_page).is_ok());
    assert_eq!(verify_with(&pages(2), &one_page).unwrap_err().reason, Reason::Memory);
}

#[test]
fn the_manifest_may_ask_for_another_limit_and_the_caller_decides() {
    let manifest =
        trocar_package::Manifest::from_toml("abi=1\nname='p'\nlimits.memory_bytes=4194304\n").unwrap();
    let bytes = trocar_package::attach_section(&pages(40), &manifest).unwrap();
    assert_eq!(verify(&bytes).unwrap().memory_limit, 4_194_304);
    let caller = Options { memory_bytes: Some(1 << 20), ..Options::default() };
    assert_eq!(verify_with(&bytes, &caller).unwrap_err().reason, Reason::Memory);
}

#[test]
fn calls_with_pointers_need_an_exported_memory() {
    let text = |memory: &str| {
        wasm(&format!(
            r#"(module (import "trocar" "log" (func (param i32 i32 i32))) {memory} (func (export "on_hit")))"#
        ))
    };
    refused(&text(""), Reason::Memory, "`trocar.log`, which takes addresses", "(export \"memory\")");
    refused(&text("(memory 1)"), Reason::Memory, "exports no memory", "");
    assert!(verify(&text("(memory (export \"memory\") 1)")).is_ok());
    // The table of the ABI says "ptr" or "key" exactly where a call takes an address.
    for call in IMPORTS {
        let name = |t: &Ty| if *t == Ty::I32 { "i32" } else { "i64" };
        let params: Vec<&str> = call.params.iter().map(name).collect();
        let params = params.join(" ");
        let result = call.result.as_ref().map_or(String::new(), |t| format!("(result {})", name(t)));
        let module = wasm(&format!(
            r#"(module (import "trocar" "{}" (func (param {params}) {result})) (func (export "on_hit")))"#,
            call.name
        ));
        assert_eq!(
            verify(&module).is_err(),
            call.about.contains("ptr") || call.about.contains("the key"),
            "{}",
            call.name
        );
    }
}

#[test]
fn sizes_are_bounded() {
    let hit = "(func (export \"on_hit\"))";
    let cases = [
        (format!("(module {hit} {})", "(func)".repeat(10_000)), "10001 functions"),
        (format!("(module {hit} (table 10001 funcref))"), "10001 table elements"),
        (format!("(module {hit} {})", "(global i32 (i32.const 0))".repeat(1001)), "1001 globals"),
        (format!("(module {hit} (func (local {})))", "i64 ".repeat(5001)), "5001 locals"),
        (
            format!("(module {hit} (memory 17) (data \"{}\"))", "x".repeat((1 << 20) + 1)),
            "1048577 bytes of data",
        ),
        (format!("(module {hit} {})", "(type (func))".repeat(10_001)), "10001 types"),
        (
            format!("(module {hit} (type (func (param {}))))", "i64 ".repeat(101)),
            "101 parameters in one type",
        ),
        (format!("(module {hit} (type (func (result {}))))", "i64 ".repeat(17)), "17 results in one type"),
        (format!("(module {hit} (func {}))", "nop ".repeat(512 << 10)), "bytes of code in one function"),
        (
            format!("(module {hit} {})", format!("(func (local {}))", "i64 ".repeat(5000)).repeat(41)),
            "205000 locals in all functions",
        ),
        (
            format!("(module {hit} (func {} {}))", "block ".repeat(2001), "end ".repeat(2001)),
            "2001 blocks within each other",
        ),
        (
            format!("(module {hit} (func (br_table {} (i32.const 0))))", "0 ".repeat(5002)),
            "5001 targets in one branch table",
        ),
        (
            // A hundred tables, each with 5000 targets that take 16 values.
            format!(
                "(module {hit} (type $t (func (result {}))) (func (block (type $t) {})))",
                "i64 ".repeat(16),
                format!("(br_table {} {} (i32.const 0))", "0 ".repeat(5001), "(i64.const 0) ".repeat(16))
                    .repeat(100)
            ),
            "operators, and values that they carry; the limit is 8388608",
        ),
        (
            format!("(module {hit} (func $f) (table 9 funcref) (elem func {}))", "$f ".repeat(10_001)),
            "10001 elements in segments",
        ),
        (format!("(module {hit} {})", "(elem func)".repeat(10_001)), "10001 element segments"),
        (format!("(module {hit} (memory 1) {})", "(data \"\")".repeat(50_001)), "50001 data segments"),
        (
            format!("(module {} {hit})", "(import \"trocar\" \"tid\" (func (result i32)))".repeat(10_001)),
            "10001 imports",
        ),
    ];
    for (text, part) in cases {
        refused(&wasm(&text), Reason::TooLarge, part, "smaller");
    }
    let mut big = wasm(&format!("(module {hit})"));
    big.resize((4 << 20) + 1, 0);
    refused(&big, Reason::TooLarge, "4194305 bytes; the limit is 4194304", "strip");
    accepted(&format!("(module {hit} (table 10000 funcref) {})", "(func)".repeat(9_999)));
    // At the limit of everything that is within one function.
    accepted(&format!(
        "(module {hit} (func (local {}) {} (br_table {} (i32.const 0)) {}))",
        "i64 ".repeat(5000),
        "block ".repeat(2000),
        "0 ".repeat(5001),
        "end ".repeat(2000)
    ));
}

#[test]
fn what_is_too_large_is_told_so_whatever_else_is_wrong_with_it() {
    // Neither the feature nor the type error is looked for in a module that is made to be large.
    let text =
        format!("(module (func {} v128.const i64x2 0 0 {}))", "block ".repeat(2001), "end ".repeat(2001));
    refused(&wasm(&text), Reason::TooLarge, "2001 blocks within each other", "split the function");
}
