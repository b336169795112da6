//! Each rung and each refusal, on a few bytes.

use iced_x86::code_asm::*;
use trocar_patch::{Analysis, Image, Notes, Reason, Rung, foreign_patch, reaches_in};

use crate::support::{DATA, TEXT, assemble, image, plan, reason, rip_relative, with_data};

/// `push rbp; mov rbp,rsp; push rbx; xor eax,eax; ret`: boundaries at 0, 1, 4, 5, 7.
const PLAIN: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, 0xc3];

#[test]
fn a_long_nop_is_rung_one() {
    let found = plan(&[0x0f, 0x1f, 0x44, 0, 0, 0xc3], TEXT).unwrap();
    assert_eq!((found.rung, found.window), (Rung::Nop, TEXT..TEXT + 5));
}

#[test]
fn a_sled_of_single_nops_is_rung_one_and_endbr64_stays_first() {
    let found = plan(&[0xf3, 0x0f, 0x1e, 0xfa, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3], TEXT).unwrap();
    assert_eq!((found.rung, found.requested, found.site), (Rung::Nop, TEXT, TEXT + 4));
    assert_eq!(found.window, TEXT + 4..TEXT + 9);
}

#[test]
fn a_sled_that_is_branched_into_is_refused() {
    // nop ×5; jmp to the third nop
    assert_eq!(reason(plan(&[0x90, 0x90, 0x90, 0x90, 0x90, 0xeb, 0xfb], TEXT)), Reason::BranchIntoWindow);
}

#[test]
fn an_xray_sled_is_rung_one() {
    let found = plan(&[0xeb, 0x09, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0, 0x31, 0xc0, 0xc3], TEXT).unwrap();
    assert_eq!((found.rung, found.window), (Rung::Nop, TEXT..TEXT + 11));
}

#[test]
fn one_long_instruction_is_rung_two() {
    let found = plan(&[0xb8, 1, 0, 0, 0, 0xc3], TEXT).unwrap();
    assert_eq!((found.rung, found.window), (Rung::OneInstruction, TEXT..TEXT + 5));
}

#[test]
fn a_window_ends_at_the_first_boundary_at_or_after_five_bytes() {
    let found = plan(&PLAIN, TEXT).unwrap();
    assert_eq!(
        (found.rung, found.window, found.original),
        (Rung::Window, TEXT..TEXT + 5, PLAIN[..5].to_vec())
    );
    let found = plan(&PLAIN, TEXT + 1).unwrap();
    assert_eq!(found.window, TEXT + 1..TEXT + 7, "mov, push, xor");
}

#[test]
fn a_window_may_end_in_a_call_or_a_return_but_not_go_past_it() {
    let found = plan(&[0x31, 0xc0, 0xe8, 0, 0, 0, 0, 0xc3], TEXT).unwrap();
    assert_eq!((found.window, found.notes), (TEXT..TEXT + 7, Notes { call: true, repeated_string: false }));
    // push, xor, ret are four bytes: the window begins before them.
    assert_eq!(plan(&PLAIN, TEXT + 4).unwrap().window, TEXT + 1..TEXT + 7);
    // xor eax,eax; call rax; xor eax,eax; ret: the call ends after four bytes
    assert_eq!(reason(plan(&[0x31, 0xc0, 0xff, 0xd0, 0x31, 0xc0, 0xc3], TEXT)), Reason::TooShort);
    let ends_in_ret = plan(&[0x48, 0x83, 0xc4, 0x08, 0xc3], TEXT).unwrap();
    assert_eq!((ends_in_ret.rung, ends_in_ret.window), (Rung::Window, TEXT..TEXT + 5));
}

#[test]
fn an_address_outside_text_or_in_a_gap_is_refused() {
    assert_eq!(reason(plan(&PLAIN, TEXT + 8)), Reason::OutsideText);
    assert_eq!(reason(plan(&PLAIN, 0)), Reason::OutsideText);
    assert_eq!(reason(plan(&PLAIN, u64::MAX)), Reason::OutsideText);
    let mut gap = image(&PLAIN);
    gap.functions.clear();
    assert_eq!(reason(Analysis::new(gap).plan(TEXT)), Reason::NoFunction);
}

