//! An ELF file: its segments, symbols and tables, and where in a process it is loaded.
//!
//! It takes 64-bit x86 programs and libraries. Parsing reads headers and symbol tables; everything else is read on
//! first use and kept. Addresses are those of the file ("vaddr", as objdump prints them); an address in the process
//! is that plus the bias. Layout: System V gABI chapters 4 and 5.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use object::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, NT_GNU_BUILD_ID, PF_W, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE,
    SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB,
};

use crate::bytes::{c_string, slice, u8_at, u16_at, u32_at, u64_at};
use crate::dynamic::{self, Dynamic};
use crate::frames::Frames;
use crate::go::GoTable;
use crate::sections::{self, Section};
use crate::symbols::{self, SYMBOL, Symbol, SymbolKind};

const PAGE: u64 = 4096;

/// Why bytes are no ELF file that we can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// The first four bytes are others.
    #[error("not an ELF file")]
    NotElf,
    /// 32-bit, big-endian, or for another processor.
    #[error("not a 64-bit x86 ELF file")]
    OtherMachine,
    /// An object file, a core file.
    #[error("neither a program nor a library (ELF type {0})")]
    NotLoadable(u16),
    /// Bytes that headers promise are not there.
    #[error("the file is cut off or damaged: {0}")]
    Damaged(&'static str),
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of its first byte.
    pub vaddr: u64,
    /// Bytes in memory; those past `file_size` are zero.
    pub memory_size: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Executable.
    pub execute: bool,
    /// Writable.
    pub write: bool,
}

/// A mapping of this file in a process, as far as the bias needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Executable.
    pub execute: bool,
}

/// An ELF file.
#[derive(Debug)]
pub struct Elf {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sections: Vec<Section>,
    pub(crate) dynamic: Dynamic,
    /// Ranges of addresses that hold code, in ascending order, not overlapping.
    pub(crate) text: Vec<Range<u64>>,
    /// Where in the file the dynamic symbols are.
    pub(crate) dynsym: Range<usize>,
    /// Address of `.eh_frame_hdr`, or zero.
    pub(crate) eh_frame_hdr: u64,
    pie: bool,
    entry: u64,
    segments: Vec<Segment>,
    build_id: Option<Vec<u8>>,
    symbols: Vec<Symbol>,
    strings: [Range<usize>; 2],
    has_symtab: bool,
    frames: OnceLock<Frames>,
    go: OnceLock<Option<GoTable>>,
    pub(crate) functions: OnceLock<Vec<(u64, u64)>>,
}

