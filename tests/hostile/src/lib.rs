//! What a machine may write against us: a corpus of probes that are each a trick, probes that are generated or damaged,
//! and oracles for everything that is read from outside.
//!
//! ```text
//! corpus      the probes of `corpus/`, and the end that each of them says it has
//! generate    modules of wasm-smith, and valid ones with damage: the same for the same number
//! oracle      bytes in, no panic, and what must hold of the answer
//! memory      a session's shared memory, of any content
//! ```
//!
//! Tests load the probes into live targets, and run the oracles over the corpus and over damage to it; the fuzz targets of
//! `fuzz/` are glue around the same oracles. Everything panics: whoever calls is a test or a fuzzer.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

pub mod corpus;
pub mod generate;
mod memory;
pub mod oracle;
