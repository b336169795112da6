//! Each part of a trampoline, each kind of relocation, the twins, and reading it back.

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, Register};
use trocar_patch::{HitPosition, Placement, Reason, Template, Trampoline, recognise};

use crate::support::{BIAS, DATA, TEXT, emit, near, plan, rip_relative};

const PLAIN: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, 0xc3];

fn decode(t: &Trampoline) -> Vec<Instruction> {
    Decoder::with_ip(64, &t.bytes, t.address, DecoderOptions::NONE).into_iter().collect()
}

fn listing(t: &Trampoline) -> Vec<String> {
    let mut formatter = NasmFormatter::new();
    let text = |i: &Instruction| {
        let mut out = String::new();
        formatter.format(i, &mut out);
        out
    };
    decode(t).iter().map(text).collect()
}

#[test]
fn the_whole_trampoline_reads_as_drawn() {
    let t = emit(&plan(&PLAIN, TEXT).unwrap(), &near());
    let expected = [
        "lea rsp,[rsp-80h]",
        "push rcx",
        "mov rcx,[rel 555500200008h]",
        "jrcxz 0000555500100019h",
        "mov ecx,1020304h",
        "call qword [rel 555500200000h]",
        "pop rcx",
        "lea rsp,[rsp+80h]",
        "push rbp",
        "mov rbp,rsp",
        "push rbx",
        "jmp 0000555500001005h",
    ];
    let found = listing(&t);
    assert_eq!(found[..3], expected[..3]);
    assert_eq!(found[4..], expected[4..]);
    // jrcxz goes to the pop.
    let all = decode(&t);
    assert_eq!((all[3].mnemonic(), all[3].near_branch_target()), (Mnemonic::Jrcxz, all[6].ip()));
}

#[test]
fn without_a_red_zone_a_closed_gate_is_four_instructions() {
    let t = emit(&plan(&PLAIN, TEXT).unwrap(), &Placement { red_zone: false, ..near() });
    let all = decode(&t);
    let names: Vec<Mnemonic> = all.iter().take(3).map(Instruction::mnemonic).collect();
    assert_eq!(names, [Mnemonic::Push, Mnemonic::Mov, Mnemonic::Jrcxz]);
    let closed = all.iter().find(|i| i.ip() == all[2].near_branch_target()).unwrap();
    assert_eq!((closed.mnemonic(), closed.op0_register()), (Mnemonic::Pop, Register::RCX));
    assert_eq!(closed.next_ip(), t.relocated.start);
}

#[test]
fn the_patch_is_five_bytes_to_the_trampoline_and_undo_gives_them_back() {
    let t = emit(&plan(&PLAIN, TEXT + 1).unwrap(), &near());
    let [patch] = t.patches() else { panic!("{t:?}") };
    assert_eq!((patch.address, patch.bytes.len()), (t.site_address, 5));
    let jump = Decoder::with_ip(64, &patch.bytes, patch.address, DecoderOptions::NONE).decode();
    assert_eq!((jump.code(), jump.near_branch_target()), (Code::Jmp_rel32_64, t.address));
    assert_eq!(patch.original, &PLAIN[1..6]);
    assert_eq!(t.overwritten().last(), Some(BIAS + TEXT + 1..BIAS + TEXT + 6));
    assert_eq!(t.window, BIAS + TEXT + 1..BIAS + TEXT + 7);
    assert_eq!((t.touched().pop(), t.slack()), (Some(BIAS + TEXT + 1..BIAS + TEXT + 7), None));
}

#[test]
fn threads_move_to_their_twins_and_back() {
    let t = emit(&plan(&PLAIN, TEXT).unwrap(), &near());
    let start = t.relocated.start;
    assert_eq!(t.twin_of(BIAS + TEXT), None, "the site takes the jump");
    assert_eq!(t.twin_of(BIAS + TEXT + 1), Some(start + 1));
    assert_eq!(t.twin_of(BIAS + TEXT + 2), None, "no boundary");
    assert_eq!(t.twin_of(BIAS + TEXT + 4), Some(start + 4));
    assert_eq!(t.twin_of(BIAS + TEXT + 5), None, "the end is untouched");
    assert_eq!(t.original_of(t.address), Some(BIAS + TEXT));
    assert_eq!(t.original_of(start + 4), Some(BIAS + TEXT + 4));
    assert_eq!(t.original_of(start + 5), Some(BIAS + TEXT + 5), "before the jump back");
    assert_eq!(t.original_of(t.address + 5), None, "in the hit");
}

