//! How large a test is: the same code runs small in CI and at full size for `just torture`.

/// A full size, or a fiftieth of it (at least one) unless `TROCAR_FULL` is set.
#[must_use]
pub fn scaled(full: u64) -> u64 {
    if std::env::var_os("TROCAR_FULL").is_some() { full } else { (full / 50).max(1) }
}
