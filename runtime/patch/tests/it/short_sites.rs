//! Sites with less than five bytes of their own: windows that begin earlier, padding behind an exit, short
//! jumps to slack; and what stops each.

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use trocar_patch::{
    Analysis, Claims, FunctionRange, HitPosition, Image, Reason, Refusal, Rung, SitePlan, jump_target,
    recognise,
};

use crate::support::{BIAS, DATA, TEXT, emit, image, near, plan, reason, rip_relative, with_data};

const RET: u8 = 0xc3;
const INT3: u8 = 0xcc;
/// `push rbp; mov rbp,rsp; push rbx; xor eax,eax; ret`.
const PLAIN: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, RET];

/// Functions one after another, each with its padding, as one text.
fn functions(parts: &[(&[u8], &[u8])]) -> Image {
    let text: Vec<u8> = parts.iter().flat_map(|(code, padding)| [*code, *padding].concat()).collect();
    let mut made = image(&text);
    made.functions.clear();
    let mut start = TEXT;
    for (code, padding) in parts {
        made.functions.push(FunctionRange { start, end: start + code.len() as u64 });
        start += (code.len() + padding.len()) as u64;
    }
    made
}

fn plan_in(image: &Image, at: u64) -> Result<SitePlan, Refusal> {
    Analysis::new(image.clone()).plan(at)
}

/// `ret` alone, its padding, and a function after it.
fn lone_ret(padding: &[u8]) -> Image {
    functions(&[(&[RET], padding), (&PLAIN, &[])])
}

#[test]
fn a_return_takes_the_padding_that_follows() {
    let nops: [&[u8]; 4] = [
        &[INT3; 4],
        &[0x90; 4],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    ];
    for padding in nops {
        let found = plan_in(&lone_ret(padding), TEXT).unwrap();
        assert_eq!((found.rung, found.window.clone()), (Rung::Exit, TEXT..TEXT + 1), "{padding:x?}");
        let [write] = found.writes.as_slice() else { panic!("{found:?}") };
        assert_eq!(write.range(), TEXT..TEXT + 5);
        assert_eq!(write.original, [&[RET], &padding[..4]].concat());
    }
    let forms: [&[u8]; 3] = [&[0xf3, RET], &[0xc2, 0x10, 0], &[0xeb, 0x10]];
    for code in forms {
        let found = plan_in(&functions(&[(code, &[INT3; 4]), (&PLAIN, &[INT3; 24])]), TEXT).unwrap();
        assert_eq!((found.rung, found.original.as_slice()), (Rung::Exit, code));
    }
    assert_eq!(reason(plan_in(&lone_ret(&[INT3; 3]), TEXT)), Reason::TooShort, "three bytes are not enough");
}

#[test]
fn padding_that_anything_reaches_is_not_dead() {
    let good = lone_ret(&[0x90; 4]);
    assert!(plan_in(&good, TEXT).is_ok());
    for at in TEXT + 1..TEXT + 5 {
        let mut named = good.clone();
        named.entries.push(at);
        assert_eq!(reason(plan_in(&named, TEXT)), Reason::TooShort, "a symbol");
        let pointed = with_data(good.clone(), &at.to_le_bytes());
        assert_eq!(reason(plan_in(&pointed, TEXT)), Reason::TooShort, "a pointer");
        // A jump, a call, an instruction that takes or reads the address, all from another function.
        let from = TEXT + 5;
        let ways = [
            rip_relative(&[0xe9], from, at, &[]),
            rip_relative(&[0xe8], from, at, &[]),
            rip_relative(&[0x48, 0x8d, 0x05], from, at, &[]),
            rip_relative(&[0x48, 0x8b, 0x05], from, at, &[]),
        ];
        for way in ways {
            let reached = functions(&[(&[RET], &[0x90; 4]), (&[way.as_slice(), &[RET]].concat(), &[])]);
            assert_eq!(reason(plan_in(&reached, TEXT)), Reason::TooShort, "{way:x?} to {at:#x}");
        }
    }
    // A name behind the bytes that are needed is no obstacle; one before would run on into them.
    let mut behind = lone_ret(&[0x90; 6]);
    behind.entries.push(TEXT + 5);
    assert!(plan_in(&behind, TEXT).is_ok());
}

