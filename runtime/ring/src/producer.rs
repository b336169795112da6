//! The target's end of a ring: writes a record in a few nanoseconds, inside a hit.
//!
//! Runs in the target, on a thread that may hold any lock and stand in any signal handler: so no
//! allocation, no lock, no system call, no panic, no call into memcpy. Relies on being the only producer of its
//! ring, which the context's `inside` word sees to. It does not know what a record means.

#![expect(unsafe_code, reason = "the ring lies in shared memory, which is reached through raw pointers")]

use core::sync::atomic::{AtomicU64, Ordering};

use trocar_abi::record::{PAYLOAD_MAX, RecordHead};

use crate::cursor::{RingFull, WriteCursor};
use crate::record_bytes;

/// The producing end of one ring.
///
/// The true head is kept here; the shared word is only written. A host or a stray write that changes
/// the shared words can lose records, never lead a store out of the ring.
#[derive(Debug)]
pub struct Producer {
    head: *mut u64,
    tail: *mut u64,
    data: *mut u64,
    /// Number of words in the ring, less one: any number masked by it is a word of the ring.
    mask: u64,
    cursor: WriteCursor,
}

// SAFETY: a producer moves with its context from thread to thread; it holds pointers to shared memory only,
// which `new` promises to be valid wherever it is used. It is not Sync: `push` takes `&mut self`.
unsafe impl Send for Producer {}

impl Producer {
    /// The producing end of a ring of `capacity` bytes at `data`, going on where the shared `head` stands.
    /// `None` unless the capacity is a power of two of at least 64 and all three pointers are aligned to
    /// eight.
    ///
    /// # Safety
    /// `head`, `tail` and `data..data + capacity` are valid for reads and writes for as long as the
    /// producer is used. No other producer of this ring is used meanwhile, and this process accesses that
    /// memory only atomically.
    #[must_use]
    pub unsafe fn new(head: *mut u64, tail: *mut u64, data: *mut u8, capacity: u64) -> Option<Self> {
        if !capacity.is_power_of_two() || capacity < 64 {
            return None;
        }
        for address in [head.addr(), tail.addr(), data.addr()] {
            if address == 0 || !address.is_multiple_of(8) {
                return None;
            }
        }
        // SAFETY: `AtomicU64::from_ptr` wants a valid, aligned pointer that is only accessed atomically: valid and
        // atomic by this function's own contract, aligned by the check above.
        let shared_head = unsafe { AtomicU64::from_ptr(head) };
        let start = shared_head.load(Ordering::Relaxed) & !7;
        let cursor = WriteCursor::new(start, capacity);
        Some(Self { head, tail, data: data.cast(), mask: capacity / 8 - 1, cursor })
    }

    /// Writes a record; `record.len` is set to the payload's length.
    ///
    /// # Errors
    /// [`RingFull`] when the host is behind, when the payload is longer than [`PAYLOAD_MAX`] or than the
    /// ring, and when the shared tail is nonsense. Nothing is written then.
    #[inline]
    pub fn push(&mut self, record: RecordHead, payload: &[u8]) -> Result<(), RingFull> {
        let Ok(len) = u32::try_from(payload.len()) else { return Err(RingFull) };
        if len > PAYLOAD_MAX {
            return Err(RingFull);
        }
        let bytes = record_bytes(len);
        // SAFETY: `AtomicU64::from_ptr` wants a valid, aligned pointer that is only accessed atomically:
        // promised and checked in `new`.
        let tail = unsafe { AtomicU64::from_ptr(self.tail) };
        let mut word = self.cursor.reserve(tail, bytes)? / 8;

        let head_bytes = RecordHead { len, ..record }.to_bytes();
        for chunk in head_bytes.as_chunks::<8>().0 {
            self.put(word, *chunk);
            word = word.wrapping_add(1);
        }
        let (chunks, rest) = payload.as_chunks::<8>();
        for chunk in chunks {
            self.put(word, *chunk);
            word = word.wrapping_add(1);
        }
        if !rest.is_empty() {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(rest) {
                *to = *from;
            }
            self.put(word, padded);
        }

        // SAFETY: as for `tail` above.
        let head = unsafe { AtomicU64::from_ptr(self.head) };
        self.cursor.publish(head, bytes);
        Ok(())
    }

    /// Stores one word. The mask keeps it inside the ring whatever `word` is, and wraps it at the end; so a
    /// record needs no case of its own where it crosses the end.
    ///
    /// Why word by word and not memcpy: most records are a few words; and the compiler never turns atomic
    /// stores into a call, which in the agent would be a `rep movsb` with its start-up cost.
    #[inline(always)]
    fn put(&self, word: u64, bytes: [u8; 8]) {
        let Ok(index) = usize::try_from(word & self.mask) else { return };
        let at = self.data.wrapping_add(index);
        // SAFETY: `AtomicU64::from_ptr` wants a valid, aligned pointer that is only accessed atomically: `index`
        // is at most `mask`, so `at` is a whole word inside `data..data + capacity`, which `new` was promised.
        let shared = unsafe { AtomicU64::from_ptr(at) };
        shared.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
}
