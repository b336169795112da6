//! The command line, as far as it needs no target; the rest is in `tests/e2e`.
//!
//! - `quantities`: durations and sizes
//! - `words`: wrong words, words of other versions, names of processes, what goes to which stream
//! - `bad_probes`: files that are no probes, each with its status and message
//! - `making`: `new`, `build`, `pack`, `check`
//! - `rehearsing`: `test`
//! - `help`: the manual pages, as golden files
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod bad_probes;
mod help;
mod making;
mod quantities;
mod rehearsing;
mod run;
mod words;
