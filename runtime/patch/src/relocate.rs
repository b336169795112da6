//! Moves one instruction to another address so that it does the same there.
//!
//! What does not depend on its address is copied byte for byte. A rip-relative operand gets a new
//! displacement in place. Branches become their 32-bit forms to the original target: a jump to the window's
//! own start goes to the site, and is a hit again, as it was. A call leaves the *original* return address on the
//! stack, so that no unwinder ever sees one of ours:
//!
//! ```text
//!     call next            ; keeps the processor's return predictor in step
//!     int3                 ; never run: a call to the very next instruction is no call to the predictor
//! next:
//!     lea  rsp, [rsp+8]    ; the slot again; flags untouched
//!     push [rip+literal]   ; the original return address, as one store that `ret` can forward
//!     jmp  target          ; `jmp r/m` for an indirect call; an operand on the stack is 8 further away now
//! ```
//! Then the callee's return alone is foretold wrong. Without the `int3` all returns of the callers above it are, too:
//! eight deep that is 37 ns against 5 (`bench --only hits`, "a call made elsewhere").
//! Two 4-byte stores over the pushed address would do as well, but `ret` then waits for both to reach the
//! cache. A shadow stack forbids either: the host asks for [`crate::Notes::call`].

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, Register};

use crate::instruction::{Flow, flow};
use crate::refusal::{Reason, Refusal};

/// Bytes of a displaced call before its jump: `call next`, `int3`, `lea rsp,[rsp+8]`, `push [rip+literal]`.
const CALL_HEAD: usize = 5 + 1 + 5 + 6;

/// One instruction of a window, in addresses of the process.
#[derive(Clone, Debug)]
pub struct Displaced {
    /// Address where it is in the text.
    pub original: u64,
    bytes: Vec<u8>,
    instruction: Instruction,
    displacement: Option<usize>,
    flow: Flow,
}

impl Displaced {
    /// Decodes a window that lies at `address`. Fails where [`flow`] says that it cannot be moved.
    pub fn decode_all(bytes: &[u8], address: u64) -> Result<Vec<Self>, Refusal> {
        let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
        let mut list = Vec::new();
        while decoder.can_decode() {
            let from = decoder.position();
            let instruction = decoder.decode();
            let at = instruction.ip();
            let refuse = |reason, why: &str| Refusal::new(reason, at, why);
            if instruction.is_invalid() {
                return Err(refuse(Reason::Undecodable, "the window does not decode"));
            }
            let flow = flow(&instruction).map_err(|why| refuse(Reason::NotRelocatable, why))?;
            let offsets = decoder.get_constant_offsets(&instruction);
            let relative = instruction.is_ip_rel_memory_operand();
            if relative && offsets.displacement_size() != 4 {
                return Err(refuse(Reason::NotRelocatable, "its displacement is not 32 bits"));
            }
            list.push(Self {
                original: at,
                bytes: bytes.get(from..decoder.position()).unwrap_or(&[]).to_vec(),
                displacement: relative.then_some(offsets.displacement_offset()),
                instruction,
                flow,
            });
        }
        Ok(list)
    }

    /// Whether it is a call, which needs a literal: eight bytes with its return address.
    pub fn is_call(&self) -> bool {
        self.flow == Flow::Call
    }

    /// The return address of a call: the address of the next instruction in the text.
    pub fn next(&self) -> u64 {
        self.instruction.next_ip()
    }

    /// Bytes that it takes in a trampoline.
    pub fn length(&self) -> Result<usize, Refusal> {
        match (self.flow, self.instruction.code()) {
            (Flow::Conditional, _) => Ok(6),
            (Flow::Leaves, Code::Jmp_rel8_64 | Code::Jmp_rel32_64) => Ok(5),
            (Flow::Call, Code::Call_rel32_64) => Ok(CALL_HEAD + 5),
            // The operand's length does not depend on the address; near its own, every operand is in reach.
            (Flow::Call, _) => Ok(CALL_HEAD + self.indirect(self.original)?.len()),
            (Flow::Next | Flow::Leaves, _) => Ok(self.bytes.len()),
        }
    }

