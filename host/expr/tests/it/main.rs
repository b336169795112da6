//! Expressions, from their text to what the generated probe does.
//!
//! 1. parsing: precedence, types, errors with their carets, hostile input
//! 2. evaluating: every operator against the same arithmetic in Rust
//! 3. counting: keys, conditions, what cannot be read
//! 4. logging: templates, formats, limits
//!
//! Modules run in an interpreter with a made-up target behind the host calls (`machine`).
//!
//! Modules are marked `cfg(test)` so that clippy knows their helpers for test code.

#[cfg(test)]
mod counting;
#[cfg(test)]
mod evaluating;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod parsing;
