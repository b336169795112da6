//! For tests: a ring in ordinary memory, laid out as a context's block is, with both ends.

#![expect(unsafe_code, reason = "views and producers are made from raw pointers")]

use std::boxed::Box;
use std::vec::Vec;

use trocar_abi::record::RecordHead;

use crate::{Consumer, Producer, SharedView};

/// Offset of the head word.
pub(crate) const HEAD: u64 = 0;
/// Offset of the tail word.
pub(crate) const TAIL: u64 = 64;
/// Offset of the data.
pub(crate) const DATA: u64 = 128;

/// A ring of `capacity` bytes, freed when dropped.
pub(crate) struct Memory {
    /// From `Box::into_raw`, so that no reference to the words exists while views do.
    words: *mut [u64],
    pub(crate) view: SharedView,
    pub(crate) capacity: u64,
}

impl Memory {
    /// A ring whose head and tail both stand at `start`.
    pub(crate) fn new(capacity: u64, start: u64) -> Self {
        let bytes = usize::try_from(DATA + capacity).unwrap();
        let words: Box<[u64]> = std::vec![0; bytes / 8].into_boxed_slice();
        let words = Box::into_raw(words);
        // SAFETY: the box lives until `drop`, after the ends that tests make; it is `bytes` long, and only
        // reached through the view and the producer.
        let view = unsafe { SharedView::new(words.cast(), bytes) };
        view.store_u64(HEAD, start).unwrap();
        view.store_u64(TAIL, start).unwrap();
        Self { words, view, capacity }
    }

    /// The producing end.
    pub(crate) fn producer(&self) -> Producer {
        let base: *mut u8 = self.words.cast();
        let head = base.wrapping_add(usize::try_from(HEAD).unwrap()).cast();
        let tail = base.wrapping_add(usize::try_from(TAIL).unwrap()).cast();
        let data = base.wrapping_add(usize::try_from(DATA).unwrap());
        // SAFETY: all three lie in the box, which tests keep alive longer than the producer; each test makes one
        // producer at a time.
        unsafe { Producer::new(head, tail, data, self.capacity) }.unwrap()
    }

    /// The consuming end.
    pub(crate) fn consumer(&self) -> Consumer {
        Consumer::new(self.view, HEAD, TAIL, DATA, self.capacity).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `Box::from_raw` wants a pointer from `Box::into_raw` that was not freed: made in `new`, freed
        // only here.
        drop(unsafe { Box::from_raw(self.words) });
    }
}

/// Records with their payloads.
pub(crate) type Records = Vec<(RecordHead, Vec<u8>)>;

/// Drains at most `max` records into owned pairs.
pub(crate) fn take(consumer: &mut Consumer, max: usize) -> (Records, Result<usize, crate::Corrupt>) {
    let mut out = Vec::new();
    let result = consumer.drain(max, |head, payload| out.push((head, payload.to_vec())));
    (out, result)
}
