//! One displaced instruction: what it does to control, and whether it means the same at another address.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How control leaves an instruction that may be displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To its target, or to the next instruction.
    Conditional,
    /// To its target, or back to its caller: nothing follows.
    Leaves,
    /// To its target, and later to the next instruction, whose address it leaves on the stack.
    Call,
}

/// The flow of an instruction, or why it cannot be displaced.
pub fn flow(i: &Instruction) -> Result<Flow, &'static str> {
    if i.memory_base() == Register::EIP {
        return Err("it addresses memory relative to eip");
    }
    if i.is_privileged() {
        return Err("it is a privileged instruction");
    }
    match i.flow_control() {
        FlowControl::Next if i.mnemonic() == Mnemonic::Endbr64 => {
            Err("endbr64 marks a place that indirect branches reach")
        }
        FlowControl::Next => Ok(Flow::Next),
        FlowControl::ConditionalBranch if i.is_jcc_short_or_near() => Ok(Flow::Conditional),
        FlowControl::ConditionalBranch => Err("loop and jrcxz have no form that reaches far"),
        FlowControl::UnconditionalBranch => match i.code() {
            Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => Ok(Flow::Leaves),
            _ => Err("it is a far or 16-bit jump"),
        },
        FlowControl::IndirectBranch if matches!(i.code(), Code::Jmp_rm64) => Ok(Flow::Leaves),
        FlowControl::IndirectBranch => Err("it is a far or 16-bit jump"),
        FlowControl::Call if i.code() == Code::Call_rel32_64 => Ok(Flow::Call),
        FlowControl::Call => Err("system calls are made where the kernel and the runtime expect them"),
        FlowControl::IndirectCall if i.code() != Code::Call_rm64 => Err("it is a far or 16-bit call"),
        FlowControl::IndirectCall if i.op0_register() == Register::RSP => Err("it calls the stack"),
        FlowControl::IndirectCall => Ok(Flow::Call),
        FlowControl::Return if matches!(i.code(), Code::Retnq | Code::Retnq_imm16) => Ok(Flow::Leaves),
        FlowControl::Return => Err("it returns to another privilege level or segment"),
        FlowControl::Interrupt => Err("it is an interrupt or a breakpoint"),
        FlowControl::XbeginXabortXend => Err("it is part of a hardware transaction"),
        FlowControl::Exception => Err("it raises an exception by design"),
    }
}

/// Addresses of data that straight-line reading of some code finds in its operands, relative to where it is.
#[must_use]
pub fn data_named(code: &[u8], start: u64) -> Vec<u64> {
    let all = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut named: Vec<u64> =
        all.into_iter().filter(|i| i.is_ip_rel_memory_operand()).map(|i| i.ip_rel_memory_address()).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// A no-operation of any length, also one that names memory (which it does not touch).
pub fn is_nop(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Nop
}

/// Whether an operand is that of a string instruction: memory that rsi or rdi points to.
pub fn is_string(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI
    )
}
