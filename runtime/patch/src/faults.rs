//! What may be displaced where a program turns faults into exceptions: what cannot fault.
//!
//! A handler of SIGSEGV or SIGFPE throws there, and the unwinder looks up the address of the instruction that faulted.
//! A trampoline has no unwind tables, so that the program would end. Go has a rule of its own (`go.rs`): its compiler keeps
//! the goroutine in a register.
//!
//! Certain are operands on the stack and in the module itself: who has no stack there cannot handle a signal either, and
//! what the module names is mapped. Not certain is memory that any other register points to, also where rbp is a frame
//! pointer: in optimised code it is a register like others.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind, Register};

use crate::instruction::{is_nop, is_string};

/// Bytes below the stack pointer that code may use (System V x86-64 ABI, 3.2.2).
const RED_ZONE: i64 = 128;

/// Why an instruction might fault; `None` if it cannot.
pub fn may_fault(i: &Instruction) -> Option<&'static str> {
    if matches!(i.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
        return Some("a division may fault");
    }
    if i.mnemonic() == Mnemonic::Lea || is_nop(i) {
        return None;
    }
    if i.is_jmp_near_indirect() || i.is_call_near_indirect() {
        let slot = i.op0_kind() == OpKind::Memory && i.is_ip_rel_memory_operand();
        return (!slot).then_some("it goes to where a pointer leads");
    }
    if i.op_kinds().any(is_string) {
        return Some("it is a string instruction");
    }
    if i.op_kinds().any(|kind| kind == OpKind::Memory) && !is_certain(i) {
        return Some("it reads or writes through a pointer");
    }
    if probes_stack(i) {
        return Some("it finds out whether there is stack left");
    }
    if i.op_count() > 0 && i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register() {
        return Some("it loads a segment");
    }
    calculates(i).then_some("a floating-point operation may trap")
}

/// Whether the memory that it names is there: on the stack, in the module, or in the thread's own block.
fn is_certain(i: &Instruction) -> bool {
    if i.memory_index() != Register::None {
        return false;
    }
    let displacement = i.memory_displacement64().cast_signed();
    match (i.memory_base(), i.segment_prefix()) {
        (Register::RSP, Register::None) => displacement >= -RED_ZONE,
        (Register::RIP, Register::None) | (Register::None, Register::FS) => true,
        _ => false,
    }
}

/// `or [rsp+N], 0` does nothing but touch: GCC writes that with `-fstack-check`, which Ada uses, to find out if there is room.
fn probes_stack(i: &Instruction) -> bool {
    let immediate =
        matches!(i.op1_kind(), OpKind::Immediate8 | OpKind::Immediate8to64 | OpKind::Immediate8to32);
    i.mnemonic() == Mnemonic::Or && i.op0_kind() == OpKind::Memory && immediate && i.immediate8() == 0
}

/// Whether it may raise what a program can ask to have as SIGFPE (`feenableexcept`): every operation of the x87, which tells
/// of an earlier one's exceptions, and of vectors all but those that move, mix or combine bits and integers.
fn calculates(i: &Instruction) -> bool {
    const HARMLESS: [&str; 22] = [
        "mov",
        "p",
        "xorp",
        "andp",
        "andnp",
        "orp",
        "shufp",
        "unpck",
        "blendp",
        "insert",
        "extract",
        "broadcast",
        "maskmov",
        "lddqu",
        "zero",
        "aes",
        "sha",
        "test",
        "perm",
        "align",
        "gf2p",
        "tern",
    ];
    let features = i.cpuid_features();
    let old = |f: &CpuidFeature| {
        matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 | CpuidFeature::MMX)
    };
    if features.iter().any(old) {
        return true;
    }
    let is_vector = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).is_vector_register();
    if !(0..i.op_count()).any(is_vector) {
        return false;
    }
    let name = format!("{:?}", i.mnemonic()).to_ascii_lowercase();
    let name = name.strip_prefix('v').unwrap_or(&name);
    !HARMLESS.iter().any(|h| name.starts_with(h))
}
