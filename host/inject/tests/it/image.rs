//! The agent's image, read as bytes: everything that the loader relies on and that DESIGN's laws promise of it.

use std::collections::BTreeMap;

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, Rela, SectionHeader, Sym};
use trocar_inject::AGENT_IMAGE;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// The image's limit in bytes (it is carried by every binary of ours, and its text is mapped into every target).
const SIZE_MAX: usize = 800_000;
/// System call instructions in the image: one for each call in `runtime/agent/src/sys.rs`, where it was inlined.
const SYSTEM_CALLS_MAX: usize = 8;

fn file() -> ElfFile64<'static, LE> {
    ElfFile64::parse(AGENT_IMAGE).unwrap()
}

fn segments() -> Vec<ProgramHeader64<LE>> {
    file().elf_program_headers().to_vec()
}

fn loads() -> Vec<ProgramHeader64<LE>> {
    segments().into_iter().filter(|s| s.p_type(LE) == elf::PT_LOAD).collect()
}

/// Name and header of each section.
fn sections() -> Vec<(String, elf::SectionHeader64<LE>)> {
    let file = file();
    let table = file.elf_section_table();
    let name = |s| String::from_utf8_lossy(table.section_name(LE, s).unwrap()).into_owned();
    table.iter().map(|s| (name(s), *s)).collect()
}

#[test]
fn it_is_a_static_position_independent_executable_for_x86_64() {
    let file = file();
    let header: &FileHeader64<LE> = file.elf_header();
    assert_eq!(header.e_type(LE), elf::ET_DYN);
    assert_eq!(header.e_machine(LE), elf::EM_X86_64);
    let flags_1 = dynamic().get(&elf::DT_FLAGS_1).copied().unwrap_or(0);
    assert_ne!(flags_1 & u64::from(elf::DF_1_PIE), 0, "an executable, not a library");
}

#[test]
fn it_asks_for_no_interpreter_no_library_and_no_thread_local_storage() {
    for segment in segments() {
        let kind = segment.p_type(LE);
        assert!(![elf::PT_INTERP, elf::PT_TLS, elf::PT_GNU_RELRO].contains(&kind), "segment {kind:#x}");
    }
    assert!(!sections().iter().any(|(_, s)| s.sh_flags(LE) & u64::from(elf::SHF_TLS) != 0));
    let dynamic = dynamic();
    // Who would run constructors, bind symbols lazily, or make text writable to relocate it? Nobody.
    for (tag, name) in [
        (elf::DT_NEEDED, "DT_NEEDED"),
        (elf::DT_JMPREL, "DT_JMPREL"),
        (elf::DT_PLTRELSZ, "DT_PLTRELSZ"),
        (elf::DT_REL, "DT_REL"),
        (elf::DT_RELR, "DT_RELR"),
        (elf::DT_TEXTREL, "DT_TEXTREL"),
        (elf::DT_INIT, "DT_INIT"),
        (elf::DT_FINI, "DT_FINI"),
        (elf::DT_INIT_ARRAY, "DT_INIT_ARRAY"),
        (elf::DT_FINI_ARRAY, "DT_FINI_ARRAY"),
        (elf::DT_PREINIT_ARRAY, "DT_PREINIT_ARRAY"),
        (elf::DT_RPATH, "DT_RPATH"),
        (elf::DT_RUNPATH, "DT_RUNPATH"),
    ] {
        assert!(!dynamic.contains_key(&tag), "{name}");
    }
}

/// The dynamic section: value by tag.
fn dynamic() -> BTreeMap<i64, u64> {
    let file = file();
    let entries =
        file.elf_program_headers().iter().find_map(|s| s.dynamic(LE, AGENT_IMAGE).unwrap()).unwrap();
    entries.iter().map(|d| (d.d_tag(LE), d.d_val(LE))).collect()
}

#[test]
fn it_has_no_undefined_symbol() {
    let file = file();
    let sections = file.elf_section_table();
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let symbols = sections.symbols(LE, AGENT_IMAGE, kind).unwrap();
        // The first symbol is always the null symbol.
        for symbol in symbols.iter().skip(1) {
            let name = String::from_utf8_lossy(symbol.name(LE, symbols.strings()).unwrap());
            assert!(!symbol.is_undefined(LE), "{name}");
        }
    }
}

