//! Where functions are left: returns, tail jumps, cold parts, switches; and what cannot be told.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use trocar_patch::{
    Analysis, Claims, Exit, ExitKind, FunctionRange, HitPosition, Image, Reason, Template, recognise,
};

use crate::support::{BIAS, DATA, TEXT, image, near, rip_relative, with_data};

const RET: u8 = 0xc3;
/// `push rbp; mov rbp,rsp; push rbx; xor eax,eax; ret`.
const PLAIN: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, RET];

/// Functions one after another, without padding.
fn functions(parts: &[&[u8]]) -> Image {
    let mut made = image(&parts.concat());
    made.functions.clear();
    let mut start = TEXT;
    for part in parts {
        made.functions.push(FunctionRange { start, end: start + part.len() as u64 });
        start += part.len() as u64;
    }
    made
}

/// The exits of the first function, as offsets.
fn exits(image: Image) -> Vec<(u64, ExitKind)> {
    exits_at(&Analysis::new(image), TEXT)
}

fn exits_at(analysis: &Analysis, at: u64) -> Vec<(u64, ExitKind)> {
    analysis.exits(at).unwrap().into_iter().map(|e| (e.address - TEXT, e.kind)).collect()
}

const fn tail(conditional: bool, target: Option<u64>) -> ExitKind {
    ExitKind::TailJump { conditional, target }
}

#[test]
fn every_form_of_return_is_an_exit() {
    // je +1; ret; je +2; repz ret; ret 16
    let code = [0x74, 0x01, RET, 0x74, 0x02, 0xf3, RET, 0xc2, 0x10, 0];
    let expected = [(2, ExitKind::Return), (5, ExitKind::Return), (7, ExitKind::ReturnPop(16))];
    assert_eq!(exits(image(&code)), expected);
    // A far return: nobody knows.
    assert_eq!(exits(image(&[0x48, 0xcb])), [(0, ExitKind::Unknown)]);
}

#[test]
fn a_jump_to_another_function_is_an_exit_and_one_within_is_not() {
    // je to itself; je OTHER; jmp OTHER │ OTHER, which is also called
    let other = TEXT + 13;
    let code = [
        &[0x74, 0xfe][..],
        &rip_relative(&[0x0f, 0x84], TEXT + 2, other, &[]),
        &rip_relative(&[0xe9], TEXT + 8, other, &[]),
    ]
    .concat();
    let caller = rip_relative(&[0xe8], other + 8, other, &[]);
    let text = functions(&[&code, &PLAIN, &[caller.as_slice(), &[RET]].concat()]);
    assert_eq!(exits(text), [(2, tail(true, Some(other))), (8, tail(false, Some(other)))]);
    // To a place that is no function (a linkage table), and out of the module.
    let out = rip_relative(&[0xe9], TEXT, 0x9000, &[]);
    assert_eq!(exits(image(&out)), [(0, tail(false, Some(0x9000)))]);
}

#[test]
fn a_cold_part_belongs_to_the_function() {
    // test edi,edi; jne COLD; ret │ another │ COLD: xor eax,eax; ret
    let cold = TEXT + 9 + 8;
    let hot = [&[0x85, 0xff][..], &rip_relative(&[0x0f, 0x85], TEXT + 2, cold, &[]), &[RET]].concat();
    let part = [0x31, 0xc0, RET];
    let text = functions(&[&hot, &PLAIN, &part]);
    let both = [(8, ExitKind::Return), (cold + 2 - TEXT, ExitKind::Return)];
    assert_eq!(exits(text.clone()), both);
    // Its own symbol and unwind entry make no difference; a call or a pointer does: then it is a function.
    let mut named = text.clone();
    named.entries.push(cold);
    assert_eq!(exits(named), both);
    let alone = [(2, tail(true, Some(cold))), (8, ExitKind::Return)];
    let mut global = text.clone();
    global.called.push(cold);
    assert_eq!(exits(global), alone);
    assert_eq!(exits(with_data(text.clone(), &cold.to_le_bytes())), alone);
    let call = [rip_relative(&[0xe8], cold + 3, cold, &[]), vec![RET]].concat();
    assert_eq!(exits(functions(&[&hot, &PLAIN, &part, &call])), alone);
    // So does a jump from somewhere else.
    let jump = rip_relative(&[0xe9], cold + 3, cold, &[]);
    assert_eq!(exits(functions(&[&hot, &PLAIN, &part, &jump])), alone);
    // A cold part that jumps back into the function is a part of it whatever names it.
    let back = [0x31, 0xc0, 0xeb, (TEXT + 8).wrapping_sub(cold + 4).to_le_bytes()[0]];
    let mut joined = functions(&[&hot, &PLAIN, &back]);
    joined.called.push(cold);
    assert_eq!(exits(joined), [(8, ExitKind::Return)]);
}

