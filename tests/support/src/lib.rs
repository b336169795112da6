//! What end-to-end tests share: the target programs of `tests/targets`, the `trocar` command, a redis-server
//! of the test's own, and the facts of a live process that must be the same before and after.
//!
//! It relies on `/proc`, on the build script of `tests/targets`, and on a built `trocar`. It knows the command
//! line's contract (its JSON lines and exit statuses) and nothing of the crates behind it.
//!
//! Everything here panics with a full sentence instead of returning an error: a test has nothing else to do
//! with one. Nothing sleeps: a wait is a `poll` on a pipe with a limit ([`lines::PATIENCE`]). Only processes
//! that a test started are ever signalled, by their id.
#![forbid(unsafe_code)]

pub mod command;
pub mod container;
pub mod guest;
pub mod lines;
pub mod ours;
pub mod process;
pub mod redis;
pub mod scale;
pub mod target;

pub use command::{Live, Outcome, run};
pub use container::Container;
pub use ours::Contents;
pub use process::Snapshot;
pub use redis::Redis;
pub use target::Target;
