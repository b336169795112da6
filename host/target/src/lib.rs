//! What runs: processes, maps, modules, build ids, and the failures that every host crate speaks.
//!
//! Everything read under /proc belongs to a process that may be hostile or may end at any moment: sizes are
//! bounded, and a file that vanishes is a [`Failure`] of kind [`FailureKind::NoProcess`].

mod failure;

pub use failure::{Failure, FailureKind};
