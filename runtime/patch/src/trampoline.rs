//! Puts a template's bytes out, and says afterwards how threads move between a window and its copy.
//!
//! Nothing here writes to a process: the host writes [`Trampoline::bytes`] first, makes sure that they are
//! visible, and then [`Trampoline::patch`], while no thread's ip is inside the five bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::go::GoSource;
use crate::plan::HitPosition;
use crate::refusal::Refusal;
use crate::relocate::{jump, relative};
use crate::template::{Part, ROOM_DISPLACEMENT, Template};

/// A trampoline as bytes, and the patch that leads to it. All addresses are addresses in the process.
///
/// It can be written down, so that who finds it without its host can undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trampoline {
    /// The trampoline.
    pub bytes: Vec<u8>,
    /// Where it goes.
    pub address: u64,
    /// What is written at the site: exactly five bytes, `jmp rel32`.
    pub patch: Vec<u8>,
    /// Where the patch goes.
    pub site_address: u64,
    /// Index of the site.
    pub site_index: u32,
    /// The bytes of the whole window. Its first five are what `patch` overwrites.
    pub original: Vec<u8>,
    /// The window.
    pub window: Range<u64>,
    /// When the hit runs.
    pub position: HitPosition,
    /// For each instruction of the window: its address in the text, and that of its copy. The last entry is
    /// the window's end, with the end of the copy.
    pub twins: Vec<(u64, u64)>,
    /// The copy of the window.
    pub relocated: Range<u64>,
}

impl Template {
    /// The bytes.
    ///
    /// # Errors
    /// `far` where an address does not fit a 32-bit displacement: the host looks for memory nearer to the
    /// site, or to what the window refers to.
    pub fn emit(&self) -> Result<Trampoline, Refusal> {
        let address = self.placement.trampoline;
        let bias = self.placement.bias;
        let window = self.plan.window.start.wrapping_add(bias)..self.plan.window.end.wrapping_add(bias);
        let mut bytes = Vec::with_capacity(self.length());
        let mut twins = Vec::with_capacity(self.window.len() + 1);
        for (offset, length, part) in &self.parts {
            debug_assert_eq!(*offset, bytes.len(), "every part is as long as it said");
            let at = address.wrapping_add(*offset as u64);
            let piece = self.part(part, at, *offset + *length, &mut twins, &window)?;
            debug_assert_eq!(piece.len(), *length, "{part:?}");
            bytes.extend(piece);
        }
        let relocated = twins.first().map_or(address, |t| t.1)..twins.last().map_or(address, |t| t.1);
        Ok(Trampoline {
            bytes,
            address,
            patch: jump(window.start, address, "the trampoline")?,
            site_address: window.start,
            site_index: self.placement.site_index,
            original: self.plan.original.clone(),
            window,
            position: self.plan.position,
            twins,
            relocated,
        })
    }

    /// One part at `at`, whose end is at offset `end`.
    fn part(
        &self,
        part: &Part,
        at: u64,
        end: usize,
        twins: &mut Vec<(u64, u64)>,
        window: &Range<u64>,
    ) -> Result<Vec<u8>, Refusal> {
        let near = |opcode: &[u8], length: u64, to: u64, what: &str| {
            let mut out = opcode.to_vec();
            out.extend(relative(at + length, to, what)?);
            Ok(out)
        };
        let short = |opcode: u8, to: fn(&Part) -> bool| {
            let distance = self.offset_of(to).and_then(|to| u8::try_from(to.checked_sub(end)?).ok());
            // The longest way is from the gate past the Go part: under 64 bytes.
            debug_assert!(distance.is_some_and(|d| d < 0x80), "the parts in between are short");
            vec![opcode, distance.unwrap_or(0)]
        };
        let closed = |p: &Part| matches!(p, Part::RestoreRcx);
        let open = |p: &Part| matches!(p, Part::LoadSite);
        Ok(match part {
            Part::SkipRedZone => vec![0x48, 0x8d, 0x64, 0x24, 0x80],
            Part::SaveRcx => vec![0x51],
            Part::LoadGate => near(&[0x48, 0x8b, 0x0d], 7, self.placement.gate, "the gate")?,
            Part::LeaveIfClosed => short(0xe3, closed),
            Part::MeasureStack(source) => measure(*source),
            Part::GoOnIfRoom => short(0xe3, open),
            Part::CountSkipped => {
                let cell = self.placement.skipped_cell.unwrap_or(self.placement.gate);
                let mut out = vec![0x9c, 0xf0, 0x48, 0xff, 0x05];
                out.extend(relative(at + 9, cell, "the counter of skipped hits")?);
                out.push(0x9d);
                out
            }
            Part::LeaveWithoutRoom => short(0xeb, closed),
            Part::LoadSite => {
                let mut out = vec![0xb9];
                out.extend(self.placement.site_index.to_le_bytes());
                out
            }
            Part::CallAgent => near(&[0xff, 0x15], 6, self.placement.agent_cell, "the agent's cell")?,
            Part::RestoreRcx => vec![0x59],
            Part::RestoreRedZone => vec![0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0],
            Part::Relocated => self.relocated(at, twins, window.end)?,
            Part::JumpBack => jump(at, window.end, "the way back")?,
            Part::Literal => {
                self.window.iter().find(|i| i.is_call()).map_or(0, |i| i.next()).to_le_bytes().to_vec()
            }
        })
    }

