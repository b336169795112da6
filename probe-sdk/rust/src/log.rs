//! Log lines.
#![expect(unsafe_code, reason = "text is handed over by address")]

use crate::raw;

/// Level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// Something is wrong.
    Error = 0,
    /// Something may be wrong.
    Warn = 1,
    /// What happens.
    Info = 2,
    /// What happens in detail.
    Debug = 3,
    /// Everything.
    Trace = 4,
}

/// Writes a log line, at most 4096 bytes; a longer one traps. Values belong into events: see `manifest!`.
#[inline]
pub fn log(level: Level, text: &str) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    // SAFETY: the text is alive and has that many bytes.
    unsafe { raw::log(level as u32, text.as_ptr(), len) }
}
