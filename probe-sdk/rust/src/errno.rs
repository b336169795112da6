//! Why a host call could not do what it was asked.

use core::fmt;

/// An error of a host call: the kernel's number, negative.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// An address of the target is not readable.
    pub const FAULT: Self = Self(-14);
    /// There is no room: the hash map is full.
    pub const NO_SPACE: Self = Self(-28);
    /// Reading is not allowed in this target.
    pub const NOT_PERMITTED: Self = Self(-1);

    /// A number from a host call: the length or zero, or an error.
    pub(crate) const fn check(number: i32) -> Result<u32, Self> {
        if number < 0 { Err(Self(number)) } else { Ok(number.cast_unsigned()) }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FAULT => f.write_str("FAULT"),
            Self::NO_SPACE => f.write_str("NO_SPACE"),
            Self::NOT_PERMITTED => f.write_str("NOT_PERMITTED"),
            Self(number) => write!(f, "Errno({number})"),
        }
    }
}
