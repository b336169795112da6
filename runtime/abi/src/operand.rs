//! Where a USDT marker has an argument: what its note says, with everything resolved that the file knows. The host reads
//! notes, the agent computes.

/// Forms of an operand: what [`Operand::form`] may be.
pub mod form {
    /// Not known; its value is zero.
    pub const NONE: u8 = 0;
    /// The value itself.
    pub const CONSTANT: u8 = 1;
    /// A register.
    pub const REGISTER: u8 = 2;
    /// In memory: base + index * scale + value.
    pub const MEMORY: u8 = 3;
}

/// Most arguments of a marker (`sys/sdt.h`).
pub const ARGUMENTS: usize = 12;

/// For [`Operand::base`] and [`Operand::index`]: no register.
pub const NO_REGISTER: u8 = 0xff;

/// An argument of a marker. Every bit pattern is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Operand {
    /// One of [`form`].
    pub form: u8,
    /// Bytes, up to eight.
    pub size: u8,
    /// Not zero: its sign is extended.
    pub signed: u8,
    /// DWARF number of the register, or of the base.
    pub base: u8,
    /// DWARF number of the index.
    pub index: u8,
    /// What the index is multiplied by.
    pub scale: u8,
    /// Bits by which the register is shifted right first: `%ah` is the second byte of `%rax`.
    pub shift: u8,
    /// Keeps the layout free of holes.
    pub reserved: u8,
    /// The constant, or the displacement, or with neither base nor index the address.
    pub value: u64,
}
const _: () = assert!(size_of::<Operand>() == 16);

impl Operand {
    /// The address of an operand in memory, with registers by their DWARF numbers.
    #[must_use]
    pub fn address(&self, register: impl Fn(u32) -> u64) -> u64 {
        let of = |number: u8| if number == NO_REGISTER { 0 } else { register(u32::from(number)) };
        let index = of(self.index).wrapping_mul(u64::from(self.scale));
        of(self.base).wrapping_add(index).wrapping_add(self.value)
    }

    /// The argument, of a value whose low bytes hold it.
    #[must_use]
    pub const fn extended(&self, value: u64) -> u64 {
        let bits = if self.size == 0 || self.size > 8 { 64 } else { self.size as u32 * 8 };
        let up = value << (64 - bits);
        if self.signed == 0 { up >> (64 - bits) } else { (up.cast_signed() >> (64 - bits)).cast_unsigned() }
    }
}

/// The operands of a site in the table of all: index of the first in the high bits, their number in the low four.
#[must_use]
pub const fn packed(first: u32, count: u32) -> u32 {
    first << 4 | count & 0xf
}

/// Index in the table of a site's operand `n`; `None` past the last.
#[must_use]
pub const fn unpacked(packed: u32, n: u32) -> Option<u32> {
    if n < packed & 0xf { Some((packed >> 4) + n) } else { None }
}
