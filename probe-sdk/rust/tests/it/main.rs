//! What the macros make of a declaration: the JSON of the manifest and the layout of fields.
//!
//! ```text
//! manifest   the text that goes into the section, character by character
//! fields     packed, in order, little endian
//! text       cutting off and lower case, for sizes that are no multiple of eight too
//! handlers   on this machine the host calls do nothing, so handlers run and return
//! copies     what `trocar new rust` writes is the whole SDK
//! ```

use trocar_probe_sdk::*;

manifest! {
    name: "all of \"it\"",
    version: "1.2.3",
    description: concat!("a\\b", "\n"),
    fuel: 20_000,
    memory_bytes: 131_072,
    params: {
        /// From here
        /// on.
        LARGE_BYTES: int = -1024,
        WORD: str = "x",
        NEEDED: int,
    },
    maps: {
        CALLS: counter[2] = ["all", "large"],
        /// Sizes.
        SIZES: hist[1],
        BY_THREAD: hash[1024] of Place { tid: u32, name: Text<5> },
    },
    events: {
        /// A large one.
        LargeOne { size: u64, flag: u8, caller: Hex64, share: f64, word: Text<16> },
        Other { n: i16 },
    },
}

#[probe(at = ["a:b", r#"q"q"#])]
fn on_hit() -> bool {
    CALLS.add(0, 1);
    SIZES.add(0, arg(0));
    BY_THREAD.add(&Place { tid: tid(), name: Text::from_str("abc") }, 1).is_ok()
}

#[probe]
fn on_other() {
    Other { n: 1 }.emit();
}

fn text(json: &manifest::Json) -> String {
    let mut bytes = json.bytes::<2048>().to_vec();
    bytes.truncate(json.len());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_manifest_is_what_was_declared() {
    let expected = concat!(
        r#"{"abi":1,"name":"all of \"it\"","version":"1.2.3","description":"a\\b\u000a","limits":{"fuel":20000},"#,
        r#""params":[{"name":"large_bytes","type":"int","default":-1024,"about":"From here on."},"#,
        r#"{"name":"word","type":"str","default":"x","about":""},{"name":"needed","type":"int","about":""}],"#,
        r#""maps":[{"name":"calls","kind":"counter","entries":2,"labels":["all","large"]},"#,
        r#"{"name":"sizes","kind":"hist","entries":1},{"name":"by_thread","kind":"hash","entries":1024,"#,
        r#""key":[{"name":"tid","type":"u32"},{"name":"name","type":"str","bytes":5}]}],"#,
        r#""events":[{"name":"large_one","fields":[{"name":"size","type":"u64"},{"name":"flag","type":"u8"},"#,
        r#"{"name":"caller","type":"hex64"},{"name":"share","type":"f64"},"#,
        r#"{"name":"word","type":"str","bytes":16}]},"#,
        r#"{"name":"other","fields":[{"name":"n","type":"i16"}]}]}"#,
        "\n{\"limits\":{\"memory_bytes\":131072}}\n",
    );
    assert_eq!(text(&__TROCAR_MANIFEST), expected);
}

#[test]
fn a_handler_is_a_part_of_the_manifest() {
    let json = manifest::handler("on_hit", &["a:b", "q\"q"]);
    assert_eq!(
        text(&json),
        "{\"abi\":1,\"handlers\":[{\"name\":\"on_hit\",\"points\":[\"a:b\",\"q\\\"q\"]}]}\n"
    );
}

#[test]
fn numbers_follow_the_order_of_the_declaration() {
    assert_eq!(manifest::position(__TROCAR_MAPS, "BY_THREAD"), 2);
    assert_eq!(manifest::position(__TROCAR_PARAMS, "WORD"), 1);
    assert_eq!(manifest::position(__TROCAR_EVENTS, "Other"), 1);
}

#[test]
fn fields_lie_one_after_another() {
    assert_eq!(size_of::<LargeOne>(), 8 + 1 + 8 + 8 + 16);
    assert_eq!(core::mem::offset_of!(LargeOne, caller), 9);
    assert_eq!(core::mem::offset_of!(LargeOne, word), 25);
    assert_eq!(size_of::<Place>(), 9);
}

#[test]
fn text_is_cut_off_and_cleared_behind_its_length() {
    assert_eq!(Text::new(*b"abcdefghijk", 3).as_bytes(), b"abc\0\0\0\0\0\0\0\0");
    assert_eq!(Text::new(*b"abcdefghijk", 9).as_bytes(), b"abcdefghi\0\0");
    assert_eq!(Text::new(*b"abcdefghijk", 0).as_bytes(), &[0; 11]);
    assert_eq!(Text::new(*b"abcdefghijk", 11).as_bytes(), b"abcdefghijk");
    assert_eq!(Text::new(*b"abcdefghijk", usize::MAX).as_bytes(), b"abcdefghijk");
    assert_eq!(Text::<3>::from_str("abcdef").as_bytes(), b"abc");
}

#[test]
fn lower_case_changes_capital_letters_and_nothing_else() {
    let mut all = [0u8; 256];
    for (i, b) in all.iter_mut().enumerate() {
        *b = u8::try_from(i).unwrap();
    }
    let mut expected = all;
    expected.make_ascii_lowercase();
    assert_eq!(Text::new(all, 256).to_ascii_lowercase().as_bytes(), &expected);
    assert_eq!(Text::<11>::from_str("GeT@[`{Z\u{e9}").to_ascii_lowercase(), Text::from_str("get@[`{z\u{e9}"));
}

#[test]
fn handlers_can_be_called_where_they_are_written() {
    assert!(on_hit());
    on_other();
    assert_eq!((LARGE_BYTES.get(), NEEDED.get()), (0, 0));
    assert_eq!(WORD.get::<8>(), Text::default());
    assert_eq!(read_value::<u64>(0x1000), Ok(0));
}

#[test]
fn a_new_project_gets_every_file_of_the_sdk() {
    let sdk = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let templates = sdk.join("../../host/cli/src/templates/mod.rs");
    let listed = std::fs::read_to_string(templates).unwrap();
    let mut names = vec!["Cargo.toml".to_owned(), "macros/Cargo.toml".into()];
    for folder in ["src", "macros/src"] {
        for entry in std::fs::read_dir(sdk.join(folder)).unwrap() {
            names.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let line = format!("(\"sdk/{name}\", include_str!(\"../../../../probe-sdk/rust/{name}\")),");
        assert!(listed.contains(&line), "host/cli/src/templates/mod.rs does not have {line}");
    }
}
