//! Go functions without a stack check: where they are planned. What their trampolines do is in `host/inject/tests`.

use trocar_patch::{
    Analysis, Claims, Exit, ExitKind, FunctionRange, GoSource, HitPosition, Image, Placement, Reason,
    Refusal, Segment, SitePlan, recognise,
};

use crate::support::{BIAS, TEXT, emit, image, near, reason};

/// `mov eax,1; ret`.
const MOVE: [u8; 6] = [0xb8, 1, 0, 0, 0, 0xc3];

/// Where a thread has its goroutine.
const TLS: i32 = -8;

/// Another function, as assembly has them: it says where.
const ELSEWHERE: u64 = TEXT + 0x100;
const SAYS: [u8; 10] = [0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff, 0xc3];

fn go(text: &[u8]) -> Image {
    let mut image = Image { go: true, goroutines_searched: true, compiled: vec![TEXT], ..image(text) };
    image.text.push(Segment { vaddr: ELSEWHERE, bytes: SAYS.as_slice().into() });
    image.functions.push(FunctionRange { start: ELSEWHERE, end: ELSEWHERE + SAYS.len() as u64 });
    image
}

fn plan(text: &[u8], at: u64) -> Result<SitePlan, Refusal> {
    Analysis::new(go(text)).plan(at)
}

#[test]
fn functions_of_gos_compiler_need_no_stack_check() {
    let found = plan(&MOVE, TEXT).unwrap();
    assert_eq!((found.position, found.go), (HitPosition::Before, Some(GoSource::Unchecked(TLS))));
    // Those of its assembler do, and so do all where the version of Go is not known.
    let assembly = Image { compiled: Vec::new(), ..go(&MOVE) };
    assert_eq!(reason(Analysis::new(assembly).plan(TEXT)), Reason::StackUnknown);
    // And where nothing says where a thread has its goroutine.
    let silent = Image { go: true, goroutines_searched: true, compiled: vec![TEXT], ..image(&MOVE) };
    assert_eq!(reason(Analysis::new(silent).plan(TEXT)), Reason::StackUnknown);
    let unsearched = Image { goroutines_searched: false, ..go(&MOVE) };
    assert_eq!(reason(Analysis::new(unsearched).plan(TEXT)), Reason::StackUnknown);
}

#[test]
fn where_r12_or_r13_may_hold_something_nothing_is_patched() {
    // mov r12,rax; mov eax,1; mov rax,r12; ret; int3 ×4
    let text = [0x49, 0x89, 0xc4, 0xb8, 1, 0, 0, 0, 0x4c, 0x89, 0xe0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc];
    let found = |at| plan(&text, at);
    assert!(found(TEXT).is_ok(), "at the start it holds nothing yet");
    assert_eq!(reason(found(TEXT + 3)), Reason::StackUnknown);
    assert!(found(TEXT + 11).is_ok(), "at the return nothing any more");
    // As above, and a jump back to the start: it may come with something in r12.
    let mut looped = text;
    looped[11..13].copy_from_slice(&[0xeb, 0xf3]);
    assert_eq!(reason(plan(&looped, TEXT)), Reason::StackUnknown);
    // A jump to nowhere known may stay in the function: jmp r11 instead of the return.
    let mut indirect = text;
    indirect[11..14].copy_from_slice(&[0x41, 0xff, 0xe3]);
    assert_eq!(reason(plan(&indirect, TEXT + 11)), Reason::StackUnknown);
    // mov r12d,eax; mov r13b,al; mov eax,[r13+0]; mov eax,[rax+r12]
    let others: [&[u8]; 4] =
        [&[0x41, 0x89, 0xc4], &[0x41, 0x88, 0xc5], &[0x41, 0x8b, 0x45, 0], &[0x42, 0x8b, 0x04, 0x20]];
    for names in others {
        let text = [names, &MOVE].concat();
        assert_eq!(reason(plan(&text, TEXT + names.len() as u64)), Reason::StackUnknown, "{names:x?}");
    }
}