#[test]
fn a_rip_relative_operand_names_the_same_memory() {
    // cmp dword [rip+DATA], 7
    let text = rip_relative(&[0x83, 0x3d], TEXT, DATA, &[7]);
    let t = emit(&plan(&text, TEXT).unwrap(), &near());
    let moved = decode(&t).into_iter().find(|i| i.mnemonic() == Mnemonic::Cmp).unwrap();
    assert_eq!((moved.ip_rel_memory_address(), moved.immediate8to32()), (BIAS + DATA, 7));
}

/// The instructions of a displaced call, with the literal's value.
fn call(text: &[u8], at: u64) -> (Vec<Instruction>, u64) {
    let found = plan(text, at).unwrap();
    assert!(found.notes.call);
    let t = emit(&found, &near());
    let literal = u64::from_le_bytes(t.bytes[t.bytes.len() - 8..].try_into().unwrap());
    let code = Decoder::with_ip(64, &t.bytes[..t.bytes.len() - 8], t.address, DecoderOptions::NONE);
    let list: Vec<Instruction> = code.into_iter().skip_while(|i| i.code() != Code::Call_rel32_64).collect();
    let [stray, lea, push, ..] = list[1..] else { panic!("{list:?}") };
    assert_eq!(list[0].near_branch_target(), lea.ip(), "a call that returns to nobody");
    assert_eq!(
        stray.mnemonic(),
        Mnemonic::Int3,
        "a call to the very next instruction is none to the predictor"
    );
    assert_eq!((lea.mnemonic(), lea.memory_displacement64()), (Mnemonic::Lea, 8));
    assert_eq!(push.mnemonic(), Mnemonic::Push);
    assert_eq!(push.ip_rel_memory_address(), t.address + t.bytes.len() as u64 - 8);
    (list[4..].to_vec(), literal)
}

#[test]
fn a_displaced_call_leaves_the_original_return_address() {
    let text = [0x31, 0xc0, 0xe8, 0x10, 0, 0, 0, 0xc3];
    let (rest, literal) = call(&text, TEXT);
    assert_eq!(literal, BIAS + TEXT + 7);
    assert_eq!((rest[0].code(), rest[0].near_branch_target()), (Code::Jmp_rel32_64, BIAS + TEXT + 0x17));
    let (rest, literal) = call(&text, TEXT + 2);
    assert_eq!((literal, rest[0].near_branch_target()), (BIAS + TEXT + 7, BIAS + TEXT + 0x17));
}

#[test]
fn a_displaced_indirect_call_evaluates_its_operand_as_before() {
    // mov edi,eax… call rax
    let (rest, _) = call(&[0x48, 0x89, 0xc7, 0xff, 0xd0, 0xc3], TEXT);
    assert_eq!((rest[0].code(), rest[0].op0_register()), (Code::Jmp_rm64, Register::RAX));
    // call [rip+0x100]
    let (rest, literal) = call(&[0xff, 0x15, 0, 1, 0, 0, 0xc3], TEXT);
    assert_eq!((rest[0].ip_rel_memory_address(), literal), (BIAS + TEXT + 0x106, BIAS + TEXT + 6));
    // xor eax,eax; call [rsp+8]: the return address is already pushed, so the operand is 8 further away
    let (rest, _) = call(&[0x31, 0xc0, 0xff, 0x54, 0x24, 0x08, 0xc3], TEXT);
    assert_eq!((rest[0].memory_base(), rest[0].memory_displacement64()), (Register::RSP, 16));
    // …and where the displacement grows out of eight bits: call [rsp+0x7f]
    let (rest, _) = call(&[0x31, 0xc0, 0xff, 0x54, 0x24, 0x7f, 0xc3], TEXT);
    assert_eq!(rest[0].memory_displacement64(), 0x87);
    // notrack call [rax+rcx*8+0x40]
    let (rest, _) = call(&[0x3e, 0xff, 0x54, 0xc8, 0x40, 0xc3], TEXT);
    let operand = (rest[0].memory_base(), rest[0].memory_index(), rest[0].memory_index_scale());
    assert_eq!((operand, rest[0].memory_displacement64()), ((Register::RAX, Register::RCX, 8), 0x40));
}