#[test]
fn a_function_that_ends_too_early_is_refused() {
    let mut two = image(&[0x31, 0xc0, 0xc3, 0, 0, 0, 0, 0]);
    two.functions[0].end = TEXT + 3;
    let refusal = Analysis::new(two).plan(TEXT).unwrap_err();
    assert_eq!((refusal.reason, refusal.address), (Reason::TooShort, TEXT));
}

#[test]
fn a_code_pointer_into_the_window_is_refused_wherever_it_is_known_from() {
    let mut symbol = image(&PLAIN);
    symbol.entries.push(TEXT + 1);
    assert_eq!(reason(Analysis::new(symbol).plan(TEXT)), Reason::CodePointerIntoWindow);
    let mut word = vec![0; 12];
    word[4..12].copy_from_slice(&(TEXT + 4).to_le_bytes());
    let data = with_data(image(&PLAIN), &word);
    assert_eq!(reason(Analysis::new(data).plan(TEXT)), Reason::CodePointerIntoWindow);
    // At a fixed address, four bytes are enough.
    let four = u32::try_from(TEXT + 4).unwrap().to_le_bytes();
    let absolute = Image { pie: false, ..with_data(image(&PLAIN), &[four, [1; 4]].concat()) };
    assert_eq!(reason(Analysis::new(absolute).plan(TEXT)), Reason::CodePointerIntoWindow);
    // A word that names the site itself, or the window's end, is no obstacle.
    for open in [TEXT, TEXT + 5] {
        assert!(Analysis::new(with_data(image(&PLAIN), &open.to_le_bytes())).plan(TEXT).is_ok());
    }
}

