//! The one interface between the target and the host.
//!
//! Every layout that both sides touch is defined here once: the control block, the hit frame, the
//! shared memory, records, maps, and the table of host calls that a probe may import. The crate has
//! no dependencies and does no I/O; it does not know how memory gets into the target.
//!
//! Everything the host reads back through these layouts was written by a process that may be
//! hostile: types here are plain old data, valid for every bit pattern, and the reader checks ranges.
#![no_std]
#![forbid(unsafe_code)]

pub mod control;
pub mod evidence;
pub mod hit;
pub mod import;
pub mod loss;
pub mod map;
pub mod operand;
pub mod record;
pub mod shared;
pub mod shim;

/// Version of the probe ABI and of every layout in this crate. A module or an agent with another
/// number is refused.
pub const VERSION: u32 = 1;

/// Bytes in a page of the target (x86-64, 4 KiB pages; huge pages are refused by the planner).
pub const PAGE: u64 = 4096;

/// Rounds `n` up to a multiple of `to`, a power of two. Saturates instead of overflowing.
#[must_use]
pub const fn round_up(n: u64, to: u64) -> u64 {
    match n.checked_add(to - 1) {
        Some(sum) => sum & !(to - 1),
        None => !(to - 1),
    }
}
