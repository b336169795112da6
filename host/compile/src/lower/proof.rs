//! Reads a handler's machine code and proves of each instruction that it does no more than it may.

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::NotSimple;

/// Most bytes of code.
const CODE_MAX: usize = 4096;
/// Most bytes of stack.
const STACK_MAX: i64 = 512;

/// Checks it.
///
/// # Errors
/// The first instruction that is not proven harmless: then the handler runs under wasmtime.
pub(super) fn check(code: &[u8]) -> Result<(), NotSimple> {
    if code.len() > CODE_MAX {
        return Err(NotSimple::because(format!("its code is {} bytes, over {CODE_MAX}", code.len())));
    }
    let all: Vec<Instruction> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect();
    let mut factory = InstructionInfoFactory::new();
    let mut returns = false;
    let mut stack = 0;
    for instruction in &all {
        // Only forward, so that it ends, and only to what is proven here.
        let is_ahead = |to: u64| to > instruction.ip() && all.iter().any(|i| i.ip() == to);
        is_harmless(instruction, &mut factory, stack, is_ahead)
            .map_err(|what| NotSimple::because(format!("its code is not proven: {what} ({instruction})")))?;
        stack += room(instruction).map_err(NotSimple::because)?;
        returns = instruction.mnemonic() == Mnemonic::Ret;
    }
    if !returns {
        return Err(NotSimple::because("its code does not end in a return"));
    }
    if stack > STACK_MAX {
        return Err(NotSimple::because(format!("its code takes {stack} bytes of stack, over {STACK_MAX}")));
    }
    Ok(())
}

/// Whether eight bytes at this distance from the stack pointer lie in what was taken of the stack.
fn is_below(displacement: u64, stack: i64) -> bool {
    displacement.cast_signed() < 0 || displacement.cast_signed().saturating_add(8) <= stack
}

/// Bytes of stack that the instruction takes.
fn room(i: &Instruction) -> Result<i64, &'static str> {
    let of_rsp = i.op_count() > 0 && i.op_kind(0) == OpKind::Register && i.op0_register() == Register::RSP;
    if !of_rsp || matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) {
        return Ok(-i64::from(i.stack_pointer_increment()).min(0));
    }
    let by_number = i.op_count() == 2 && i.op_kind(1) != OpKind::Register && i.op_kind(1) != OpKind::Memory;
    match i.mnemonic() {
        Mnemonic::Sub if by_number => Ok(i.immediate(1).cast_signed()),
        Mnemonic::Add if by_number => Ok(0),
        // The end of a function with a frame pointer.
        Mnemonic::Mov if i.op1_register() == Register::RBP => Ok(0),
        _ => Err("its code moves the stack pointer"),
    }
}

/// `stack`: bytes that it has taken of the stack before this instruction, on the way that leads straight to it.
fn is_harmless(
    i: &Instruction,
    factory: &mut InstructionInfoFactory,
    stack: i64,
    is_ahead: impl Fn(u64) -> bool,
) -> Result<(), &'static str> {
    use Mnemonic as M;
    if i.is_invalid() {
        return Err("no instruction");
    }
    let adds = matches!(i.mnemonic(), M::Add | M::Inc | M::Sub | M::Dec);
    match i.mnemonic() {
        M::Mov
        | M::Movzx
        | M::Movsx
        | M::Movsxd
        | M::Lea
        | M::Add
        | M::Sub
        | M::Inc
        | M::Dec
        | M::Neg
        | M::Not
        | M::And
        | M::Or
        | M::Xor
        | M::Imul
        | M::Shl
        | M::Shr
        | M::Sar
        | M::Rol
        | M::Ror
        | M::Cmp
        | M::Test
        | M::Bsr
        | M::Bsf
        | M::Push
        | M::Pop
        | M::Nop => {}
        M::Ret if i.op_count() == 0 => {}
        _ if i.is_jcc_short_or_near() || i.is_jmp_short_or_near() => {
            return if is_ahead(i.near_branch_target()) { Ok(()) } else { Err("a jump back, or out of it") };
        }
        _ if i.is_loop() || i.is_loopcc() || i.is_jcx_short() => return Err("a loop"),
        _ if i.condition_code() != iced_x86::ConditionCode::None => {} // cmov, set
        _ => return Err("an instruction that is not on the list"),
    }
    if i.has_lock_prefix() || i.has_rep_prefix() || i.has_repne_prefix() {
        return Err("a prefix");
    }
    let general = |r: Register| r == Register::None || r.is_gpr();
    let registers = (0..i.op_count()).filter(|n| i.op_kind(*n) == OpKind::Register).map(|n| i.op_register(n));
    if !registers.into_iter().all(general) || !general(i.memory_base()) || !general(i.memory_index()) {
        return Err("a register that is not general");
    }
    for memory in factory.info(i).used_memory() {
        if memory.segment() != Register::DS && memory.segment() != Register::SS {
            return Err("another segment");
        }
        let on_stack = memory.base() == Register::RSP && memory.index() == Register::None;
        match memory.access() {
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess => {}
            // The one way in which it changes anything that outlives it: by one instruction, as INVARIANT (stub) says.
            OpAccess::ReadWrite if adds && !on_stack && i.memory_size().size() == 8 => {}
            // Pushed, or spilled to what was taken before.
            OpAccess::Write | OpAccess::ReadWrite if on_stack && is_below(memory.displacement(), stack) => {}
            _ => return Err("a write that is not one addition to a word"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_changes_only_words_of_the_block_is_proven() {
        for code in [
            &b"\xc3"[..],
            b"\x48\x83\x87\x00\x10\x00\x00\x01\xc3", // add qword [rdi+0x1000], 1
            b"\x48\x83\xec\x10\x48\x89\x44\x24\x08\x48\x83\xc4\x10\xc3", // a spill to what was taken
            b"\x74\x00\xc3",                         // a jump ahead
        ] {
            assert_eq!(check(code), Ok(()), "{code:x?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (code, what) in [
            (&b"\x48\x89\x07\xc3"[..], "a store"),
            (b"\x83\x07\x01\xc3", "an addition to half a word"),
            (b"\x48\x83\x04\x24\x01\xc3", "an addition to the return address"),
            (b"\x48\x89\x44\x24\x08\xc3", "a store above what was taken of the stack"),
            (b"\x48\x81\xec\x00\x04\x00\x00\xc3", "a kilobyte of stack"),
            (b"\x48\x89\xc4\xc3", "another stack"),
            (b"\x64\x48\x83\x07\x01\xc3", "thread-local data"),
            (b"\xf0\x48\x83\x07\x01\xc3", "a lock"),
            (b"\x0f\x28\xc1\xc3", "a vector register"),
            (b"\x0f\x05\xc3", "a system call"),
            (b"\xe8\x00\x00\x00\x00\xc3", "a call"),
            (b"\xff\xe0\xc3", "an indirect jump"),
            (b"\xeb\xfe\xc3", "a jump back"),
            (b"\x74\x01\x48\x89\xc0\xc3", "a jump into an instruction"),
            (b"\xe2\x00\xc3", "a loop"),
            (b"\xfd\xc3", "the direction flag"),
            (b"\x9d\xc3", "all flags"),
            (b"\xc2\x08\x00", "a return that takes more"),
            (b"\x90", "no return"),
            (b"\x06\xc3", "no instruction"),
        ] {
            assert!(check(code).is_err(), "{what}: {code:x?}");
        }
    }
}
