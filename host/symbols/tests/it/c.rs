//! C programs.

use trocar_symbols::{Elf, ElfError, MappedRange, SymbolKind};

use crate::{address, c, compile};

const PLAIN: &str = "
#include <stdlib.h>
__attribute__((noinline)) int inner(int x) { return x * 3; }
int twin(int x) __attribute__((alias(\"inner\")));
static int hidden(int x) { return inner(x) + 1; }
int (*table[2])(int) = { inner, hidden };
__attribute__((constructor)) static void before(void) { if (!getenv(\"X\")) table[0] = hidden; }
int main(int argc, char **argv) { return table[argc & 1](argc); }
";

#[test]
fn functions_aliases_and_entries_of_a_position_independent_program() {
    let elf = c(PLAIN, &["-O1", "-fPIE", "-pie"]);
    assert!(elf.is_pie() && !elf.is_stripped() && !elf.is_go());
    assert_eq!(elf.build_id().map(<[u8]>::len), Some(20));
    assert_eq!(address(&elf, "inner"), address(&elf, "twin"));
    let inner = address(&elf, "inner");
    let (_, end) = *elf.functions().iter().find(|(start, _)| *start == inner).unwrap();
    assert!(end > inner && end - inner < 64);
    assert_eq!(elf.symbolize(end - 1), Some(("twin".into(), end - 1 - inner)));

    let image = elf.code_image();
    for name in ["inner", "hidden", "before", "main", "_start"] {
        let at = address(&elf, name);
        assert!(image.entries.binary_search(&at).is_ok(), "{name}");
        assert!(image.functions.iter().any(|(start, _)| *start == at), "{name}");
        assert!(
            image.text.iter().any(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&at)),
            "{name}"
        );
    }
    // getenv is another module's: what has its name here is a linkage stub.
    assert!(elf.symbols().iter().all(|s| elf.name(s) != "getenv"));
    assert_sound(&elf);
}

/// What holds for every image.
fn assert_sound(elf: &Elf) {
    let image = elf.code_image();
    assert!(image.functions.is_sorted() && image.functions.iter().all(|(start, end)| start < end));
    assert!(image.functions.windows(2).all(|w| w[0].0 != w[1].0));
    assert!(image.entries.windows(2).all(|w| w[0] < w[1]));
    assert!(image.entries.iter().all(|at| elf.is_text(*at)));
    let mut ranges: Vec<(u64, u64)> =
        image.text.iter().chain(&image.data).map(|(at, bytes)| (*at, at + bytes.len() as u64)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{ranges:x?}");
    let loaded: u64 = elf.segments().iter().map(|s| s.file_size).sum();
    assert_eq!(ranges.iter().map(|(start, end)| end - start).sum::<u64>(), loaded);
}

#[test]
fn without_symbols_the_unwind_tables_and_relocations_still_tell_functions() {
    let full = c(PLAIN, &["-O1", "-fPIE", "-pie"]);
    let stripped = c(PLAIN, &["-O1", "-fPIE", "-pie", "-s"]);
    assert!(stripped.is_stripped());
    for name in ["inner", "hidden", "before", "main"] {
        let at = address(&full, name);
        assert!(stripped.functions().iter().any(|(start, _)| *start == at), "{name}");
        assert!(stripped.code_image().entries.contains(&at), "{name}");
        assert_eq!(stripped.symbolize(at), None);
    }
    assert_sound(&stripped);
}

#[test]
fn pointers_are_found_by_relocations_even_without_unwind_tables() {
    let options = ["-O1", "-fPIE", "-pie", "-fno-asynchronous-unwind-tables"];
    let full = c(PLAIN, &options);
    for extra in [&["-s"][..], &["-s", "-Wl,-z,pack-relative-relocs"]] {
        let stripped = c(PLAIN, &[&options, extra].concat());
        for name in ["inner", "hidden", "before"] {
            let at = address(&full, name);
            let entries = stripped.code_image().entries;
            assert!(entries.contains(&at), "{name} {extra:?} {at:x} {entries:x?}");
        }
    }
}

#[test]
fn a_file_without_section_headers_is_read_through_its_segments() {
    let full = compile("cc", PLAIN, &["-O1", "-shared", "-fPIC", "-s", "-Wl,-soname,libplain.so.1"]);
    let with = Elf::parse(full.clone()).unwrap();
    let mut bare = full;
    bare[40..48].fill(0);
    bare[58..64].fill(0);
    let without = Elf::parse(bare).unwrap();
    assert_eq!(without.soname(), Some("libplain.so.1"));
    for name in ["inner", "twin", "main"] {
        assert_eq!(address(&without, name), address(&with, name));
    }
    let with: Vec<_> = with.functions().to_vec();
    assert!(with.iter().all(|f| without.functions().iter().any(|g| g.0 == f.0)));
    assert_sound(&without);
}

#[test]
fn the_bias_follows_from_the_mappings_and_wrong_ones_give_none() {
    let elf = c(PLAIN, &["-O1", "-fPIE", "-pie"]);
    let fixed = c(PLAIN, &["-O1", "-no-pie"]);
    for (elf, bias) in [(&elf, 0x5555_0000_0000), (&fixed, 0)] {
        let mapped: Vec<MappedRange> = elf
            .segments()
            .iter()
            .map(|s| {
                let start = (s.vaddr + bias) & !0xfff;
                let end = (s.vaddr + bias + s.file_size + 0xfff) & !0xfff;
                MappedRange { start, end, offset: s.offset & !0xfff, execute: s.execute }
            })
            .collect();
        assert_eq!(elf.bias(&mapped), Some(bias));
        let code = mapped.iter().find(|m| m.execute).unwrap();
        assert_eq!(elf.bias(&[*code]), Some(bias), "the code alone is enough");
    }
    assert_eq!(elf.bias(&[]), None);
    assert_eq!(elf.bias(&[MappedRange { start: 0x1000, end: 0x2000, offset: 1 << 40, execute: true }]), None);
    let moved = MappedRange { start: 0x7000_0000, end: 0x7000_1000, offset: 0, execute: false };
    assert_eq!(fixed.bias(&[moved]), None, "a fixed program cannot be elsewhere");
}

#[test]
fn indirect_functions_and_labels_are_told_from_functions() {
    let elf = c(
        "
static int a(void) { return 1; }
static int (*pick(void))(void) { return a; }
int chosen(void) __attribute__((ifunc(\"pick\")));
asm(\".text\\n.globl bare_label\\nbare_label: ret\\n\");
int main(void) { return chosen(); }
",
        &["-O1"],
    );
    let kind = |name: &str| elf.symbols().iter().find(|s| elf.name(s) == name).unwrap().kind;
    assert_eq!(kind("chosen"), SymbolKind::Indirect);
    assert_eq!(kind("bare_label"), SymbolKind::Label);
    assert_eq!(kind("main"), SymbolKind::Function);
    assert_eq!(address(&elf, "chosen"), address(&elf, "pick"));
}

#[test]
fn ranges_that_must_not_be_patched_are_found() {
    let elf = c(
        "
asm(\".text\\n.globl __cp_begin,__cp_end\\n__cp_begin: nop; nop; nop\\n__cp_end: ret\\n\"
    \".globl vfork\\n.type vfork,@function\\nvfork: mov $58,%eax; syscall; ret\\n.size vfork,.-vfork\\n\"
    \"restorer: mov $15,%rax; syscall\\n\"
    \"restart_begin: nop; nop; nop; nop\\nrestart_end: ret\\n\"
    \".long 0x53053053\\nrestart_abort: ret\\n\"
    \".pushsection __rseq_cs,\\\"aw\\\"\\n.balign 32\\n.long 0,0\\n.quad restart_begin,restart_end-restart_begin,restart_abort\\n.popsection\\n\");
int main(void) { return 0; }
",
        &["-O1", "-fPIE", "-pie"],
    );
    let never = elf.code_image().never;
    let at = |name| address(&elf, name);
    let holds = |start: u64, end: u64, word: &str| {
        never.iter().any(|(from, to, why)| *from <= start && end <= *to && why.contains(word))
    };
    assert!(holds(at("__cp_begin"), at("__cp_end") + 1, "cancellation"));
    assert!(holds(at("vfork"), at("vfork") + 8, "child side"));
    assert!(holds(at("restorer"), at("restorer") + 9, "signal"));
    assert!(holds(at("restart_begin"), at("restart_end"), "restartable"));
    assert!(holds(at("restart_abort") - 4, at("restart_abort"), "signature"));
    assert!(!never.iter().any(|(from, to, _)| (*from..*to).contains(&at("main"))));
    assert!(elf.code_image().entries.contains(&at("restart_abort")));
}

#[test]
fn the_systems_own_libc_has_its_dangerous_places_marked_though_it_is_stripped() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|l| l.split_whitespace().nth(5).filter(|p| p.contains("libc.so")));
    let elf = Elf::parse(std::fs::read(path.unwrap()).unwrap()).unwrap();
    let never = elf.code_image().never;
    for word in ["signal", "child side"] {
        assert!(never.iter().any(|(_, _, why)| why.contains(word)), "{word}");
    }
    let inside = |name: &str| never.iter().any(|(from, to, _)| (*from..*to).contains(&address(&elf, name)));
    assert!(inside("vfork") && inside("clone") && !inside("malloc") && !inside("read"));
    assert!(elf.functions().len() > 2000);
    assert_sound(&elf);
}

#[test]
fn what_is_no_program_is_said() {
    assert_eq!(Elf::parse(b"#!/bin/sh\n".to_vec()).unwrap_err(), ElfError::NotElf);
    assert_eq!(Elf::parse(Vec::new()).unwrap_err(), ElfError::NotElf);
    let object = compile("cc", "int f;", &["-c"]);
    assert_eq!(Elf::parse(object.clone()).unwrap_err(), ElfError::NotLoadable(1));
    let mut other = object;
    other[18] = 183;
    assert_eq!(Elf::parse(other).unwrap_err(), ElfError::OtherMachine);
    let program = compile("cc", PLAIN, &[]);
    let cut = program[..program.len() / 3].to_vec();
    assert!(matches!(Elf::parse(cut).unwrap_err(), ElfError::Damaged(_)));
}
