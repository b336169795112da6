//! Switching off every session of this user.

use trocar_target::Failure;

use crate::reply::Off;

/// Switches them off, or those in `only` these processes: each at once, whatever its host does.
///
/// # Errors
/// For each that could not be reached; the others are off.
#[must_use]
pub fn off(only: Option<&[i32]>) -> Vec<Result<Off, Failure>> {
    let all = trocar_inject::switch_off_all(only);
    all.into_iter().map(|one| one.map(|o| Off { pid: o.pid, gates: o.gates, off_ns: o.off_ns })).collect()
}
