//! Layout of maps, decoding of keys and events.

use trocar_abi::map::MapSpec;
use trocar_package::{DecodeError, Event, Field, FieldType, FieldValue, Manifest, decode_fields};

#[test]
fn maps_are_laid_out_one_after_another() {
    let m = Manifest::from_toml(
        "abi = 1\nname = 'p'\nmaps = [\n\
         { name = 'c', kind = 'counter', entries = 3 },\n\
         { name = 'h', kind = 'hash', entries = 5, key = [{ name = 'k', type = 'str', bytes = 9 }, { name = 'n', type = 'u16' }] },\n\
         { name = 'l', kind = 'hist', entries = 2 } ]\n",
    )
    .unwrap();
    let (specs, total) = m.map_specs();
    let hash_bytes = 16 + 8 * (24 + 16);
    assert_eq!(
        specs,
        [
            MapSpec { kind: 0, entries: 3, key_bytes: 0, offset: 0 },
            MapSpec { kind: 2, entries: 8, key_bytes: 11, offset: 24 },
            MapSpec { kind: 1, entries: 2, key_bytes: 0, offset: 24 + hash_bytes },
        ]
    );
    assert_eq!(total, u64::from(24 + hash_bytes) + 2 * 65 * 8);
}

#[test]
fn no_maps_need_no_bytes() {
    assert_eq!(Manifest::default_for("p").map_specs(), (vec![], 0));
}

fn all_types() -> Event {
    use FieldType::{F64, Hex64, I8, I16, I32, I64, U8, U16, U32, U64};
    let mut fields: Vec<Field> = [U8, I8, U16, I16, U32, I32, U64, I64, F64, Hex64]
        .into_iter()
        .map(|t| Field::new(format!("{t:?}"), t))
        .collect();
    fields.push(Field::text("s", 4));
    Event { name: "e".into(), fields }
}

#[test]
fn every_type_decodes_little_endian_and_packed() {
    let mut bytes = vec![0xff, 0xff, 0xfe, 0xff, 0xfe, 0xff, 1, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff];
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend((-2i64).to_le_bytes());
    bytes.extend(1.5f64.to_le_bytes());
    bytes.extend(0xdead_beefu64.to_le_bytes());
    bytes.extend(b"ab\0x");
    let values: Vec<FieldValue> = all_types().decode(&bytes).unwrap().into_iter().map(|(_, v)| v).collect();
    assert_eq!(
        values,
        [
            FieldValue::Uint(255),
            FieldValue::Int(-1),
            FieldValue::Uint(65534),
            FieldValue::Int(-2),
            FieldValue::Uint(0x8000_0001),
            FieldValue::Int(-1),
            FieldValue::Uint(u64::MAX),
            FieldValue::Int(-2),
            FieldValue::Float(1.5),
            FieldValue::Hex(0xdead_beef),
            FieldValue::Text("ab".into()),
        ]
    );
    assert_eq!(values[9].to_string(), "0xdeadbeef");
}

#[test]
fn a_short_key_is_zero_padded_and_a_short_event_is_an_error() {
    let key = [Field::text("c", 8), Field::new("n", FieldType::U32)];
    let values = decode_fields(&key, b"get").unwrap();
    assert_eq!(values[0], ("c".into(), FieldValue::Text("get".into())));
    assert_eq!(values[1], ("n".into(), FieldValue::Uint(0)));
    assert_eq!(decode_fields(&key, &[0; 13]), Err(DecodeError { expected: 12, found: 13 }));
    let size = usize::try_from(all_types().size()).unwrap();
    assert!(all_types().decode(&vec![0; size - 1]).is_err());
    assert!(all_types().decode(&vec![0; size]).is_ok());
}

#[test]
fn hostile_text_stays_text() {
    let values = decode_fields(&[Field::text("s", 6)], b"\xff\x1b[2J\xc3").unwrap();
    assert_eq!(values[0].1, FieldValue::Text("\u{fffd}\u{1b}[2J\u{fffd}".into()));
    assert!(!values[0].1.to_string().contains('\u{1b}'), "displayed text is escaped");
}
