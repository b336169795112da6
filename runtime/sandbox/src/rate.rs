//! How many records a probe may write: a token bucket without a clock.
//!
//! The host adds to a word in the shared memory as time goes by. A context takes tokens from it in batches and keeps what is
//! left of a batch, so that the word, which all threads share, is written once in many records, and read alone while
//! nothing is left. No clock is read and nobody waits. If the host is gone nothing is added any more.
#![expect(unsafe_code, reason = "the word is shared with another process and reached through a raw pointer")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, Ordering};

/// One context's end of the bucket.
#[derive(Debug)]
pub struct Rate {
    /// `None`: there is no limit.
    shared: Option<NonNull<i64>>,
    batch: u32,
    kept: i64,
}

// SAFETY: the word is only accessed atomically, and `new` promises that it is there wherever the value is used.
unsafe impl Send for Rate {}

impl Rate {
    /// No limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { shared: None, batch: 0, kept: 0 }
    }

    /// The bucket behind `word`, of which `batch` is taken at once.
    ///
    /// # Safety
    /// `word` is null, or valid and aligned for as long as the value is used, and only accessed atomically.
    #[must_use]
    pub const unsafe fn new(word: *mut i64, batch: u32) -> Self {
        Self { shared: NonNull::new(word), batch, kept: 0 }
    }

    /// Takes `n` tokens. False if there are not so many: then what there is is kept for the next time.
    #[inline]
    pub fn take(&mut self, n: u32) -> bool {
        let Some(word) = self.shared else { return true };
        let n = i64::from(n);
        if self.kept < n {
            // SAFETY: by `new`.
            self.fetch(unsafe { AtomicI64::from_ptr(word.as_ptr()) }, n);
        }
        let enough = self.kept >= n;
        if enough {
            self.kept -= n;
        }
        enough
    }

    #[cold]
    fn fetch(&mut self, word: &AtomicI64, n: i64) {
        if word.load(Ordering::Relaxed) <= 0 {
            return;
        }
        let wanted = i64::from(self.batch).max(n - self.kept);
        let granted = word.fetch_sub(wanted, Ordering::Relaxed).clamp(0, wanted);
        if granted < wanted {
            // Others may have found it below zero meanwhile; they lose a record that they might have had.
            word.fetch_add(wanted - granted, Ordering::Relaxed);
        }
        self.kept += granted;
    }
}
