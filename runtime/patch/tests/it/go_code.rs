//! Go: the stack check, what may fault, and the check of room.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use trocar_patch::{
    Analysis, GO_STACK_ROOM, GoSource, HitPosition, Image, Placement, Reason, Refusal, SitePlan, recognise,
};

use crate::support::{BIAS, TEXT, emit, image, near, reason};

/// `cmp rsp,[r14+0x10]; jbe tail; BODY; ret; tail: call morestack; jmp start`, with the check given.
fn function(check: &[u8], body: &[u8]) -> Vec<u8> {
    let mut text = check.to_vec();
    let tail = u8::try_from(body.len() + 1).unwrap();
    text.extend([0x76, tail]);
    text.extend(body);
    text.push(0xc3);
    text.extend([0xe8, 0, 1, 0, 0]);
    let back = 0u8.wrapping_sub(u8::try_from(text.len() + 2).unwrap());
    text.extend([0xeb, back]);
    text
}

const SMALL: [u8; 4] = [0x49, 0x3b, 0x66, 0x10];

fn plan(text: &[u8], at: u64) -> Result<SitePlan, Refusal> {
    Analysis::new(Image { go: true, ..image(text) }).plan(at)
}

#[test]
fn at_an_entry_the_window_is_the_check_and_the_hit_comes_after_it() {
    let found = plan(&function(&SMALL, &[0x31, 0xc0]), TEXT).unwrap();
    assert_eq!(found.window, TEXT..TEXT + 6);
    assert_eq!((found.position, found.go), (HitPosition::After, Some(GoSource::R14)));
    let t = emit(&found, &Placement { red_zone: false, ..near() });
    let all: Vec<Instruction> =
        Decoder::with_ip(64, &t.bytes, t.address, DecoderOptions::NONE).into_iter().collect();
    assert_eq!(all[0].mnemonic(), Mnemonic::Cmp);
    assert_eq!((all[1].mnemonic(), all[1].near_branch_target()), (Mnemonic::Jbe, BIAS + TEXT + 9));
    assert_eq!(all[2].mnemonic(), Mnemonic::Push, "the hit, on the path that falls through");
    assert_eq!(all.last().unwrap().near_branch_target(), BIAS + TEXT + 6);
    assert_eq!(t.twin_of(BIAS + TEXT + 4), Some(all[1].ip()));
}

#[test]
fn the_forms_for_large_frames_and_for_assembly_are_recognised() {
    // lea r12,[rsp-0x100]; cmp r12,[r14+0x10]
    let large = [0x4c, 0x8d, 0xa4, 0x24, 0, 0xff, 0xff, 0xff, 0x4d, 0x3b, 0x66, 0x10];
    // mov r12,rsp; sub r12,0x10000; jb tail; cmp r12,[r14+0x10]
    let huge = [0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0, 1, 0, 0x72, 0x09, 0x4d, 0x3b, 0x66, 0x10];
    // mov rcx,fs:[-8]; cmp rsp,[rcx+0x10]
    let assembly = [0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x48, 0x3b, 0x61, 0x10];
    let cases: [(&[u8], GoSource); 3] =
        [(&large, GoSource::R14), (&huge, GoSource::R14), (&assembly, GoSource::Tls(-8))];
    for (check, source) in cases {
        let found = plan(&function(check, &[0x31, 0xc0]), TEXT).unwrap();
        assert_eq!(found.window, TEXT..TEXT + check.len() as u64 + 2);
        assert_eq!((found.position, found.go), (HitPosition::After, Some(source)));
    }
}

#[test]
fn a_function_without_a_check_is_refused() {
    assert_eq!(reason(plan(&[0xb8, 1, 0, 0, 0, 0xc3], TEXT)), Reason::StackUnknown);
    // A check of something else than the guard is none.
    assert_eq!(reason(plan(&function(&[0x49, 0x3b, 0x66, 0x20], &[0x31, 0xc0]), TEXT)), Reason::StackUnknown);
}

#[test]
fn inside_a_function_only_one_long_instruction_that_cannot_fault_will_do() {
    let at = TEXT + 6;
    let good: [&[u8]; 4] = [
        &[0xb8, 1, 0, 0, 0],
        &[0x48, 0x8b, 0x44, 0x24, 0x08],
        &[0x48, 0x8b, 0x05, 0, 0, 0, 0],
        &[0x0f, 0x1f, 0x44, 0, 0],
    ];
    for body in good {
        let found = plan(&function(&SMALL, body), at).unwrap();
        assert_eq!((found.position, found.go), (HitPosition::Before, Some(GoSource::R14)), "{body:x?}");
    }
    let faults: [&[u8]; 2] = [&[0x48, 0x8b, 0x80, 0, 1, 0, 0], &[0x48, 0x8b, 0x44, 0xc4, 0x08]];
    for body in faults {
        assert_eq!(reason(plan(&function(&SMALL, body), at)), Reason::Faulting, "{body:x?}");
    }
    assert_eq!(reason(plan(&function(&SMALL, &[0x31, 0xc0, 0x31, 0xdb, 0x31, 0xff]), at)), Reason::TooShort);
}

