//! Go's stack check, and what may be displaced in Go code.
//!
//! A Go function with a frame starts by comparing the stack pointer with its goroutine's guard and, if
//! there is too little, calls `morestack`, which **jumps back to the function's entry**. A hit before the
//! check would count such a call twice, so at an entry the window is the check, and the hit comes after it,
//! on the path that falls through. Sources: Go's `cmd/internal/obj/x86/obj6.go` (stacksplit),
//! `runtime/stack.go`, `cmd/compile/abi-internal.md` (r14 holds the goroutine).
//!
//! A goroutine's stack is small and grows only at that check. In a function that has it, 800 bytes below
//! the stack pointer belong to whoever runs without a check (`StackLimit`), so a trampoline may push there
//! and then see if there is room for a hit.
//!
//! In a function without it nothing is known, so nothing may be pushed before the room is measured, and that takes
//! registers. In what Go's compiler made there are two: r12 and r13 are scratch between functions, so that they hold
//! nothing at a function's start, nor at a return or a jump to another function; nor anywhere in a function that
//! never names them (`abi-internal.md`). It keeps its goroutine in r14 as well. Where it calls assembly, it
//! fetches it again at once; a function that writes r14 in any other way is one that assembly calls, and is refused.
//! Go's own assembly sets r14 before it calls what its compiler made; that of others may not (code that C calls, before
//! it is known which goroutine this is), so r14 is believed only if the thread's own word says the same. That goroutine may
//! not be the one whose stack this is, where the runtime changes stacks and in a signal handler, and there may be none:
//! what is measured is both ends of its stack.

use std::ops::Range;

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use crate::instruction::{is_nop, is_string};

/// Bytes that a hit needs below the stack pointer on a goroutine's stack: the registers that the agent
/// saves (408 bytes), its return addresses, and the same again for safety. The rest runs on a spare stack.
pub const GO_STACK_ROOM: u32 = 1024;

/// Where a trampoline finds the goroutine, whose first word is the lowest address of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoSource {
    /// In r14 (ABIInternal).
    R14,
    /// At this offset from the `fs` base (ABI0, which is assembly).
    Tls(i32),
    /// In r14, if that is the goroutine at this offset from the `fs` base and this is its stack, which no check of the
    /// function has shown. Nothing is pushed before that is known: r12 and r13 hold nothing here.
    Unchecked(i32),
}

/// A recognised stack check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackCheck {
    /// Address after its last instruction.
    pub end: u64,
    /// Where it goes when there is too little: the call of `morestack`, at the function's end.
    pub tail: u64,
    /// Where this function finds its goroutine.
    pub source: GoSource,
}

/// `stackguard0` and `stackguard1` in Go's `g` (`runtime/runtime2.go`).
const GUARDS: [u64; 2] = [0x10, 0x18];

/// The stack check at a function's start. `bytes` are the function's.
pub fn stack_check(bytes: &[u8], start: u64) -> Option<StackCheck> {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut next = || decoder.can_decode().then(|| decoder.decode()).filter(|i| !i.is_invalid());
    let mut i = next()?;
    // mov rcx, fs:[-8]             only in ABI0
    let (source, g) = match goroutine_load(&i) {
        Some((offset, register)) => {
            i = next()?;
            (GoSource::Tls(offset), register)
        }
        None => (GoSource::R14, Register::R14),
    };
    let mut pointer = Register::RSP;
    if i.code() == Code::Lea_r64_m && i.memory_base() == Register::RSP && i.memory_index() == Register::None {
        // lea r12, [rsp-N]          a large frame
        pointer = i.op0_register();
        i = next()?;
    } else if copies_rsp(&i) {
        // mov r12, rsp              a very large frame, whose subtraction may wrap
        // sub r12, N
        // jb morestack
        pointer = i.op0_register();
        let sub = next()?;
        let subtracts = matches!(sub.code(), Code::Sub_rm64_imm32 | Code::Sub_rm64_imm8);
        let wrapped = next()?;
        let wraps = wrapped.is_jcc_short_or_near() && wrapped.condition_code() == ConditionCode::b;
        if !subtracts || sub.op0_register() != pointer || !wraps {
            return None;
        }
        i = next()?;
    }
    // cmp rsp, [r14+0x10]
    let compares = i.code() == Code::Cmp_r64_rm64
        && i.op0_register() == pointer
        && i.op1_kind() == OpKind::Memory
        && i.memory_base() == g
        && i.memory_index() == Register::None
        && GUARDS.contains(&i.memory_displacement64());
    // jbe morestack
    let branch = next()?;
    let branches = branch.is_jcc_short_or_near() && branch.condition_code() == ConditionCode::be;
    (compares && branches).then(|| StackCheck {
        end: branch.next_ip(),
        tail: branch.near_branch_target(),
        source,
    })
}

