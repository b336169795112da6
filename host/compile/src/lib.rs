//! Verify a module, derive its capabilities, precompile it, cache the code.
//!
//! `verify` is the gate: what passed it is a [`Verified`], and nothing else can be compiled.
#![forbid(unsafe_code)]

pub mod verify;

pub use verify::{Options, Reason, Verified, VerifyError, verify, verify_with};
