//! The dynamic section: what the loader reads, and so what is there even when section headers are not.
//!
//! It holds addresses, not offsets. Source: gABI "Dynamic Section"; GNU hash table: glibc's elf/dl-lookup.c and
//! <https://flapenguin.me/elf-dt-gnu-hash>.

use object::elf::{
    DT_FINI, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_GNU_HASH, DT_HASH, DT_INIT, DT_INIT_ARRAY, DT_INIT_ARRAYSZ,
    DT_JMPREL, DT_NULL, DT_PLTRELSZ, DT_PREINIT_ARRAY, DT_PREINIT_ARRAYSZ, DT_RELA, DT_RELASZ, DT_RELR,
    DT_RELRSZ, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMTAB,
};

use crate::bytes::{u32_at, u64_at};

/// The entries that are used, zero where missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dynamic {
    pub symbols: u64,
    pub strings: u64,
    pub strings_size: u64,
    pub hash: u64,
    pub gnu_hash: u64,
    /// Address and bytes of relocations with addends.
    pub rela: (u64, u64),
    /// The same of the jump slots.
    pub jump_rela: (u64, u64),
    /// The same of packed relative relocations.
    pub relr: (u64, u64),
    /// Addresses of the initialiser and the finaliser.
    pub functions: [u64; 2],
    /// Address and bytes of arrays of function pointers: before, at the start, at the end.
    pub arrays: [(u64, u64); 3],
    /// Offset of the file's own name in `strings`.
    pub soname: Option<u64>,
}

impl Dynamic {
    pub fn read(table: &[u8]) -> Self {
        let mut d = Self::default();
        for entry in table.chunks_exact(16) {
            let (Some(tag), Some(value)) = (u64_at(entry, 0), u64_at(entry, 8)) else { break };
            match tag.cast_signed() {
                DT_NULL => break,
                DT_SYMTAB => d.symbols = value,
                DT_STRTAB => d.strings = value,
                DT_STRSZ => d.strings_size = value,
                DT_HASH => d.hash = value,
                DT_GNU_HASH => d.gnu_hash = value,
                DT_RELA => d.rela.0 = value,
                DT_RELASZ => d.rela.1 = value,
                DT_JMPREL => d.jump_rela.0 = value,
                DT_PLTRELSZ => d.jump_rela.1 = value,
                DT_RELR => d.relr.0 = value,
                DT_RELRSZ => d.relr.1 = value,
                DT_INIT => d.functions[0] = value,
                DT_FINI => d.functions[1] = value,
                DT_PREINIT_ARRAY => d.arrays[0].0 = value,
                DT_PREINIT_ARRAYSZ => d.arrays[0].1 = value,
                DT_INIT_ARRAY => d.arrays[1].0 = value,
                DT_INIT_ARRAYSZ => d.arrays[1].1 = value,
                DT_FINI_ARRAY => d.arrays[2].0 = value,
                DT_FINI_ARRAYSZ => d.arrays[2].1 = value,
                DT_SONAME => d.soname = Some(value),
                _ => {}
            }
        }
        d
    }
}

/// Number of symbols from a System V hash table: it has one chain entry for each.
pub(crate) fn count_by_hash(table: &[u8]) -> Option<u64> {
    u32_at(table, 4).map(u64::from)
}

/// Number of symbols from a GNU hash table: one more than the last one that a chain reaches.
pub(crate) fn count_by_gnu_hash(table: &[u8]) -> Option<u64> {
    let buckets = u64::from(u32_at(table, 0)?);
    let first = u64::from(u32_at(table, 4)?);
    let bloom_words = u64::from(u32_at(table, 8)?);
    let buckets_at = 16 + bloom_words * 8;
    let chains_at = buckets_at + buckets * 4;
    let mut last = 0;
    for bucket in 0..buckets {
        last = last.max(u64::from(u32_at(table, buckets_at + bucket * 4)?));
    }
    if last < first {
        return Some(first);
    }
    while u32_at(table, chains_at + (last - first) * 4)? & 1 == 0 {
        last += 1;
    }
    Some(last + 1)
}
