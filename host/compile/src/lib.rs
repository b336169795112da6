//! Verify a module, derive its capabilities, precompile it, cache the code.
