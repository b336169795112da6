//! Expressions, from their text to what the generated probe does.
//!
//! 1. parsing: precedence, types, errors with their carets, hostile input
//! 2. evaluating: every operator against the same arithmetic in Rust
//! 3. counting: keys, conditions, what cannot be read
//! 4. logging: templates, formats, limits
//!
//! Modules run in an interpreter with a made-up target behind the host calls (`machine`).

mod counting;
mod evaluating;
mod logging;
mod machine;
mod parsing;
