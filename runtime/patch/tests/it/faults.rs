//! Programs in which a fault becomes an exception: nothing that may fault is displaced.

use iced_x86::code_asm::*;
use trocar_patch::{Analysis, FunctionRange, Image, Reason, Refusal, Rung, SitePlan};

use crate::support::{DATA, TEXT, assemble, image, plan, reason, rip_relative};

fn plan_where_faults_throw(text: &[u8], at: u64) -> Result<SitePlan, Refusal> {
    Analysis::new(Image { throws_faults: true, ..image(text) }).plan(at)
}

/// One instruction with a long nop behind it, so that the window is both.
fn with_room(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut code = assemble(write);
    code.extend([0x0f, 0x1f, 0x44, 0, 0, 0xc3]);
    code
}

type Write = fn(&mut CodeAssembler);

/// Fails unless the instruction is displaced in an ordinary program, and is not where faults throw.
fn is_refused(write: Write) {
    let code = with_room(write);
    plan(&code, TEXT).unwrap();
    let refusal = plan_where_faults_throw(&code, TEXT).expect_err(&format!("{code:x?}"));
    assert_eq!((refusal.reason, refusal.address), (Reason::Faulting, TEXT), "{refusal}");
}

#[test]
fn what_may_fault_is_not_displaced_where_a_fault_becomes_an_exception() {
    let all: [Write; 22] = [
        |a| a.mov(eax, dword_ptr(rdi)).unwrap(),
        |a| a.mov(dword_ptr(rbp - 8), eax).unwrap(),
        |a| a.mov(eax, dword_ptr(rsp + rcx * 4)).unwrap(),
        |a| a.mov(eax, dword_ptr(rsp - 0x1000)).unwrap(),
        |a| a.cmp(byte_ptr(rax), 0).unwrap(),
        |a| a.mov(rax, qword_ptr(rax).fs()).unwrap(),
        |a| a.push(qword_ptr(rbx)).unwrap(),
        |a| a.movups(xmm0, xmmword_ptr(rsi)).unwrap(),
        |a| a.idiv(esi).unwrap(),
        |a| a.div(qword_ptr(rsp + 8)).unwrap(),
        |a| a.rep().movsb().unwrap(),
        |a| a.stosq().unwrap(),
        |a| a.cmpsb().unwrap(),
        |a| a.xlatb().unwrap(),
        |a| a.maskmovdqu(xmm0, xmm1).unwrap(),
        // `-fstack-check`
        |a| a.or(qword_ptr(rsp), 0).unwrap(),
        |a| a.or(dword_ptr(rsp + 0x10), 0).unwrap(),
        // What `feenableexcept` makes of them.
        |a| a.divsd(xmm0, xmm1).unwrap(),
        |a| a.vaddps(ymm0, ymm1, ymm2).unwrap(),
        |a| a.cvttsd2si(eax, xmm0).unwrap(),
        |a| a.ucomiss(xmm0, xmm1).unwrap(),
        |a| a.fld1().unwrap(),
    ];
    all.into_iter().for_each(is_refused);
}

#[test]
fn what_cannot_fault_is_displaced_there_as_anywhere() {
    let all: [Write; 17] = [
        |a| a.lea(rax, ptr(rdi + rdi * 2)).unwrap(),
        |a| a.push(rbp).unwrap(),
        |a| a.mov(rbp, rsp).unwrap(),
        |a| a.sub(rsp, 0x40).unwrap(),
        |a| a.mov(qword_ptr(rsp + 0x18), rax).unwrap(),
        |a| a.mov(dword_ptr(rsp - 0x80), eax).unwrap(),
        |a| a.or(dword_ptr(rsp + 0x10), 4).unwrap(),
        |a| a.or(dword_ptr(rsp + 0x10), eax).unwrap(),
        |a| a.mov(rax, qword_ptr(0x28).fs()).unwrap(),
        |a| a.imul_3(eax, edi, 100).unwrap(),
        |a| a.pxor(xmm0, xmm0).unwrap(),
        |a| a.movaps(xmm0, xmm1).unwrap(),
        |a| a.movsd_2(xmm0, qword_ptr(rsp + 8)).unwrap(),
        |a| a.vpaddd(ymm0, ymm1, ymm2).unwrap(),
        |a| a.movd(xmm0, eax).unwrap(),
        |a| a.nop_1(dword_ptr(rdi)).unwrap(),
        |a| a.leave().unwrap(),
    ];
    for write in all {
        let code = with_room(write);
        let found = plan_where_faults_throw(&code, TEXT).unwrap_or_else(|e| panic!("{code:x?}: {e}"));
        assert_eq!(Ok(found), plan(&code, TEXT), "{code:x?}");
    }
    // add [rip+…],1 of the module's own data
    let own = [rip_relative(&[0x83, 0x05], TEXT, DATA, &[1]), vec![0xc3]].concat();
    assert_eq!(plan_where_faults_throw(&own, TEXT).unwrap().rung, Rung::OneInstruction);
}

