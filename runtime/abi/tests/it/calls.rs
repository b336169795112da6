//! The table as it is in code, in the shape that the files are compared in.

use trocar_abi::import::{IMPORTS, Ty};

use crate::Call;

/// What WebAssembly calls a type.
pub(crate) const fn wasm(ty: Ty) -> &'static str {
    match ty {
        Ty::I32 => "i32",
        Ty::I64 => "i64",
    }
}

/// Every host call, sorted by name.
pub(crate) fn table() -> Vec<Call> {
    let call = |i: &trocar_abi::import::Import| Call {
        name: i.name.to_owned(),
        params: i.params.iter().copied().map(wasm).collect(),
        result: i.result.map(wasm),
    };
    IMPORTS.iter().map(call).collect()
}

/// Fails unless a file declares exactly the table. Its order is free.
pub(crate) fn assert_is_table(what: &str, mut declared: Vec<Call>) {
    declared.sort();
    let table = table();
    for (here, there) in declared.iter().zip(&table) {
        assert_eq!(here, there, "{what} on the left, trocar_abi::import on the right");
    }
    let names = |calls: &[Call]| calls.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&declared), names(&table), "{what} on the left, trocar_abi::import on the right");
}

#[test]
fn the_table_is_sorted_and_has_no_name_twice() {
    let names: Vec<&str> = IMPORTS.iter().map(|i| i.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}
