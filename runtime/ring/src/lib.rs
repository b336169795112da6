//! One producer in the target, one consumer in the host: the ring, and the checked view of shared memory.
//!
//! A ring carries records from one thread of the target to the host. Positions count bytes and never
//! wrap; a position modulo the capacity, a power of two, is a place in the data.
//!
//! ```text
//!        tail (host writes)              head (target writes)
//!          │                               │
//!  ────────▼───────────────────────────────▼───────────────────▶ position, in bytes since the start
//!   read   │ record │ record │   record    │  free
//!          └─ 16-byte head, payload, zeros ─┘
//!             up to the next multiple of 8
//! ```
//!
//! INVARIANT (ring order). The producer stores the words of a record before it stores `head` with
//! release; the consumer loads `head` with acquire before it loads those words, and stores `tail` with
//! release after it has copied them; the producer loads `tail` with acquire before it overwrites them.
//!
//! INVARIANT (ring bounds). `0 <= head - tail <= capacity`, and both are multiples of eight. The producer
//! keeps it; the consumer, which reads what a hostile process wrote, checks it.
//!
//! The crate has no allocator, no lock and no system call: the producer runs inside a hit. It does not know
//! what a record means, how memory came to be shared, or which thread owns a ring.
#![no_std]

#[cfg(test)]
extern crate std;

mod consumer;
mod cursor;
mod producer;
mod view;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, Corrupt};
pub use cursor::RingFull;
pub use producer::Producer;
pub use view::SharedView;

/// Bytes that a record with a payload of `len` bytes takes in the ring: head, payload, padding.
#[must_use]
pub const fn record_bytes(len: u32) -> u64 {
    trocar_abi::round_up(size_of::<trocar_abi::record::RecordHead>() as u64 + len as u64, 8)
}

/// Least capacity of a ring in bytes: the longest record fits twice.
pub const CAPACITY_MIN: u64 = 16_384;
const _: () = assert!(CAPACITY_MIN.is_power_of_two());
const _: () = assert!(CAPACITY_MIN >= 2 * record_bytes(trocar_abi::record::PAYLOAD_MAX));