#[test]
fn every_segments_file_offset_is_its_address() {
    assert!(!loads().is_empty());
    for segment in loads() {
        assert_eq!(segment.p_offset(LE), segment.p_vaddr(LE));
        let end = segment.p_offset(LE) + segment.p_filesz(LE);
        assert!(end <= AGENT_IMAGE.len() as u64 && segment.p_filesz(LE) <= segment.p_memsz(LE));
        assert!(
            segment.p_flags(LE) & elf::PF_W != 0 || segment.p_filesz(LE) == segment.p_memsz(LE),
            "zeroes in text"
        );
    }
}

#[test]
fn nothing_is_writable_and_executable_and_no_page_is_shared() {
    let loads = loads();
    for segment in segments() {
        let both = elf::PF_W | elf::PF_X;
        assert_ne!(segment.p_flags(LE) & both, both, "{:#x}", segment.p_vaddr(LE));
    }
    let pages =
        |s: &ProgramHeader64<LE>| s.p_vaddr(LE) / PAGE..(s.p_vaddr(LE) + s.p_memsz(LE)).div_ceil(PAGE);
    for (i, one) in loads.iter().enumerate() {
        for other in &loads[i + 1..] {
            if one.p_flags(LE) != other.p_flags(LE) {
                let (a, b) = (pages(one), pages(other));
                assert!(a.end <= b.start || b.end <= a.start, "pages {a:?} and {b:?}");
            }
        }
    }
    let with = |flag| loads.iter().filter(|s| s.p_flags(LE) & flag != 0).count();
    assert_eq!((with(elf::PF_X), with(elf::PF_W)), (1, 1), "one executable and one writable segment");
    // The loader takes the writable part for the end.
    assert_ne!(loads.last().unwrap().p_flags(LE) & elf::PF_W, 0);
}

#[test]
fn its_stack_is_not_executable() {
    let stacks: Vec<_> = segments().into_iter().filter(|s| s.p_type(LE) == elf::PT_GNU_STACK).collect();
    assert_eq!(stacks.len(), 1);
    assert_eq!(stacks[0].p_flags(LE) & elf::PF_X, 0);
}

#[test]
fn every_relocation_is_relative_and_changes_data_only() {
    let loads = loads();
    let writable = loads.iter().find(|s| s.p_flags(LE) & elf::PF_W != 0).unwrap();
    let range = writable.p_vaddr(LE)..writable.p_vaddr(LE) + writable.p_filesz(LE);
    let end = loads.iter().map(|s| s.p_vaddr(LE) + s.p_memsz(LE)).max().unwrap();
    let mut found = 0;
    for (name, section) in sections() {
        assert!(![elf::SHT_REL, elf::SHT_RELR].contains(&section.sh_type(LE)), "{name}");
        let Some((relocations, _)) = section.rela(LE, AGENT_IMAGE).unwrap() else { continue };
        for relocation in relocations {
            found += 1;
            let at = relocation.r_offset(LE);
            assert_eq!(relocation.r_type(LE, false), elf::R_X86_64_RELATIVE, "{name} {at:#x}");
            assert_eq!(relocation.r_sym(LE, false), 0, "{name} {at:#x}");
            assert!(range.contains(&at) && range.contains(&(at + 7)), "{name} {at:#x} is not in data");
            let to = u64::try_from(relocation.r_addend(LE)).unwrap();
            assert!(to <= end, "{name} {at:#x} points to {to:#x}, outside the image");
        }
    }
    assert!(found > 0, "an image of this size has vtables");
    assert_eq!(dynamic().get(&elf::DT_RELASZ), Some(&(found * 24)), "the dynamic section tells of all");
}

#[test]
fn it_is_small() {
    let size = AGENT_IMAGE.len();
    println!("{size} bytes");
    assert!(size < SIZE_MAX, "{size} bytes; the limit is {SIZE_MAX}");
}

// ---- code -------------------------------------------------------------------------------------------------------

/// Executable sections: name, address, bytes.
fn code() -> Vec<(String, u64, &'static [u8])> {
    let mut all = Vec::new();
    for (name, section) in sections() {
        if section.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0 {
            all.push((name, section.sh_addr(LE), section.data(LE, AGENT_IMAGE).unwrap()));
        }
    }
    all
}

/// Every instruction, by a linear sweep: the image holds no data between its functions (the test below proves it).
fn instructions() -> Vec<Instruction> {
    let mut all = Vec::new();
    for (_, address, bytes) in code() {
        all.extend(Decoder::with_ip(64, bytes, address, DecoderOptions::NONE));
    }
    all
}

