//! The `count` probe: its manifest, its keys, its answers.

use trocar_expr::{Compiled, compile_count, parse};
use trocar_package::{FieldType, FieldValue, Manifest, MapType, decode_fields};

use crate::machine::Hit;

fn count(by: Option<&str>, condition: Option<&str>) -> Compiled {
    let parse = |t: &str| parse(t).unwrap_or_else(|e| panic!("{e}"));
    compile_count(by.map(parse).as_ref(), condition.map(parse).as_ref()).unwrap()
}

#[test]
fn without_key_there_is_one_counter() {
    let probe = count(None, None);
    assert_eq!(probe.manifest.maps.len(), 1);
    let map = &probe.manifest.maps[0];
    assert_eq!((map.name.as_str(), map.kind, map.entries), ("count", MapType::Counter, 1));
    let mut hit = Hit::default();
    assert_eq!((hit.run(&probe), hit.run(&probe)), (1, 1));
    assert_eq!(hit.counters, [((0, 0), 2)].into());
}

#[test]
fn the_manifest_is_in_the_module() {
    let probe = count(Some("str($arg0)"), Some("$arg1 > 3"));
    assert_eq!(Manifest::from_module(&probe.wasm), Ok(Some(probe.manifest)));
}

#[test]
fn only_the_calls_that_are_needed_are_imported() {
    let imports = |probe: &Compiled| -> Vec<String> {
        wasmparser::Parser::new(0)
            .parse_all(&probe.wasm)
            .filter_map(|p| match p.unwrap() {
                wasmparser::Payload::ImportSection(s) => {
                    Some(s.into_imports().map(|i| i.unwrap().name.to_owned()).collect::<Vec<_>>())
                }
                _ => None,
            })
            .flatten()
            .collect()
    };
    assert_eq!(imports(&count(None, None)), ["counter_add"]);
    assert_eq!(imports(&count(Some("$arg0"), None)), ["arg", "hash_add"]);
    assert_eq!(imports(&count(None, Some("str($reg.rdi) == \"x\""))), ["counter_add", "read_str", "reg"]);
}

#[test]
fn a_condition_decides_and_answers() {
    let probe = count(None, Some("$arg0 > 10"));
    let mut hit = Hit::with_args(&[10]);
    assert_eq!(hit.run(&probe), 0);
    assert!(hit.counters.is_empty());
    hit.args[0] = 11;
    assert_eq!(hit.run(&probe), 1);
    assert_eq!(hit.counters[&(0, 0)], 1);
}

#[test]
fn a_condition_that_cannot_be_computed_does_not_hold() {
    for condition in
        ["*(u32*)$arg0 == 0", "*(u32*)$arg0 != 0", "1 / $arg0 == 0", "!(1 % $arg0)", "str($arg0) != \"x\""]
    {
        let mut hit = Hit::with_args(&[0]);
        assert_eq!(hit.run(&count(None, Some(condition))), 0, "{condition}");
        assert!(hit.counters.is_empty());
    }
}

#[test]
fn integer_keys_are_named_after_their_expression() {
    let probe = count(Some(" $arg0 % 10 "), None);
    let key = &probe.manifest.maps[0].key;
    assert_eq!((key[0].name.as_str(), key[0].ty), ("$arg0 % 10", FieldType::I64));
    assert_eq!(probe.manifest.maps.len(), 1, "it cannot fail, so there is no counter of failures");
    let mut hit = Hit::with_args(&[-13]);
    hit.run(&probe);
    let (bytes, _) = hit.keys.into_iter().next().unwrap();
    assert_eq!(decode_fields(key, &bytes).unwrap(), [("$arg0 % 10".into(), FieldValue::Int(-3))]);
    assert_eq!(count(Some("u($arg0)"), None).manifest.maps[0].key[0].ty, FieldType::U64);
}

#[test]
fn unreadable_integer_keys_have_a_counter_of_their_own() {
    let probe = count(Some("*(u32*)$arg0 / $arg1"), None);
    assert_eq!(probe.manifest.maps[1].labels, ["<unreadable>", "<undefined>"]);
    let mut hit = Hit::with_args(&[0x10, 0]).with_memory(0x10, &[1, 0, 0, 0]);
    assert_eq!(hit.run(&probe), 1);
    hit.args[0] = 0;
    assert_eq!(hit.run(&probe), 1);
    assert_eq!(hit.counters, [((1, 0), 1), ((1, 1), 1)].into());
    assert!(hit.keys.is_empty());
}

#[test]
fn text_keys_hold_the_text_or_why_there_is_none() {
    let probe = count(Some("str($arg0)"), None);
    assert_eq!(probe.manifest.maps[0].key[0].size(), 64);
    let mut hit = Hit::with_args(&[0x10]).with_memory(0x10, b"lpush\0").with_memory(0x100, &[b'x'; 200]);
    hit.run(&probe);
    hit.run(&probe);
    hit.args[0] = 0x100;
    hit.run(&probe);
    hit.args[0] = 1;
    assert_eq!(hit.run(&probe), 1);
    assert_eq!(hit.keys, [(b"lpush".to_vec(), 2), (vec![b'x'; 64], 1), (b"<unreadable>".to_vec(), 1)].into());
    let probe = count(Some("str($arg0 / $arg1, 100)"), None);
    assert_eq!(probe.manifest.maps[0].key[0].size(), 100);
    let mut hit = Hit::with_args(&[5, 0]);
    hit.run(&probe);
    assert_eq!(hit.keys, [(b"<undefined>".to_vec(), 1)].into());
}

#[test]
fn computed_lengths_are_held_within_their_bounds() {
    let probe = count(Some("str($arg0, $arg1)"), None);
    assert_eq!(probe.manifest.maps[0].key[0].size(), 256);
    let mut hit = Hit::with_args(&[0x100, 2]).with_memory(0x100, &[b'x'; 400]);
    for n in [2, -1, i64::MIN, 256, 257, i64::MAX] {
        hit.args[1] = n;
        hit.run(&probe);
    }
    assert_eq!(hit.keys, [(vec![b'x'; 2], 1), (vec![], 2), (vec![b'x'; 256], 3)].into());
    let probe = count(Some("str($arg0, u($arg1))"), None);
    hit.keys.clear();
    hit.args[1] = -1;
    hit.run(&probe);
    assert_eq!(hit.keys, [(vec![b'x'; 256], 1)].into());
}

#[test]
fn long_key_names_are_shortened() {
    let text = vec!["$arg0"; 40].join("+");
    let name = count(Some(&text), None).manifest.maps[0].key[0].name.clone();
    assert!(name.len() < 110 && name.ends_with('…') && name.starts_with("$arg0+"), "{name}");
}

#[test]
fn more_fuel_is_asked_for_only_where_it_is_needed() {
    assert_eq!(count(Some("str($arg0)"), Some("$arg1")).manifest.limits.fuel, None);
    let many = ["*(u8*)$arg0"; 6].join("+");
    let fuel = count(Some(&many), None).manifest.limits.fuel.unwrap();
    assert!((12_000..13_000).contains(&fuel), "{fuel}");
}