#[test]
fn padding_that_straight_code_falls_into_is_not_dead() {
    // xor eax,eax; nops; ret: an aligned label. `mov al,1` before a short jump is refused all the same.
    let falls: [&[u8]; 3] = [&[0x31, 0xc0], &[0xff, 0xd0], &[0x0f, 0x0b]];
    for code in falls {
        let text = functions(&[(&[0x31, 0xff, RET], &[]), (code, &[0x90; 16]), (&PLAIN, &[])]);
        assert_eq!(reason(plan_in(&text, TEXT)), Reason::TooShort, "{code:x?}: the end of a call or trap");
    }
}

#[test]
fn an_aligned_loop_head_is_not_slack_but_the_padding_before_it_is() {
    // xor edi,edi; ret │ jmp +10; 10 nops; head: dec edi; jne head; ret
    let mut code = vec![0xeb, 0x0b];
    code.extend([0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]);
    code.extend([0x90, 0xff, 0xcf, 0x75, 0xfb, RET]);
    let text = functions(&[(&[0x31, 0xff, RET], &[]), (&code, &[])]);
    // The jump goes to `dec`, over the padding and the nop that the loop's head is not.
    let sled = plan_in(&text, TEXT);
    assert_eq!(reason(sled), Reason::TooShort, "a jump over exactly the padding keeps it for somebody");
    // The same, entered further on: the padding belongs to nobody.
    code[1] = 0x0d;
    let text = functions(&[(&[0x31, 0xff, RET], &[]), (&code, &[])]);
    let found = plan_in(&text, TEXT).unwrap();
    assert_eq!(found.rung, Rung::ShortJump);
    // With the loop going back into the padding, only what is before its head is left.
    let into = 0u8.wrapping_sub(9);
    let mut back = code.clone();
    back[16] = into;
    let text = functions(&[(&[0x31, 0xff, RET], &[]), (&back, &[])]);
    let head = TEXT + 3 + 17 - 9;
    let found = plan_in(&text, TEXT).unwrap();
    assert!(found.slack().unwrap().end <= head, "{found:x?}, head at {head:#x}");
}

#[test]
fn a_short_jump_leads_to_slack_that_holds_the_long_one() {
    let text = functions(&[(&[0x31, 0xc0, RET], &[]), (&PLAIN, &[INT3; 8]), (&PLAIN, &[])]);
    let found = plan_in(&text, TEXT).unwrap();
    assert_eq!((found.rung, found.window.clone()), (Rung::ShortJump, TEXT..TEXT + 2));
    let slack = TEXT + 14..TEXT + 19;
    assert_eq!(found.slack(), Some(slack.clone()), "from the far end");
    let t = emit(&found, &near());
    let [first, last] = t.patches() else { panic!("{t:?}") };
    assert_eq!((first.address, last.address), (BIAS + slack.start, BIAS + TEXT));
    assert_eq!((first.original.clone(), last.original.clone()), (vec![INT3; 5], vec![0x31, 0xc0]));
    // Two jumps, and recognised at the end of them.
    let short = Decoder::with_ip(64, &last.bytes, last.address, DecoderOptions::NONE).decode();
    assert_eq!((short.code(), short.near_branch_target()), (Code::Jmp_rel8_64, first.address));
    assert_eq!(jump_target(last.address, &last.bytes), Some(first.address));
    let to = jump_target(first.address, &first.bytes).unwrap();
    assert_eq!(recognise(to, &t.bytes).map(|r| r.site_index), Some(near().site_index));
    // Undone in reverse; what is touched is what is hashed.
    assert_eq!(t.undo().map(|p| p.address).collect::<Vec<_>>(), [last.address, first.address]);
    assert_eq!(t.touched(), [BIAS + slack.start..BIAS + slack.end, BIAS + TEXT..BIAS + TEXT + 2]);
    // Whoever is about to enter from slack is as good as at the site.
    assert_eq!(t.slack(), Some(BIAS + slack.start));
    assert_eq!(t.original_of(BIAS + slack.start), Some(BIAS + TEXT));
    assert_eq!(jump_target(TEXT, &[0x90, 0x90]), None);
}

#[test]
fn a_return_with_one_byte_of_padding_is_a_short_jump() {
    let text = functions(&[(&[RET], &[INT3]), (&PLAIN, &[INT3; 5])]);
    let found = plan_in(&text, TEXT).unwrap();
    assert_eq!((found.rung, found.window.clone()), (Rung::ShortJump, TEXT..TEXT + 1));
    assert_eq!(found.writes.last().unwrap().original, [RET, INT3]);
    let without = functions(&[(&[RET], &[]), (&PLAIN, &[INT3; 5])]);
    assert_eq!(reason(plan_in(&without, TEXT)), Reason::TooShort, "the second byte is the next function's");
}

