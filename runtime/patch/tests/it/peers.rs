//! Ways in which others have crashed programs, by their number in PEERS §3.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use trocar_patch::{Analysis, FunctionRange, Reason, Rung, Template};

use crate::support::{BIAS, TEXT, emit, image, near, plan, reason};

#[test]
fn case_1_a_loop_whose_head_is_inside_the_window() {
    // push; mov; push; xor; jne head
    for head in 1..5u8 {
        let back = 0u8.wrapping_sub(9 - head);
        let text = [0x55, 0x53, 0x56, 0x57, 0x90, 0x31, 0xc0, 0x75, back, 0xc3];
        let refusal = plan(&text, TEXT).unwrap_err();
        assert_eq!(refusal.reason, Reason::BranchIntoWindow, "head at +{head}");
    }
    // A head at the site itself, or behind the window, is safe.
    for head in [0, 5] {
        let text = [0x55, 0x53, 0x56, 0x57, 0x90, 0x31, 0xc0, 0x75, 0u8.wrapping_sub(9 - head), 0xc3];
        assert!(plan(&text, TEXT).is_ok(), "head at +{head}");
    }
}

#[test]
fn case_2_another_function_jumps_into_the_window() {
    let mut two = image(&[0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, 0xc3, 0xeb, 0xf7]);
    two.functions =
        vec![FunctionRange { start: TEXT, end: TEXT + 8 }, FunctionRange { start: TEXT + 8, end: TEXT + 10 }];
    assert_eq!(reason(Analysis::new(two.clone()).plan(TEXT)), Reason::BranchIntoWindow);
    two.functions.pop();
    assert_eq!(reason(Analysis::new(two).plan(TEXT)), Reason::BranchIntoWindow, "from a gap no table names");
}

#[test]
fn case_8_endbr64_survives() {
    let text = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x53, 0xc3];
    let found = plan(&text, TEXT).unwrap();
    assert_eq!((found.requested, found.site), (TEXT, TEXT + 4));
    // One that comes later in the straight code is a place where indirect branches arrive.
    let inside = [0x55, 0xf3, 0x0f, 0x1e, 0xfa, 0xc3];
    assert_eq!(reason(plan(&inside, TEXT)), Reason::NotRelocatable);
}

#[test]
fn case_10_blocks_of_one_to_four_bytes() {
    let cases: [&[u8]; 4] =
        [&[0xc3], &[0x31, 0xc0, 0xc3], &[0x90, 0x90, 0xeb, 0x00], &[0x31, 0xc0, 0xeb, 0x00, 0xc3]];
    for text in cases {
        assert_eq!(reason(plan(text, TEXT)), Reason::TooShort, "{text:x?}");
    }
}

#[test]
fn case_13_a_branch_in_the_displaced_bytes_keeps_its_target() {
    // test edi,edi; je +4; mov eax,edi; …
    let text = [0x85, 0xff, 0x74, 0x04, 0x89, 0xf8, 0x31, 0xdb, 0xc3];
    let found = plan(&text, TEXT).unwrap();
    assert_eq!(found.rung, Rung::Window);
    let trampoline = emit(&found, &near());
    let from = usize::try_from(trampoline.relocated.start - trampoline.address).unwrap();
    let mut decoder =
        Decoder::with_ip(64, &trampoline.bytes[from..], trampoline.relocated.start, DecoderOptions::NONE);
    assert_eq!(decoder.decode().mnemonic(), Mnemonic::Test);
    let branch = decoder.decode();
    assert_eq!((branch.mnemonic(), branch.near_branch_target()), (Mnemonic::Je, BIAS + TEXT + 8));
}

#[test]
fn case_13_a_loop_to_the_window_start_hits_again() {
    let text = [0xff, 0xcf, 0x75, 0xfc, 0x31, 0xc0, 0xc3];
    let trampoline = emit(&plan(&text, TEXT).unwrap(), &near());
    let at = trampoline.twin_of(BIAS + TEXT + 2).unwrap();
    let from = usize::try_from(at - trampoline.address).unwrap();
    let branch = Decoder::with_ip(64, &trampoline.bytes[from..], at, DecoderOptions::NONE).decode();
    assert_eq!(branch.near_branch_target(), BIAS + TEXT);
}

#[test]
fn case_17_the_middle_of_an_instruction_is_refused() {
    let text = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, 0xc3];
    for offset in [2, 3, 6] {
        let refusal = plan(&text, TEXT + offset).unwrap_err();
        assert_eq!((refusal.reason, refusal.address), (Reason::MiddleOfInstruction, TEXT + offset));
    }
}

#[test]
fn case_21_the_red_zone_is_skipped_before_anything_is_pushed() {
    let found = plan(&[0x48, 0x89, 0x7c, 0x24, 0xf8, 0x48, 0x8b, 0x44, 0x24, 0xf8, 0xc3], TEXT + 5).unwrap();
    assert!(!found.red_zone_dead);
    let template = Template::make(&found, &near()).unwrap();
    let bytes = template.emit().unwrap().bytes;
    assert_eq!(bytes[..6], [0x48, 0x8d, 0x64, 0x24, 0x80, 0x51], "lea rsp,[rsp-128]; push rcx");
}
