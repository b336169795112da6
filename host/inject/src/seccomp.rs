//! What a seccomp filter says of a system call of which not everything is known.
//!
//! A filter is a program of classic BPF over `struct seccomp_data` (seccomp(2), `linux/filter.h`; what may occur in one:
//! `seccomp_check_filter` in `kernel/seccomp.c`). It is run with words that are known or not; where one that is not known
//! decides a jump, both ways are followed. All jumps go forward, so one pass sees every way, and takes as long as the
//! program is; where ways meet, what they disagree about is not known from then on.
//!
//! The kernel has checked what it hands out, and it is checked again: whatever is not understood allows nothing.

/// Most instructions of a filter (`BPF_MAXINSNS`).
pub(crate) const LENGTH_MAX: usize = 4096;

/// One instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// Instructions to skip if a condition holds.
    pub(crate) jt: u8,
    /// And if it does not.
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// A value; `None`: it may be any.
type Word = Option<u32>;

/// Words of `struct seccomp_data`.
const DATA_WORDS: usize = 16;

/// A system call as a filter sees it, word by word.
pub(crate) type Data = [Word; DATA_WORDS];

/// `AUDIT_ARCH_X86_64` in `linux/audit.h`.
const X86_64: u32 = 0xc000_003e;
/// Only this and nothing else lets the kernel make the call without telling anybody (`SECCOMP_RET_ALLOW`). After
/// `SECCOMP_RET_LOG` it is made as well, but each goes into the audit log: whoever reads that would take it for the
/// program's, and where the log is full the caller waits for room.
const ALLOW: u32 = 0x7fff_0000;
/// What of a filter's answer is its verdict (`SECCOMP_RET_ACTION_FULL`).
const ACTION: u32 = 0xffff_0000;

/// A system call that 64-bit code makes by `syscall`, wherever that instruction is.
///
/// ```text
///   0 number │ 1 architecture │ 2, 3 instruction pointer │ 4, 5 first argument, its lower half first │ …
/// ```
pub(crate) fn data(number: u32, arguments: [Option<u64>; 6]) -> Data {
    let mut words = [None; DATA_WORDS];
    let halves = arguments.iter().flat_map(|a| [a.map(|a| half(a, 0)), a.map(|a| half(a, 32))]);
    let all = [Some(number), Some(X86_64), None, None].into_iter().chain(halves);
    for (to, word) in words.iter_mut().zip(all) {
        *to = word;
    }
    words
}

fn half(value: u64, shift: u32) -> u32 {
    u32::try_from(value >> shift & u64::from(u32::MAX)).unwrap_or(0)
}

/// Whether a filter lets this call be made, whatever the unknown words are.
pub(crate) fn allows(program: &[Instruction], data: &Data) -> bool {
    if program.len() > LENGTH_MAX {
        return false;
    }
    let mut ways: Vec<Option<State>> = vec![None; program.len()];
    if let Some(first) = ways.first_mut() {
        *first = Some(State { a: None, x: None, memory: [None; 16] });
    }
    let mut returned = false;
    for (at, instruction) in program.iter().enumerate() {
        let Some(state) = ways.get(at).copied().flatten() else { continue };
        match step(*instruction, state, data) {
            Some(Next::Goes(state, ways_on)) => {
                for skip in ways_on.into_iter().flatten() {
                    let to = usize::try_from(skip).ok().and_then(|skip| at.checked_add(1)?.checked_add(skip));
                    match to.and_then(|to| ways.get_mut(to)) {
                        Some(there) => *there = Some(there.map_or(state, |other| other.or(&state))),
                        None => return false,
                    }
                }
            }
            Some(Next::Returns(Some(verdict))) if verdict & ACTION == ALLOW => returned = true,
            Some(Next::Returns(_)) | None => return false,
        }
    }
    returned
}

/// The registers and the scratch memory.
#[derive(Clone, Copy)]
struct State {
    a: Word,
    x: Word,
    memory: [Word; 16],
}

