//! The expression language: parse, check, emit wasm.
