//! Text of a fixed size, as fields and keys have it: filled up with NUL.
//!
//! Nothing here loops over single bytes: eight are done at a time, and for a size that is known the compiler unrolls
//! the rest. So the host can still compute a bound of what a hit costs, which it does not for code with loops.

use crate::errno::Errno;

/// Text of at most `N` bytes, filled up with NUL. Bytes from the target may be anything; the host shows what is not
/// UTF-8 as U+FFFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Text<N> {
    /// The first `len` of these bytes; all of them if `len` is larger.
    #[must_use]
    #[inline]
    pub fn new(bytes: [u8; N], len: usize) -> Self {
        Self(map(bytes, |at, word| {
            let keep = len.saturating_sub(at);
            if keep >= 8 { word } else { word & ((1 << (8 * keep)) - 1) }
        }))
    }

    /// The start of a text of ours.
    #[must_use]
    pub const fn from_str(text: &str) -> Self {
        let (mut bytes, from) = ([0; N], text.as_bytes());
        let mut i = 0;
        while i < from.len() && i < N {
            bytes[i] = from[i];
            i += 1;
        }
        Self(bytes)
    }

    /// The NUL-terminated string at an address of the target, cut off after `N` bytes. Two system calls at most.
    ///
    /// # Errors
    /// [`Errno::FAULT`] if a byte before the NUL is not readable, [`Errno::NOT_PERMITTED`].
    #[inline]
    pub fn read(address: u64) -> Result<Self, Errno> {
        let mut bytes = [0; N];
        let len = crate::target::read_str(address, &mut bytes)?;
        Ok(Self::new(bytes, len))
    }

    /// The same with ASCII letters in lower case.
    #[must_use]
    #[inline]
    pub fn to_ascii_lowercase(self) -> Self {
        const ONES: u64 = 0x0101_0101_0101_0101;
        // In each byte the top bit answers: `from_a` if the lower seven are at least `A`, `past_z` if above `Z`.
        // The sums stay below 256 in each byte, so that no byte carries into the next.
        Self(map(self.0, |_, word| {
            let seven = word & (ONES * 0x7f);
            let from_a = seven + ONES * (0x80 - b'A' as u64);
            let past_z = seven + ONES * (0x7f - b'Z' as u64);
            let capital = (from_a ^ past_z) & !word & (ONES * 0x80);
            // 0x80 shifted by two is 0x20, the bit between `A` and `a`.
            word | (capital >> 2)
        }))
    }

    /// All bytes, with the NULs at the end.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

/// Applies `f` to eight bytes at a time, with their offset; what is left at the end is filled up for it.
#[inline]
fn map<const N: usize>(mut bytes: [u8; N], f: impl Fn(usize, u64) -> u64) -> [u8; N] {
    let mut at = 0;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = f(at, u64::from_le_bytes(*word)).to_le_bytes();
        at += 8;
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let last = f(at, u64::from_le_bytes(last)).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
    bytes
}