#[test]
fn a_cold_part_of_a_cold_part_belongs_to_the_function_too() {
    // jne A; ret │ A: jne B; ret │ B: ret
    let (a, b) = (TEXT + 3, TEXT + 6);
    let text = functions(&[&[0x75, 0x01, RET], &[0x75, 0x01, RET], &[RET]]);
    let all = [(2, ExitKind::Return), (5, ExitKind::Return), (6, ExitKind::Return)];
    let analysis = Analysis::new(text);
    assert_eq!(exits_at(&analysis, TEXT), all);
    // Seen from below it is only what comes after.
    assert_eq!(exits_at(&analysis, a), all[1..]);
    assert_eq!(exits_at(&analysis, b), all[2..]);
}

#[test]
fn aliases_and_entries_inside_share_the_exits() {
    // A function with a second entry at +2, of its own range: `entry2` in hand-written assembly.
    let mut two = image(&[0x31, 0xc0, 0x31, 0xdb, RET]);
    two.functions.push(FunctionRange { start: TEXT, end: TEXT + 5 });
    two.functions.push(FunctionRange { start: TEXT + 2, end: TEXT + 5 });
    let analysis = Analysis::new(two);
    assert_eq!(exits_at(&analysis, TEXT), exits_at(&analysis, TEXT + 2));
}

#[test]
fn what_never_comes_back_is_no_exit() {
    let ends: [&[u8]; 4] = [&[0xe8, 0, 1, 0, 0], &[0x0f, 0x0b], &[0xcc], &[0xf4]];
    for end in ends {
        let code = [&[0x74, 0x01, RET][..], end].concat();
        assert_eq!(exits(functions(&[&code, &PLAIN])), [(2, ExitKind::Return)], "{end:x?}");
    }
    // A system call comes back, so that what follows it counts.
    assert_eq!(exits(image(&[0x0f, 0x05, RET])), [(2, ExitKind::Return)]);
}

#[test]
fn code_that_runs_into_the_next_function_is_left_there() {
    // xor eax,eax; nop; falls into PLAIN.
    let text = functions(&[&[0x31, 0xc0, 0x90], &PLAIN]);
    assert_eq!(exits(text.clone()), [(10, ExitKind::Return)]);
    assert_eq!(exits_at(&Analysis::new(text), TEXT + 3), [(10, ExitKind::Return)]);
    // Where no function follows, nobody knows.
    assert_eq!(exits(image(&[0x31, 0xc0])), [(0, ExitKind::Unknown)]);
}

/// `lea rdx,[DATA]; movsxd rax,[rdx+rdi*4]; add rax,rdx; jmp rax; ret`: a switch, its jump at +14.
fn switch() -> Vec<u8> {
    let mut text = rip_relative(&[0x48, 0x8d, 0x15], TEXT, DATA, &[]);
    text.extend([0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0, 0xff, 0xe0, RET]);
    text
}

fn table(targets: &[u64]) -> Vec<u8> {
    let entry = |t: &u64| i32::try_from(t.cast_signed() - DATA.cast_signed()).unwrap().to_le_bytes();
    targets.iter().flat_map(entry).collect()
}