#[test]
fn its_code_is_decoded_from_the_first_byte_to_the_last() {
    let names: Vec<String> = code().into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, [".text"]);
    for (name, address, bytes) in code() {
        let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
        let mut starts = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid(), "{name}: no instruction at {:#x}", instruction.ip());
            starts.push(instruction.ip());
        }
        assert_eq!(decoder.position(), bytes.len(), "{name}: the last instruction ends with the section");
        assert!(starts.len() > 50_000, "{name}: {} instructions", starts.len());
        assert!(starts.binary_search(&file().elf_header().e_entry(LE)).is_ok(), "{name}: the entry is in it");
    }
}

#[test]
fn direct_branches_lead_to_instructions_of_its_own() {
    // A sweep that had lost its way in data would show here: its branches would lead anywhere.
    let all = instructions();
    let starts: Vec<u64> = all.iter().map(Instruction::ip).collect();
    let mut branches = 0;
    for instruction in all.iter().filter(|i| i.near_branch_target() != 0) {
        branches += 1;
        let target = instruction.near_branch_target();
        assert!(
            starts.binary_search(&target).is_ok(),
            "{:#x} {instruction} goes to {target:#x}",
            instruction.ip()
        );
    }
    assert!(branches > 5_000, "{branches} branches");
}

/// Processor features that its code may need, as iced names them. None of them has a register besides the general
/// ones and xmm0 to xmm15, which the entry code saves.
fn allowed(feature: CpuidFeature) -> bool {
    matches!(
        feature,
        CpuidFeature::INTEL8086
            | CpuidFeature::INTEL186
            | CpuidFeature::INTEL286
            | CpuidFeature::INTEL386
            | CpuidFeature::INTEL486
            | CpuidFeature::X64
            | CpuidFeature::CMOV
            | CpuidFeature::CX8
            | CpuidFeature::CPUID
            | CpuidFeature::TSC
            | CpuidFeature::SYSCALL
            | CpuidFeature::PAUSE
            | CpuidFeature::MULTIBYTENOP
            | CpuidFeature::SSE
            | CpuidFeature::SSE2
            // `tzcnt` without VEX: to an older processor it is `bsf`, and the compiler emits it only where both agree.
            | CpuidFeature::BMI1
            // `rdfsbase`: the thread pointer of Go programs, where the host found that the processor has it.
            | CpuidFeature::FSGSBASE
    )
}

#[test]
fn it_contains_no_avx_no_x87_and_no_mmx() {
    let mut needed: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut infos = InstructionInfoFactory::new();
    for instruction in instructions() {
        let legacy = instruction.op_code().encoding() == EncodingKind::Legacy;
        let features = instruction.cpuid_features();
        for feature in features {
            *needed.entry(format!("{feature:?}")).or_default() += 1;
        }
        let registers = infos.info(&instruction).used_registers();
        let known = registers.iter().all(|used| used.access() == OpAccess::None || saved(used.register()));
        if !legacy || !known || !features.iter().all(|&f| allowed(f)) {
            wrong.push(format!("{:#x} {instruction}: {features:?}", instruction.ip()));
        }
    }
    println!("{needed:?}");
    assert!(
        wrong.is_empty(),
        "{} instructions: {:#?}",
        wrong.len(),
        wrong.iter().take(20).collect::<Vec<_>>()
    );
}

/// Whether a register is one that the entry code saves, or none of a thread's vector state at all.
fn saved(register: Register) -> bool {
    register.is_gpr() || register.is_xmm() || register.is_ip() || register.is_segment_register()
}

/// Whether an instruction touches one of xmm8 to xmm15.
fn is_high(infos: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    infos
        .info(instruction)
        .used_registers()
        .iter()
        .any(|u| u.access() != OpAccess::None && u.register().is_xmm() && u.register().number() >= 8)
}

