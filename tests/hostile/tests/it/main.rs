//! Probes that are written to do harm, and bytes that are written to mislead.
//!
//! ```text
//! corpus       every probe of the corpus, one after another, in one live, loaded target
//! generated    probes that nobody wrote, the same way; 10 000 of them with TROCAR_FULL
//! rings        a target that writes into our memory ends the session, and nothing else
//! oracles      what is read from outside, over the corpus and over damage to it
//! patient      the target that all this happens to
//! ```
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod corpus;
mod generated;
mod oracles;
mod patient;
mod rings;
