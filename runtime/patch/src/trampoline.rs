//! Puts a template's bytes out, and says afterwards how threads move between a window and its copy.
//!
//! Nothing here writes to a process: the host writes [`Trampoline::bytes`] first, makes sure that they are
//! visible, and then the [`Trampoline::patches`] in their order, while no thread's ip is inside one of them.
//! With a short jump there are two:
//!
//! ```text
//!     text      window: jmp rel8 ──┐        │ ret │ dead padding: jmp rel32 ──┐ │ next function
//!                                  └─────────────▶─────────┘                  └──▶ trampoline
//! ```
//! The slack is written first and restored last, so that nobody ever jumps to slack without a jump in it.
//! A thread may be stopped at the slack's start, and a signal frame may return there: it is as good as the
//! site, but the slack must not be restored under it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::go::GoSource;
use crate::refusal::{Reason, Refusal};
use crate::relocate::{Displaced, jump, relative, short_jump};
use crate::site_plan::HitPosition;
use crate::template::{KEEP_FLAGS, Part, RESTORE_FLAGS, ROOM_DISPLACEMENT, SAME, TOP, Template};
use crate::{JUMP, SHORT_JUMP};

/// Bytes that are written over others. The address is one in the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Where they go.
    pub address: u64,
    /// What is written.
    pub bytes: Vec<u8>,
    /// What was there, and is there again afterwards; as long as `bytes`.
    pub original: Vec<u8>,
    /// What the file has in front of it.
    pub before: Vec<u8>,
}

impl Patch {
    /// The bytes that it overwrites.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.address..self.address.wrapping_add(self.bytes.len() as u64)
    }
}

/// A trampoline as bytes, and the patches that lead to it. All addresses are addresses in the process.
///
/// It can be written down, so that who finds it without its host can undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trampoline {
    /// The trampoline.
    pub bytes: Vec<u8>,
    /// Where it goes.
    pub address: u64,
    /// What is written in the text, in the order of writing.
    patches: Vec<Patch>,
    /// The instruction before which the hit runs.
    pub site_address: u64,
    /// Where the hit begins in the trampoline, and the address in the text that this stands for.
    hit: (u64, u64),
    /// Index of the site.
    pub site_index: u32,
    /// The bytes of the whole window.
    pub original: Vec<u8>,
    /// The window.
    pub window: Range<u64>,
    /// When the hit runs.
    pub position: HitPosition,
    /// For each instruction of the window: its address in the text, and that of its copy. The last entry is
    /// the window's end, with the end of the copy.
    pub twins: Vec<(u64, u64)>,
    /// The copy of the window. Where the hit is inside, it lies between two pieces of it.
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
        let first =
            |p: &Part| matches!(p, Part::UnlessTaken | Part::SkipRedZone | Part::SaveRcx | Part::KeepRcx);
        let hit = address.wrapping_add(self.offset_of(first).unwrap_or(0) as u64);
        let stands_for = self.window.get(self.before).map_or(window.end, |i| i.original);
        Ok(Trampoline {
            bytes,
            address,
            patches: self.patches(&window)?,
            site_address: self.plan.site.wrapping_add(bias),
            hit: (hit, stands_for),
            site_index: self.placement.site_index,
            original: self.plan.original.clone(),
            window,
            position: self.plan.position,
            twins,
            relocated,
        })
    }

    /// The jump to the trampoline, or to slack and from there.
    fn patches(&self, window: &Range<u64>) -> Result<Vec<Patch>, Refusal> {
        let to = self.placement.trampoline;
        // Where the long jump is, once it is written.
        let mut slack = None;
        let mut patches = Vec::with_capacity(self.plan.writes.len());
        for write in &self.plan.writes {
            let address = write.start.wrapping_add(self.placement.bias);
            let mut bytes = Vec::with_capacity(write.original.len());
            match slack {
                Some(slack) => bytes.extend(short_jump(address, slack)?),
                None => {
                    let end = write.range().end.wrapping_add(self.placement.bias);
                    // A nop that is run through becomes a jump over itself.
                    if write.original.len() > JUMP {
                        bytes.extend(short_jump(address, end)?);
                    }
                    let from = address.wrapping_add(bytes.len() as u64);
                    bytes.extend(jump(from, to, "the trampoline")?);
                    slack = Some(from);
                }
            }
            bytes.extend(write.original.get(bytes.len()..).unwrap_or(&[]));
            debug_assert_eq!(bytes.len(), write.original.len(), "as planned");
            let (original, before) = (write.original.clone(), write.before.clone());
            patches.push(Patch { address, bytes, original, before });
        }
        debug_assert!(patches.last().is_some_and(|p| p.address == window.start), "the window comes last");
        Ok(patches)
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
            // The longest way is from a conditional exit past the whole hit, in Go: under 127 bytes.
            debug_assert!(distance.is_some_and(|d| d < 0x80), "the parts in between are short");
            vec![opcode, distance.unwrap_or(0)]
        };
        let closed = |p: &Part| matches!(p, Part::RestoreRcx | Part::FetchKept);
        let open = match self.plan.go {
            Some(GoSource::Unchecked(_)) => |p: &Part| matches!(p, Part::PushKept),
            _ => |p: &Part| matches!(p, Part::LoadSite),
        };
        Ok(match part {
            Part::UnlessTaken => {
                let site = self.window.get(self.before);
                let condition = site.and_then(Displaced::condition).ok_or_else(|| {
                    let why = "only a conditional jump is taken or not";
                    Refusal::new(Reason::NotRelocatable, self.plan.site, why)
                })?;
                // The lowest bit of a condition negates it.
                short(0x70 | (condition ^ 1), |p| matches!(p, Part::Tail))
            }
            Part::SkipRedZone => vec![0x48, 0x8d, 0x64, 0x24, 0x80],
            Part::SaveRcx => vec![0x51],
            Part::KeepRcx => vec![0x49, 0x89, 0xcc],
            Part::PushKept => vec![0x41, 0x54],
            Part::DropKept => vec![0x48, 0x8d, 0x64, 0x24, 0x08],
            Part::FetchKept => vec![0x4c, 0x89, 0xe1],
            Part::LoadGate => near(&[0x48, 0x8b, 0x0d], 7, self.placement.gate, "the gate")?,
            Part::LeaveIfClosed => short(0xe3, closed),
            Part::MeasureStack(source) => measure(*source),
            Part::GoOnIfRoom => short(0xe3, open),
            Part::CountSkipped(source) => {
                let cell = self.placement.skipped_cell.unwrap_or(self.placement.gate);
                let (keep, restore): (&[u8], &[u8]) = match source {
                    GoSource::Unchecked(_) => (&KEEP_FLAGS, &RESTORE_FLAGS),
                    GoSource::R14 | GoSource::Tls(_) => (&[0x9c], &[0x9d]),
                };
                let mut out = keep.to_vec();
                out.extend([0xf0, 0x48, 0xff, 0x05]);
                let end = at + out.len() as u64 + 4;
                out.extend(relative(end, cell, "the counter of skipped hits")?);
                out.extend(restore);
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
            Part::Head => self.copies(0..self.before, at, twins, window.end)?,
            Part::Tail => self.copies(self.before..self.window.len(), at, twins, window.end)?,
            Part::JumpBack => jump(at, window.end, "the way back")?,
            Part::Literal => {
                self.window.iter().find(|i| i.is_call()).map_or(0, |i| i.next()).to_le_bytes().to_vec()
            }
        })
    }

    /// Some of the window's instructions. After the last of all, the window's end has its twin too.
    fn copies(
        &self,
        which: Range<usize>,
        start: u64,
        twins: &mut Vec<(u64, u64)>,
        end: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let literal = self.offset_of(|p| matches!(p, Part::Literal)).unwrap_or(0) as u64;
        let literal = self.placement.trampoline.wrapping_add(literal);
        let last = which.end == self.window.len();
        let mut out: Vec<u8> = Vec::new();
        for instruction in self.window.get(which).unwrap_or(&[]) {
            let at = start.wrapping_add(out.len() as u64);
            twins.push((instruction.original, at));
            out.extend(instruction.emit(at, literal)?);
        }
        if last {
            twins.push((end, start.wrapping_add(out.len() as u64)));
        }
        Ok(out)
    }
}