#[test]
fn a_switch_is_no_exit_but_a_table_of_functions_is() {
    let inside = with_data(functions(&[&switch(), &PLAIN]), &table(&[TEXT + 16, TEXT + 16]));
    assert_eq!(exits(inside), [(16, ExitKind::Return)]);
    let mut outside = with_data(functions(&[&switch(), &PLAIN]), &table(&[TEXT + 17, TEXT + 17]));
    outside.called.push(TEXT + 17);
    assert_eq!(exits(outside), [(14, tail(false, None)), (16, ExitKind::Return)]);
    // What only this table leads to is a cold part.
    let cold = with_data(functions(&[&switch(), &PLAIN]), &table(&[TEXT + 17, TEXT + 16]));
    assert_eq!(exits(cold), [(16, ExitKind::Return), (24, ExitKind::Return)]);
    // Both in one function: each jump is told by its own table.
    let second = TEXT + 17;
    let mut two = switch();
    two.extend(rip_relative(&[0x48, 0x8d, 0x0d], second, DATA + 8, &[]));
    two.extend([0x48, 0x63, 0x04, 0xb9, 0x48, 0x01, 0xc8, 0xff, 0xe0]);
    let other = TEXT + 33;
    let targets: Vec<u8> = [table(&[TEXT + 16, TEXT + 16]), table(&[other - 8, other - 8])].concat();
    let mut both = with_data(functions(&[&two, &PLAIN]), &targets);
    both.called.push(other);
    assert_eq!(exits(both), [(16, ExitKind::Return), (31, tail(false, None))]);
}

#[test]
fn an_indirect_jump_of_a_function_without_inner_addresses_leaves_it() {
    let forms: [&[u8]; 5] = [
        &[0xff, 0xe0],
        &[0xff, 0x60, 0x10],
        &[0xff, 0x25, 0, 1, 0, 0],
        &[0xff, 0x24, 0xc7],
        &[0x3e, 0xff, 0xe2],
    ];
    for form in forms {
        assert_eq!(exits(image(form)), [(0, tail(false, None))], "{form:x?}");
    }
}

#[test]
fn beside_a_switch_only_a_loaded_pointer_is_known_to_leave() {
    let with = |code: &[u8]| {
        let text = [&switch(), code].concat();
        let mut found = exits(with_data(image(&text), &table(&[TEXT + 16, TEXT + 16])));
        assert_eq!(found.remove(0), (16, ExitKind::Return));
        found
    };
    // mov rax,[rdi]; jmp [rax+16]  │  mov rax,[rdi]; jmp rax
    assert_eq!(with(&[0x48, 0x8b, 0x07, 0xff, 0x60, 0x10]), [(20, tail(false, None))]);
    assert_eq!(with(&[0x48, 0x8b, 0x07, 0xff, 0xe0]), [(20, tail(false, None))]);
    // call rbx; jmp rax
    assert_eq!(with(&[0xff, 0xd3, 0xff, 0xe0]), [(19, tail(false, None))]);
    // jmp rcx, of which nothing is in sight; jmp [rsp+8]; arithmetic on what is unknown
    assert_eq!(with(&[0xff, 0xe1]), [(17, ExitKind::Unknown)]);
    assert_eq!(with(&[0xff, 0x64, 0x24, 0x08]), [(17, ExitKind::Unknown)]);
    // mov rax,[rsp+8]; pop rbx; jmp rax: the frame goes, so that the function is left
    assert_eq!(with(&[0x48, 0x8b, 0x44, 0x24, 0x08, 0x5b, 0xff, 0xe0]), [(23, tail(false, None))]);
    // The definition is not the only one where a branch comes in between: mov rax,[rdi]; L: jmp rax; jmp L
    assert_eq!(with(&[0x48, 0x8b, 0x07, 0xff, 0xe0, 0xeb, 0xfc])[0], (20, ExitKind::Unknown));
}

