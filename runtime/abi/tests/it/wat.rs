//! Probes in WAT: the examples of the SDK, and the template of `trocar new wat`.

use crate::calls::table;
use crate::{Call, file};

const FILES: &[&str] = &[
    "probe-sdk/wat/counter.wat",
    "probe-sdk/wat/histogram.wat",
    "probe-sdk/wat/string.wat",
    "host/cli/src/templates/wat/probe.wat",
];

/// The types in every `(KIND $name TYPE …)` of a function's type.
fn types(line: &str, kind: &str) -> Vec<&'static str> {
    let opens = format!("({kind}");
    let groups = line.split(&opens).skip(1);
    let words = groups.flat_map(|g| g.split(')').next().unwrap_or_default().split_whitespace());
    words
        .filter(|w| !w.starts_with('$'))
        .map(|w| match w {
            "i32" => "i32",
            "i64" => "i64",
            other => panic!("unknown type: {other}"),
        })
        .collect()
}

/// `(import "trocar" "arg" (func $arg (param i32) (result i64)))`
fn call(line: &str) -> Option<Call> {
    let rest = line.trim().strip_prefix("(import \"trocar\" \"")?;
    let (name, ty) = rest.split_once('"').unwrap();
    Some(Call {
        name: name.to_owned(),
        params: types(ty, "param"),
        result: types(ty, "result").first().copied(),
    })
}

#[test]
fn imports_have_the_types_of_the_table() {
    for path in FILES {
        let text = file(path);
        let imports: Vec<Call> = text.lines().filter_map(call).collect();
        assert_eq!(imports.len(), text.matches("(import ").count(), "{path}: one import on a line");
        assert!(!imports.is_empty(), "{path}");
        for import in imports {
            assert!(table().contains(&import), "{path}: {import:?} is not in trocar_abi::import");
        }
    }
}
