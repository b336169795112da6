//! Every refusal names the field, and nothing from outside makes the reader panic.

use trocar_package::Manifest;

use crate::reading::module;

fn json(body: &str) -> String {
    let text = format!(r#"{{"abi":1,"name":"p"{body}}}"#);
    Manifest::from_module(&module(&[&text])).expect_err(&text).to_string()
}

#[test]
fn each_wrong_field_is_named_with_its_path() {
    let long = "x".repeat(129);
    let cases = [
        (r#","colour":"red""#.to_owned(), "field `colour`: unknown field"),
        (r#","handlers":[{"name":"a"},{"name":7}]"#.into(), "field `handlers[1].name`: invalid type"),
        (r#","handlers":[{"name":"a"},{"name":"a"}]"#.into(), "field `handlers`: `a` occurs twice"),
        (format!(r#","handlers":[{{"name":"{long}"}}]"#), "field `handlers[0].name`"),
        (r#","handlers":[{"name":"a","points":[" "]}]"#.into(), "field `handlers[0].points[0]`: empty"),
        (r#","params":[{"name":"a b","type":"int"}]"#.into(), "field `params[0].name`: `a b` is not a name"),
        (r#","params":[{"name":"a","type":"float"}]"#.into(), "field `params[0].type`: unknown variant `float`"),
        (r#","params":[{"name":"a","type":"int","default":"1"}]"#.into(), "field `params[0].default`: is of type str"),
        (r#","params":[{"name":"a","type":"int","default":1.5}]"#.into(), "field `params[0].default`: invalid type"),
        (r#","maps":[{"name":"a","kind":"tree"}]"#.into(), "field `maps[0].kind`: unknown variant `tree`"),
        (r#","maps":[{"name":"a","kind":"counter","entries":0}]"#.into(), "field `maps[0].entries`: 0 is outside 1 to 65536"),
        (r#","maps":[{"name":"a","kind":"counter","entries":65537}]"#.into(), "field `maps[0].entries`: 65537"),
        (r#","maps":[{"name":"a","kind":"hash"}]"#.into(), "field `maps[0].key`: a hash map needs"),
        (r#","maps":[{"name":"a","kind":"hist","key":[{"name":"k","type":"u8"}]}]"#.into(), "field `maps[0].key`: a hist map has no key"),
        (r#","maps":[{"name":"a","kind":"hash","key":[{"name":"k","type":"str","bytes":257}]}]"#.into(), "field `maps[0].key[0].bytes`: 257"),
        (r#","maps":[{"name":"a","kind":"hash","key":[{"name":"k","type":"str"}]}]"#.into(), "field `maps[0].key[0].bytes`: missing"),
        (r#","maps":[{"name":"a","kind":"hash","key":[{"name":"k","type":"u8","bytes":1}]}]"#.into(), "field `maps[0].key[0].bytes`: only a str"),
        (r#","maps":[{"name":"a","kind":"hash","key":[{"name":"k","type":"str","bytes":256},{"name":"l","type":"u8"}]}]"#.into(), "field `maps[0].key`: 257 bytes together"),
        (r#","maps":[{"name":"a","kind":"hist","labels":["x"]}]"#.into(), "field `maps[0].labels`: only counter"),
        (r#","maps":[{"name":"a","kind":"counter","entries":1,"labels":["x","y"]}]"#.into(), "field `maps[0].labels`: 2 entries"),
        (r#","maps":[{"name":"a","kind":"hist","entries":65536}]"#.into(), "field `maps`: 34078720 bytes together"),
        (r#","events":[{"name":"e","fields":[{"name":"f","type":"str","bytes":4097}]}]"#.into(), "field `events[0].fields[0].bytes`"),
        (r#","events":[{"name":"e","fields":[{"name":"f","type":"u8"},{"name":"f","type":"u8"}]}]"#.into(), "field `events[0].fields`: `f` occurs twice"),
        (r#","limits":{"fuel":0}"#.into(), "field `limits.fuel`: 0 is outside"),
        (r#","limits":{"fuel":-1}"#.into(), "field `limits.fuel`: invalid value"),
        (r#","limits":{"memory_bytes":99999999999}"#.into(), "field `limits.memory_bytes`"),
        (r#","limits":{"stack":1}"#.into(), "field `limits.stack`: unknown field"),
        (r#","name":"q""#.into(), "duplicate field `name`"),
        ("} trailing {".into(), "not JSON"),
    ];
    for (body, part) in cases {
        let message = json(&body);
        assert!(message.contains(part), "{body}\n  gave: {message}\n  want: {part}");
    }
    assert!(json(r#","maps":[{"name":"a","kind":"counter"},{}]"#).contains("maps[1]"));
}

#[test]
fn text_of_the_manifest_reaches_no_terminal_as_it_is() {
    for body in [
        r#","a\u001b[2J":1"#,
        r#","maps":[{"name":"\u001b","kind":"hist"}]"#,
        r#","maps":[{"name":"a","kind":"\u0007"}]"#,
    ] {
        let message = json(body);
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    assert!(json(&format!(r#","{}":1"#, "x".repeat(9000))).len() < 3000);
}

#[test]
fn lists_are_bounded() {
    let many =
        (0..33).map(|i| format!(r#"{{"name":"m{i}","kind":"counter"}}"#)).collect::<Vec<_>>().join(",");
    assert!(json(&format!(r#","maps":[{many}]"#)).contains("field `maps`: 33 entries are more than the 32"));
}

#[test]
fn toml_errors_name_the_field_too() {
    let e =
        Manifest::from_toml("abi = 1\nname = 'p'\n[[maps]]\nname = 'a'\nkind = 'counter'\nentries = 'x'\n");
    assert!(e.clone().unwrap_err().to_string().contains("field `maps[0].entries`"), "{e:?}");
    let e = Manifest::from_toml("abi = 1\nname = \n");
    assert!(e.clone().unwrap_err().to_string().contains("line 2"), "{e:?}");
}

#[test]
fn size_is_bounded_over_all_sections() {
    let half = format!(r#"{{"description":"{}"}}"#, "x".repeat(40 << 10));
    let e = Manifest::from_module(&module(&[&half, &half])).unwrap_err();
    assert!(matches!(e, trocar_package::ManifestError::TooLarge { bytes } if bytes > 80 << 10));
    assert!(Manifest::from_toml(&"#".repeat(65 << 10)).is_err());
}

#[test]
fn an_empty_section_and_deep_nesting_are_errors() {
    assert!(Manifest::from_module(&module(&[" \0 "])).unwrap_err().to_string().contains("empty"));
    let deep = "[".repeat(50_000);
    assert!(Manifest::from_module(&module(&[&deep])).is_err());
    let deep = format!(r#"{{"abi":1,"name":{}"#, "[".repeat(10_000));
    assert!(Manifest::from_module(&module(&[&deep])).is_err());
}

#[test]
fn damaged_manifests_never_panic() {
    let good = br#"{"abi":1,"name":"p","handlers":[{"name":"h","points":["f"]}],"params":[{"name":"a","type":"str","default":"x"}],"maps":[{"name":"m","kind":"hash","key":[{"name":"k","type":"str","bytes":8}]}]}"#;
    let mut accepted = 0;
    for i in 0..good.len() {
        let cut = module(&[std::str::from_utf8(&good[..i]).unwrap()]);
        assert!(Manifest::from_module(&cut).is_err(), "cut at {i}");
        for bit in 0..8 {
            let mut bytes = module(&[std::str::from_utf8(good).unwrap()]);
            let at = bytes.len() - good.len() + i;
            bytes[at] ^= 1 << bit;
            if let Ok(Some(m)) = Manifest::from_module(&bytes) {
                assert_eq!(m.check(), Ok(()));
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0, "some flips only change a letter of a name");
}
