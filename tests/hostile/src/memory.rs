//! A session's shared memory of any content, as a target that scribbles leaves it.
#![expect(unsafe_code, reason = "the target's side is raw memory")]

use std::mem::offset_of;

use trocar_abi::shared::{Layout, MAGIC, SharedHead};
use trocar_ring::SharedView;

/// The shared memory; freed when dropped, after everything that uses it.
pub(crate) struct Scribbled {
    /// From `Box::into_raw`, so that no reference to the words exists while views do.
    words: *mut [u64],
    pub(crate) view: SharedView,
}

impl Scribbled {
    /// Memory with these bytes again and again, and with the head that a host insists on when it attaches.
    pub(crate) fn new(layout: Layout, bytes: &[u8]) -> Self {
        let len = usize::try_from(layout.total()).unwrap();
        let words = Box::into_raw(vec![0u64; len.div_ceil(8)].into_boxed_slice());
        // SAFETY: the box has at least `len` bytes and lives until `drop`; it is only reached through this view.
        let view = unsafe { SharedView::new(words.cast(), len) };
        let mut scribbled = Self { words, view };
        scribbled.scribble(0, bytes);
        view.store_u64(offset_of!(SharedHead, magic) as u64, MAGIC).unwrap();
        view.store_u32(offset_of!(SharedHead, version) as u64, trocar_abi::VERSION).unwrap();
        scribbled
    }

    /// Writes these bytes again and again, from a place on.
    pub(crate) fn scribble(&mut self, from: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut all = bytes.iter().cycle();
        for at in (from / 8 * 8..self.view.len() as u64 / 8 * 8).step_by(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(&mut all).for_each(|(to, byte)| *to = *byte);
            self.view.store_u64(at, u64::from_le_bytes(word)).unwrap();
        }
    }
}

impl Drop for Scribbled {
    fn drop(&mut self) {
        // SAFETY: `Box::from_raw` wants a pointer from `Box::into_raw` that was not freed: made in `new`, freed only here.
        drop(unsafe { Box::from_raw(self.words) });
    }
}
