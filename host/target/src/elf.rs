//! The little of ELF that is needed before symbols are: is it a 64-bit x86 program, what is its build id, and
//! which parts of a file hold nothing but debug information.
//!
//! Pure functions over bytes; every offset comes from a file that may be hostile. Names and code ranges are the
//! business of the crate `trocar-symbols`. Layouts: System V gABI chapter 4, elf(5).

/// Bytes of an ELF64 header.
pub(crate) const HEADER_BYTES: usize = 64;
/// A section of at least this many bytes that the program never maps is not read.
const SKIP_FROM: u64 = 1 << 20;

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const SHT_PROGBITS: u32 = 1;
const SHF_ALLOC: u64 = 2;

/// Whether the file at whose start these bytes stand is a 64-bit x86 program or library.
///
/// # Errors
/// What it is instead, as the end of a sentence ("is ...").
pub fn check_machine(header: &[u8]) -> Result<(), String> {
    if header.get(..4) != Some(b"\x7fELF") {
        return Err("not an ELF file".into());
    }
    match (header.get(4), u16_at(header, 18)) {
        (Some(&CLASS_64), Some(X86_64)) => Ok(()),
        (Some(&CLASS_32), Some(X86_64)) => Err("an x32 program (32-bit pointers)".into()),
        (Some(&CLASS_32), _) => Err("a 32-bit program".into()),
        (Some(&CLASS_64), Some(machine)) => Err(format!("for another processor (ELF machine {machine})")),
        _ => Err("a damaged ELF file".into()),
    }
}

/// The GNU build id of an ELF image, from its program headers. `image` is the file, or the memory from the
/// first byte of the module on, as far as it is at hand.
#[must_use]
pub fn build_id(image: &[u8]) -> Option<Vec<u8>> {
    program_headers(image)?.filter(|p| p.kind == PT_NOTE).find_map(|p| {
        let start = usize::try_from(p.offset).ok()?;
        let end = start.checked_add(usize::try_from(p.file_size).ok()?)?;
        let mut notes = image.get(start..end.min(image.len()))?;
        loop {
            let note = Note::first(notes, p.align)?;
            if note.kind == NT_GNU_BUILD_ID && note.name == b"GNU\0" {
                return Some(note.body.to_vec());
            }
            notes = note.rest;
        }
    })
}

/// One note of a note segment.
struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    body: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

impl<'a> Note<'a> {
    fn first(notes: &'a [u8], align: u64) -> Option<Self> {
        let align = if align == 8 { 8 } else { 4 };
        let name_len = usize::try_from(u32_at(notes, 0)?).ok()?;
        let body_len = usize::try_from(u32_at(notes, 4)?).ok()?;
        let name_end = 12usize.checked_add(name_len)?;
        let body_at = name_end.checked_next_multiple_of(align)?;
        let body_end = body_at.checked_add(body_len)?;
        let next = body_end.checked_next_multiple_of(align)?;
        Some(Self {
            name: notes.get(12..name_end)?,
            kind: u32_at(notes, 8)?,
            body: notes.get(body_at..body_end)?,
            rest: notes.get(next..).unwrap_or_default(),
        })
    }
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    file_size: u64,
    align: u64,
}

fn program_headers(image: &[u8]) -> Option<impl Iterator<Item = ProgramHeader>> {
    let start = usize::try_from(u64_at(image, 32)?).ok()?;
    let count = usize::from(u16_at(image, 56)?);
    let table = image.get(start..)?;
    Some(table.chunks_exact(56).take(count).filter_map(|p| {
        Some(ProgramHeader {
            kind: u32_at(p, 0)?,
            offset: u64_at(p, 8)?,
            file_size: u64_at(p, 32)?,
            align: u64_at(p, 48)?,
        })
    }))
}

/// Where the section headers of a file stand, as `(offset, bytes)`; `None` if it has none.
pub(crate) fn section_table(header: &[u8]) -> Option<(u64, usize)> {
    let offset = u64_at(header, 40)?;
    let size = usize::from(u16_at(header, 58)?);
    let count = usize::from(u16_at(header, 60)?);
    (offset != 0 && size == 64 && count != 0).then_some((offset, size * count))
}

