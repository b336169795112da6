//! Handles of parameters, which the user sets with `--set NAME=VALUE`.
#![expect(unsafe_code, reason = "the host writes a string into a buffer")]

use crate::raw;
use crate::text::Text;

/// An integer parameter.
#[derive(Clone, Copy, Debug)]
pub struct Int(u32);

impl Int {
    /// The parameter with this number in the manifest.
    #[must_use]
    pub const fn number(param: u32) -> Self {
        Self(param)
    }

    /// Its value. Negative values are those of an `i64` with the same bits.
    #[must_use]
    #[inline]
    pub fn get(self) -> u64 {
        raw::param(self.0)
    }
}

/// A string parameter.
#[derive(Clone, Copy, Debug)]
pub struct Str(u32);

impl Str {
    /// The parameter with this number in the manifest.
    #[must_use]
    pub const fn number(param: u32) -> Self {
        Self(param)
    }

    /// Its value, cut off after `N` bytes.
    #[must_use]
    #[inline]
    pub fn get<const N: usize>(self) -> Text<N> {
        let mut bytes = [0; N];
        let len = u32::try_from(N).unwrap_or(u32::MAX);
        // SAFETY: the buffer is ours and has that many bytes.
        let whole = unsafe { raw::param_str(self.0, bytes.as_mut_ptr(), len) };
        Text::new(bytes, usize::try_from(whole).unwrap_or(0))
    }
}
