//! Reads back a trampoline that we wrote, from its bytes alone: for orphans whose host died.
//!
//! Every byte from the push to the pop is compared with what `template.rs` makes, so that foreign code is
//! not taken for ours. The window's original bytes are not in a trampoline; the file has them.

use iced_x86::{Decoder, DecoderOptions};

use crate::go::GoSource;
use crate::site_plan::HitPosition;
use crate::template::{KEEP_FLAGS, RESTORE_FLAGS, ROOM_DISPLACEMENT};
use crate::trampoline::measure;
use crate::{JUMP, SHORT_JUMP};

/// What a trampoline's bytes say. Addresses in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Index of the site.
    pub site_index: u32,
    /// Address of the gate word.
    pub gate: u64,
    /// Address of the cell that holds the agent's entry.
    pub agent_cell: u64,
    /// The red zone is skipped.
    pub red_zone: bool,
    /// When the hit runs. The test of a conditional exit counts as an instruction before it.
    pub position: HitPosition,
    /// Where a Go trampoline finds its goroutine.
    pub go: Option<GoSource>,
    /// Address of the counter of hits without stack room.
    pub skipped_cell: Option<u64>,
}

/// Most bytes of a window before the hit: the longest of Go's stack checks, relocated. A head of instructions
/// without a call, fewer than five bytes before its last one, is shorter.
const WINDOW_MAX: usize = 64;

/// Where the jump that lies at `address` leads to: `jmp rel32`, as at a site, or `jmp rel8`, as where slack
/// holds the long one. `None`: the bytes are no such jump.
#[must_use]
pub fn jump_target(address: u64, bytes: &[u8]) -> Option<u64> {
    let (length, distance) = match bytes {
        [0xe9, a, b, c, d, ..] => (JUMP, i32::from_le_bytes([*a, *b, *c, *d])),
        [0xeb, a, ..] => (SHORT_JUMP, i32::from(i8::from_le_bytes([*a]))),
        _ => return None,
    };
    Some(address.wrapping_add(length as u64).wrapping_add_signed(i64::from(distance)))
}

/// Reads the trampoline that starts at `address`. `bytes` start there and may go on beyond it.
/// `None`: not one of ours, or not enough bytes (200 are always enough).
#[must_use]
pub fn recognise(address: u64, bytes: &[u8]) -> Option<Recognised> {
    if let Some(found) = hit(address, bytes, HitPosition::Before) {
        return Some(found);
    }
    let mut before = 0u8;
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.position() < WINDOW_MAX {
        if decoder.decode().is_invalid() {
            return None;
        }
        before = before.saturating_add(1);
        let rest = bytes.get(decoder.position()..);
        if let Some(found) = rest.and_then(|b| hit(decoder.ip(), b, HitPosition::Inside(before))) {
            return Some(found);
        }
    }
    None
}

