//! The window of a site: which instructions it displaces, and the proof that it is closed.
//!
//! INVARIANT (closed window, see the crate's head) holds because each way of arriving is excluded:
//! 1. a direct jump or call from anywhere in the text — `sweep.jumps`, `sweep.calls`;
//! 2. a pointer that the host knows (symbol, relocation, landing pad, function start) — `entries`;
//! 3. a pointer in the module's bytes, or taken by an instruction — `pointers`, `sweep.taken`;
//! 4. a self-relative jump table of this function, read as far as it could possibly reach — `tables::walk`
//!    without a bound; or of a function that is not known to belong to it — `tables`;
//! 5. arithmetic on a code address: a function that jumps indirectly *and* takes an address inside itself
//!    is not trusted at all;
//! 6. a return: no call is inside a window, except as its last instruction, whose return address is the
//!    window's end.
//!
//! Ways 1 and 2 are checked for every one of the bytes, since a branch may skip a prefix; ways 3 to 5 only
//! for instruction boundaries, which a single instruction does not have inside.
//!
//! Not excluded: code made by a program that invents code addresses from nothing (no compiler does), or
//! that finds them relative to another module.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::JUMP;
use crate::analysis::Analysis;
use crate::instruction::{Flow, flow, is_nop};
use crate::refusal::{Reason, Refusal};
use crate::sweep::TextPart;
use crate::tables::walk;

/// Bytes overwritten, as a distance between addresses.
const JUMP_BYTES: u64 = JUMP as u64;

/// The instructions from `site` on, up to the first boundary at or after five bytes. `part` contains it.
pub fn instructions(analysis: &Analysis, part: &TextPart, site: u64) -> Result<Vec<Instruction>, Refusal> {
    let outside = || Refusal::new(Reason::OutsideText, site, "the address is not in the module's text");
    let bytes = analysis.text_at(site).and_then(|s| s.slice(site, part.end)).ok_or_else(outside)?;
    let mut decoder = Decoder::with_ip(64, bytes, site, DecoderOptions::NONE);
    let mut list: Vec<Instruction> = Vec::new();
    let mut nops_until = None;
    loop {
        let at = decoder.ip();
        let length = at - site;
        if length >= JUMP_BYTES && nops_until.is_none_or(|end| at >= end) {
            return Ok(list);
        }
        if at >= part.end {
            let detail = format!("the function ends {length} bytes on; a jump takes {JUMP}");
            return Err(Refusal::new(Reason::TooShort, site, detail));
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let detail = "the bytes here are no known instruction, or it runs past the function's end";
            return Err(Refusal::new(Reason::Undecodable, at, detail));
        }
        let kind = flow(&instruction).map_err(|why| {
            let text = format!("{:?} cannot be moved: {why}", instruction.mnemonic());
            Refusal::new(Reason::NotRelocatable, at, text)
        })?;
        let after = instruction.next_ip();
        if nops_until.is_some_and(|end| !is_nop(&instruction) || after > end) {
            return Err(short(site, at - site, "an unconditional jump"));
        }
        list.push(instruction);
        if after - site < JUMP_BYTES {
            match kind {
                Flow::Next | Flow::Conditional => {}
                // XRay's sled: a short jump over nothing but a nop.
                Flow::Leaves if skips_a_little(&instruction) => {
                    nops_until = Some(instruction.near_branch_target());
                }
                Flow::Leaves => return Err(short(site, after - site, "a jump or return")),
                Flow::Call => return Err(short(site, after - site, "a call")),
            }
        }
    }
}

fn skips_a_little(i: &Instruction) -> bool {
    let target = i.near_branch_target();
    i.is_jmp_short() && target > i.next_ip() && target - i.next_ip() <= 16
}

fn short(site: u64, length: u64, what: &str) -> Refusal {
    let detail = format!("{what} ends the straight code {length} bytes on; a jump takes {JUMP}");
    Refusal::new(Reason::TooShort, site, detail)
}

/// Proves that no control arrives inside the five bytes at the first instruction.
pub fn closed(analysis: &Analysis, part: usize, window: &[Instruction]) -> Result<(), Refusal> {
    let Some(site) = window.first().map(Instruction::ip) else { return Ok(()) };
    let refuse = |reason, at: u64, what: &str| {
        Err(Refusal::new(reason, site, format!("{what} {at:#x}, inside the {JUMP} bytes to be overwritten")))
    };
    for at in site + 1..site.saturating_add(JUMP_BYTES) {
        if analysis.sweep.jumps.has(at) {
            return refuse(Reason::BranchIntoWindow, at, "a jump goes to");
        }
        if analysis.sweep.calls.has(at) {
            return refuse(Reason::BranchIntoWindow, at, "a call goes to");
        }
        if analysis.entries.has(at) {
            return refuse(Reason::CodePointerIntoWindow, at, "a symbol, relocation or landing pad names");
        }
    }
    let inside: Vec<u64> = window
        .iter()
        .skip(1)
        .map(Instruction::ip)
        .filter(|ip| *ip < site.saturating_add(JUMP_BYTES))
        .collect();
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
    tables(analysis, part, site, &inside)
}

/// Ways 4 and 5, for the function that holds the window.
fn tables(analysis: &Analysis, part: usize, site: u64, inside: &[u64]) -> Result<(), Refusal> {
    let jumps = analysis.family(part).any(|(_, p)| p.indirect_jump);
    if !jumps {
        return Ok(());
    }
    for (index, _) in analysis.family(part) {
        for base in analysis.bases(index) {
            let own = analysis.family(part).any(|(_, p)| base > p.start && base < p.end);
            if own {
                let detail =
                    format!("the function jumps to computed addresses and takes its own address {base:#x}");
                return Err(Refusal::new(Reason::JumpTableIntoWindow, site, detail));
            }
            let mut hit = None;
            walk(&analysis.image, base, None, |target| {
                hit = inside.contains(&target).then_some(target);
                hit.is_none()
            });
            if let Some(at) = hit {
                let detail = format!(
                    "the jump table at {base:#x} may go to {at:#x}, inside the bytes to be overwritten"
                );
                return Err(Refusal::new(Reason::JumpTableIntoWindow, site, detail));
            }
        }
    }
    Ok(())
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
