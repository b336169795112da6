//! Relocations that make code addresses: what position-independent data points at.
//!
//! Types: System V x86-64 ABI, table 4.9. Packed relative relocations (`DT_RELR`): gABI, "Relative Relocation
//! Table"; there the addend stands in the data itself.

use std::ops::Range;

use object::elf::{
    R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE, SHT_RELA,
    SHT_RELR,
};

use crate::bytes::u64_at;
use crate::elf::Elf;
use crate::symbols;

/// Most packed relocations: eight bytes stand for up to 63 of them.
const PACKED: usize = 16 << 20;

/// A relocation of the kinds that matter: where it writes, and what, for a bias of zero.
pub(crate) struct Relocation {
    pub place: u64,
    pub value: u64,
}

impl Elf {
    /// Calls `found` for every relocation whose value is known without other modules.
    pub(crate) fn relocations(&self, mut found: impl FnMut(Relocation)) {
        let dynsym = self.bytes.get(self.dynsym.clone()).unwrap_or_default();
        for table in self.tables(SHT_RELA, &[self.dynamic.rela, self.dynamic.jump_rela]) {
            for entry in self.range(&table).chunks_exact(24) {
                let (Some(place), Some(info), Some(addend)) =
                    (u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16))
                else {
                    continue;
                };
                // The low half is the type, the high half the symbol.
                let symbol = u32::try_from(info >> 32).unwrap_or(0);
                let value = match u32::try_from(info & 0xffff_ffff).unwrap_or(0) {
                    R_X86_64_RELATIVE | R_X86_64_IRELATIVE => Some(addend),
                    R_X86_64_64 | R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT => {
                        symbols::defined_address(dynsym, symbol).map(|address| address.wrapping_add(addend))
                    }
                    _ => None,
                };
                if let Some(value) = value {
                    found(Relocation { place, value });
                }
            }
        }
        let mut budget = PACKED;
        for table in self.tables(SHT_RELR, &[self.dynamic.relr]) {
            packed(self.range(&table), &mut budget, |place| {
                if let Some(value) = self.at(place).and_then(|bytes| u64_at(bytes, 0)) {
                    found(Relocation { place, value });
                }
            });
        }
    }

    /// Tables of a kind: those that the loader uses; in a program without a loader, those that sections name.
    pub(crate) fn tables(&self, kind: u32, dynamic: &[(u64, u64)]) -> Vec<Range<u64>> {
        let mut tables: Vec<Range<u64>> = dynamic
            .iter()
            .filter(|(at, size)| *at != 0 && *size != 0)
            .filter_map(|(at, size)| Some(*at..at.checked_add(*size)?))
            .collect();
        if tables.is_empty() {
            tables
                .extend(self.sections.iter().filter(|s| s.kind == kind && s.is_loaded()).map(|s| s.range()));
        }
        tables
    }

    /// The eight bytes at an address as the loader leaves them for a bias of zero.
    pub(crate) fn word_after_loading(&self, vaddr: u64) -> Option<u64> {
        let mut word = None;
        self.relocations(|r| {
            if r.place == vaddr {
                word = Some(r.value);
            }
        });
        word.or_else(|| self.at(vaddr).and_then(|bytes| u64_at(bytes, 0)))
    }

    /// Code addresses in data: relocations, arrays of initialisers and finalisers. Not sorted.
    pub(crate) fn code_pointers(&self) -> Vec<u64> {
        let mut pointers = Vec::new();
        self.relocations(|r| {
            if self.is_text(r.value) {
                pointers.push(r.value);
            }
        });
        let d = &self.dynamic;
        pointers.extend(d.functions.iter().filter(|at| self.is_text(**at)));
        let names: [&[u8]; 3] = [b".preinit_array", b".init_array", b".fini_array"];
        let by_name = names.iter().filter_map(|name| self.section(name)).map(|s| s.range());
        let by_tag = d.arrays.iter().map(|(at, size)| *at..at.saturating_add(*size));
        for array in by_name.chain(by_tag) {
            let words = self.range(&array).chunks_exact(8).filter_map(|word| u64_at(word, 0));
            pointers.extend(words.filter(|at| self.is_text(*at)));
        }
        pointers
    }
}

/// Decodes packed relative relocations: an even word is a place, an odd one a bitmap of the 63 words after it.
fn packed(table: &[u8], budget: &mut usize, mut found: impl FnMut(u64)) {
    let mut next = 0u64;
    for entry in table.chunks_exact(8).filter_map(|entry| u64_at(entry, 0)) {
        if entry & 1 == 0 {
            found(entry);
            next = entry.wrapping_add(8);
        } else {
            let mut bits = entry >> 1;
            while bits != 0 {
                let Some(left) = budget.checked_sub(1) else { return };
                *budget = left;
                found(next.wrapping_add(u64::from(bits.trailing_zeros()) * 8));
                bits &= bits - 1;
            }
            next = next.wrapping_add(63 * 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_stand_for_the_words_after_the_last_place() {
        let words = [0x1000u64, 0b1011, 0b11, 0x2000];
        let table: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut places = Vec::new();
        packed(&table, &mut 100, |place| places.push(place));
        assert_eq!(places, [0x1000, 0x1008, 0x1018, 0x1008 + 63 * 8, 0x2000]);
    }
}