#[test]
fn calls_and_jumps_lead_away_from_there_if_their_target_is_sure() {
    // call +0; ret, and the same by the import table
    assert!(plan_where_faults_throw(&[0xe8, 0, 0, 0, 0, 0xc3], TEXT).is_ok());
    for opcode in [[0xff, 0x15], [0xff, 0x25]] {
        let through_slot = [rip_relative(&opcode, TEXT, DATA, &[]), vec![0xc3]].concat();
        assert!(plan_where_faults_throw(&through_slot, TEXT).is_ok(), "{opcode:x?}");
    }
    let through_pointers: [Write; 4] = [
        |a| a.call(rax).unwrap(),
        |a| a.call(qword_ptr(rdi + 8)).unwrap(),
        |a| a.jmp(rax).unwrap(),
        |a| a.jmp(qword_ptr(rsp + 8)).unwrap(),
    ];
    for write in through_pointers {
        // mov eax,ecx; mov edx,ecx in front of it: five bytes need it
        let mut code = vec![0x89, 0xc8, 0x89, 0xca];
        code.extend(assemble(write));
        code.push(0xc3);
        assert!(plan(&code, TEXT).is_ok(), "{code:x?}");
        assert_eq!(reason(plan_where_faults_throw(&code, TEXT)), Reason::Faulting, "{code:x?}");
    }
}

#[test]
fn what_stands_before_the_site_and_behind_it_may_not_fault_either() {
    // mov eax,[rdi]; xor ecx,ecx; xor edx,edx; xor esi,esi; ret
    let behind = [0x8b, 0x07, 0x31, 0xc9, 0x31, 0xd2, 0x31, 0xf6, 0xc3];
    assert_eq!(plan_where_faults_throw(&behind, TEXT + 2).unwrap().window, TEXT + 2..TEXT + 8);
    // A window for the return begins before it, and not with the load.
    let before = [0x8b, 0x07, 0x31, 0xc9, 0xc3];
    assert_eq!(plan(&before, TEXT + 4).unwrap().window, TEXT..TEXT + 5);
    assert_eq!(reason(plan_where_faults_throw(&before, TEXT + 4)), Reason::TooShort);
    // xor eax,eax; mov ecx,[rdi]; ret: the load is behind the site.
    let refusal = plan_where_faults_throw(&[0x31, 0xc0, 0x8b, 0x0f, 0x31, 0xd2, 0xc3], TEXT).unwrap_err();
    assert_eq!((refusal.reason, refusal.address), (Reason::Faulting, TEXT + 2), "{refusal}");
}

#[test]
fn two_bytes_that_jump_to_slack_displace_less() {
    // mov eax,edi; cdq; idiv esi; ret, and padding
    let mut code = vec![0x89, 0xf8, 0x99, 0xf7, 0xfe, 0xc3];
    let end = TEXT + code.len() as u64;
    code.extend([0xcc; 10]);
    let mut module = image(&code);
    module.functions = vec![FunctionRange { start: TEXT, end }];
    let window = Analysis::new(module.clone()).plan(TEXT).unwrap();
    assert_eq!((window.rung, window.window), (Rung::Window, TEXT..TEXT + 5));
    module.throws_faults = true;
    let short = Analysis::new(module).plan(TEXT).unwrap();
    assert_eq!((short.rung, short.window), (Rung::ShortJump, TEXT..TEXT + 2));
}

#[test]
fn nops_and_prologues_stay_what_they_were() {
    let sled = [0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
    let prologue = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x31, 0xc0, 0xc3];
    for code in [&sled[..], &prologue] {
        assert_eq!(plan_where_faults_throw(code, TEXT), plan(code, TEXT));
    }
}
