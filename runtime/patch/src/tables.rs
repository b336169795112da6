//! Code pointers and jump tables in the module's bytes.
//!
//! What is looked for, and why that is all there is in compiled code:
//! - **Pointers.** Position-independent code finds them by relocations (the host gives the addends as
//!   entries); a packed relocation keeps its addend in place, so eight-byte words in data are looked at
//!   too. Code linked at a fixed address may hold an address as 32 bits: aligned words of data count, and
//!   every immediate and displacement of an instruction (`sweep.rs`); eight bytes count at every offset, in
//!   data and text.
//! - **Self-relative tables.** `lea r,[rip+T]; movsxd i,[r+i*4]; add i,r; jmp i`: the base is T, the entries
//!   are `target - T`, 32 bits, one after another from T on. So from each T that code takes, the words are
//!   read as entries until one does not lead into text.
//!
//! [`walk`] to the end gives more addresses than the table has, because it runs on into the next tables;
//! bounded by the next base it gives about what the table has. The wide reading is used for the bases of
//! the function a window is in, the bounded one for all others.

use crate::image::{Image, find, word32};
use crate::marks::Marks;

/// Most entries read from one base.
const TABLE_MAX: usize = 1 << 16;

/// Reads the self-relative table at `base` and calls `each` with every target in text, until an entry is
/// not in text, `bound` is reached, or `each` answers false.
pub fn walk(image: &Image, base: u64, bound: Option<u64>, mut each: impl FnMut(u64) -> bool) {
    let segment = find(&image.data, base).or_else(|| find(&image.text, base));
    let Some(bytes) = segment.and_then(|s| s.from(base)) else { return };
    let limit = bound.and_then(|b| usize::try_from(b.saturating_sub(base)).ok()).unwrap_or(usize::MAX);
    for entry in 0..TABLE_MAX {
        if entry * 4 >= limit {
            return;
        }
        let Some(word) = word32(bytes, entry * 4) else { return };
        let target = base.wrapping_add_signed(i64::from(word.cast_signed()));
        if find(&image.text, target).is_none() || !each(target) {
            return;
        }
    }
}

/// What the tables of one function may reach, read without a bound.
#[derive(Debug, Default)]
pub struct Wide {
    /// An address inside itself that the function takes, if it jumps to computed addresses: anything may be reached.
    pub own: Option<u64>,
    /// Targets in the function and in the padding behind its parts, each with a base that leads there; sorted.
    pub targets: Vec<(u64, u64)>,
}

/// Targets of all self-relative tables, each read up to the next base. `bases` is sorted.
pub fn mark_tables(image: &Image, bases: &[u64], marks: &mut Marks) {
    for (i, base) in bases.iter().enumerate() {
        walk(image, *base, bases.get(i + 1).copied(), |target| {
            marks.mark(target);
            true
        });
    }
}

/// Marks every text address that some bytes of the module hold.
pub fn mark_pointers(image: &Image, marks: &mut Marks) {
    let low = image.text.iter().map(|s| s.vaddr).min().unwrap_or(0);
    let high = image.text.iter().map(crate::image::Segment::end).max().unwrap_or(0);
    if image.pie {
        for data in &image.data {
            // Words at multiples of four, so that a pointer in a packed structure is found as well.
            let skip = usize::try_from(data.vaddr.wrapping_neg() % 4).unwrap_or(0);
            let mut before = 0u64;
            for word in data.bytes.get(skip..).unwrap_or(&[]).chunks_exact(4) {
                let word = u64::from(word32(word, 0).unwrap_or(0));
                let value = word << 32 | before;
                before = word;
                if value >= low && value < high {
                    marks.mark(value);
                }
            }
        }
    } else {
        // Eight bytes anywhere, also in a packed structure and in a table between functions.
        for bytes in image.data.iter().chain(&image.text).map(|s| &s.bytes) {
            let mut value = 0u64;
            for byte in bytes.iter() {
                value = value >> 8 | u64::from(*byte) << 56;
                if value.wrapping_sub(low) < high - low {
                    marks.mark(value);
                }
            }
        }
        // Four bytes where a table of 32-bit addresses would have them.
        for data in &image.data {
            let skip = usize::try_from(data.vaddr.wrapping_neg() % 4).unwrap_or(0);
            for word in data.bytes.get(skip..).unwrap_or(&[]).chunks_exact(4) {
                let value = u64::from(word32(word, 0).unwrap_or(0));
                if value.wrapping_sub(low) < high - low {
                    marks.mark(value);
                }
            }
        }
    }
}