#[test]
fn a_short_jump_needs_its_two_bytes_closed() {
    // push rbx; pop rbx; jmp back to the second byte, or to the third.
    for (to, open) in [(1u8, false), (2, true)] {
        let code = [0x53, 0x5b, 0xeb, to.wrapping_sub(4), RET];
        let text = functions(&[(&code, &[INT3; 5]), (&PLAIN, &[])]);
        let found = plan_in(&text, TEXT);
        assert_eq!(found.is_ok(), open, "a branch to +{to}: {found:x?}");
    }
}

#[test]
fn slack_is_out_of_reach_beyond_128_bytes() {
    // Distance from the end of the short jump to the slack's first byte, forwards: at most 127.
    for (filler, reached) in [(126usize - 1, true), (127 - 1, true), (128 - 1, false)] {
        let code = [vec![0x31, 0xff, RET], vec![0x50; filler - 1], vec![RET]].concat();
        // xor edi,edi; ret │ push … ret │ five bytes
        let text = functions(&[(&code[..3], &[]), (&code[3..], &[INT3; 5]), (&PLAIN, &[])]);
        let distance = 3 + filler - 2;
        let found = plan_in(&text, TEXT);
        assert_eq!(found.is_ok(), distance <= 127, "{distance}");
        assert_eq!(found.is_ok(), reached, "{distance}");
    }
}