    fn relocated(&self, start: u64, twins: &mut Vec<(u64, u64)>, end: u64) -> Result<Vec<u8>, Refusal> {
        let literal = self.offset_of(|p| matches!(p, Part::Literal)).unwrap_or(0) as u64;
        let literal = self.placement.trampoline.wrapping_add(literal);
        let mut out: Vec<u8> = Vec::new();
        for instruction in &self.window {
            let at = start.wrapping_add(out.len() as u64);
            twins.push((instruction.original, at));
            out.extend(instruction.emit(at, literal)?);
        }
        twins.push((end, start.wrapping_add(out.len() as u64)));
        Ok(out)
    }
}

/// The goroutine's stack in rcx, as 0 where a hit has room. See the drawing in `template.rs`.
fn measure(source: GoSource) -> Vec<u8> {
    let mut out = match source {
        GoSource::R14 => vec![0x49, 0x8b, 0x0e],
        GoSource::Tls(offset) => {
            let mut load = vec![0x64, 0x48, 0x8b, 0x0c, 0x25];
            load.extend(offset.to_le_bytes());
            load.extend([0x48, 0x8b, 0x09]);
            load
        }
    };
    out.extend([0x48, 0xf7, 0xd1, 0x48, 0x8d, 0x8c, 0x0c]);
    out.extend(ROOM_DISPLACEMENT.to_le_bytes());
    out.extend([0x48, 0x0f, 0xc9, 0x0f, 0xb6, 0xc9]);
    out
}

impl Trampoline {
    /// Where a thread goes on that was between two instructions of the window when the site was written:
    /// `None` at the site itself (it takes the jump) and at the window's end (untouched).
    #[must_use]
    pub fn twin_of(&self, ip: u64) -> Option<u64> {
        let inside = ip > self.window.start && ip < self.window.end;
        self.twins.iter().find(|t| inside && t.0 == ip).map(|t| t.1)
    }

    /// Where a thread inside the trampoline goes on in restored text, if its ip is at a place where the
    /// registers and the stack are as in the text: the start, or a boundary of the copy.
    ///
    /// The trampoline's start is the site's: moving a thread from there skips a hit that has not begun.
    /// The same holds after the copy of a window whose hit comes after it. `None`: let it run on.
    #[must_use]
    pub fn original_of(&self, ip: u64) -> Option<u64> {
        if ip == self.address {
            return Some(self.site_address);
        }
        self.twins.iter().find(|t| t.1 == ip).map(|t| t.0)
    }

    /// Whether these are the trampoline's bytes.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes == self.bytes
    }

    /// The five bytes that undo the patch.
    #[must_use]
    pub fn undo(&self) -> &[u8] {
        self.original.get(..self.patch.len()).unwrap_or(&self.original)
    }

    /// Addresses where a thread must not be while the patch is written or undone: inside the five bytes.
    /// Boundaries among them have twins.
    #[must_use]
    pub fn overwritten(&self) -> Range<u64> {
        self.site_address..self.site_address.wrapping_add(self.patch.len() as u64)
    }
}
