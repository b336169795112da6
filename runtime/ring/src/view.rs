//! A checked view of memory that another process writes.
//!
//! Every access names an offset; a range outside the mapping or an unaligned word is `None`, never a
//! fault. Relies on the mapping staying as long as it was (a memfd sealed against shrinking). It knows
//! nothing of what lies where.
//!
//! Why atomics everywhere: the other side may change any byte at any time. A plain load would let the
//! compiler read twice and see two values, or assume that nothing changed. An atomic load happens once and is
//! no data race. Words and bytes of the same memory are loaded in both sizes; Rust's memory model leaves such
//! mixed races open, but it speaks of accesses within one program, and the racing writer is another. On
//! x86-64 each is one `mov`, and the worst result is a stale or torn value, which the readers check.

#![expect(unsafe_code, reason = "memory shared with another process is reached through a raw pointer")]

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Memory shared with another process. Copies refer to the same memory.
#[derive(Clone, Copy, Debug)]
pub struct SharedView {
    base: *mut u8,
    len: usize,
}

// SAFETY: all accesses are atomic (see the head of this file), so a view may be used from any thread; that
// the memory stays mapped is the promise given to `new`.
unsafe impl Send for SharedView {}
// SAFETY: as for Send: no method changes the view itself, and accesses through it are atomic.
unsafe impl Sync for SharedView {}

impl SharedView {
    /// A view of `len` bytes at `base`.
    ///
    /// # Safety
    /// `base..base + len` lies in one allocation or mapping that is readable and writable, and stays mapped
    /// at its full length until the last copy of the view is dropped. This process accesses it only
    /// through views, producers and atomics meanwhile.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }

    /// Bytes of the memory.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the view has no bytes at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Loads the word at `offset`, relaxed; `None` outside the memory or if unaligned.
    #[must_use]
    pub fn load_u64(&self, offset: u64) -> Option<u64> {
        Some(self.word(offset)?.load(Ordering::Relaxed))
    }

    /// Loads the word at `offset` with acquire: what was written before its release is seen afterwards.
    #[must_use]
    pub fn load_u64_acquire(&self, offset: u64) -> Option<u64> {
        Some(self.word(offset)?.load(Ordering::Acquire))
    }

    /// Stores the word at `offset`, relaxed.
    #[must_use]
    pub fn store_u64(&self, offset: u64, value: u64) -> Option<()> {
        self.word(offset)?.store(value, Ordering::Relaxed);
        Some(())
    }

    /// Stores the word at `offset` with release.
    #[must_use]
    pub fn store_u64_release(&self, offset: u64, value: u64) -> Option<()> {
        self.word(offset)?.store(value, Ordering::Release);
        Some(())
    }

    /// Loads the half word at `offset`, relaxed.
    #[must_use]
    pub fn load_u32(&self, offset: u64) -> Option<u32> {
        Some(self.half(offset)?.load(Ordering::Relaxed))
    }

    /// Stores the half word at `offset`, relaxed.
    #[must_use]
    pub fn store_u32(&self, offset: u64, value: u32) -> Option<()> {
        self.half(offset)?.store(value, Ordering::Relaxed);
        Some(())
    }

    /// Changes the half word at `offset` if it is `from`; whether it was.
    #[must_use]
    pub fn exchange_u32(&self, offset: u64, from: u32, to: u32) -> Option<bool> {
        Some(self.half(offset)?.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Adds to the signed word at `offset`, up to `most`. The other side takes from it meanwhile, with additions of its
    /// own; one that never leaves it alone has nothing added.
    #[must_use]
    pub fn add_up_to(&self, offset: u64, n: i64, most: i64) -> Option<()> {
        const TRIES: usize = 64;
        let word = self.word(offset)?;
        for _ in 0..TRIES {
            let now = word.load(Ordering::Relaxed);
            let next = now.cast_signed().saturating_add(n).min(most).cast_unsigned();
            if word.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        Some(())
    }

    /// Copies the bytes at `offset` into `out`. They may be torn if the other side writes meanwhile; look at
    /// them only in `out`, never twice in the shared memory.
    #[must_use]
    pub fn copy_out(&self, offset: u64, out: &mut [u8]) -> Option<()> {
        let start = self.place(offset, out.len(), 1)?;
        let lead = start.align_offset(8).min(out.len());
        let (head, rest) = out.split_at_mut_checked(lead)?;
        let (words, end) = rest.as_chunks_mut::<8>();
        let mut at = start;
        for byte in head {
            // SAFETY: `load_byte` wants a byte of the mapping: `at` is inside the range that `place` checked.
            *byte = unsafe { load_byte(at) };
            at = at.wrapping_add(1);
        }
        for word in words {
            // SAFETY: `AtomicU64::from_ptr` wants a pointer that is valid, aligned to 8 and only accessed
            // atomically: `at` is inside the range that `place` checked, `lead` aligned it, and `new`
            // promises the rest.
            let shared = unsafe { AtomicU64::from_ptr(at.cast()) };
            *word = shared.load(Ordering::Relaxed).to_ne_bytes();
            at = at.wrapping_add(8);
        }
        for byte in end {
            // SAFETY: as for the bytes before the words.
            *byte = unsafe { load_byte(at) };
            at = at.wrapping_add(1);
        }
        Some(())
    }

    /// The word at `offset`.
    pub(crate) fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let at = self.place(offset, 8, 8)?;
        // SAFETY: `AtomicU64::from_ptr` wants a pointer that is valid for the lifetime, aligned to 8 and
        // accessed only atomically: `place` checked range and alignment, `new` promises the rest for as long
        // as the view, and so this borrow of it, lives.
        Some(unsafe { AtomicU64::from_ptr(at.cast()) })
    }

    /// The half word at `offset`.
    fn half(&self, offset: u64) -> Option<&AtomicU32> {
        let at = self.place(offset, 4, 4)?;
        // SAFETY: as in `word`, for four bytes.
        Some(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    /// Pointer to `size` bytes at `offset` with an address that is a multiple of `align`.
    fn place(&self, offset: u64, size: usize, align: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(size)? > self.len {
            return None;
        }
        // Inside the mapping, so that wrapping_add is plain addition; it needs no promise to the compiler.
        let at = self.base.wrapping_add(offset);
        at.addr().is_multiple_of(align).then_some(at)
    }
}

/// Loads one byte, relaxed.
///
/// # Safety
/// `at` is a byte of a mapping that is only accessed atomically.
unsafe fn load_byte(at: *mut u8) -> u8 {
    // SAFETY: `AtomicU8::from_ptr` wants a valid pointer that is only accessed atomically: this function's contract.
    let shared = unsafe { AtomicU8::from_ptr(at) };
    shared.load(Ordering::Relaxed)
}
