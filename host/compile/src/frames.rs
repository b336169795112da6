//! Stack frames of compiled code: a limit that wasmtime does not keep.
//!
//! Without signal handlers wasmtime compares the stack pointer with its limit when a function has taken its frame, and
//! has touched every page of it: one function with thousands of live values is beyond any limit before it is told. So
//! no frame may be larger than what is left between the limit on wasm and the room that a hit asks for.

use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use object::{Object, ObjectSection, SectionKind};
use trocar_abi::hit::STACK_ROOM;
use trocar_sandbox::WASM_STACK;

/// Most bytes of a frame. What else a hit needs, host calls and a signal handler on top, is smaller than the rest.
pub const FRAME_MAX: u64 = 8 << 10;
const _: () = assert!(WASM_STACK as u64 + FRAME_MAX + (4 << 10) < STACK_ROOM);

/// The greatest amount that any instruction of a precompiled module takes from the stack at once; `None` if it is no
/// precompiled module.
#[must_use]
pub(crate) fn greatest(code: &[u8]) -> Option<u64> {
    let file = object::File::parse(code).ok()?;
    let texts = file.sections().filter(|s| s.kind() == SectionKind::Text);
    let mut greatest = 0;
    for text in texts {
        let mut decoder = Decoder::with_ip(64, text.data().ok()?, 0, DecoderOptions::NONE);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let from_stack =
                instruction.mnemonic() == Mnemonic::Sub && instruction.op0_register() == Register::RSP;
            if from_stack {
                // An amount in a register is not known.
                let known = instruction.op1_kind() != OpKind::Register;
                greatest = greatest.max(if known { instruction.immediate(1) } else { u64::MAX });
            }
        }
    }
    Some(greatest)
}
