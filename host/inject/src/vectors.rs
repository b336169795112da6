//! Whether machine code may touch xmm8 to xmm15, so that a hit saves them only then.
//!
//! Code that wasmtime compiles has data between its instructions (jump tables), so it is not decoded: every byte is
//! taken for a possible start. What is looked for is what no access to these registers can do without, in the encodings
//! that the engine is allowed: a REX prefix that extends a register's number, then 0F, then an opcode that is not one
//! of the integer ones (Intel SDM 2, 2.2.1 and appendix A). AVX, which has other encodings, is turned off in the engine,
//! and the agent refuses a module that was compiled with it. So "no" is certain; "yes" may be a coincidence.

use object::{Object, ObjectSection};

/// Whether a precompiled module may touch xmm8 to xmm15. True also for what is no precompiled module.
#[must_use]
pub fn touches_high_vectors(module: &[u8]) -> bool {
    let text = object::File::parse(module).ok().and_then(|f| f.section_by_name(".text")?.data().ok());
    text.is_none_or(|text| text.windows(3).any(may_be_high))
}

/// Whether an instruction that touches one of them may go on so after its first prefixes.
fn may_be_high(bytes: &[u8]) -> bool {
    let &[rex, escape, opcode] = bytes else { return true };
    // REX is 0100WRXB; R and B extend the two operands that can be vector registers.
    rex & 0xf0 == 0x40 && rex & 0b101 != 0 && escape == 0x0f && !is_integer(opcode)
}

/// Whether an opcode after 0F has general registers for operands whatever prefix stands before it.
fn is_integer(opcode: u8) -> bool {
    matches!(
        opcode,
        0x0b                    // ud2
            | 0x18 | 0x1f       // prefetch, nop
            | 0x40..=0x4f       // cmov
            | 0x80..=0x9f       // jcc, setcc
            | 0xa2 | 0xa3       // cpuid, bt
            | 0xa4 | 0xa5       // shld
            | 0xab..=0xad       // bts, shrd
            | 0xaf              // imul
            | 0xb0 | 0xb1       // cmpxchg
            | 0xb3 | 0xb6..=0xb8 // btr, movzx, popcnt
            | 0xba..=0xbf       // bt and its kind, bsf, bsr, tzcnt, lzcnt, movsx
            | 0xc0 | 0xc1       // xadd
            | 0xc3 | 0xc7       // movnti, cmpxchg16b
            | 0xc8..=0xcf       // bswap
    )
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, EncodingKind, InstructionInfoFactory, OpAccess, Register};

    use super::*;

    /// xorshift64.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn no_instruction_that_touches_one_is_missed() {
        let mut seed = 0x1234_5678_9abc_def1;
        let mut infos = InstructionInfoFactory::new();
        let mut touching = 0;
        for _ in 0..2_000_000 {
            let words = [random(&mut seed), random(&mut seed), random(&mut seed)];
            let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            // Most random bytes are no vector instruction; these are.
            let prefix = [0x66, 0xf2, 0xf3, 0x90][usize::from(bytes[20] & 3)];
            let rex = 0x40 | bytes[1] & 0xf;
            if bytes[21] & 1 == 0 {
                bytes[..3].copy_from_slice(&[prefix, rex, 0x0f]);
            } else {
                bytes[..2].copy_from_slice(&[rex, 0x0f]);
            }
            let mut decoder = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                if instruction.is_invalid() || instruction.op_code().encoding() != EncodingKind::Legacy {
                    break;
                }
                let high = infos.info(&instruction).used_registers().iter().any(|used| {
                    let number = used.register().number();
                    used.access() != OpAccess::None && used.register().is_xmm() && number >= 8
                });
                if high {
                    touching += 1;
                    let end = decoder.position();
                    let own = &bytes[end - instruction.len()..end];
                    assert!(own.windows(3).any(may_be_high), "{own:02x?} {instruction}");
                }
            }
        }
        assert!(touching > 100_000, "{touching} touch one");
        assert_eq!(Register::XMM8.number(), 8);
    }

    #[test]
    fn what_is_no_module_touches_all() {
        assert!(touches_high_vectors(&[]));
        assert!(touches_high_vectors(b"\x7fELF, but not really"));
    }
}