/// Long parts of a file that only debuggers read, as `(start, end)` in order: sections that are not
/// mapped and are neither symbols nor names. `programs` are the program headers: what they map is kept.
pub(crate) fn debug_ranges(programs: &[u8], sections: &[u8]) -> Vec<(u64, u64)> {
    let loaded: Vec<(u64, u64)> = programs
        .chunks_exact(56)
        .filter(|p| u32_at(p, 0) == Some(PT_LOAD))
        .filter_map(|p| Some((u64_at(p, 8)?, u64_at(p, 8)?.saturating_add(u64_at(p, 32)?))))
        .collect();
    let mut skip: Vec<(u64, u64)> = sections
        .chunks_exact(64)
        .filter(|s| u32_at(s, 4) == Some(SHT_PROGBITS) && u64_at(s, 8).unwrap_or(SHF_ALLOC) & SHF_ALLOC == 0)
        .filter_map(|s| Some((u64_at(s, 24)?, u64_at(s, 24)?.checked_add(u64_at(s, 32)?)?)))
        .filter(|(start, end)| end - start >= SKIP_FROM)
        .filter(|(start, end)| !loaded.iter().any(|(from, to)| start < to && from < end))
        .collect();
    skip.sort_unstable();
    skip
}

/// Offset and length of the program headers in the file.
pub(crate) fn program_table(header: &[u8]) -> Option<(u64, usize)> {
    Some((u64_at(header, 32)?, usize::from(u16_at(header, 56)?) * 56))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4] = class;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn a_32_bit_program_is_named_as_such() {
        assert_eq!(check_machine(&header(CLASS_32, 3)), Err("a 32-bit program".into()));
        assert_eq!(check_machine(&header(CLASS_32, X86_64)), Err("an x32 program (32-bit pointers)".into()));
        assert_eq!(
            check_machine(&header(CLASS_64, 183)),
            Err("for another processor (ELF machine 183)".into())
        );
        assert_eq!(check_machine(b"#!/bin/sh\n"), Err("not an ELF file".into()));
        assert_eq!(check_machine(&header(CLASS_64, X86_64)), Ok(()));
    }

    #[test]
    fn a_build_id_behind_another_note_is_found() {
        let mut image = header(CLASS_64, X86_64);
        image[32..40].copy_from_slice(&64u64.to_le_bytes());
        image[56..58].copy_from_slice(&1u16.to_le_bytes());
        let mut segment = [0; 56];
        segment[..4].copy_from_slice(&PT_NOTE.to_le_bytes());
        segment[8..16].copy_from_slice(&120u64.to_le_bytes());
        segment[32..40].copy_from_slice(&40u64.to_le_bytes());
        image.extend(segment);
        for (kind, body) in [(1u32, [0u8; 4]), (NT_GNU_BUILD_ID, [0xde, 0xad, 0xbe, 0xef])] {
            image.extend(4u32.to_le_bytes());
            image.extend(4u32.to_le_bytes());
            image.extend(kind.to_le_bytes());
            image.extend(b"GNU\0");
            image.extend(body);
        }
        assert_eq!(build_id(&image), Some(vec![0xde, 0xad, 0xbe, 0xef]));
        for end in 0..image.len() {
            assert_eq!(build_id(&image[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn only_long_unmapped_sections_are_skipped() {
        let mut sections = vec![0; 3 * 64];
        for (at, (flags, offset, size)) in
            [(0, 0x10_0000u64, 0x20_0000u64), (SHF_ALLOC, 0x40_0000, 0x20_0000), (0, 0x70_0000, 0x100)]
                .into_iter()
                .enumerate()
        {
            let s = &mut sections[at * 64..][..64];
            s[4..8].copy_from_slice(&SHT_PROGBITS.to_le_bytes());
            s[8..16].copy_from_slice(&flags.to_le_bytes());
            s[24..32].copy_from_slice(&offset.to_le_bytes());
            s[32..40].copy_from_slice(&size.to_le_bytes());
        }
        assert_eq!(debug_ranges(&[], &sections), [(0x10_0000, 0x30_0000)]);
    }
}
