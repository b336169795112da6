//! Ring bytes to events, shards to maps, counters to statistics: what the host makes of a session's shared
//! memory.
//!
//! Everything here was written by a process that may be hostile or broken: numbers are added with wrapping or
//! saturation, lengths are checked, what does not decode is passed on as bytes and never dropped in silence.
//! Relies on `trocar-ring` for every access to the memory. It does not know how the memory was mapped, when
//! to read it, or who sees the result.

mod collector;
mod decode;
mod evidence;
mod limits;
mod maps;
mod totals;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use collector::{BadShared, Collector, ContextInfo, Drained, Record, RingFault};
pub use decode::{Decoded, NamedRow, decode, named_rows};
pub use evidence::TrapEvidence;
pub use maps::{MergedMap, ROWS_MAX};
pub use totals::{ProbeStatus, SiteTotals};
