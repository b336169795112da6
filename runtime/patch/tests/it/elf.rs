//! Makes an [`Image`] of an ELF file, for tests and for the coverage example.
//!
//! It reads functions from unwind tables and symbols, and entries from symbols and relocations. It does
//! not read landing pads: the host does that.

use std::collections::BTreeSet;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, SectionKind, SymbolKind};
use trocar_patch::{FunctionRange, Image, Segment};

/// Reads an ELF file's bytes.
pub fn image(file: &[u8]) -> Image {
    let elf = object::File::parse(file).expect("an ELF file");
    let mut image = Image { pie: elf.kind() == object::ObjectKind::Dynamic, ..Image::default() };
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        let loaded = sh_flags & u64::from(object::elf::SHF_ALLOC) != 0;
        let Ok(bytes) = section.data() else { continue };
        if !loaded || bytes.is_empty() || section.kind() == SectionKind::UninitializedData {
            continue;
        }
        let segment = Segment { vaddr: section.address(), bytes: bytes.into() };
        if sh_flags & u64::from(object::elf::SHF_EXECINSTR) != 0 {
            image.text.push(segment);
        } else {
            image.data.push(segment);
        }
    }
    image.go = elf.section_by_name(".gopclntab").is_some();
    let mut entries = BTreeSet::from([elf.entry()]);
    for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
        if symbol.kind() == SymbolKind::Text && symbol.address() != 0 {
            entries.insert(symbol.address());
            let (start, end) = (symbol.address(), symbol.address() + symbol.size());
            image.functions.push(FunctionRange { start, end });
        }
    }
    for (_, relocation) in elf.dynamic_relocations().into_iter().flatten() {
        let symbol = match relocation.target() {
            RelocationTarget::Symbol(index) => elf
                .dynamic_symbol_table()
                .and_then(|t| object::ObjectSymbolTable::symbol_by_index(&t, index).ok()),
            _ => None,
        };
        let base = symbol.map_or(0, |s| s.address());
        entries.insert(base.wrapping_add_signed(relocation.addend()));
    }
    image.entries = entries.into_iter().collect();
    unwind(&elf, &mut image);
    image
}

fn unwind(elf: &object::File<'_>, image: &mut Image) {
    let Some(section) = elf.section_by_name(".eh_frame") else { return };
    let text = elf.section_by_name(".text").map_or(0, |s| s.address());
    let bases = BaseAddresses::default().set_eh_frame(section.address()).set_text(text);
    let frames = EhFrame::new(section.data().expect("its bytes"), LittleEndian);
    let mut entries = frames.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(fde) = entry
            && let Ok(fde) = fde.parse(|_, bases, offset| frames.cie_from_offset(bases, offset))
        {
            let start = fde.initial_address();
            image.functions.push(FunctionRange { start, end: start + fde.len() });
        }
    }
}