#[test]
fn a_call_through_the_stack_pointer_is_refused() {
    let refusal = plan(&[0x48, 0x89, 0xc7, 0xff, 0xd4, 0xc3], TEXT).unwrap_err();
    assert_eq!((refusal.reason, refusal.address), (Reason::NotRelocatable, TEXT + 3));
}

#[test]
fn every_condition_keeps_its_meaning() {
    for condition in 0..16u8 {
        let text = [0x85, 0xff, 0x70 | condition, 0x20, 0x90, 0xc3];
        let t = emit(&plan(&text, TEXT).unwrap(), &near());
        let original = Decoder::new(64, &text[2..4], DecoderOptions::NONE).decode();
        let moved = decode(&t).into_iter().find(Instruction::is_jcc_near).unwrap();
        assert_eq!(moved.condition_code(), original.condition_code());
        assert_eq!(moved.near_branch_target(), BIAS + TEXT + 0x24);
    }
}

#[test]
fn a_displaced_jump_and_return_keep_their_targets() {
    let t = emit(&plan(&[0xe9, 0x10, 0, 0, 0, 0xc3], TEXT).unwrap(), &near());
    let at = usize::try_from(t.relocated.start - t.address).unwrap();
    let jump = Decoder::with_ip(64, &t.bytes[at..], t.relocated.start, DecoderOptions::NONE).decode();
    assert_eq!(jump.near_branch_target(), BIAS + TEXT + 0x15);
    let t = emit(&plan(&[0x48, 0x83, 0xc4, 0x08, 0xc2, 0x10, 0], TEXT).unwrap(), &near());
    let ret = decode(&t).into_iter().find(|i| i.mnemonic() == Mnemonic::Ret).unwrap();
    assert_eq!(ret.immediate16(), 16);
}

#[test]
fn what_is_out_of_reach_is_refused_as_far() {
    let found = plan(&PLAIN, TEXT).unwrap();
    let far = BIAS + (1 << 32);
    let cases = [
        Placement { trampoline: far, ..near() },
        Placement { gate: far, ..near() },
        Placement { agent_cell: far, ..near() },
    ];
    for placement in cases {
        let refusal = Template::make(&found, &placement).unwrap().emit().unwrap_err();
        assert_eq!(refusal.reason, Reason::Far);
    }
    // The trampoline reaches the site, but not what the window refers to.
    let text = rip_relative(&[0x83, 0x3d], TEXT, 0x7000_0000, &[7]);
    let low = BIAS - 0x2000_0000;
    let below = Placement { trampoline: low, gate: low + 0x1000, agent_cell: low + 0x1008, ..near() };
    let refusal = Template::make(&plan(&text, TEXT).unwrap(), &below).unwrap().emit().unwrap_err();
    assert_eq!(refusal.reason, Reason::Far);
}

#[test]
fn a_trampoline_is_recognised_from_its_bytes() {
    for red_zone in [true, false] {
        let placement = Placement { red_zone, ..near() };
        let t = emit(&plan(&PLAIN, TEXT).unwrap(), &placement);
        let mut memory = t.bytes.clone();
        memory.extend([0xcc; 64]);
        let found = recognise(t.address, &memory).unwrap();
        assert_eq!((found.site_index, found.gate), (placement.site_index, placement.gate));
        assert_eq!((found.agent_cell, found.red_zone), (placement.agent_cell, red_zone));
        assert_eq!((found.position, found.go), (HitPosition::Before, None));
        assert!(t.matches(&t.bytes) && !t.matches(&memory));
    }
}

#[test]
fn foreign_code_and_damaged_trampolines_are_not_recognised() {
    let t = emit(&plan(&PLAIN, TEXT).unwrap(), &near());
    assert_eq!(recognise(TEXT, &PLAIN), None);
    assert_eq!(recognise(t.address, &[]), None);
    assert_eq!(recognise(t.address, &t.bytes[..20]), None, "cut short");
    // The gate's, site's and cell's fields (offsets 9-12, 16-19, 22-25) may hold anything; nothing else may
    // change up to the pop's end.
    let fields = |i: usize| (9..13).contains(&i) || (16..20).contains(&i) || (22..26).contains(&i);
    for i in (0..35).filter(|i| !fields(*i)) {
        let mut damaged = t.bytes.clone();
        damaged[i] ^= 0x10;
        assert_eq!(recognise(t.address, &damaged), None, "byte {i}");
    }
}
