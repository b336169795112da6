//! All interleavings of producer and consumer, weak memory included, by loom: the cursors of `cursor.rs` over
//! loom's atomics and over cells that report a data race.
//!
//! The data is modelled as plain cells, which is stricter than the atomic words of the real ring: the
//! model fails if INVARIANT (ring order) leaves any two accesses to a word unordered.

#![expect(unsafe_code, reason = "loom's cells hand out raw pointers")]

use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::cursor::{ReadCursor, Word, WriteCursor};

impl Word for AtomicU64 {
    fn acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn release(&self, value: u64) {
        self.store(value, Ordering::Release);
    }
}

/// Two words: small enough that every record but the first finds the ring full or reuses its words.
const CAPACITY: u64 = 16;

struct Ring {
    head: AtomicU64,
    tail: AtomicU64,
    words: [UnsafeCell<u64>; 2],
}

// SAFETY: that accesses to `words` are ordered by the cursors is what the model proves; loom panics if not.
unsafe impl Sync for Ring {}

impl Ring {
    fn new(start: u64) -> Self {
        Self {
            head: AtomicU64::new(start),
            tail: AtomicU64::new(start),
            words: [UnsafeCell::new(0), UnsafeCell::new(0)],
        }
    }

    fn cell(&self, position: u64) -> &UnsafeCell<u64> {
        &self.words[usize::try_from(position % CAPACITY / 8).unwrap()]
    }

    /// Writes the word `value`, unless the ring is full.
    fn push(&self, cursor: &mut WriteCursor, value: u64) -> bool {
        let Ok(at) = cursor.reserve(&self.tail, 8) else { return false };
        // SAFETY: reserved words belong to the producer; loom checks it.
        self.cell(at).with_mut(|word| unsafe { *word = value });
        cursor.publish(&self.head, 8);
        true
    }

    /// Reads all there is.
    fn drain(&self, cursor: &mut ReadCursor, into: &mut Vec<u64>) {
        let filled = cursor.filled(&self.head).expect("the producer keeps the bounds");
        for _ in 0..filled / 8 {
            // SAFETY: filled words belong to the consumer; loom checks it.
            into.push(self.cell(cursor.tail()).with(|word| unsafe { *word }));
            cursor.release(&self.tail, 8);
        }
    }
}

/// Four records through two words, the first position `start`.
fn every_interleaving(start: u64) {
    loom::model(move || {
        let ring = Arc::new(Ring::new(start));
        let theirs = Arc::clone(&ring);
        let producer = loom::thread::spawn(move || {
            let mut cursor = WriteCursor::new(start, CAPACITY);
            (1..=4).filter(|value| theirs.push(&mut cursor, *value)).collect::<Vec<u64>>()
        });
        let mut cursor = ReadCursor::new(start, CAPACITY);
        let mut read = Vec::new();
        ring.drain(&mut cursor, &mut read);
        ring.drain(&mut cursor, &mut read);
        let written = producer.join().unwrap();
        ring.drain(&mut cursor, &mut read);
        // What was accepted arrives once, whole and in order; what was not is known to the producer.
        assert_eq!(read, written);
        assert!(written.len() >= 2, "two words are free at the start");
    });
}

#[test]
fn every_interleaving_delivers_what_was_accepted_in_order() {
    every_interleaving(0);
}

#[test]
fn every_interleaving_holds_where_positions_overflow() {
    every_interleaving(0u64.wrapping_sub(8));
}