impl State {
    /// What is known on either way.
    fn or(self, other: &Self) -> Self {
        let both = |one: Word, two: Word| if one == two { one } else { None };
        let mut memory = self.memory;
        for (one, two) in memory.iter_mut().zip(other.memory) {
            *one = both(*one, two);
        }
        Self { a: both(self.a, other.a), x: both(self.x, other.x), memory }
    }
}

/// What comes of an instruction.
enum Next {
    /// It goes on, behind so many skipped instructions, in one way or two.
    Goes(State, [Option<u32>; 2]),
    Returns(Word),
}

const ON: [Option<u32>; 2] = [Some(0), None];

/// Executes one instruction. `None`: it is none that a filter may have, or it reaches out of its memory.
fn step(instruction: Instruction, state: State, data: &Data) -> Option<Next> {
    let Instruction { code, k, .. } = instruction;
    let mut state = state;
    let cell = usize::try_from(k).ok()?;
    match code {
        // ld [k], ld len, ld #k, ld M[k]
        0x20 => state.a = *data.get(cell / 4).filter(|_| k % 4 == 0)?,
        0x80 => state.a = Some(64),
        0x00 => state.a = Some(k),
        0x60 => state.a = *state.memory.get(cell)?,
        // ldx len, ldx #k, ldx M[k]
        0x81 => state.x = Some(64),
        0x01 => state.x = Some(k),
        0x61 => state.x = *state.memory.get(cell)?,
        // st M[k], stx M[k]
        0x02 => *state.memory.get_mut(cell)? = state.a,
        0x03 => *state.memory.get_mut(cell)? = state.x,
        // tax, txa
        0x07 => state.x = state.a,
        0x87 => state.a = state.x,
        // ret #k, ret a
        0x06 => return Some(Next::Returns(Some(k))),
        0x16 => return Some(Next::Returns(state.a)),
        // ja
        0x05 => return Some(Next::Goes(state, [Some(k), None])),
        0x84 => state.a = state.a.map(u32::wrapping_neg),
        _ => {
            let operand = if code & 0x08 == 0 { Some(k) } else { state.x };
            match code & !0x08 {
                code @ (0x15 | 0x25 | 0x35 | 0x45) => {
                    return Some(Next::Goes(state, jump(code, state.a, operand, instruction)));
                }
                code => state.a = calculate(code, state.a, operand)?,
            }
        }
    }
    Some(Next::Goes(state, ON))
}

/// Where a conditional jump goes: jeq, jgt, jge, jset.
fn jump(code: u16, a: Word, operand: Word, instruction: Instruction) -> [Option<u32>; 2] {
    let (yes, no) = (Some(u32::from(instruction.jt)), Some(u32::from(instruction.jf)));
    let Some((a, operand)) = a.zip(operand) else { return [yes, no] };
    let holds = match code {
        0x15 => a == operand,
        0x25 => a > operand,
        0x35 => a >= operand,
        _ => a & operand != 0,
    };
    [if holds { yes } else { no }, None]
}

/// The outer `None`: no such operation, or a division that may be one by zero, at which the kernel returns zero, which
/// kills; the inner: the result is not known.
fn calculate(code: u16, a: Word, operand: Word) -> Option<Word> {
    if code == 0x34 && operand.is_none_or(|by| by == 0) {
        return None;
    }
    let calculation: fn(u32, u32) -> Option<u32> = match code {
        0x04 => |a, b| Some(a.wrapping_add(b)),
        0x14 => |a, b| Some(a.wrapping_sub(b)),
        0x24 => |a, b| Some(a.wrapping_mul(b)),
        0x34 => u32::checked_div,
        0x44 => |a, b| Some(a | b),
        0x54 => |a, b| Some(a & b),
        // Kernels differ in what shifting by more than the width does.
        0x64 => u32::checked_shl,
        0x74 => u32::checked_shr,
        0xa4 => |a, b| Some(a ^ b),
        _ => return None,
    };
    Some(a.zip(operand).and_then(|(a, b)| calculation(a, b)))
}

#[cfg(test)]
mod tests;
