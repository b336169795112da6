//! The target's memory, read so that a wrong address is an error and never a crash.
//!
//! A read is a system call in the target, more than everything else that a hit does: read an object whole, once, and
//! take its fields out of the copy.
#![expect(unsafe_code, reason = "the host writes into buffers that these functions hold")]

use crate::errno::Errno;
use crate::raw;

/// A plain value that any bytes are.
///
/// # Safety
/// Every bit pattern is a value, and there are no holes.
pub unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($ty:ty),*) => {
        $(
            // SAFETY: a number: every bit pattern is one.
            unsafe impl Plain for $ty {}
        )*
    };
}

plain!(u8, i8, u16, i16, u32, i32, u64, i64, f64);

/// The length of a buffer. A buffer in 32-bit memory has no other.
fn length(buffer: &[u8]) -> u32 {
    u32::try_from(buffer.len()).unwrap_or(u32::MAX)
}

/// Copies bytes of the target into a buffer, all or none.
///
/// # Errors
/// [`Errno::FAULT`] if any byte is not readable, [`Errno::NOT_PERMITTED`].
#[inline]
pub fn read(address: u64, to: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: the buffer is ours and has that many bytes.
    let answer = unsafe { raw::read(address, to.as_mut_ptr(), length(to)) };
    Errno::check(answer).map(drop)
}

/// Copies a number of the target.
///
/// # Errors
/// [`Errno::FAULT`] if any byte is not readable, [`Errno::NOT_PERMITTED`].
#[inline]
pub fn read_value<T: Plain>(address: u64) -> Result<T, Errno> {
    const { assert!(size_of::<T>() <= 8) }
    let mut value = T::default();
    #[expect(clippy::cast_possible_truncation, reason = "at most 8, as asserted")]
    // SAFETY: `value` has that many bytes, and whatever is written there is a value (trait `Plain`).
    let answer = unsafe { raw::read(address, core::ptr::from_mut(&mut value).cast(), size_of::<T>() as u32) };
    Errno::check(answer).map(|_| value)
}

/// Copies `N` bytes of the target.
///
/// # Errors
/// [`Errno::FAULT`] if any byte is not readable, [`Errno::NOT_PERMITTED`].
#[inline]
pub fn read_bytes<const N: usize>(address: u64) -> Result<[u8; N], Errno> {
    let mut bytes = [0; N];
    read(address, &mut bytes).map(|()| bytes)
}

/// Copies a NUL-terminated string of the target into a buffer and returns its length without the NUL: the buffer's
/// length if there is no NUL so far, and never more than 4096. What is behind the string in the buffer is undefined.
/// [`crate::Text::read`] clears it.
///
/// # Errors
/// [`Errno::FAULT`] if a byte before the NUL is not readable, [`Errno::NOT_PERMITTED`].
#[inline]
pub fn read_str(address: u64, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours and has that many bytes.
    let answer = unsafe { raw::read_str(address, to.as_mut_ptr(), length(to)) };
    Errno::check(answer).map(|len| len as usize)
}

/// A number in a copy of an object: little endian, at this offset. `None` if it does not lie within the copy.
#[must_use]
#[inline]
pub fn u64_at(copy: &[u8], offset: usize) -> Option<u64> {
    copy.get(offset..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// The same with four bytes.
#[must_use]
#[inline]
pub fn u32_at(copy: &[u8], offset: usize) -> Option<u32> {
    copy.get(offset..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
