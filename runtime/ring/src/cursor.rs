//! The two ends of a ring as numbers: how much may be written, how much may be read, and in which order
//! `head` and `tail` are loaded and stored.
//!
//! The atomics are a trait, so that `model.rs` runs this very code under loom. Nothing here touches the
//! data of the ring; the caller does, between `reserve` and `publish` or between `filled` and `release`.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::consumer::Corrupt;

/// A 64-bit word that two sides share.
pub(crate) trait Word {
    /// Loads with acquire.
    fn acquire(&self) -> u64;
    /// Stores with release.
    fn release(&self, value: u64);
}

impl Word for AtomicU64 {
    #[inline]
    fn acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn release(&self, value: u64) {
        self.store(value, Ordering::Release);
    }
}

/// There is no room for the record: the host is behind, or the record is longer than the ring allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFull;

impl core::fmt::Display for RingFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the ring has no room for the record")
    }
}

impl core::error::Error for RingFull {}

/// The producer's end. It keeps the last tail it saw, so that the host's cache line is fetched only
/// when the ring looks full.
#[derive(Debug)]
pub(crate) struct WriteCursor {
    head: u64,
    seen_tail: u64,
    capacity: u64,
}

impl WriteCursor {
    /// An end at `head`. The tail is first loaded when it is first needed: until then the ring counts as
    /// full, which is never wrong.
    pub(crate) const fn new(head: u64, capacity: u64) -> Self {
        Self { head, seen_tail: head.wrapping_sub(capacity), capacity }
    }

    /// Position at which `bytes` may be written.
    #[inline]
    pub(crate) fn reserve(&mut self, tail: &impl Word, bytes: u64) -> Result<u64, RingFull> {
        if bytes > self.room() {
            self.seen_tail = tail.acquire();
            if bytes > self.room() {
                return Err(RingFull);
            }
        }
        Ok(self.head)
    }

    /// Makes `bytes`, written since `reserve`, visible to the consumer.
    #[inline]
    pub(crate) fn publish(&mut self, head: &impl Word, bytes: u64) {
        self.head = self.head.wrapping_add(bytes);
        head.release(self.head);
    }

    /// Free bytes as far as is known. A tail that is ahead of the head, or more than the capacity behind
    /// it, is nonsense; the subtraction then exceeds the capacity and nothing is free.
    #[inline]
    const fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.head.wrapping_sub(self.seen_tail))
    }
}

/// The consumer's end. Its tail is its own: what the shared word says later is not believed.
#[derive(Debug)]
pub(crate) struct ReadCursor {
    tail: u64,
    capacity: u64,
}

impl ReadCursor {
    /// An end at `tail`.
    pub(crate) const fn new(tail: u64, capacity: u64) -> Self {
        Self { tail, capacity }
    }

    /// Position of the next byte to read.
    pub(crate) const fn tail(&self) -> u64 {
        self.tail
    }

    /// Bytes that may be read; checks INVARIANT (ring bounds).
    pub(crate) fn filled(&self, head: &impl Word) -> Result<u64, Corrupt> {
        let head = head.acquire();
        let filled = head.wrapping_sub(self.tail);
        if filled > self.capacity || !filled.is_multiple_of(8) {
            return Err(Corrupt::Head { head, tail: self.tail, capacity: self.capacity });
        }
        Ok(filled)
    }

    /// Gives `bytes`, already copied, back to the producer.
    pub(crate) fn release(&mut self, tail: &impl Word, bytes: u64) {
        self.tail = self.tail.wrapping_add(bytes);
        tail.release(self.tail);
    }
}