/// The goroutine's stack in rcx, as 0 where a hit has room. See the drawing in `template.rs`.
pub(crate) fn measure(source: GoSource) -> Vec<u8> {
    let mut out = match source {
        GoSource::R14 => vec![0x49, 0x8b, 0x0e],
        GoSource::Unchecked(offset) => {
            let mut load = vec![0x64, 0x48, 0x8b, 0x0c, 0x25];
            load.extend(offset.to_le_bytes());
            load.extend(SAME);
            load.extend([0x49, 0x8b, 0x0e]);
            load
        }
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
    if matches!(source, GoSource::Unchecked(_)) {
        out.extend(TOP);
    }
    out
}

impl Trampoline {
    /// What is written in the text, in the order in which it must be written: slack first, the window's
    /// start last.
    #[must_use]
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// The patches in the order in which they are undone: the window's start first.
    pub fn undo(&self) -> impl Iterator<Item = &Patch> {
        self.patches.iter().rev()
    }

    /// Where the long jump begins, if a short one leads to it. A thread that is there is about to enter the
    /// trampoline; none is ever inside.
    #[must_use]
    pub fn slack(&self) -> Option<u64> {
        let patch = self.patches.first().filter(|_| self.patches.len() > 1)?;
        let over = if patch.bytes.len() > JUMP { SHORT_JUMP } else { 0 };
        Some(patch.address.wrapping_add(over as u64))
    }

    /// Every range of text that is displaced or written: the slack, if there is any; the window with what is
    /// written behind it. What a receipt vouches for.
    #[must_use]
    pub fn touched(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = self.overwritten().collect();
        if let Some(last) = all.last_mut() {
            *last = last.start.min(self.window.start)..last.end.max(self.window.end);
        }
        all
    }

    /// The bytes that are written. No thread may be strictly inside one of these while they are; the
    /// boundaries among them have twins.
    pub fn overwritten(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.patches.iter().map(Patch::range)
    }

    /// Where a thread goes on that was between two instructions of the window when the site was written: at
    /// the site itself it goes to the hit. `None` at the window's start (it takes the jump) and at its end
    /// (untouched).
    #[must_use]
    pub fn twin_of(&self, ip: u64) -> Option<u64> {
        if ip <= self.window.start || ip >= self.window.end {
            return None;
        }
        if ip == self.hit.1 {
            return Some(self.hit.0);
        }
        self.twins.iter().find(|t| t.0 == ip).map(|t| t.1)
    }

    /// Where a thread goes on in restored text that is inside the trampoline, or about to enter it from
    /// slack, if it is at a place where the registers and the stack are as in the text: the start, the hit's
    /// start (the test of a conditional exit is a part of it), or a boundary of the copy.
    ///
    /// Moving a thread from the hit's start skips a hit that has not begun. `None`: let it run on.
    #[must_use]
    pub fn original_of(&self, ip: u64) -> Option<u64> {
        if ip == self.hit.0 {
            return Some(self.hit.1);
        }
        if self.slack() == Some(ip) {
            return Some(self.window.start);
        }
        self.twins.iter().find(|t| t.1 == ip).map(|t| t.0)
    }

    /// Whether these are the trampoline's bytes.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes == self.bytes
    }
}