#[test]
fn a_nop_that_aligns_a_loop_becomes_a_jump_over_itself() {
    // xor edi,edi; ret │ push rbx ×7; a nop of 9 bytes that ends at a multiple of 16; head: dec edi; jne head; ret
    let nop = [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    let with = |padding: &[u8], back: u8| {
        let code = [&[0x53; 4][..], padding, &[0xff, 0xcf, 0x75, back, RET]].concat();
        functions(&[(&[0x31, 0xff, RET], &[]), (&code, &[])])
    };
    let text = with(&nop, 0xfc);
    let found = plan_in(&text, TEXT).unwrap();
    let at = TEXT + 7;
    assert_eq!((found.rung, found.slack()), (Rung::ShortJump, Some(at..at + 9)));
    let t = emit(&found, &near());
    let [slack, site] = t.patches() else { panic!("{t:?}") };
    assert_eq!((slack.bytes[..3].to_vec(), slack.original.clone()), (vec![0xeb, 7, 0xe9], nop.to_vec()));
    assert_eq!(slack.bytes[7..], nop[7..], "what nobody runs stays as it is");
    assert_eq!(jump_target(site.address, &site.bytes), Some(BIAS + at + 2));
    assert_eq!(jump_target(BIAS + at + 2, &slack.bytes[2..]), Some(t.address));
    assert_eq!((t.slack(), t.original_of(BIAS + at + 2)), (Some(BIAS + at + 2), Some(BIAS + TEXT)));
    assert_eq!(t.touched()[0], BIAS + at..BIAS + at + 9);
    // One that is entered in its middle, that aligns nothing, or that nobody branches over, is left alone.
    assert!(plan_in(&with(&nop, 0xfa), TEXT).is_err(), "a branch into it");
    assert!(plan_in(&with(&nop, 0xfe), TEXT).is_err(), "no branch to its end");
    let off = [&nop[..], &[0x50]].concat();
    assert!(plan_in(&with(&off, 0xfc), TEXT).is_err(), "no alignment");
    assert!(plan_in(&with(&[0x66; 6].map(|_| 0x90), 0xfc), TEXT).is_err(), "single nops");
    let mut named = text;
    named.entries.push(at + 3);
    assert!(plan_in(&named, TEXT).is_err(), "a name inside");
}

#[test]
fn two_sites_never_share_slack_nor_windows() {
    let text = functions(&[
        (&[0x31, 0xc0, RET], &[]),
        (&[0x31, 0xc0, RET], &[]),
        (&[0x31, 0xc0, RET], &[]),
        (&PLAIN, &[INT3; 10]),
        (&PLAIN, &[]),
    ]);
    let analysis = Analysis::new(text);
    let mut claims = Claims::new();
    let mut taken = Vec::new();
    for site in [TEXT, TEXT + 3] {
        let found = analysis.plan_beside(site, &claims).unwrap();
        taken.push(found.slack().unwrap());
        claims.claim(&found);
    }
    assert!(taken[0].end <= taken[1].start || taken[1].end <= taken[0].start, "{taken:x?}");
    assert!(analysis.plan(TEXT + 6).is_ok(), "alone it has slack");
    assert_eq!(
        reason(analysis.plan_beside(TEXT + 6, &claims)),
        Reason::OverlapsSite,
        "both places are taken"
    );
    assert_eq!(reason(analysis.plan_beside(TEXT, &claims)), Reason::OverlapsSite, "a site is planned once");
    // Slack that somebody else has written in is taken too.
    let mut foreign = Claims::new();
    foreign.take(taken[0].clone());
    assert_eq!(analysis.plan_beside(TEXT, &foreign).unwrap().slack(), Some(taken[1].clone()));
    foreign.take(taken[1].start + 4..taken[1].start + 5);
    assert!(analysis.plan_beside(TEXT, &foreign).is_err());
}

#[test]
fn ranges_that_are_taken_grow_together() {
    let mut claims = Claims::new();
    claims.take(10..20);
    claims.take(30..40);
    assert_eq!(claims.overlap(&(20..30)), None);
    claims.take(15..35);
    assert_eq!(claims.overlap(&(39..50)), Some(10..40));
    claims.take(5..5);
    assert_eq!(claims.overlap(&(0..10)), None);
}

#[test]
fn a_window_may_begin_before_the_site_with_the_hit_inside() {
    // push, xor, ret are four bytes: the window begins at the instruction before them.
    let found = plan(&PLAIN, TEXT + 7).unwrap();
    assert_eq!((found.rung, found.site), (Rung::Exit, TEXT + 7));
    assert_eq!((found.window.clone(), found.position), (TEXT + 1..TEXT + 8, HitPosition::Inside(3)));
    assert!(!found.red_zone_dead);
    let t = emit(&found, &near());
    let [patch] = t.patches() else { panic!("{t:?}") };
    assert_eq!((patch.address, t.site_address), (BIAS + TEXT + 1, BIAS + TEXT + 7));
    let all: Vec<_> = Decoder::with_ip(64, &t.bytes, t.address, DecoderOptions::NONE).into_iter().collect();
    let names: Vec<Mnemonic> = all.iter().map(|i| i.mnemonic()).collect();
    use Mnemonic as M;
    let hit = [M::Lea, M::Push, M::Mov, M::Jrcxz, M::Mov, M::Call, M::Pop, M::Lea];
    assert_eq!(names, [&[M::Mov, M::Push, M::Xor][..], &hit, &[M::Ret, M::Jmp]].concat());
    // A thread at the site itself has its hit before it; one on the way to it comes past it.
    assert_eq!(t.twin_of(BIAS + TEXT + 7), Some(all[3].ip()));
    assert_eq!(t.twin_of(BIAS + TEXT + 4), Some(all[1].ip()));
    assert_eq!(t.twin_of(BIAS + TEXT + 1), None);
    assert_eq!(t.original_of(all[3].ip()), Some(BIAS + TEXT + 7));
    assert_eq!(t.original_of(all[11].ip()), Some(BIAS + TEXT + 7));
    assert_eq!(t.original_of(t.address), Some(BIAS + TEXT + 1));
    let read = recognise(t.address, &t.bytes).unwrap();
    assert_eq!((read.position, read.site_index), (HitPosition::Inside(3), near().site_index));
}

#[test]
fn a_window_before_the_site_must_be_the_only_way_to_it() {
    // xor eax,eax; xor edi,edi; xor esi,esi; ret, with a branch to each boundary from another function.
    let code = [0x31, 0xc0, 0x31, 0xff, 0x31, 0xf6, RET];
    for (to, open) in [(0u64, true), (2, true), (3, false), (4, false), (6, false)] {
        let from = TEXT + 7;
        let jump = rip_relative(&[0xe9], from, TEXT + to, &[]);
        let text = functions(&[(&code, &[]), (&jump, &[])]);
        assert_eq!(plan_in(&text, TEXT + 6).is_ok(), open, "a branch to +{to}");
    }
    // A call before the site ends the straight code: its return address would be inside.
    let call = [0xe8, 0, 1, 0, 0, 0x31, 0xc0, RET];
    assert_eq!(reason(plan(&call, TEXT + 7)), Reason::TooShort);
    // A conditional branch may be displaced on the way.
    let branch = [0x85, 0xc0, 0x74, 0x10, RET];
    assert_eq!(plan(&branch, TEXT + 4).unwrap().position, HitPosition::Inside(2));
}

#[test]
fn slack_is_never_data_nor_what_must_not_be_touched() {
    let good = functions(&[(&[0x31, 0xc0, RET], &[]), (&PLAIN, &[INT3; 5]), (&PLAIN, &[])]);
    assert!(plan_in(&good, TEXT).is_ok());
    let mut never = good.clone();
    never.never.push((TEXT + 12, TEXT + 13, "a restartable sequence"));
    assert!(plan_in(&never, TEXT).is_err());
    // A function that reads its own bytes keeps data in its code, which may look like padding.
    let reads = [rip_relative(&[0x48, 0x8b, 0x05], TEXT + 3, TEXT + 5, &[]), vec![RET]].concat();
    let data = functions(&[(&[0x31, 0xc0, RET], &[]), (&reads, &[INT3; 5]), (&PLAIN, &[])]);
    assert!(plan_in(&data, TEXT).is_err());
    // Zeros are not padding, and neither is what no known function precedes.
    let zeros = functions(&[(&[0x31, 0xc0, RET], &[]), (&PLAIN, &[0; 8]), (&PLAIN, &[])]);
    assert!(plan_in(&zeros, TEXT).is_err());
    let mut unknown = good;
    unknown.functions.remove(1);
    assert!(plan_in(&unknown, TEXT).is_err());
}

#[test]
fn a_jump_table_into_padding_makes_it_live() {
    // lea rdx,[DATA]; movsxd rax,[rdx+rdi*4]; add rax,rdx; jmp rax; five nops; ret
    let mut code = rip_relative(&[0x48, 0x8d, 0x15], TEXT + 3, DATA, &[]);
    code.extend([0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0, 0xff, 0xe0]);
    let nops = TEXT + 3 + code.len() as u64;
    code.extend([0x90, 0x90, 0x90, 0x90, 0x90, RET]);
    let table = |targets: &[u64]| -> Vec<u8> {
        let entry = |t: &u64| i32::try_from(t.cast_signed() - DATA.cast_signed()).unwrap().to_le_bytes();
        targets.iter().flat_map(entry).collect()
    };
    let text = functions(&[(&[0x31, 0xc0, RET], &[]), (&code, &[])]);
    assert!(plan_in(&with_data(text.clone(), &table(&[nops + 5])), TEXT).is_ok());
    assert!(plan_in(&with_data(text.clone(), &table(&[nops + 5, nops])), TEXT).is_err());
    assert!(plan_in(&with_data(text, &table(&[nops + 5, nops + 4])), TEXT).is_err());
}

#[test]
fn in_go_nothing_jumps_to_slack_but_a_return_takes_its_padding() {
    // cmp rsp,[r14+0x10]; jbe tail; xor eax,eax; BODY; tail: call morestack; jmp start │ int3 ×8
    let function = |body: &[u8], padding: &[u8]| {
        let after = u8::try_from(2 + body.len()).unwrap();
        let mut code = vec![0x49, 0x3b, 0x66, 0x10, 0x76, after, 0x31, 0xc0];
        code.extend(body);
        code.extend([0xe8, 0, 1, 0, 0, 0xeb, 0u8.wrapping_sub(6 + after + 7)]);
        code.extend(padding);
        Image { go: true, ..functions(&[(&code, &[INT3; 8]), (&PLAIN, &[])]) }
    };
    let plain = function(&[RET], &[]);
    for image in [plain.clone(), Image { goroutines_searched: true, ..plain }] {
        let analysis = Analysis::new(image);
        for site in (TEXT..TEXT + 16).filter(|at| analysis.is_instruction(*at)) {
            assert_eq!(analysis.plan(site).ok().and_then(|p| p.slack()), None, "{site:#x}");
        }
        assert_eq!(reason(analysis.plan(TEXT + 8)), Reason::TooShort, "the tail follows at once");
    }
    let found = plan_in(&function(&[RET, INT3, INT3, INT3, INT3], &[]), TEXT + 8).unwrap();
    assert_eq!((found.rung, found.window.clone()), (Rung::Exit, TEXT + 8..TEXT + 9));
    assert!(found.go.is_some() && found.red_zone_dead);
}

#[test]
fn in_go_a_window_has_several_instructions_only_where_goroutines_are_searched() {
    // cmp rsp,[r14+0x10]; jbe tail; xor eax,eax; add rsp,8; ret; tail: call morestack; jmp start
    let function = |middle: &[u8]| {
        let mut code = vec![0x49, 0x3b, 0x66, 0x10, 0x76, 5 + 2];
        code.extend(middle);
        code.extend([0x48, 0x83, 0xc4, 0x08, RET, 0xe8, 0, 1, 0, 0, 0xeb, 0xec]);
        Image { go: true, ..functions(&[(&code, &[])]) }
    };
    let good = function(&[0x31, 0xc0]);
    let ret = TEXT + 12;
    assert_eq!(reason(plan_in(&good, ret)), Reason::TooShort);
    let searched = Image { goroutines_searched: true, ..good };
    let found = plan_in(&searched, ret).unwrap();
    assert_eq!((found.window.clone(), found.position), (TEXT + 8..TEXT + 13, HitPosition::Inside(1)));
    assert!(found.go.is_some());
    assert!(plan_in(&searched, TEXT + 6).is_ok(), "xor, add");
    // None of them may fault: mov al,[rax] comes first. And none may be before the stack check has passed.
    let faults = Image { goroutines_searched: true, ..function(&[0x8a, 0x00]) };
    assert_eq!(reason(plan_in(&faults, TEXT + 6)), Reason::Faulting);
    assert_eq!(plan_in(&faults, ret).unwrap().window, TEXT + 8..TEXT + 13);
    assert_eq!(reason(plan_in(&searched, TEXT + 4)), Reason::StackUnknown);
}

#[test]
fn in_go_nothing_is_pushed_where_the_frame_pointer_lies_below_the_stack() {
    // cmp rsp,[r14+0x10]; jbe tail; mov [rsp-16],rbp; lea rbp,[rsp-16]; call; nopl; ret; tail: call morestack; jmp start
    let mut code = vec![0x49, 0x3b, 0x66, 0x10, 0x76, 5 + 5 + 5 + 5 + 1];
    code.extend([0x48, 0x89, 0x6c, 0x24, 0xf0, 0x48, 0x8d, 0x6c, 0x24, 0xf0, 0xe8, 0, 1, 0, 0]);
    code.extend([0x0f, 0x1f, 0x44, 0, 0, RET, 0xe8, 0, 1, 0, 0, 0xeb, 0xde]);
    let image = Image { go: true, goroutines_searched: true, ..functions(&[(&code, &[])]) };
    assert_eq!(plan_in(&image, TEXT + 6).unwrap().rung, Rung::OneInstruction, "nothing is there yet");
    for in_use in [TEXT + 11, TEXT + 16] {
        assert_eq!(reason(plan_in(&image, in_use)), Reason::StackUnknown);
    }
    assert!(plan_in(&image, TEXT + 21).is_ok(), "nothing is there any more");
}

#[test]
fn why_goroutines_cannot_be_searched_is_told_where_it_matters() {
    // cmp rsp,[r14+0x10]; jbe tail; xor eax,eax; add rsp,8; ret; tail: call morestack; jmp start
    let mut code = vec![0x49, 0x3b, 0x66, 0x10, 0x76, 7, 0x31, 0xc0, 0x48, 0x83, 0xc4, 0x08, RET];
    code.extend([0xe8, 0, 1, 0, 0, 0xeb, 0xec]);
    let image = Image { go: true, unsearched: "the moon is full", ..functions(&[(&code, &[])]) };
    let refusal = plan_in(&image, TEXT + 12).unwrap_err();
    assert!(refusal.detail.ends_with("searched: the moon is full"), "{refusal}");
}

#[test]
fn hostile_runs_of_padding_are_bounded() {
    // A text that is nothing but returns and padding, up to the end of the address space.
    let bytes: Vec<u8> = [RET, INT3, 0x90, 0x90, 0x90, 0x90].repeat(100);
    let vaddr = u64::MAX - bytes.len() as u64;
    let mut odd = Image {
        text: vec![trocar_patch::Segment { vaddr, bytes: bytes.as_slice().into() }],
        functions: (0..100).map(|n| FunctionRange { start: vaddr + 6 * n, end: u64::MAX }).collect(),
        ..Image::default()
    };
    let analysis = Analysis::new(odd.clone());
    for at in vaddr..u64::MAX {
        // Planned or refused, but not a panic; and never outside of the text.
        if let Ok(found) = analysis.plan(at) {
            assert!(found.touched().iter().all(|r| r.start >= vaddr && r.end > r.start), "{found:x?}");
        }
    }
    odd.functions.clear();
    assert!(Analysis::new(odd).plan(vaddr).is_err());
}