/// `mov r64, fs:[negative]`: offset and register.
fn goroutine_load(i: &Instruction) -> Option<(i32, Register)> {
    let plain = i.code() == Code::Mov_r64_rm64
        && i.segment_prefix() == Register::FS
        && i.memory_base() == Register::None
        && i.memory_index() == Register::None;
    let offset = i32::try_from(i.memory_displacement64().cast_signed()).ok().filter(|o| *o < 0)?;
    plain.then(|| (offset, i.op0_register()))
}

fn copies_rsp(i: &Instruction) -> bool {
    let moves = matches!(i.code(), Code::Mov_rm64_r64 | Code::Mov_r64_rm64);
    moves
        && i.op1_kind() == OpKind::Register
        && i.op1_register() == Register::RSP
        && i.op0_kind() == OpKind::Register
}

/// Whether an instruction names memory below the stack pointer. Go does that in one place, where nothing may be pushed until
/// the call that follows: it keeps the frame pointer there for `duffzero` and `duffcopy` (`obj6.go`).
pub fn reaches_below(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    memory && i.memory_base() == Register::RSP && i.memory_displacement64().cast_signed() < 0
}

/// Registers that belong to nobody between two functions of Go's compiler.
const SCRATCH: [Register; 2] = [Register::R12, Register::R13];

/// What a function does with the registers that a hit without a stack check needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// It names r12 or r13 somewhere.
    pub scratch: bool,
    /// r14 may not hold its goroutine when it begins, or may come to hold something else.
    pub other_goroutine: bool,
    /// From behind a call of assembly up to where it has fetched its goroutine again: until then r14 may hold anything.
    pub unknown: Vec<Range<u64>>,
}

/// What the function does whose instructions these are. `None`: some of it does not decode.
pub fn uses(bytes: &[u8], start: u64) -> Option<Uses> {
    let mut uses = Uses::default();
    // The end of the last call, while nothing but the clearing of xmm15 has come after it.
    let mut called = None;
    for i in Decoder::with_ip(64, bytes, start, DecoderOptions::NONE) {
        if i.is_invalid() {
            return None;
        }
        uses.scratch |= names_scratch(&i);
        let is_r14 =
            |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).full_register() == Register::R14;
        let writes = match i.mnemonic() {
            Mnemonic::Xchg | Mnemonic::Xadd => (0..i.op_count()).any(is_r14),
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push => false,
            _ => i.op_count() > 0 && is_r14(0),
        };
        if writes {
            match (called, goroutine_load(&i)) {
                (Some(from), Some((_, Register::R14))) => uses.unknown.push(from..i.next_ip()),
                _ => uses.other_goroutine = true,
            }
        }
        if i.flow_control() == FlowControl::Call || i.flow_control() == FlowControl::IndirectCall {
            called = Some(i.next_ip());
        } else if !clears_xmm15(&i) {
            called = None;
        }
    }
    Some(uses)
}

/// Go's compiler keeps xmm15 zero, and makes it so again behind a call of assembly.
fn clears_xmm15(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Xorps
        && i.op0_register() == Register::XMM15
        && i.op1_register() == Register::XMM15
}

/// Whether an instruction names one of these registers, whole or in part, as an operand or in an address.
pub fn names(i: &Instruction, which: &[Register]) -> bool {
    let operands = (0..i.op_count()).filter(|n| i.op_kind(*n) == OpKind::Register).map(|n| i.op_register(n));
    let mut all = operands.chain([i.memory_base(), i.memory_index()]);
    all.any(|r| which.contains(&r.full_register()))
}

/// Whether an instruction names r12 or r13.
pub fn names_scratch(i: &Instruction) -> bool {
    names(i, &SCRATCH)
}

/// Why a displaced instruction might fault; `None` if it cannot. The runtime turns a fault into a panic by
/// looking its address up in its own tables, where a trampoline is not.
pub fn may_fault(i: &Instruction, source: GoSource) -> Option<&'static str> {
    if matches!(i.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
        return Some("a division may fault");
    }
    if i.mnemonic() == Mnemonic::Lea || is_nop(i) {
        return None;
    }
    for operand in 0..i.op_count() {
        match i.op_kind(operand) {
            OpKind::Memory => {
                let no_index = i.memory_index() == Register::None;
                let certain = match i.memory_base() {
                    Register::RSP | Register::RIP => true,
                    Register::R14 => source == GoSource::R14,
                    Register::None => i.segment_prefix() == Register::FS,
                    _ => false,
                };
                if !no_index || !certain {
                    return Some("it reads or writes through a pointer");
                }
            }
            kind if is_string(kind) => return Some("it is a string instruction"),
            _ => {}
        }
    }
    None
}
