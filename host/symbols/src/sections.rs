//! Section headers: a convenience that files may lack, and that nobody checks when a program is loaded.
//!
//! What they say is used to tell code from other bytes within a segment, and to find tables; addresses are always
//! looked up through segments. Layout: System V gABI, "Sections".

use std::ops::Range;

use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHN_XINDEX, SHT_NOBITS};

use crate::bytes::{c_string, slice, u16_at, u32_at, u64_at};

/// Bytes of a section header.
const HEADER: u64 = 64;

/// A section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Where in the file its name stands.
    name: Range<usize>,
    pub kind: u32,
    pub flags: u64,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
}

impl Section {
    pub fn is_loaded(&self) -> bool {
        self.flags & u64::from(SHF_ALLOC) != 0
    }

    pub fn is_code(&self) -> bool {
        self.is_loaded() && self.flags & u64::from(SHF_EXECINSTR) != 0 && self.kind != SHT_NOBITS
    }

    pub fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }

    pub fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.name.clone()).unwrap_or_default()
    }

    /// Its bytes in the file; `None` if it has none or they are not all there.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.kind == SHT_NOBITS { None } else { slice(bytes, self.offset, self.size) }
    }

    /// The same as a range of the file.
    pub fn file_range(&self, bytes: &[u8]) -> Option<Range<usize>> {
        self.bytes(bytes)?;
        let start = usize::try_from(self.offset).ok()?;
        Some(start..start + usize::try_from(self.size).ok()?)
    }
}

/// Reads the section headers; empty when there are none or they are not all there.
pub(crate) fn read(bytes: &[u8]) -> Vec<Section> {
    read_all(bytes).unwrap_or_default()
}

fn read_all(bytes: &[u8]) -> Option<Vec<Section>> {
    let offset = u64_at(bytes, 40)?;
    if offset == 0 || u64::from(u16_at(bytes, 58)?) != HEADER {
        return None;
    }
    // More than 0xff00 sections: the real numbers are in the first header (gABI, "ELF Header").
    let count = match u16_at(bytes, 60)? {
        0 => u64_at(bytes, offset.checked_add(32)?)?,
        count => u64::from(count),
    };
    let names_index = match u16_at(bytes, 62)? {
        SHN_XINDEX => u32_at(bytes, offset.checked_add(40)?)?,
        index => u32::from(index),
    };
    let table = slice(bytes, offset, count.checked_mul(HEADER)?)?;
    let header = |h: &[u8]| {
        Some(Section {
            name: 0..usize::try_from(u32_at(h, 0)?).ok()?,
            kind: u32_at(h, 4)?,
            flags: u64_at(h, 8)?,
            address: u64_at(h, 16)?,
            offset: u64_at(h, 24)?,
            size: u64_at(h, 32)?,
            link: u32_at(h, 40)?,
        })
    };
    let mut sections: Vec<Section> = table.chunks_exact(64).map_while(header).collect();
    let names =
        sections.get(usize::try_from(names_index).ok()?).and_then(|s| s.file_range(bytes)).unwrap_or(0..0);
    let strings = bytes.get(names.clone()).unwrap_or_default();
    for section in &mut sections {
        let at = section.name.end;
        let name = c_string(strings, at as u64).unwrap_or_default();
        section.name = names.start + at..names.start + at + name.len();
    }
    Some(sections)
}