/// A hit saves xmm8 to xmm15 only for modules that touch them; so nothing that a hit can reach in the image may. What is
/// left in it are wasmtime's helpers for vector instructions, which the engine's configuration turns off: each is
/// one word of wasmtime's table of helpers, of which there are two copies, and nothing else leads to it.
#[test]
fn nothing_that_a_hit_can_reach_touches_xmm8_to_xmm15() {
    let mut infos = InstructionInfoFactory::new();
    let all = instructions();
    let (mut saved, mut restored, mut high) = (Vec::new(), Vec::new(), Vec::new());
    for instruction in all.iter().filter(|i| is_high(&mut infos, i)) {
        // The entry code: `movups [rsp + 16 n], xmm n` and back.
        let own_slot = |r: Register| instruction.memory_displacement64() == 16 * r.number() as u64;
        let on_stack = instruction.memory_base() == Register::RSP;
        match (instruction.code(), instruction.op0_register(), instruction.op1_register()) {
            (Code::Movups_xmmm128_xmm, _, r) if on_stack && own_slot(r) => saved.push(r.number()),
            (Code::Movups_xmm_xmmm128, r, _) if on_stack && own_slot(r) => restored.push(r.number()),
            _ => high.push(instruction.ip()),
        }
    }
    let upper: Vec<usize> = (8..16).collect();
    assert_eq!((&saved, &restored), (&upper, &upper), "by the entry code, once each");

    let calls = all.iter().map(Instruction::near_branch_target).filter(|&t| t != 0);
    let taken = all.iter().filter(|i| i.is_ip_rel_memory_operand()).map(Instruction::ip_rel_memory_address);
    let by_code: Vec<u64> = calls.chain(taken).collect();
    let words: Vec<(u64, u64)> = relocations().collect();
    let mut helpers = BTreeMap::new();
    for ip in high {
        // Its function begins where the last padding before it ends.
        let before = all.partition_point(|i| i.ip() < ip);
        let start = all[..before].iter().rposition(|i| i.mnemonic() == Mnemonic::Int3).unwrap() + 1;
        let end = all[before..].iter().find(|i| i.mnemonic() == Mnemonic::Int3).unwrap().ip();
        let start = all[start].ip();
        let inside =
            all.iter().filter(|i| (start..end).contains(&i.ip())).map(Instruction::near_branch_target);
        let from_inside = inside.filter(|t| (start..end).contains(t)).count();
        let to_it = by_code.iter().filter(|t| (start..end).contains(t)).count();
        assert_eq!(to_it, from_inside, "code leads to {start:#x}, which touches one at {ip:#x}");
        let at: Vec<u64> = words.iter().filter(|(_, to)| (start..end).contains(to)).map(|w| w.0).collect();
        assert_eq!(at.len(), 2, "words {at:x?} lead to {start:#x}, which touches one at {ip:#x}");
        helpers.insert(start, at);
    }
    println!("{helpers:x?}");
    assert!(helpers.len() <= 4, "swizzle, shuffle, two kinds of fma: {helpers:x?}");
    for copy in 0..2 {
        let words: Vec<u64> = helpers.values().map(|at| at[copy]).collect();
        let (first, last) = (words.iter().min().unwrap(), words.iter().max().unwrap());
        assert!(last - first < 8 * 64, "words of one table: {helpers:x?}");
    }
}

/// Where each relocated word lies, and where it leads to.
fn relocations() -> impl Iterator<Item = (u64, u64)> {
    let mut all = Vec::new();
    for (_, section) in sections() {
        let Some((relocations, _)) = section.rela(LE, AGENT_IMAGE).unwrap() else { continue };
        all.extend(relocations.iter().map(|r| (r.r_offset(LE), r.r_addend(LE).cast_unsigned())));
    }
    all.into_iter()
}

#[test]
fn it_makes_system_calls_from_one_page_of_source_only() {
    let all = instructions();
    let calls: Vec<u64> =
        all.iter().filter(|i| i.mnemonic() == Mnemonic::Syscall).map(Instruction::ip).collect();
    println!("syscall at {calls:x?}");
    assert!(
        (1..=SYSTEM_CALLS_MAX).contains(&calls.len()),
        "{} syscall instructions: {calls:x?}",
        calls.len()
    );
    for instruction in &all {
        let other_way = matches!(
            instruction.mnemonic(),
            Mnemonic::Sysenter
                | Mnemonic::Sysexit
                | Mnemonic::Sysret
                | Mnemonic::Int
                | Mnemonic::Int1
                | Mnemonic::Into
        );
        assert!(!other_way && !instruction.is_privileged(), "{:#x} {instruction}", instruction.ip());
    }
}

#[test]
fn it_touches_no_segment_base_and_no_control_register() {
    let mut infos = InstructionInfoFactory::new();
    for instruction in instructions() {
        let writes = |used: &iced_x86::UsedRegister| {
            let written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            written && used.register().is_segment_register()
        };
        let bases = matches!(
            instruction.code(),
            Code::Wrfsbase_r32 | Code::Wrfsbase_r64 | Code::Wrgsbase_r32 | Code::Wrgsbase_r64
        );
        let segments = infos.info(&instruction).used_registers().iter().any(writes);
        assert!(!bases && !segments, "{:#x} {instruction}", instruction.ip());
    }
}

#[test]
fn its_entry_clears_the_direction_flag_first() {
    let entry = file().elf_header().e_entry(LE);
    let first = instructions().into_iter().find(|i| i.ip() == entry).unwrap();
    assert_eq!(first.mnemonic(), Mnemonic::Cld);
}
