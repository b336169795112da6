//! The one table of host calls, and everything that is written after it.
//!
//! ```text
//! page       PROBE-ABI.md: each row's signature, capability, fuel and system calls
//! c          probe-sdk/c/trocar.h
//! languages  probe-sdk/zig/trocar.zig, assemblyscript/trocar.ts and go/trocar.go
//! rust       probe-sdk/rust/src/raw.rs and register.rs
//! wat        the examples, and the template of `trocar new wat`
//! ```
//!
//! The files are read as text: none of them can be linked to the host.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod calls;
mod header;
mod languages;
mod page;
mod rust;
mod wat;

/// A host call, as a file declares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    name: String,
    /// `i32` or `i64` each.
    params: Vec<&'static str>,
    result: Option<&'static str>,
}

/// The text of a file, by its path from the root of the repository.
fn file(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    std::fs::read_to_string(format!("{root}{path}")).unwrap_or_else(|e| panic!("{path}: {e}"))
}
