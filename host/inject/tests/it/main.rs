//! The engine's hand in the target, as far as it can be held without a session (tests/e2e does the rest). Contents:
//! - `image`: the agent's image is what the loader relies on and what the laws promise: freestanding, W^X, no AVX
//! - `memory`: reading and writing another process
//! - `stop`: a process is stopped and goes on as if nothing had happened
//! - `go_room`: trampolines for Go functions without a stack check, run in this process
//! - `child`: the process that the others do this to
//!
//! Modules are marked `cfg(test)` so that clippy knows their helpers for test code.

#[cfg(test)]
mod child;
#[cfg(test)]
mod go_room;
#[cfg(test)]
mod image;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod stop;
