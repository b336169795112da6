//! Taste as a test: what STYLE asks of the tree and a compiler does not check.
//!
//! ```text
//! arrows     which crate may depend on which
//! files      how a file opens, how long it is, what must not stand in it
//! unsafety   where unsafe code may be, and that each block says why it is sound
//! behaviours the page of what has broken others names tests that exist
//! licences   every dependency of both workspaces is under a licence that deny.toml allows
//! ```
//!
//! It reads `cargo metadata` of both workspaces and every file that git would commit. Exceptions are
//! data with a reason, beside the rule that they are exceptions from.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod arrows;
mod behaviours;
mod files;
mod licences;
mod tree;
mod unsafety;
