//! Verify a module, derive its capabilities, precompile it, cache the code; and tell where in it and in its source an
//! address of that code is.
//!
//! `verify` is the gate: what passed it is a [`Verified`], and nothing else can be compiled.
#![forbid(unsafe_code)]

mod code_map;
mod compiler;
mod frames;
mod lower;
mod precompile;
mod source;
pub mod verify;

pub use code_map::{CodeMap, Spot};
pub use compiler::become_compiler;
pub use frames::FRAME_MAX;
pub use lower::{Facts, Lowered, NotSimple, lower};
pub use precompile::{CompileError, Compiled, engine, precompile};
pub use source::{Place, Source};
pub use verify::{Options as VerifyOptions, Reason, Unbounded, Verified, VerifyError, verify, verify_with};
