//! Stands in for the crate of this name: wasmtime names it as a dependency on Linux but, without std, calls
//! nothing of it.
#![no_std]