impl Elf {
    /// Reads headers and symbols.
    ///
    /// # Errors
    /// See [`ElfError`]. Damaged section headers or symbol tables are no error: there is less in them then.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ElfError> {
        if bytes.get(..4) != Some(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if bytes.get(4..6) != Some(&[2, 1]) || u16_at(&bytes, 18) != Some(EM_X86_64) {
            return Err(ElfError::OtherMachine);
        }
        let kind = u16_at(&bytes, 16).ok_or(ElfError::Damaged("no header"))?;
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(ElfError::NotLoadable(kind));
        }
        let headers = program_headers(&bytes).ok_or(ElfError::Damaged("program headers are missing"))?;
        let mut elf = Self {
            pie: kind == ET_DYN,
            entry: u64_at(&bytes, 24).unwrap_or(0),
            sections: sections::read(&bytes),
            segments: Vec::new(),
            dynamic: Dynamic::default(),
            text: Vec::new(),
            dynsym: 0..0,
            eh_frame_hdr: 0,
            build_id: None,
            symbols: Vec::new(),
            strings: [0..0, 0..0],
            has_symtab: false,
            frames: OnceLock::new(),
            go: OnceLock::new(),
            functions: OnceLock::new(),
            bytes,
        };
        elf.take(&headers)?;
        elf.text = elf.find_text();
        elf.read_symbols();
        Ok(elf)
    }

    fn take(&mut self, headers: &[Header]) -> Result<(), ElfError> {
        for h in headers {
            let content = slice(&self.bytes, h.offset, h.file_size);
            match h.kind {
                PT_LOAD => {
                    if content.is_none() || h.vaddr.checked_add(h.memory_size.max(h.file_size)).is_none() {
                        return Err(ElfError::Damaged("a segment ends beyond the file"));
                    }
                    self.segments.push(Segment {
                        vaddr: h.vaddr,
                        memory_size: h.memory_size.max(h.file_size),
                        offset: h.offset,
                        file_size: h.file_size,
                        execute: h.flags & PF_X != 0,
                        write: h.flags & PF_W != 0,
                    });
                }
                PT_DYNAMIC => self.dynamic = Dynamic::read(content.unwrap_or_default()),
                PT_GNU_EH_FRAME => self.eh_frame_hdr = h.vaddr,
                PT_NOTE if self.build_id.is_none() => {
                    self.build_id = content.and_then(|notes| build_id(notes, h.align));
                }
                _ => {}
            }
        }
        if self.segments.is_empty() {
            return Err(ElfError::Damaged("nothing in it is loaded"));
        }
        self.segments.sort_by_key(|s| s.vaddr);
        Ok(())
    }

    /// Code is what sections say is code; a segment that has no such section counts as a whole.
    fn find_text(&self) -> Vec<Range<u64>> {
        let mut text: Vec<Range<u64>> = Vec::new();
        for segment in self.segments.iter().filter(|s| s.execute) {
            let whole = segment.vaddr..segment.vaddr + segment.file_size;
            let inside = |r: &Range<u64>| r.start >= whole.start && r.end <= whole.end && r.start < r.end;
            let before = text.len();
            text.extend(self.sections.iter().filter(|s| s.is_code()).map(Section::range).filter(inside));
            if text.len() == before && !whole.is_empty() {
                text.push(whole);
            }
        }
        text.sort_by_key(|r| r.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in text {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    fn read_symbols(&mut self) {
        let mut found = Vec::new();
        for (number, kind) in [(0u8, SHT_SYMTAB), (1, SHT_DYNSYM)] {
            let Some(section) = self.sections.iter().find(|s| s.kind == kind) else { continue };
            let strings = usize::try_from(section.link).ok().and_then(|link| self.sections.get(link));
            if let (Some(table), Some(strings)) =
                (section.file_range(&self.bytes), strings.and_then(|s| s.file_range(&self.bytes)))
            {
                found.push((number, table, strings));
            }
        }
        if !found.iter().any(|(number, ..)| *number == 1) {
            found.extend(self.dynamic_symbols().map(|(table, strings)| (1, table, strings)));
        }
        let mut symbols = Vec::new();
        for (number, table, strings) in found {
            let entries = self.bytes.get(table.clone()).unwrap_or_default();
            symbols.reserve(entries.len() / SYMBOL / 2);
            symbols::read(entries, number, |address| self.is_text(address), &mut symbols);
            if number == 1 {
                self.dynsym = table;
            } else {
                self.has_symtab = symbols.iter().any(|s| s.kind != SymbolKind::Label);
            }
            if let Some(place) = self.strings.get_mut(usize::from(number)) {
                *place = strings;
            }
        }
        symbols.sort_unstable_by_key(|s| (s.address, s.kind, s.binding, s.table, s.name));
        self.symbols = symbols;
    }

    /// Dynamic symbols and their strings, as ranges of the file, without section headers.
    fn dynamic_symbols(&self) -> Option<(Range<usize>, Range<usize>)> {
        let d = &self.dynamic;
        let count = self
            .at(d.gnu_hash)
            .filter(|_| d.gnu_hash != 0)
            .and_then(dynamic::count_by_gnu_hash)
            .or_else(|| self.at(d.hash).filter(|_| d.hash != 0).and_then(dynamic::count_by_hash))?;
        let table = self.file_range(d.symbols, count.checked_mul(SYMBOL as u64)?)?;
        Some((table, self.file_range(d.strings, d.strings_size)?))
    }

    fn file_range(&self, vaddr: u64, size: u64) -> Option<Range<usize>> {
        let segment = self.segments.iter().find(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.file_size)?;
        let inside = vaddr - segment.vaddr;
        if size > segment.file_size - inside {
            return None;
        }
        let start = usize::try_from(segment.offset + inside).ok()?;
        Some(start..start + usize::try_from(size).ok()?)
    }

    /// The bytes from an address to the end of what the file has of its segment.
    pub(crate) fn at(&self, vaddr: u64) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.file_size)?;
        let inside = vaddr - segment.vaddr;
        slice(&self.bytes, segment.offset + inside, segment.file_size - inside)
    }

    /// The bytes of a range of addresses, as far as the file has them.
    pub(crate) fn range(&self, range: &Range<u64>) -> &[u8] {
        let bytes = self.at(range.start).unwrap_or_default();
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        bytes.get(..len.min(bytes.len())).unwrap_or_default()
    }

    pub(crate) fn section(&self, name: &[u8]) -> Option<&Section> {
        self.sections.iter().find(|s| s.name(&self.bytes) == name)
    }

    /// The names of its symbols, those of others that it refers to included.
    pub(crate) fn string_tables(&self) -> impl Iterator<Item = &[u8]> {
        self.strings.iter().filter_map(|range| self.bytes.get(range.clone()))
    }

    pub(crate) fn frames(&self) -> &Frames {
        self.frames.get_or_init(|| Frames::read(self))
    }

    pub(crate) fn go_table(&self) -> Option<&GoTable> {
        self.go.get_or_init(|| GoTable::find(self)).as_ref()
    }

    /// The bytes it was made of.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its loaded parts in ascending order of address.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether an address holds code.
    #[must_use]
    pub fn is_text(&self, vaddr: u64) -> bool {
        self.text.iter().any(|r| r.contains(&vaddr))
    }

    /// Position independent: its bias may be other than zero.
    #[must_use]
    pub const fn is_pie(&self) -> bool {
        self.pie
    }

    /// Address of its first instruction; zero if it is a library without one.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// Its GNU build id.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// The name that other files link it by (`DT_SONAME`).
    #[must_use]
    pub fn soname(&self) -> Option<&str> {
        let strings = self.file_range(self.dynamic.strings, self.dynamic.strings_size)?;
        let name = c_string(self.bytes.get(strings)?, self.dynamic.soname?)?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
    }

    /// Whether only names that other modules may use are left, and it is not a Go program either.
    #[must_use]
    pub fn is_stripped(&self) -> bool {
        !self.has_symtab && self.go_table().is_none()
    }

    /// Whether the Go toolchain made it.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.section(b".go.buildinfo").is_some() || self.go_table().is_some()
    }

    /// Its symbols in text in ascending order of address, aliases next to each other; without Go's own table.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// A symbol's name without its version, as the file has it.
    #[must_use]
    pub fn name(&self, symbol: &Symbol) -> Cow<'_, str> {
        String::from_utf8_lossy(self.raw_name(symbol))
    }

    pub(crate) fn raw_name(&self, symbol: &Symbol) -> &[u8] {
        let strings = self.strings.get(usize::from(symbol.table)).cloned().unwrap_or(0..0);
        let strings = self.bytes.get(strings).unwrap_or_default();
        symbols::without_version(c_string(strings, u64::from(symbol.name)).unwrap_or_default())
    }

    /// Name and type of a dynamic symbol by its index.
    pub(crate) fn dynamic_name(&self, index: u32) -> Option<(&[u8], u8, bool)> {
        let at = u64::from(index) * SYMBOL as u64;
        let entry = slice(self.bytes.get(self.dynsym.clone())?, at, SYMBOL as u64)?;
        let strings = self.bytes.get(self.strings.get(1)?.clone())?;
        let name = c_string(strings, u64::from(u32_at(entry, 0)?))?;
        let defined = u16_at(entry, 6)? != SHN_UNDEF;
        Some((symbols::without_version(name), u8_at(entry, 4)? & 0xf, defined))
    }

    /// What to add to an address of the file to get the one in the process; `None` when the mappings do not belong
    /// to this file. All mappings of one loading of the file are to be given.
    #[must_use]
    pub fn bias(&self, mappings: &[MappedRange]) -> Option<u64> {
        let mut votes: Vec<(u64, u32)> = Vec::new();
        for mapping in mappings {
            for segment in self.segments.iter().filter(|s| s.file_size > 0) {
                // The kernel maps whole pages: a segment starts at the page that its first byte is in.
                let first = segment.offset / PAGE * PAGE;
                let last = segment.offset + segment.file_size;
                if mapping.offset < first || mapping.offset >= last || mapping.start % PAGE != 0 {
                    continue;
                }
                let vaddr = (segment.vaddr / PAGE * PAGE).wrapping_add(mapping.offset - first);
                let bias = mapping.start.wrapping_sub(vaddr);
                let vote = 1 + u32::from(mapping.execute == segment.execute);
                match votes.iter_mut().find(|(known, _)| *known == bias) {
                    Some((_, count)) => *count += vote,
                    None => votes.push((bias, vote)),
                }
            }
        }
        let (bias, _) = votes.into_iter().max_by_key(|(_, count)| *count)?;
        (self.pie || bias == 0).then_some(bias)
    }
}

struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

fn program_headers(bytes: &[u8]) -> Option<Vec<Header>> {
    const SIZE: u64 = 56;
    if u64::from(u16_at(bytes, 54)?) != SIZE {
        return None;
    }
    let table = slice(bytes, u64_at(bytes, 32)?, u64::from(u16_at(bytes, 56)?) * SIZE)?;
    table
        .chunks_exact(56)
        .map(|h| {
            Some(Header {
                kind: u32_at(h, 0)?,
                flags: u32_at(h, 4)?,
                offset: u64_at(h, 8)?,
                vaddr: u64_at(h, 16)?,
                file_size: u64_at(h, 32)?,
                memory_size: u64_at(h, 40)?,
                align: u64_at(h, 48)?,
            })
        })
        .collect()
}

fn build_id(mut notes: &[u8], align: u64) -> Option<Vec<u8>> {
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (name_len, body_len) = (u64::from(u32_at(notes, 0)?), u64::from(u32_at(notes, 4)?));
        let body_at = (12 + name_len).next_multiple_of(align);
        let body = slice(notes, body_at, body_len)?;
        if u32_at(notes, 8)? == NT_GNU_BUILD_ID && slice(notes, 12, name_len)? == b"GNU\0" {
            return Some(body.to_vec());
        }
        notes = notes.get(usize::try_from((body_at + body_len).next_multiple_of(align)).ok()?..)?;
        u8_at(notes, 0)?;
    }
}