#[test]
fn an_instruction_that_takes_an_address_in_the_window_is_an_obstacle() {
    let text = assemble(|a| {
        let mut inside = a.create_label();
        a.push(rbp).unwrap();
        a.set_label(&mut inside).unwrap();
        a.mov(rbp, rsp).unwrap();
        a.push(rbx).unwrap();
        a.lea(rax, ptr(inside)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(reason(plan(&text, TEXT)), Reason::CodePointerIntoWindow);
}

/// `push rbp; mov rbp,rsp; push rbx; lea rdx,[DATA]; movsxd; add; jmp rax`.
fn switch() -> Vec<u8> {
    let mut text = vec![0x55, 0x48, 0x89, 0xe5, 0x53];
    text.extend(rip_relative(&[0x48, 0x8d, 0x15], TEXT + 5, DATA, &[]));
    text.extend([0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0, 0xff, 0xe0]);
    text
}

fn table(targets: &[u64]) -> Vec<u8> {
    let entry = |t: &u64| i32::try_from(t.cast_signed() - DATA.cast_signed()).unwrap().to_le_bytes();
    targets.iter().flat_map(entry).collect()
}

#[test]
fn a_jump_table_into_the_window_is_refused() {
    let into = with_data(image(&switch()), &table(&[TEXT + 5, TEXT + 5, TEXT + 4]));
    assert_eq!(reason(Analysis::new(into).plan(TEXT)), Reason::JumpTableIntoWindow);
    let past = with_data(image(&switch()), &table(&[TEXT + 5, TEXT + 12, TEXT]));
    assert!(Analysis::new(past).plan(TEXT).is_ok());
}

#[test]
fn a_jump_table_is_read_past_the_next_base_for_the_function_it_belongs_to() {
    // Somebody else takes an address in the middle of the table: the bounded reading stops there.
    let mut text = switch();
    let other = TEXT + text.len() as u64;
    text.extend(rip_relative(&[0x48, 0x8d, 0x05], other, DATA + 4, &[]));
    text.push(0xc3);
    let into = with_data(image(&text), &table(&[TEXT + 5, TEXT + 5, TEXT + 4]));
    assert_eq!(reason(Analysis::new(into).plan(TEXT)), Reason::JumpTableIntoWindow);
}

#[test]
fn a_function_that_computes_jumps_from_its_own_address_is_not_trusted() {
    let text = assemble(|a| {
        let mut base = a.create_label();
        a.push(rbp).unwrap();
        a.mov(rbp, rsp).unwrap();
        a.push(rbx).unwrap();
        a.lea(rax, ptr(base)).unwrap();
        a.add(rax, rdi).unwrap();
        a.jmp(rax).unwrap();
        a.set_label(&mut base).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(reason(plan(&text, TEXT)), Reason::JumpTableIntoWindow);
}

#[test]
fn bytes_that_do_not_decode_are_refused_there_and_after() {
    // push rbp; (invalid in 64-bit mode) push es; xor eax,eax; mov eax,1; ret
    let text = [0x55, 0x06, 0x31, 0xc0, 0xb8, 1, 0, 0, 0, 0xc3];
    assert_eq!(reason(plan(&text, TEXT)), Reason::Undecodable);
    assert_eq!(reason(plan(&text, TEXT + 4)), Reason::Undecodable);
}

#[test]
fn a_range_that_is_never_to_be_touched_is_refused_with_its_reason() {
    let mut never = image(&PLAIN);
    never.never.push((TEXT + 4, TEXT + 6, "a restartable sequence"));
    let analysis = Analysis::new(never);
    let refusal = analysis.plan(TEXT).unwrap_err();
    assert_eq!(refusal.reason, Reason::NeverPatch);
    assert!(refusal.detail.contains("a restartable sequence"), "{refusal}");
}

#[test]
fn instructions_that_mean_something_else_elsewhere_are_refused() {
    let cases: [(&str, &[u8]); 8] = [
        ("syscall", &[0x90, 0x0f, 0x05, 0x90, 0x90, 0xc3]),
        ("int 0x80", &[0xcd, 0x80, 0x90, 0x90, 0x90, 0xc3]),
        ("int3", &[0xcc, 0x90, 0x90, 0x90, 0x90, 0xc3]),
        ("loop", &[0x31, 0xc0, 0xe2, 0xfc, 0x90, 0xc3]),
        ("jrcxz", &[0x31, 0xc0, 0xe3, 0xfc, 0x90, 0xc3]),
        ("xbegin", &[0xc7, 0xf8, 0, 0, 0, 0, 0xc3]),
        ("ud2", &[0x0f, 0x0b, 0x90, 0x90, 0x90, 0xc3]),
        ("lea eax,[eip+0]", &[0x67, 0x8d, 0x05, 0, 0, 0, 0, 0xc3]),
    ];
    for (name, text) in cases {
        assert_eq!(reason(plan(text, TEXT)), Reason::NotRelocatable, "{name}");
    }
}

#[test]
fn lock_prefixes_stack_operands_and_repeated_strings_may_be_displaced() {
    assert!(plan(&[0xf0, 0x48, 0xff, 0x44, 0x24, 0x08, 0xc3], TEXT).is_ok());
    let found = plan(&[0xf3, 0x48, 0xa5, 0x31, 0xc0, 0xc3], TEXT).unwrap();
    assert!(found.notes.repeated_string);
}

#[test]
fn a_branch_past_a_prefix_is_found_although_it_is_no_boundary() {
    // je +1; lock inc qword [rip+x]: the branch skips the prefix, as old glibc does.
    let text = [0x74, 0x01, 0xf0, 0x48, 0xff, 0x05, 0, 0, 0, 0, 0xc3];
    assert_eq!(reason(plan(&text, TEXT + 2)), Reason::BranchIntoWindow);
}

#[test]
fn the_red_zone_is_proven_dead_only_where_a_call_is_the_only_way_in() {
    assert!(plan(&PLAIN, TEXT).unwrap().red_zone_dead);
    assert!(!plan(&PLAIN, TEXT + 1).unwrap().red_zone_dead, "inside a function");
    let looped = [0xb8, 1, 0, 0, 0, 0x75, 0xf9, 0xc3];
    assert!(!plan(&looped, TEXT).unwrap().red_zone_dead, "the entry is a loop's head");
    // A first function that runs into the second.
    let mut falls = image(&[0x31, 0xc0, 0xb8, 1, 0, 0, 0, 0xc3]);
    falls.functions[0].end = TEXT + 2;
    falls.functions.push(trocar_patch::FunctionRange { start: TEXT + 2, end: TEXT + 8 });
    assert!(!Analysis::new(falls).plan(TEXT + 2).unwrap().red_zone_dead, "code runs into it");
}

#[test]
fn a_wrong_size_inside_a_function_makes_no_boundary() {
    // The symbol says that the function ends in the middle of the `mov`; the unwind table knows better.
    let mut sizes = image(&[0xb8, 1, 0, 0, 0, 0xb8, 2, 0, 0, 0, 0xc3]);
    sizes.functions.push(trocar_patch::FunctionRange { start: TEXT, end: TEXT + 7 });
    assert_eq!(reason(Analysis::new(sizes).plan(TEXT + 7)), Reason::MiddleOfInstruction);
}

#[test]
fn patches_of_other_tools_are_seen() {
    assert_eq!(foreign_patch(TEXT, &PLAIN, &PLAIN), None);
    for live in [[0xcc, 0x48, 0x89, 0xe5, 0x53], [0xe9, 1, 2, 3, 4], [0x55, 0x48, 0x89, 0xe5, 0x90]] {
        assert_eq!(foreign_patch(TEXT, &PLAIN, &live).unwrap().reason, Reason::AlreadyPatched);
    }
    assert!(foreign_patch(TEXT, &PLAIN, &[]).is_some(), "nothing known is not nothing wrong");
}

#[test]
fn hostile_images_are_refused_without_a_panic() {
    let mut odd = image(&PLAIN);
    odd.text.push(trocar_patch::Segment { vaddr: u64::MAX - 2, bytes: [0x90; 8].as_slice().into() });
    odd.text.push(trocar_patch::Segment { vaddr: TEXT + 2, bytes: [0x90; 8].as_slice().into() });
    odd.functions.extend(
        [(0, u64::MAX), (TEXT + 7, 1), (u64::MAX, u64::MAX)]
            .map(|(start, end)| trocar_patch::FunctionRange { start, end }),
    );
    odd.entries.extend([0, u64::MAX]);
    odd.never.push((u64::MAX, 0, "nonsense"));
    let analysis = Analysis::new(odd);
    assert!(analysis.plan(u64::MAX - 1).is_err());
    assert!(analysis.plan(TEXT + 8).is_err());
    assert_eq!(analysis.plan(TEXT).unwrap().window, TEXT..TEXT + 5);
}

#[test]
fn a_patch_that_begins_in_front_and_reaches_in_is_seen() {
    let file: Vec<u8> = (0x20..0x30).collect();
    let patched = |at: usize, bytes: &[u8]| {
        let mut live = file.clone();
        for (to, from) in live.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        live
    };
    let jump = [0xe9, 1, 2, 3, 0xff];
    assert!(!reaches_in(&file, &file));
    for at in 0..=11 {
        assert!(!reaches_in(&file, &patched(at, &jump)), "a jump at {at} ends in front");
    }
    for at in 12..=15 {
        assert!(reaches_in(&file, &patched(at, &jump)), "a jump at {at} does not");
    }
    assert!(reaches_in(&file, &patched(15, &[0xeb, 3])) && !reaches_in(&file, &patched(14, &[0xeb, 3])));
    assert!(!reaches_in(&file, &patched(15, &[0xcc])), "a breakpoint is one byte");
    assert!(reaches_in(&file, &patched(3, &[0xff, 0x25])), "an absolute jump has fourteen");
    assert!(!reaches_in(&file, &patched(0, &[1, 2, 3, 4])), "the tail of a jump that began before");
    assert!(reaches_in(&file, &patched(14, &[1, 2])), "what is not known");
    assert!(reaches_in(&file[..4], &[0x20, 0x21, 9, 0x23]), "at the start of the text nothing began before");
    assert!(reaches_in(&file, &file[..15]), "what could not be read");
}
