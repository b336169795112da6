//! The agent's image: carried by this binary as bytes, laid out for an address in the target.
//!
//! It is a static position-independent executable whose file offsets equal its addresses, so laying it out is a copy;
//! its relocations are all `R_X86_64_RELATIVE`, and we apply them ourselves. `tests/it/image.rs` reads the image and
//! asserts all of that.

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, Rela, SectionHeader};
use object::{LittleEndian as LE, read::elf::ElfFile64};
use trocar_abi::{PAGE, round_up};
use trocar_target::{Failure, FailureKind};

/// The image as the build script made it.
pub const AGENT_IMAGE: &[u8] = include_bytes!(env!("TROCAR_AGENT_IMAGE"));

/// The image, taken apart.
#[derive(Debug)]
pub(crate) struct Image {
    /// Read-only and executable part: everything below the writable part, a whole number of pages.
    pub(crate) text: Vec<u8>,
    /// Writable part with its zeroes, a whole number of pages; it follows the text directly.
    data: Vec<u8>,
    /// Offset of `agent_entry`.
    pub(crate) entry: u64,
    relocations: Vec<(u64, i64)>,
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::Bug, format!("the agent's image is broken: {what}"))
}

impl Image {
    /// Takes the image apart.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, Failure> {
        let file = ElfFile64::<LE>::parse(bytes).map_err(|_| broken("not an ELF file"))?;
        let header = file.elf_header();
        let mut text_end = 0u64;
        let mut data: Option<(u64, u64, u64)> = None;
        for segment in file.elf_program_headers().iter().filter(|s| s.p_type(LE) == elf::PT_LOAD) {
            if segment.p_offset(LE) != segment.p_vaddr(LE) {
                return Err(broken("a segment's file offset is not its address"));
            }
            if segment.p_flags(LE) & elf::PF_W == 0 {
                text_end = text_end.max(segment.p_vaddr(LE) + segment.p_filesz(LE));
            } else if data.replace((segment.p_vaddr(LE), segment.p_filesz(LE), segment.p_memsz(LE))).is_some()
            {
                return Err(broken("two writable segments"));
            }
        }
        let (start, in_file, in_memory) = data.ok_or_else(|| broken("no writable segment"))?;
        if round_up(text_end, PAGE) > start & !(PAGE - 1) {
            return Err(broken("text and data share a page"));
        }
        let part = |from: u64, to: u64| {
            bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?).map(<[u8]>::to_vec)
        };
        let data_start = start & !(PAGE - 1);
        let mut text = part(0, text_end).ok_or_else(|| broken("text outside the file"))?;
        text.resize(usize::try_from(data_start).unwrap_or(0), 0);
        let mut data = part(data_start, start + in_file).ok_or_else(|| broken("data outside the file"))?;
        data.resize(usize::try_from(round_up(start + in_memory, PAGE) - data_start).unwrap_or(0), 0);
        Ok(Self { text, data, entry: header.e_entry(LE), relocations: relocations(&file, bytes)? })
    }

    /// Bytes of the whole image in memory.
    pub(crate) fn len(&self) -> u64 {
        (self.text.len() + self.data.len()) as u64
    }

    /// The writable part for an image at `base`.
    pub(crate) fn data_at(&self, base: u64) -> Result<Vec<u8>, Failure> {
        let mut data = self.data.clone();
        for &(offset, addend) in &self.relocations {
            let at = offset.checked_sub(self.text.len() as u64).and_then(|o| usize::try_from(o).ok());
            let word = at
                .and_then(|at| data.get_mut(at..at + 8))
                .ok_or_else(|| broken("a relocation outside data"))?;
            word.copy_from_slice(&base.wrapping_add_signed(addend).to_le_bytes());
        }
        Ok(data)
    }
}

fn relocations(file: &ElfFile64<'_, LE>, bytes: &[u8]) -> Result<Vec<(u64, i64)>, Failure> {
    let mut all = Vec::new();
    for section in file.elf_section_table().iter() {
        let Some((relas, _)) = section.rela(LE, bytes).map_err(|_| broken("relocations outside the file"))?
        else {
            continue;
        };
        for rela in relas {
            if rela.r_type(LE, false) != elf::R_X86_64_RELATIVE {
                return Err(broken("a relocation that is not relative"));
            }
            all.push((rela.r_offset(LE), rela.r_addend(LE)));
        }
    }
    Ok(all)
}
