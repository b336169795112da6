//! `PROBE-ABI.md`, the page that people read.

use trocar_abi::hit::REGISTERS;
use trocar_abi::import::{IMPORTS, RESERVED, errno};
use trocar_abi::map::{ENTRIES_MAX, HIST_BUCKETS, KEY_MAX, MAPS_MAX, PROBES};
use trocar_abi::record::PAYLOAD_MAX;
use trocar_abi::shim::SHIM;

use crate::calls::{assert_is_table, wasm};
use crate::{Call, file};

fn page() -> String {
    file("runtime/abi/PROBE-ABI.md")
}

/// The rows of the table of host calls, as their cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    table(page, "| Call |")
}

fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let table = page.lines().skip_while(|l| !l.starts_with(head)).skip(2);
    let cells = |l: &str| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
    table.take_while(|l| l.starts_with('|')).map(cells).collect()
}

/// The type in `n: i32` or `-> i32`.
fn ty(text: &str) -> &'static str {
    match text.trim() {
        "i32" => "i32",
        "i64" => "i64",
        other => panic!("no type of WebAssembly: {other}"),
    }
}

/// `(n: i32) -> i64` as types, and whether a parameter is called `len`.
fn signature(name: &str, text: &str) -> (Call, bool) {
    let (params, result) = text.strip_prefix('(').and_then(|t| t.split_once(')')).unwrap();
    let params: Vec<(&str, &str)> =
        params.split(", ").filter(|p| !p.is_empty()).map(|p| p.split_once(": ").unwrap()).collect();
    let call = Call {
        name: name.to_owned(),
        params: params.iter().map(|(_, t)| ty(t)).collect(),
        result: result.trim().strip_prefix("->").map(ty),
    };
    (call, params.iter().any(|(p, _)| *p == "len"))
}

#[test]
fn each_row_has_the_signature_of_the_table() {
    let page = page();
    let declared =
        rows(&page).iter().map(|r| signature(r[0].trim_matches('`'), r[1].trim_matches('`')).0).collect();
    assert_is_table("PROBE-ABI.md", declared);
}

#[test]
fn each_row_has_the_capability_and_the_cost_of_the_table() {
    let page = page();
    let rows = rows(&page);
    for import in IMPORTS {
        let row = rows.iter().find(|r| r[0].trim_matches('`') == import.name).unwrap();
        let (_, by_length) = signature(import.name, row[1].trim_matches('`'));
        let fuel = format!("{}{}", import.fuel, if by_length { " + len/8" } else { "" });
        let expected = [import.capability.name(), &fuel, &import.system_calls.to_string()];
        assert_eq!(row[5..], expected, "{}", import.name);
    }
}

#[test]
fn the_shim_is_described_with_its_types_capabilities_and_fuel() {
    let rows = table(&page(), "| Function |");
    let names: Vec<&str> = rows.iter().map(|r| r[0].trim_matches('`')).collect();
    assert_eq!(names, SHIM.iter().map(|i| i.name).collect::<Vec<_>>());
    for (row, import) in rows.iter().zip(SHIM) {
        let (params, result) = row[1].trim_matches(['`', '(']).split_once(')').unwrap();
        let types = params.split(", ").filter(|p| !p.is_empty()).map(|p| ty(p.rsplit(": ").next().unwrap()));
        assert!(types.eq(import.params.iter().copied().map(wasm)), "{}", import.name);
        assert_eq!(result.trim().strip_prefix("->").map(ty), import.result.map(wasm), "{}", import.name);
        assert_eq!(row[3], import.capability.name(), "{}", import.name);
        let fuel: u64 = row[4].split([' ', ',']).next().unwrap().parse().unwrap();
        assert_eq!((fuel, 0), (import.fuel, import.system_calls), "{}", import.name);
    }
}

#[test]
fn numbers_in_the_text_are_those_of_the_code() {
    let page = page().replace('\n', " ");
    for says in [
        format!("# The probe ABI, version {}", trocar_abi::VERSION),
        format!("EPERM is {} ", errno::EPERM),
        format!("EFAULT is {},", errno::EFAULT),
        format!("ENOSPC is {}.", errno::ENOSPC),
        format!("`{RESERVED}` is a reserved name"),
        format!("histograms with {HIST_BUCKETS} buckets"),
        format!("keys of at most {KEY_MAX} bytes"),
        format!("no slot in {PROBES} steps"),
        format!("a probe at most {MAPS_MAX} maps"),
        format!("1 to {} {} entries", ENTRIES_MAX / 1000, ENTRIES_MAX % 1000),
        format!("| payload of a record | {PAYLOAD_MAX} bytes |"),
    ] {
        assert!(page.contains(&says), "PROBE-ABI.md does not say: {says}");
    }
}

#[test]
fn registers_are_numbered_as_in_the_code() {
    let page = page();
    for (n, name) in REGISTERS.iter().enumerate().filter(|(n, _)| !(8..16).contains(n)) {
        assert!(page.contains(&format!("{n} {name}")), "PROBE-ABI.md does not say: {n} {name}");
    }
    assert_eq!((REGISTERS[8], REGISTERS[15]), ("r8", "r15"), "the page says: 8-15 r8-r15");
}
