//! What an instance may grow to. Growing past it is a trap, not an answer of -1: a probe that goes on asking for memory
//! is to be stopped, and its user told why.

use core::fmt;

use wasmtime::{ResourceLimiter, Result};

/// Entries of a table that a probe may have.
const TABLE_ENTRIES: usize = 10_000;

/// The limits of one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most bytes of linear memory.
    pub(crate) memory_max: usize,
    /// Memory was allowed to grow since somebody last put this back: what was known of it no longer holds.
    pub(crate) grown: bool,
}

/// The probe asked for more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverLimit;

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory or table over the limit")
    }
}

impl core::error::Error for OverLimit {}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Its own maximum is no limit of ours: there growing answers -1, as WebAssembly says.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grown = true;
        if desired > self.memory_max { Err(wasmtime::Error::new(OverLimit)) } else { Ok(true) }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ENTRIES { Err(wasmtime::Error::new(OverLimit)) } else { Ok(true) }
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        4
    }

    fn memories(&self) -> usize {
        1
    }
}
