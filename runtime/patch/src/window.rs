//! The window of a site: which instructions it displaces, and the proof that it is closed.
//!
//! INVARIANT (closed window, see the crate's head) holds because each way of arriving is excluded:
//! 1. a direct jump or call from anywhere in the text — `sweep.jumps`, `sweep.calls`; or straight code that
//!    such a jump enters off the boundaries, and that runs in or over — `sweep.second`, `sweep.straddled`;
//! 2. a pointer that the host knows (symbol, relocation, landing pad, function start) — `entries`;
//! 3. a pointer in the module's bytes, or taken by an instruction — `pointers`, `sweep.taken`;
//! 4. a self-relative jump table of this function, read as far as it could possibly reach — `tables::walk`
//!    without a bound; or of a function that is not known to belong to it — `tables`;
//! 5. arithmetic on a code address: a function that jumps indirectly *and* takes an address inside itself
//!    is not trusted at all;
//! 6. a return: no call is inside a window, except as its last instruction, whose return address is the
//!    window's end.
//!
//! What must be closed are the bytes that are written (five, or the two of a short jump) and, where the
//! window begins before the site, all bytes up to the site: a branch to the site itself would pass the hit by.
//! Ways 1 and 2 are checked for every one of these bytes, since a branch may skip a prefix; ways 3 to 5 only
//! for instruction boundaries, which a single instruction does not have inside. Bytes behind the window's end
//! are padding, for which `padding.rs` answers.
//!
//! Not excluded: code made by a program that invents code addresses from nothing (no compiler does), or
//! that finds them relative to another module.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::JUMP;
use crate::analysis::Analysis;
use crate::instruction::{Flow, flow, is_nop};
use crate::refusal::{Reason, Refusal};
use crate::sweep::TextPart;

/// Straight code: instructions that follow one another.
pub struct Straight {
    /// The instructions.
    pub list: Vec<Instruction>,
    /// The last one is a jump or a return, and came before as many bytes as were asked for.
    pub leaves: bool,
}

impl Straight {
    /// First byte and address after the last one.
    pub fn range(&self) -> Range<u64> {
        let start = self.list.first().map_or(0, Instruction::ip);
        start..self.list.last().map_or(start, Instruction::next_ip)
    }
}

/// The instructions from `start` on, up to the first boundary at or after `cover` bytes, or to the jump or
/// return before that. `part` contains `start`.
pub fn straight(analysis: &Analysis, part: &TextPart, start: u64, cover: u64) -> Result<Straight, Refusal> {
    let outside = || Refusal::new(Reason::OutsideText, start, "the address is not in the module's text");
    let bytes = analysis.text_at(start).and_then(|s| s.slice(start, part.end)).ok_or_else(outside)?;
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut list: Vec<Instruction> = Vec::new();
    // A short jump over nothing but nops (XRay's sled): instructions up to it, and where it goes.
    let mut sled: Option<(usize, u64)> = None;
    loop {
        let at = decoder.ip();
        let length = at - start;
        if length >= cover && sled.is_none_or(|(_, end)| at >= end) {
            return Ok(Straight { list, leaves: false });
        }
        if at >= part.end {
            if let Some((upto, _)) = sled {
                list.truncate(upto);
                return Ok(Straight { list, leaves: true });
            }
            let detail = format!("the function ends {length} bytes on; a jump takes {JUMP}");
            return Err(Refusal::new(Reason::TooShort, start, detail));
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let detail = "the bytes here are no known instruction, or it runs past the function's end";
            return Err(Refusal::new(Reason::Undecodable, at, detail));
        }
        let after = instruction.next_ip();
        if let Some((upto, _)) = sled.filter(|(_, end)| !is_nop(&instruction) || after > *end) {
            list.truncate(upto);
            return Ok(Straight { list, leaves: true });
        }
        let kind = flow(&instruction).map_err(|why| {
            let text = format!("{:?} cannot be moved: {why}", instruction.mnemonic());
            Refusal::new(Reason::NotRelocatable, at, text)
        })?;
        list.push(instruction);
        if after - start < cover {
            match kind {
                Flow::Next | Flow::Conditional => {}
                Flow::Leaves if skips_a_little(&instruction) => {
                    sled = Some((list.len(), instruction.near_branch_target()));
                }
                Flow::Leaves => return Ok(Straight { list, leaves: true }),
                Flow::Call => {
                    let detail = format!(
                        "a call ends the straight code {} bytes on; a jump takes {JUMP}",
                        after - start
                    );
                    return Err(Refusal::new(Reason::TooShort, start, detail));
                }
            }
        }
    }
}

fn skips_a_little(i: &Instruction) -> bool {
    let target = i.near_branch_target();
    i.is_jmp_short() && target > i.next_ip() && target - i.next_ip() <= 16
}