#[test]
fn where_r14_may_not_hold_the_goroutine_nothing_is_patched() {
    // call; xorps xmm15,xmm15; mov r14,fs:[-8]; mov eax,1; ret
    let fetch = [0x45, 0x0f, 0x57, 0xff, 0x64, 0x4c, 0x8b, 0x34, 0x25, 0xf8, 0xff, 0xff, 0xff];
    let call = [0xe8, 0, 1, 0, 0];
    let text = [&call[..], &fetch, &MOVE].concat();
    assert!(plan(&text, TEXT).is_ok());
    for at in [TEXT + 5, TEXT + 9] {
        assert_eq!(reason(plan(&text, at)), Reason::StackUnknown, "assembly has just returned");
    }
    assert!(plan(&text, TEXT + 18).is_ok(), "fetched again");
    // One that fetches it without a call before is called by assembly itself.
    let wrapper = [&MOVE[..5], &fetch, &call, &MOVE[5..]].concat();
    assert_eq!(reason(plan(&wrapper, TEXT)), Reason::StackUnknown);
    assert_eq!(reason(plan(&wrapper, TEXT + 23)), Reason::StackUnknown);
    // mov r14,rax; xchg rax,r14; pop r14
    for writes in [&[0x49, 0x89, 0xc6][..], &[0x49, 0x96], &[0x41, 0x5e]] {
        assert_eq!(reason(plan(&[&MOVE[..5], writes, &[0xc3]].concat(), TEXT)), Reason::StackUnknown);
    }
    // push r14; cmp r14,rax; mov rax,r14
    for reads in [&[0x41, 0x56][..], &[0x49, 0x39, 0xc6], &[0x4c, 0x89, 0xf0]] {
        assert!(plan(&[&MOVE[..5], reads, &[0xc3]].concat(), TEXT).is_ok());
    }
    // What is at r14 is certain only behind a check: mov eax,[r14+0x100]
    let reads = [0x41, 0x8b, 0x86, 0, 1, 0, 0, 0xc3];
    assert_eq!(reason(plan(&reads, TEXT)), Reason::Faulting);
}

#[test]
fn an_exit_that_is_taken_or_not_is_left_alone() {
    // test eax,eax; je elsewhere; ret
    let distance = i32::try_from(ELSEWHERE - (TEXT + 8)).unwrap().to_le_bytes();
    let text = [&[0x85, 0xc0, 0x0f, 0x84][..], &distance, &[0xc3]].concat();
    let exit = |conditional| {
        let kind = ExitKind::TailJump { conditional, target: Some(ELSEWHERE) };
        Analysis::new(go(&text)).plan_exit(&Exit { address: TEXT + 2, kind }, &Claims::new())
    };
    assert_eq!(reason(exit(true)), Reason::StackUnknown, "past all of the hit it would be too far");
    assert!(exit(false).is_ok());
}

#[test]
fn such_a_trampoline_is_recognised() {
    for skipped_cell in [None, Some(BIAS + 0x20_0010)] {
        let placement = Placement { red_zone: false, skipped_cell, ..near() };
        let t = emit(&plan(&MOVE, TEXT).unwrap(), &placement);
        let found = recognise(t.address, &t.bytes).unwrap();
        assert_eq!((found.position, found.go), (HitPosition::Before, Some(GoSource::Unchecked(TLS))));
        assert_eq!((found.gate, found.agent_cell), (placement.gate, placement.agent_cell));
        assert_eq!((found.site_index, found.skipped_cell), (placement.site_index, skipped_cell));
        for n in 0..t.bytes.len() - 5 - MOVE.len() {
            let mut other = t.bytes.clone();
            other[n] ^= 0x40;
            assert_ne!(recognise(t.address, &other), Some(found), "byte {n} is another");
        }
    }
}