    /// Its bytes at address `at`; `literal` is the address of a call's literal.
    pub fn emit(&self, at: u64, literal: u64) -> Result<Vec<u8>, Refusal> {
        let target = self.instruction.near_branch_target();
        match (self.flow, self.instruction.code()) {
            (Flow::Conditional, _) => {
                let mut out = vec![0x0f, 0x80 | self.opcode_condition()];
                out.extend(relative(at + 6, target, "a displaced branch")?);
                Ok(out)
            }
            (Flow::Leaves, Code::Jmp_rel8_64 | Code::Jmp_rel32_64) => jump(at, target, "a displaced jump"),
            (Flow::Call, code) => {
                let mut out = vec![0xe8, 1, 0, 0, 0, 0xcc, 0x48, 0x8d, 0x64, 0x24, 0x08, 0xff, 0x35];
                let tail = at + CALL_HEAD as u64;
                out.extend(relative(tail, literal, "a return address")?);
                out.extend(match code {
                    Code::Call_rel32_64 => jump(tail, target, "a displaced call")?,
                    _ => self.indirect(tail)?,
                });
                Ok(out)
            }
            (Flow::Next | Flow::Leaves, _) => {
                let mut out = self.bytes.clone();
                if let Some(from) = self.displacement {
                    let end = at + out.len() as u64;
                    let bytes = relative(end, self.instruction.ip_rel_memory_address(), "a memory operand")?;
                    if let Some(slot) = out.get_mut(from..from + 4) {
                        slot.copy_from_slice(&bytes);
                    }
                }
                Ok(out)
            }
        }
    }

    /// The condition of a conditional branch as its opcode has it.
    pub fn condition(&self) -> Option<u8> {
        (self.flow == Flow::Conditional).then(|| self.opcode_condition())
    }

    fn opcode_condition(&self) -> u8 {
        use iced_x86::ConditionCode as C;
        match self.instruction.condition_code() {
            C::o | C::None => 0,
            C::no => 1,
            C::b => 2,
            C::ae => 3,
            C::e => 4,
            C::ne => 5,
            C::be => 6,
            C::a => 7,
            C::s => 8,
            C::ns => 9,
            C::p => 10,
            C::np => 11,
            C::l => 12,
            C::ge => 13,
            C::le => 14,
            C::g => 15,
        }
    }

    /// The `jmp r/m` of an indirect call, at `at`. Eight bytes are on the stack by then.
    fn indirect(&self, at: u64) -> Result<Vec<u8>, Refusal> {
        let mut jump = self.instruction;
        jump.set_code(Code::Jmp_rm64);
        if jump.memory_base() == Register::RSP {
            jump.set_memory_displacement64(jump.memory_displacement64().wrapping_add(8));
            // 1: the shortest form that holds it.
            jump.set_memory_displ_size(1);
        }
        let mut encoder = Encoder::new(64);
        match encoder.encode(&jump, at) {
            Ok(_) => Ok(encoder.take_buffer()),
            Err(_) if jump.is_ip_rel_memory_operand() => {
                Err(far(at, jump.ip_rel_memory_address(), "the operand of a displaced call"))
            }
            Err(e) => {
                Err(Refusal::new(Reason::NotRelocatable, self.original, format!("the call's operand: {e}")))
            }
        }
    }
}

/// `jmp rel32` from `at` to `target`.
pub fn jump(at: u64, target: u64, what: &str) -> Result<Vec<u8>, Refusal> {
    let mut out = vec![0xe9];
    out.extend(relative(at.wrapping_add(5), target, what)?);
    Ok(out)
}

/// `jmp rel8` from `at` to `target`.
pub fn short_jump(at: u64, target: u64) -> Result<Vec<u8>, Refusal> {
    let distance = target.wrapping_sub(at.wrapping_add(2)).cast_signed();
    let distance = i8::try_from(distance).map_err(|_| far(at, target, "the slack"))?;
    Ok(vec![0xeb, distance.to_le_bytes()[0]])
}

/// The 32-bit displacement from the end of an instruction to an address.
pub fn relative(end: u64, to: u64, what: &str) -> Result<[u8; 4], Refusal> {
    let distance = to.wrapping_sub(end).cast_signed();
    let distance = i32::try_from(distance).map_err(|_| far(end, to, what))?;
    Ok(distance.to_le_bytes())
}

fn far(from: u64, to: u64, what: &str) -> Refusal {
    let detail =
        format!("{what} at {to:#x} is more than 2 GiB from {from:#x}; memory nearer to the site is needed");
    Refusal::new(Reason::Far, from, detail)
}