/// The parts from the red zone to the pop.
fn hit(address: u64, bytes: &[u8], position: HitPosition) -> Option<Recognised> {
    let mut r = Reader { bytes, offset: 0, address };
    if r.literal(&[0x49, 0x89, 0xcc, 0x48, 0x8b, 0x0d]).is_some() {
        return unchecked(r, position);
    }
    let red_zone = r.literal(&[0x48, 0x8d, 0x64, 0x24, 0x80]).is_some();
    r.literal(&[0x51, 0x48, 0x8b, 0x0d])?;
    let gate = r.relative()?;
    r.literal(&[0xe3])?;
    let closed = r.short()?;
    let go = if r.literal(&[0x49, 0x8b, 0x0e]).is_some() {
        Some(GoSource::R14)
    } else if r.literal(&[0x64, 0x48, 0x8b, 0x0c, 0x25]).is_some() {
        let offset = i32::from_le_bytes(r.take()?);
        r.literal(&[0x48, 0x8b, 0x09])?;
        Some(GoSource::Tls(offset))
    } else {
        None
    };
    let mut skipped_cell = None;
    if go.is_some() {
        r.literal(&[0x48, 0xf7, 0xd1, 0x48, 0x8d, 0x8c, 0x0c])?;
        r.literal(&ROOM_DISPLACEMENT.to_le_bytes())?;
        r.literal(&[0x48, 0x0f, 0xc9, 0x0f, 0xb6, 0xc9, 0xe3])?;
        let open = r.short()?;
        if r.literal(&[0x9c, 0xf0, 0x48, 0xff, 0x05]).is_some() {
            skipped_cell = Some(r.relative()?);
            r.literal(&[0x9d])?;
        }
        r.literal(&[0xeb])?;
        if r.short()? != closed || r.offset != open {
            return None;
        }
    }
    // In Go only the stack check comes before a hit, and is the whole window.
    let position = match position {
        HitPosition::Inside(_) if go.is_some() => HitPosition::After,
        // The red zone is proven dead at the start of a function only.
        HitPosition::Inside(_) if !red_zone => return None,
        as_found => as_found,
    };
    r.literal(&[0xb9])?;
    let site_index = u32::from_le_bytes(r.take()?);
    r.literal(&[0xff, 0x15])?;
    let agent_cell = r.relative()?;
    if r.offset != closed {
        return None;
    }
    r.literal(&[0x59])?;
    if red_zone {
        r.literal(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0])?;
    }
    Some(Recognised { site_index, gate, agent_cell, red_zone, position, go, skipped_cell })
}

/// The same in a Go function without a stack check, from the address of the gate on.
fn unchecked(mut r: Reader<'_>, position: HitPosition) -> Option<Recognised> {
    let gate = r.relative()?;
    r.literal(&[0xe3])?;
    let closed = r.short()?;
    let mut ahead = Reader { ..r };
    ahead.literal(&[0x64, 0x48, 0x8b, 0x0c, 0x25])?;
    let source = GoSource::Unchecked(i32::from_le_bytes(ahead.take()?));
    r.literal(&measure(source))?;
    r.literal(&[0xe3])?;
    let open = r.short()?;
    let mut skipped_cell = None;
    if r.literal(&KEEP_FLAGS).is_some() {
        r.literal(&[0xf0, 0x48, 0xff, 0x05])?;
        skipped_cell = Some(r.relative()?);
        r.literal(&RESTORE_FLAGS)?;
    }
    r.literal(&[0xeb])?;
    if r.short()? != closed || r.offset != open {
        return None;
    }
    r.literal(&[0x41, 0x54, 0xb9])?;
    let site_index = u32::from_le_bytes(r.take()?);
    r.literal(&[0xff, 0x15])?;
    let agent_cell = r.relative()?;
    r.literal(&[0x48, 0x8d, 0x64, 0x24, 0x08])?;
    if r.offset != closed {
        return None;
    }
    r.literal(&[0x4c, 0x89, 0xe1])?;
    let go = Some(source);
    Some(Recognised { site_index, gate, agent_cell, red_zone: false, position, go, skipped_cell })
}

/// A bounded reader over bytes that may be anybody's.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    address: u64,
}

impl Reader<'_> {
    /// Passes over exactly these bytes, or stays where it is.
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        let rest = self.bytes.get(self.offset..)?;
        rest.starts_with(expected).then(|| self.offset += expected.len())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = self.bytes.get(self.offset..self.offset.checked_add(N)?)?.try_into().ok()?;
        self.offset += N;
        Some(found)
    }

    /// A 32-bit displacement that ends an instruction, as the address it names.
    fn relative(&mut self) -> Option<u64> {
        let distance = i32::from_le_bytes(self.take()?);
        Some(self.address.wrapping_add(self.offset as u64).wrapping_add_signed(i64::from(distance)))
    }

    /// A forward 8-bit displacement, as the offset it names.
    fn short(&mut self) -> Option<usize> {
        let [distance] = self.take()?;
        self.offset.checked_add(usize::from(distance))
    }
}