#[test]
fn with_absolute_addresses_inside_a_table_is_read_and_the_rest_is_unknown() {
    // jmp [rdi*8+DATA]; ret │ at a fixed address
    let data = u32::try_from(DATA).unwrap().to_le_bytes();
    let code = [&[0xff, 0x24, 0xfd][..], &data, &[RET]].concat();
    let at = |target: u64, code: &[u8]| {
        let text = Image { pie: false, ..functions(&[code, &PLAIN]) };
        exits(with_data(text, &[target.to_le_bytes(), target.to_le_bytes()].concat()))
    };
    assert_eq!(at(TEXT + 7, &code), [(7, ExitKind::Return)]);
    assert_eq!(at(TEXT + 8, &code), [(0, tail(false, None)), (7, ExitKind::Return)]);
    // A pointer in an object may lead to a label: threaded code.
    let threaded = [0xff, 0x67, 0x08, RET];
    assert_eq!(at(TEXT + 3, &threaded), [(0, ExitKind::Unknown), (3, ExitKind::Return)]);
}

#[test]
fn functions_that_are_unknown_or_do_not_decode_have_no_answer() {
    let mut none = image(&PLAIN);
    none.functions.clear();
    assert_eq!(Analysis::new(none).exits(TEXT).unwrap_err().reason, Reason::NoFunction);
    let bad = image(&[0x55, 0x06, RET]);
    assert_eq!(Analysis::new(bad).exits(TEXT).unwrap_err().reason, Reason::Undecodable);
    let analysis = Analysis::new(image(&PLAIN));
    assert!(analysis.exits(0).is_err() && analysis.exits(u64::MAX).is_err());
}

#[test]
fn an_exit_that_is_not_known_is_not_planned() {
    let analysis = Analysis::new(image(&[0x90, 0x90, 0x90, 0x90, 0x90, RET]));
    let unknown = Exit { address: TEXT, kind: ExitKind::Unknown };
    assert_eq!(analysis.plan_exit(&unknown, &Claims::new()).unwrap_err().reason, Reason::UnknownExit);
}

#[test]
fn a_conditional_exit_is_a_hit_only_where_it_is_taken() {
    // For each condition: jcc OTHER (six bytes); ret │ OTHER
    for condition in 0..16u8 {
        let other = TEXT + 7;
        let code = [rip_relative(&[0x0f, 0x80 | condition], TEXT, other, &[]), vec![RET]].concat();
        let mut text = functions(&[&code, &PLAIN]);
        text.called.push(other);
        let analysis = Analysis::new(text);
        let exit = analysis.exits(TEXT).unwrap()[0];
        assert_eq!(exit.kind, tail(true, Some(other)));
        let found = analysis.plan_exit(&exit, &Claims::new()).unwrap();
        assert!(found.when_taken && found.position == HitPosition::Before);
        let template = Template::make(&found, &near()).unwrap();
        let t = template.emit().unwrap();
        assert_eq!(t.bytes.len(), template.length());
        let all: Vec<Instruction> =
            Decoder::with_ip(64, &t.bytes, t.address, DecoderOptions::NONE).into_iter().collect();
        let original = Decoder::new(64, &code, DecoderOptions::NONE).decode();
        // j!cc to the copy of the jcc, past the hit; the jcc goes where it went.
        let (test, copy) = (all[0], all[all.len() - 2]);
        let mut negated = original;
        negated.negate_condition_code();
        assert_eq!(test.condition_code(), negated.condition_code());
        assert_eq!(test.near_branch_target(), copy.ip());
        assert_eq!(copy.condition_code(), original.condition_code());
        assert_eq!(copy.near_branch_target(), BIAS + other);
        assert_eq!(all[1].mnemonic(), Mnemonic::Lea, "the hit");
        // A closed gate leads to the copy as well, and flags are untouched on the way.
        assert!(all[1..all.len() - 2].iter().all(|i| i.rflags_modified() == 0));
        assert_eq!(t.original_of(t.address), Some(BIAS + TEXT));
        assert_eq!(recognise(t.address, &t.bytes).map(|r| r.site_index), Some(near().site_index));
    }
}
