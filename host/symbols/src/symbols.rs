//! Symbol tables: what is kept of each symbol, and in which order.
//!
//! Only defined symbols that lie in text are kept, so that entries of procedure linkage tables (undefined symbols
//! with an address) are out. A name is an offset into one of the two string tables and is read when needed.
//! Layout: gABI "Symbol Table".

use object::elf::{SHN_ABS, SHN_UNDEF, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};

use crate::bytes::{u8_at, u16_at, u32_at, u64_at};

/// Bytes of a symbol.
pub(crate) const SYMBOL: usize = 24;

/// What a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A resolver that returns the function to use (`STT_GNU_IFUNC`).
    Indirect,
    /// A name in text without a type: hand-written assembly, and labels within functions.
    Label,
}

/// A symbol in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address as the file has it.
    pub address: u64,
    /// Its size in bytes, zero if unknown.
    pub size: u64,
    /// What it is.
    pub kind: SymbolKind,
    /// Zero for global, one for weak, two for local.
    pub(crate) binding: u8,
    /// Which string table: 0 for `.symtab`'s, 1 for `.dynsym`'s.
    pub(crate) table: u8,
    /// Offset of the name there.
    pub(crate) name: u32,
}

impl Symbol {
    /// Whether other modules, or other objects of this one, may refer to it.
    pub(crate) fn is_global(&self) -> bool {
        const LOCAL: u8 = 2;
        self.binding != LOCAL || self.table != 0
    }
}

impl Symbol {
    /// Whether it is one of the dynamic symbols, by which other modules find it.
    pub(crate) const fn is_exported(&self) -> bool {
        self.table == 1
    }
}

/// Reads the symbols of a table that `keep` accepts by address.
pub(crate) fn read(table: &[u8], number: u8, keep: impl Fn(u64) -> bool, into: &mut Vec<Symbol>) {
    for entry in table.chunks_exact(SYMBOL) {
        let Some((symbol, section)) = read_one(entry, number) else { continue };
        if section != SHN_UNDEF && section != SHN_ABS && symbol.name != 0 && keep(symbol.address) {
            into.push(symbol);
        }
    }
}

fn read_one(entry: &[u8], table: u8) -> Option<(Symbol, u16)> {
    let info = u8_at(entry, 4)?;
    let kind = match info & 0xf {
        STT_FUNC => SymbolKind::Function,
        STT_GNU_IFUNC => SymbolKind::Indirect,
        STT_NOTYPE => SymbolKind::Label,
        _ => return None,
    };
    let binding = match info >> 4 {
        STB_GLOBAL => 0,
        STB_WEAK => 1,
        _ => 2,
    };
    let symbol = Symbol {
        name: u32_at(entry, 0)?,
        address: u64_at(entry, 8)?,
        size: u64_at(entry, 16)?,
        kind,
        binding,
        table,
    };
    Some((symbol, u16_at(entry, 6)?))
}

/// Address of a defined symbol of a table by its index; `None` for one that another module defines.
pub(crate) fn defined_address(table: &[u8], index: u32) -> Option<u64> {
    let entry = table.get(usize::try_from(index).ok()?.checked_mul(SYMBOL)?..)?;
    if u16_at(entry, 6)? == SHN_UNDEF { None } else { u64_at(entry, 8) }
}

/// A name without its version (`memcpy@@GLIBC_2.14`).
pub(crate) fn without_version(name: &[u8]) -> &[u8] {
    match memchr::memchr(b'@', name) {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}
