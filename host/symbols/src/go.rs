//! Go's own table of functions (`pclntab`), which every Go program carries, stripped or not.
//!
//! ```text
//!  header   magic u32 │ 0 0 │ quantum u8 │ pointer size u8 │ then words of 8 bytes:
//!           functions │ files │ text start │ names │ units │ files │ pcs │ functab   (the last five: offsets)
//!  functab  (entry u32, record u32) × functions, end u32     entries relative to text start, records to functab
//!  record   entry u32 │ name i32 │ args i32 │ deferreturn u32 │ frame sizes u32 │ four more │ start line u32, from
//!           Go 1.20 on │ kind u8 │ flags u8 │ 0 │ number of descriptions u8 │ …
//! ```
//! Go 1.18 and later (Go's src/runtime/symtab.go: pcHeader, _func; src/internal/abi/symtab.go). In a
//! position-independent program the text start is written by a relocation, and from Go 1.26 on it may be
//! zero: then it is the symbol `runtime.text` or the start of `.text`. Older Go has other tables; its functions are
//! known by symbols and unwind entries only.

use crate::bytes::{c_string, u8_at, u32_at, u64_at};
use crate::elf::Elf;

const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;
const HEADER: u64 = 8 + 8 * 8;
/// Flags of a function (`FuncFlagSPWrite`, `FuncFlagAsm`).
const WRITES_SP: u8 = 2;
const ASSEMBLY: u8 = 4;

/// A function of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoFunction {
    pub start: u64,
    /// The next function's start: padding belongs to it.
    pub end: u64,
    /// Where a recovered panic goes on; zero if nowhere.
    pub resume: u64,
    /// Go's compiler made it: it is not assembly, and does not set its stack pointer at will. Nor is it C: the linker lists
    /// what it takes from C compilers too (cgo, the race detector), with everything zero that Go's compiler tells.
    pub compiled: bool,
    /// Address of its name.
    name: u64,
}

/// The functions in ascending order.
#[derive(Debug)]
pub(crate) struct GoTable {
    pub functions: Vec<GoFunction>,
}

impl GoTable {
    /// Finds and reads the table; `None` in a program that is not Go, or Go before 1.18.
    pub fn find(elf: &Elf) -> Option<Self> {
        let names: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
        if let Some(section) = names.iter().find_map(|name| elf.section(name)) {
            return Self::read(elf, section.address);
        }
        if !elf.sections.is_empty() {
            return None;
        }
        // No section headers: the header's first eight bytes are rare enough to be looked for.
        elf.segments().iter().find_map(|segment| {
            let bytes = elf.at(segment.vaddr)?;
            [MAGIC_1_20, MAGIC_1_18].iter().find_map(|magic| {
                let mut head = magic.to_le_bytes().to_vec();
                head.extend([0, 0, 1, 8]);
                memchr::memmem::find_iter(bytes, &head)
                    .take(16)
                    .find_map(|at| Self::read(elf, segment.vaddr + at as u64))
            })
        })
    }

    fn read(elf: &Elf, address: u64) -> Option<Self> {
        let table = elf.at(address)?;
        let magic = u32_at(table, 0)?;
        if !matches!(magic, MAGIC_1_18 | MAGIC_1_20) || u8_at(table, 7)? != 8 {
            return None;
        }
        let word = |n: u64| u64_at(table, 8 + n * 8);
        let count = word(0)?;
        let (names, functab) = (word(3)?, word(7)?);
        if names < HEADER || functab < HEADER {
            return None;
        }
        let text = text_start(elf, address.checked_add(8 + 2 * 8)?)?;
        let records = table.get(usize::try_from(functab).ok()?..)?;
        let pairs = records.get(..usize::try_from(count.checked_mul(8)?.checked_add(4)?).ok()?)?;
        let mut functions: Vec<GoFunction> = Vec::with_capacity(pairs.len() / 8);
        for at in (0..count).map(|n| n * 8) {
            let (start, record) = (u32_at(pairs, at)?, u64::from(u32_at(pairs, at + 4)?));
            let end = u32_at(pairs, at + 8)?;
            let start = text.checked_add(u64::from(start))?;
            let end = text.checked_add(u64::from(end))?;
            if end < start || !elf.is_text(start) {
                continue;
            }
            let name = u64::from(u32_at(records, record + 4)?);
            let resume = u64::from(u32_at(records, record + 12)?);
            let flags_at = record + if magic == MAGIC_1_18 { 37 } else { 41 };
            let (flags, described) = (u8_at(records, flags_at)?, u8_at(records, flags_at + 2)?);
            let has_frames = u32_at(records, record + 16)? != 0;
            functions.push(GoFunction {
                start,
                end,
                resume: if resume == 0 { 0 } else { start + resume },
                compiled: flags & (WRITES_SP | ASSEMBLY) == 0 && has_frames && described != 0,
                name: address.checked_add(names)?.checked_add(name)?,
            });
        }
        functions.sort_by_key(|f| f.start);
        Some(Self { functions })
    }

    pub fn name<'a>(&self, elf: &'a Elf, function: &GoFunction) -> &'a [u8] {
        elf.at(function.name).and_then(|bytes| c_string(bytes, 0)).unwrap_or_default()
    }
}

fn text_start(elf: &Elf, place: u64) -> Option<u64> {
    let word = elf.word_after_loading(place)?;
    if elf.is_text(word) {
        return Some(word);
    }
    let by_symbol = elf.symbols().iter().find(|s| elf.raw_name(s) == b"runtime.text").map(|s| s.address);
    by_symbol.or_else(|| elf.section(b".text").map(|s| s.address)).filter(|at| elf.is_text(*at))
}
