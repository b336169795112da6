//! Records and map rows by the manifest's schemas: numbers and bytes get their names.
//!
//! What does not fit its schema is passed on as hexadecimal text with the reason beside it, because a
//! record that came must not vanish. It knows the manifest and nothing of the shared memory.

use std::fmt::Write as _;

use trocar_abi::map::hist_range;
use trocar_abi::record::{RecordHead, RecordKind};
use trocar_package::{FieldValue, Manifest, Map, decode_fields};

use crate::maps::MergedMap;

/// Names of the log levels, by their number.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// A record with its names. All text is the target's: escape it where it is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A record of `emit`.
    Event {
        /// Name of the event's schema; `event_N` if the manifest has none with that number.
        name: String,
        /// Fields in the order of the schema; or `payload` in hexadecimal and `problem`.
        fields: Vec<(String, FieldValue)>,
    },
    /// A record of `log`.
    Log {
        /// error, warn, info, debug or trace.
        level: &'static str,
        /// The text; bytes that are not UTF-8 are replaced.
        message: String,
    },
}

/// Decodes a record by the manifest. Never fails: see the head of this file.
#[must_use]
pub fn decode(manifest: &Manifest, head: &RecordHead, payload: &[u8]) -> Decoded {
    if head.kind == RecordKind::Log as u16 {
        let level = LEVELS.get(usize::from(head.tag)).copied().unwrap_or("trace");
        return Decoded::Log { level, message: String::from_utf8_lossy(payload).into_owned() };
    }
    if head.kind != RecordKind::Event as u16 {
        return raw(format!("record_{}", head.kind), payload, "unknown kind of record".into());
    }
    let Some(schema) = manifest.events.get(usize::from(head.tag)) else {
        return raw(format!("event_{}", head.tag), payload, "the manifest has no such event".into());
    };
    match schema.decode(payload) {
        Ok(fields) => Decoded::Event { name: schema.name.clone(), fields },
        Err(problem) => raw(schema.name.clone(), payload, problem.to_string()),
    }
}

/// An event whose fields are not known.
fn raw(name: String, payload: &[u8], problem: String) -> Decoded {
    let fields = vec![
        ("payload".to_owned(), FieldValue::Text(hex(payload))),
        ("problem".to_owned(), FieldValue::Text(problem)),
    ];
    Decoded::Event { name, fields }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A row of a map with its names.
#[derive(Clone, Debug, PartialEq)]
pub enum NamedRow {
    /// A counter or a hash entry.
    Keyed {
        /// Name and value of each part of the key; a counter has `name` if it has a label, else `index`.
        key: Vec<(String, FieldValue)>,
        /// The sum over all threads.
        value: i64,
    },
    /// A bucket of a histogram.
    Bucket {
        /// Entry of the map; `None` if it has only one.
        entry: Option<u32>,
        /// Least value.
        lo: u64,
        /// Greatest value.
        hi: u64,
        /// How many.
        count: u64,
    },
}

/// The rows of a merged map, named by the manifest's entry for it.
#[must_use]
pub fn named_rows(map: &Map, merged: &MergedMap) -> Vec<NamedRow> {
    match merged {
        MergedMap::Counter(rows) => rows
            .iter()
            .map(|(index, value)| {
                let label = usize::try_from(*index).ok().and_then(|i| map.labels.get(i));
                let key = match label {
                    Some(label) => ("name".to_owned(), FieldValue::Text(label.clone())),
                    None => ("index".to_owned(), FieldValue::Uint(u64::from(*index))),
                };
                NamedRow::Keyed { key: vec![key], value: *value }
            })
            .collect(),
        MergedMap::Hist(rows) => rows
            .iter()
            .map(|(entry, bucket, count)| {
                let (lo, hi) = hist_range(usize::try_from(*bucket).unwrap_or(0), map.precision);
                NamedRow::Bucket { entry: (map.entries > 1).then_some(*entry), lo, hi, count: *count }
            })
            .collect(),
        MergedMap::Hash { rows, .. } => rows
            .iter()
            .map(|(key, value)| {
                let key = decode_fields(&map.key, key)
                    .unwrap_or_else(|_| vec![("key".to_owned(), FieldValue::Text(hex(key)))]);
                NamedRow::Keyed { key, value: *value }
            })
            .collect(),
    }
}
