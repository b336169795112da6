//! Little-endian numbers out of bytes that may end too early.
//!
//! Offsets are 64-bit, as files give them; the answer to one that is out of range is `None`.

pub(crate) fn u8_at(bytes: &[u8], at: u64) -> Option<u8> {
    bytes.get(usize::try_from(at).ok()?).copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: u64) -> Option<u16> {
    Some(u16::from_le_bytes(chunk(bytes, at)?))
}

pub(crate) fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    Some(u32::from_le_bytes(chunk(bytes, at)?))
}

pub(crate) fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    Some(u64::from_le_bytes(chunk(bytes, at)?))
}

fn chunk<const N: usize>(bytes: &[u8], at: u64) -> Option<[u8; N]> {
    bytes.get(usize::try_from(at).ok()?..)?.first_chunk().copied()
}

/// `size` bytes from `offset` on, all of them.
pub(crate) fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    bytes.get(start..end)
}

/// The bytes from `at` up to a NUL; `None` if there is no NUL.
pub(crate) fn c_string(bytes: &[u8], at: u64) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    rest.get(..memchr::memchr(0, rest)?)
}

/// A cursor for variable-length numbers.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at as u64
    }

    pub fn u8(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = self.bytes.get(self.at..)?.first_chunk().copied()?;
        self.at += N;
        Some(array)
    }

    pub fn uleb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub fn sleb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0 && shift + 7 < 64;
                return Some(if negative { value | u64::MAX << (shift + 7) } else { value });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb_numbers_have_their_sign_and_an_end() {
        assert_eq!(Cursor::new(&[0xe5, 0x8e, 0x26]).uleb(), Some(624_485));
        assert_eq!(Cursor::new(&[0xc0, 0xbb, 0x78]).sleb(), Some((-123_456i64).cast_unsigned()));
        assert_eq!(Cursor::new(&[0x3f]).sleb(), Some(63));
        assert_eq!(Cursor::new(&[0x80; 20]).uleb(), None);
        assert_eq!(Cursor::new(&[0x80]).sleb(), None);
    }

    #[test]
    fn what_is_out_of_range_is_none() {
        assert_eq!(u32_at(&[1, 2, 3], 0), None);
        assert_eq!(u64_at(&[0; 8], u64::MAX), None);
        assert_eq!(slice(&[0; 8], 4, u64::MAX), None);
        assert_eq!(c_string(b"ab", 0), None);
        assert_eq!(c_string(b"ab\0", 1), Some(&b"b"[..]));
    }
}
