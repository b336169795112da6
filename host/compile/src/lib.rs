//! Verify a module, derive its capabilities, precompile it, cache the code.
//!
//! `verify` is the gate: what passed it is a [`Verified`], and nothing else can be compiled.
#![forbid(unsafe_code)]

mod compiler;
mod frames;
mod precompile;
pub mod verify;

pub use compiler::become_compiler;
pub use frames::FRAME_MAX;
pub use precompile::{CompileError, Compiled, engine, precompile};
pub use verify::{Options as VerifyOptions, Reason, Unbounded, Verified, VerifyError, verify, verify_with};
