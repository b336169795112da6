//! The documented example, defaults, and what merging does.

use trocar_abi::import::MANIFEST_SECTION;
use trocar_package::{Field, FieldType, Manifest, ManifestError, MapType, ParamValue};
use wasm_encoder::{CustomSection, Module};

/// A module that has nothing but these manifest sections.
pub fn module(sections: &[&str]) -> Vec<u8> {
    let mut m = Module::new();
    for s in sections {
        m.section(&CustomSection { name: MANIFEST_SECTION.into(), data: s.as_bytes().into() });
    }
    m.finish()
}

/// The example of the documentation of [`Manifest`], as it stands there.
fn documented() -> String {
    let source = include_str!("../../src/manifest.rs");
    let (_, rest) = source.split_once("/// ```toml\n").unwrap();
    let (block, _) = rest.split_once("/// ```\n").unwrap();
    block.lines().map(|l| l.trim_start_matches("///").trim_start_matches(' ').to_owned() + "\n").collect()
}

#[test]
fn the_documented_example_reads_as_documented() {
    let m = Manifest::from_toml(&documented()).unwrap();
    assert_eq!((m.abi, m.name.as_str(), m.version.as_str()), (1, "redis-commands", "0.1.0"));
    assert_eq!(m.handlers[0].points, ["redis-server:processCommand"]);
    assert_eq!(m.params[0].default, Some(ParamValue::Int(88)));
    assert_eq!(m.maps[0].key, [Field::text("command", 32)]);
    assert_eq!((m.maps[1].kind, m.maps[1].labels.len()), (MapType::Counter, 2));
    assert_eq!(m.events[0].fields, [Field::new("argc", FieldType::U64), Field::text("command", 32)]);
    assert_eq!((m.limits.fuel, m.limits.memory_bytes), (Some(20_000), Some(131_072)));
}

#[test]
fn the_json_of_the_example_is_golden() {
    let m = Manifest::from_toml(&documented()).unwrap();
    let golden = concat!(
        r#"{"abi":1,"name":"redis-commands","version":"0.1.0","#,
        r#""description":"Commands of a redis-server, by name","#,
        r#""handlers":[{"name":"on_hit","points":["redis-server:processCommand"]}],"#,
        r#""params":[{"name":"argc_offset","type":"int","default":88,"about":"offset of argc in struct client"}],"#,
        r#""maps":[{"name":"commands","kind":"hash","entries":1024,"key":[{"name":"command","type":"str","bytes":32}]},"#,
        r#"{"name":"totals","kind":"counter","entries":2,"labels":["calls","large"]}],"#,
        r#""events":[{"name":"large_command","fields":[{"name":"argc","type":"u64"},{"name":"command","type":"str","bytes":32}]}],"#,
        r#""limits":{"fuel":20000,"memory_bytes":131072}}"#
    );
    assert_eq!(m.to_section_json(), golden);
    assert_eq!(Manifest::from_module(&module(&[golden])), Ok(Some(m)));
}

#[test]
fn what_is_left_out_has_its_default() {
    let m = Manifest::from_toml("abi = 1\nname = 'p'\n[[maps]]\nname='a'\nkind='counter'\nlabels=['x','y','z']\n[[maps]]\nname='b'\nkind='hist'\n").unwrap();
    assert_eq!(m.handlers[0].name, "on_hit");
    assert_eq!(m.version, "0.0.0");
    assert_eq!((m.maps[0].entries, m.maps[1].entries), (3, 1));
    assert_eq!(m.limits, trocar_package::Limits::default());
}

#[test]
fn a_module_without_the_section_has_no_manifest() {
    assert_eq!(Manifest::from_module(&Module::new().finish()), Ok(None));
    let m = Manifest::default_for("my probe.wasm");
    assert_eq!(m.name, "my_probe.wasm");
    assert_eq!(m.check(), Ok(()));
    assert_eq!(Manifest::default_for("").name, "probe");
}

#[test]
fn sections_and_objects_are_merged_in_order() {
    let m = Manifest::from_module(&module(&[
        "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"a\",\"kind\":\"counter\"}]}\0\n{\"handlers\":[{\"name\":\"h\"}]}",
        r#"{"abi":1,"maps":[{"name":"b","kind":"hist"}],"limits":{"fuel":7}}{"limits":{"memory_bytes":65536}}"#,
    ]))
    .unwrap()
    .unwrap();
    assert_eq!(m.maps.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(m.handlers.len(), 1);
    assert_eq!((m.limits.fuel, m.limits.memory_bytes), (Some(7), Some(65536)));
}

#[test]
fn two_values_for_one_scalar_conflict() {
    let two = |a: &str, b: &str| Manifest::from_module(&module(&[a, b])).unwrap_err().to_string();
    assert!(two(r#"{"abi":1,"name":"p"}"#, r#"{"name":"q"}"#).contains("field `name`"));
    assert!(
        two(r#"{"abi":1,"name":"p","limits":{"fuel":1}}"#, r#"{"limits":{"fuel":2}}"#)
            .contains("field `limits.fuel`")
    );
}

#[test]
fn a_newer_abi_is_told_from_unknown_fields() {
    let newer = r#"{"abi":9,"name":"p","threads":true}"#;
    assert_eq!(Manifest::from_module(&module(&[newer])), Err(ManifestError::NewerAbi { found: 9 }));
    assert_eq!(
        Manifest::from_toml("abi = 9\nname = 'p'\nthreads = true"),
        Err(ManifestError::NewerAbi { found: 9 })
    );
    assert_eq!(Manifest::from_toml("name = 'p'"), Err(ManifestError::MissingAbi));
}