/// Proves that no control arrives strictly inside `bytes`, of which the window's instructions are the start.
pub fn closed(
    analysis: &Analysis,
    part: usize,
    window: &[Instruction],
    bytes: &Range<u64>,
) -> Result<(), Refusal> {
    let site = bytes.start;
    let count = bytes.end - site;
    let refuse = |reason, at: u64, what: &str| {
        Err(Refusal::new(reason, site, format!("{what} {at:#x}, inside the {count} bytes to be closed")))
    };
    for at in site..bytes.end {
        if analysis.sweep.straddled.has(at) {
            return refuse(Reason::BranchIntoWindow, at, "a branch skips a prefix or opcode, and runs over");
        }
    }
    for at in site + 1..bytes.end {
        if analysis.sweep.jumps.has(at) || analysis.sweep.second.has(at) {
            return refuse(Reason::BranchIntoWindow, at, "a jump goes to");
        }
        if analysis.sweep.calls.has(at) {
            return refuse(Reason::BranchIntoWindow, at, "a call goes to");
        }
        if analysis.entries.has(at) {
            return refuse(Reason::CodePointerIntoWindow, at, "a symbol, relocation or landing pad names");
        }
    }
    let inside: Vec<u64> = window.iter().skip(1).map(Instruction::ip).filter(|ip| *ip < bytes.end).collect();
    if inside.is_empty() {
        return Ok(());
    }
    for at in inside.iter().copied() {
        if analysis.pointers.has(at) {
            return refuse(Reason::CodePointerIntoWindow, at, "a word of the module's data is");
        }
        if analysis.sweep.taken.has(at) {
            return refuse(Reason::CodePointerIntoWindow, at, "an instruction takes the address");
        }
        if analysis.tables.has(at) {
            return refuse(Reason::JumpTableIntoWindow, at, "a jump table goes to");
        }
    }
    table_reaches(analysis, part, site, bytes, |at| inside.contains(&at))
}

/// Ways 4 and 5, for the function that holds the window: refuses where a table may lead to an address in `range`
/// for which `inside` holds.
pub fn table_reaches(
    analysis: &Analysis,
    part: usize,
    site: u64,
    range: &Range<u64>,
    inside: impl Fn(u64) -> bool,
) -> Result<(), Refusal> {
    let wide = analysis.wide(part);
    if let Some(base) = wide.own {
        let detail = format!("the function jumps to computed addresses and takes its own address {base:#x}");
        return Err(Refusal::new(Reason::JumpTableIntoWindow, site, detail));
    }
    let from = wide.targets.partition_point(|t| t.0 < range.start);
    let near = wide.targets.get(from..).unwrap_or(&[]).iter().take_while(|t| t.0 < range.end);
    match near.copied().find(|t| inside(t.0)) {
        Some((at, base)) => {
            let detail =
                format!("the jump table at {base:#x} may go to {at:#x}, inside the bytes to be overwritten");
            Err(Refusal::new(Reason::JumpTableIntoWindow, site, detail))
        }
        None => Ok(()),
    }
}

/// Whether nothing below the stack pointer can be live at the start of a function: control arrives there
/// only as by a call. A jump there may come from a loop whose data is in the red zone, or be how a cold
/// part is entered; so may a table, and so may code that runs into the function from above.
pub fn entered_by_call_only(analysis: &Analysis, part: &TextPart) -> bool {
    let start = part.start;
    let jumped = analysis.sweep.jumps.has(start) || analysis.tables.has(start);
    part.function && !part.joined && !jumped && !runs_into(analysis, start)
}

/// Whether straight code leads to `start` from above.
fn runs_into(analysis: &Analysis, start: u64) -> bool {
    let Some(text) = analysis.text_at(start) else { return true };
    let mut end = start;
    // Padding is at most a few nops; what is longer is not proven.
    for _ in 0..64 {
        if end == text.vaddr {
            return false;
        }
        let before = (1..=15).filter_map(|n| end.checked_sub(n)).find(|at| analysis.is_instruction(*at));
        let Some(at) = before else { return true };
        let Some(bytes) = text.slice(at, end) else { return true };
        let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
        // The end of the text before it, in bytes that mean nothing.
        if instruction.is_invalid() {
            return true;
        }
        if is_nop(&instruction) {
            end = at;
            continue;
        }
        return match flow(&instruction) {
            Ok(Flow::Leaves | Flow::Call) => false,
            Ok(Flow::Next | Flow::Conditional) => true,
            Err(_) => !matches!(instruction.mnemonic(), Mnemonic::Int3 | Mnemonic::Ud2 | Mnemonic::Hlt),
        };
    }
    true
}
