//! What has come into a process since it was looked at: the mappings of a session, and what is in them.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::process::{Mapping, mappings};

/// Bytes of a cache line.
const LINE: u64 = 64;

/// A part of a process's memory that was not mapped before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// First address, and the one after the last.
    pub range: Range<u64>,
    /// The mapping that it is of. The kernel may have joined it with one that was there.
    pub mapping: Mapping,
}

impl Part {
    /// Whether the program may write there.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.mapping.permissions.contains('w')
    }

    /// Whether other processes see what is written there.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.mapping.permissions.ends_with('s')
    }
}

/// What is mapped now where nothing was before.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn since(before: &[Mapping], pid: u32) -> Vec<Part> {
    let mut found = Vec::new();
    for mapping in mappings(pid) {
        let mut at = mapping.start;
        for old in before.iter().filter(|m| m.start < mapping.end && mapping.start < m.end) {
            if at < old.start {
                found.push(Part { range: at..old.start, mapping: mapping.clone() });
            }
            at = at.max(old.end);
        }
        if at < mapping.end {
            found.push(Part { range: at..mapping.end, mapping });
        }
    }
    found
}

/// What is in some parts of a process's memory.
#[derive(Clone, Debug)]
pub struct Contents {
    parts: Vec<(u64, Vec<u8>)>,
}

impl Contents {
    /// Reads it now.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn of<'a>(pid: u32, parts: impl IntoIterator<Item = &'a Part>) -> Self {
        let memory =
            File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|e| panic!("/proc/{pid}/mem: {e}"));
        let read = |part: &Part| {
            let length = usize::try_from(part.range.end - part.range.start).expect("it fits into memory");
            let mut bytes = vec![0; length];
            memory.read_exact_at(&mut bytes, part.range.start).unwrap_or_else(|e| panic!("{part:?}: {e}"));
            (part.range.start, bytes)
        };
        Self { parts: parts.into_iter().map(read).collect() }
    }

    /// Addresses of the cache lines that are different in the other one, of the same parts.
    #[must_use]
    pub fn changed(&self, other: &Self) -> BTreeSet<u64> {
        let mut lines = BTreeSet::new();
        for ((start, old), (_, new)) in self.parts.iter().zip(&other.parts) {
            let step = usize::try_from(LINE).unwrap_or(1);
            for (n, (one, two)) in old.chunks(step).zip(new.chunks(step)).enumerate() {
                if one != two {
                    lines.insert(start + LINE * n as u64);
                }
            }
        }
        lines
    }

    /// Addresses of the words that have this value.
    #[must_use]
    pub fn places_of(&self, value: u64) -> BTreeSet<u64> {
        let mut places = BTreeSet::new();
        for (start, bytes) in &self.parts {
            for (n, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                if *word == value.to_le_bytes() {
                    places.insert(start + 8 * n as u64);
                }
            }
        }
        places
    }

    /// The word at an address, if it is among what was read.
    #[must_use]
    pub fn word(&self, at: u64) -> Option<u64> {
        self.parts.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            Some(u64::from_le_bytes(*bytes.get(from..)?.first_chunk()?))
        })
    }
}
