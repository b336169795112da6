//! Shared layouts as bytes, to be written into the target, and back.
#![expect(unsafe_code, reason = "reinterprets the plain structs of trocar-abi as bytes")]

use trocar_abi::control::{Control, Probe, Site};
use trocar_abi::hit::{ContextHead, ThreadSlot};
use trocar_abi::map::MapSpec;
use trocar_abi::operand::Operand;

/// A struct of `trocar-abi` without holes, for which every bit pattern is a value.
///
/// # Safety
/// `repr(C)`, no padding, no invalid values, no pointers that are followed.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: repr(C), sizes are asserted in trocar-abi to be the sum of the fields, integers only.
unsafe impl Plain for Control {}
// SAFETY: as above.
unsafe impl Plain for Probe {}
// SAFETY: as above.
unsafe impl Plain for Site {}
// SAFETY: as above.
unsafe impl Plain for Operand {}
// SAFETY: as above.
unsafe impl Plain for MapSpec {}
// SAFETY: as above.
unsafe impl Plain for ThreadSlot {}
// SAFETY: as above.
unsafe impl Plain for ContextHead {}

/// The value's bytes.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` promises that all `size_of::<T>()` bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of several values.
pub(crate) fn bytes_of_all<T: Plain>(values: &[T]) -> Vec<u8> {
    values.iter().flat_map(|v| bytes_of(v).iter().copied()).collect()
}

/// A value from bytes; `None` if there are too few.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `Plain` promises that any bytes are a value; the read need not be aligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
