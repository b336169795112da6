//! Fields of events and keys: the types that the manifest knows, packed as the host decodes them.
//!
//! An event or key is a struct without holes (`repr(C, packed)`), so it is handed to the host as it lies in memory.
//! wasm is little endian, and so are the fields.
#![expect(unsafe_code, reason = "the trait that promises a layout without holes")]

use crate::text::Text;

/// A type of a field.
///
/// # Safety
/// Every bit pattern is a value, there are no holes, and the type has the bytes that the manifest's type `TYPE` has.
pub unsafe trait Field: Copy + 'static {
    /// Name of the type in the manifest.
    const TYPE: &'static str;
    /// Bytes of a `str`; zero for every other type.
    const BYTES: usize = 0;
}

/// A struct of fields, one after another, with nothing between.
///
/// # Safety
/// `repr(C, packed)` and only [`Field`]s inside. `manifest!` implements it.
pub unsafe trait Fields: Copy + 'static {}

/// An address or a set of flags: shown in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Hex64(pub u64);

macro_rules! fields {
    ($($ty:ty = $name:literal),*) => {
        $(
            // SAFETY: a plain number; the host's type of this name has the same size.
            unsafe impl Field for $ty {
                const TYPE: &'static str = $name;
            }
        )*
    };
}

fields!(u8 = "u8", i8 = "i8", u16 = "u16", i16 = "i16", u32 = "u32", i32 = "i32", u64 = "u64", i64 = "i64");
fields!(f64 = "f64", Hex64 = "hex64");

// SAFETY: an array of bytes, and the host's `str` has as many.
unsafe impl<const N: usize> Field for Text<N> {
    const TYPE: &'static str = "str";
    const BYTES: usize = N;
}

/// Where a struct of fields lies, and its bytes.
pub(crate) fn bytes<T: Fields>(fields: &T) -> (*const u8, u32) {
    const { assert!(size_of::<T>() <= 4096, "an event has at most 4096 bytes, a key at most 256") }
    #[expect(clippy::cast_possible_truncation, reason = "at most 4096, as asserted")]
    let len = size_of::<T>() as u32;
    (core::ptr::from_ref(fields).cast(), len)
}

/// Writes an event; `number` is its place in the manifest. The method `emit` of an event does this.
#[doc(hidden)]
pub fn emit<T: Fields>(number: u32, event: &T) {
    let (at, len) = bytes(event);
    // SAFETY: `at` and `len` are those of a live value without holes (trait `Fields`).
    unsafe { crate::raw::emit(number, at, len) }
}