#[test]
fn where_the_check_has_not_passed_nothing_is_patched() {
    let text = function(&SMALL, &[0xb8, 1, 0, 0, 0]);
    assert_eq!(reason(plan(&text, TEXT + 4)), Reason::StackUnknown, "the jbe");
    assert_eq!(reason(plan(&text, TEXT + 12)), Reason::StackUnknown, "the call of morestack");
}

#[test]
fn room_is_measured_without_flags_and_a_skipped_hit_is_counted() {
    let cell = BIAS + 0x20_0010;
    let found = plan(&function(&SMALL, &[0x31, 0xc0]), TEXT).unwrap();
    let placement = Placement { red_zone: false, skipped_cell: Some(cell), ..near() };
    let t = emit(&found, &placement);
    let all: Vec<Instruction> =
        Decoder::with_ip(64, &t.bytes, t.address, DecoderOptions::NONE).into_iter().collect();
    let names: Vec<Mnemonic> = all.iter().skip(2).map(Instruction::mnemonic).collect();
    use Mnemonic as M;
    assert_eq!(
        names,
        [
            M::Push,
            M::Mov,
            M::Jrcxz,
            M::Mov,
            M::Not,
            M::Lea,
            M::Bswap,
            M::Movzx,
            M::Jrcxz,
            M::Pushfq,
            M::Inc,
            M::Popfq,
            M::Jmp,
            M::Mov,
            M::Call,
            M::Pop,
            M::Jmp
        ]
    );
    // Flags are written only between pushfq and popfq.
    for i in all.iter().skip(2).filter(|i| !matches!(i.mnemonic(), M::Inc | M::Popfq)) {
        assert_eq!(i.rflags_modified(), 0, "{:?}", i.mnemonic());
    }
    let open = all.iter().find(|i| i.ip() == all[10].near_branch_target()).unwrap();
    assert_eq!((open.mnemonic(), open.immediate32()), (M::Mov, placement.site_index));
    let closed = all[14].near_branch_target();
    assert_eq!((closed, all[4].near_branch_target()), (all[17].ip(), all[17].ip()));
    assert_eq!(all[12].ip_rel_memory_address(), cell);
    assert!(all[12].has_lock_prefix());
    let room = all[7].memory_displacement64().cast_signed();
    assert_eq!(room, 1 - i64::from(GO_STACK_ROOM));
}

#[test]
fn the_measure_is_zero_exactly_where_there_is_room() {
    // What not, lea, bswap and movzx compute, for a stack that starts at `low`.
    let measure = |low: u64, rsp: u64| {
        let rcx = (!low).wrapping_add(rsp).wrapping_add_signed(1 - i64::from(GO_STACK_ROOM));
        u64::from(rcx.swap_bytes().to_le_bytes()[0])
    };
    let low = 0xc0_0008_0000;
    for above in [0, 1, 8, u64::from(GO_STACK_ROOM) - 1] {
        assert_ne!(measure(low, low + above), 0, "{above} bytes");
    }
    for above in [u64::from(GO_STACK_ROOM), 2048, 1 << 30] {
        assert_eq!(measure(low, low + above), 0, "{above} bytes");
    }
}

#[test]
fn a_go_trampoline_is_recognised() {
    let assembly = [0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x48, 0x3b, 0x61, 0x10];
    for (check, source) in [(SMALL.as_slice(), GoSource::R14), (&assembly, GoSource::Tls(-8))] {
        for skipped_cell in [None, Some(BIAS + 0x20_0010)] {
            let placement = Placement { red_zone: false, skipped_cell, ..near() };
            let t = emit(&plan(&function(check, &[0x31, 0xc0]), TEXT).unwrap(), &placement);
            let found = recognise(t.address, &t.bytes).unwrap();
            assert_eq!((found.position, found.go), (HitPosition::After, Some(source)));
            assert_eq!((found.gate, found.agent_cell), (placement.gate, placement.agent_cell));
            assert_eq!((found.site_index, found.skipped_cell), (placement.site_index, skipped_cell));
        }
    }
}
