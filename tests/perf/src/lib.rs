//! The benchmark: what a probe costs, each figure beside its own baseline from the same run.
//!
//! It relies on a C compiler, on the right to trace its own children, and on the session API; probes go into the
//! target through it and not through the command. Peers (bpftrace, Frida) are measured where they are installed and
//! are said to be absent where they are not. It asserts nothing about time: it prints figures and the aims beside them.
#![forbid(unsafe_code)]

pub mod attaching;
pub mod guests;
pub mod hits;
pub mod machine;
pub mod memory;
pub mod options;
pub mod output;
pub mod pairs;
pub mod peers;
pub mod probed;
pub mod probes;
pub mod program;
pub mod serving;
pub mod share;
pub mod sites;

/// What went wrong, as a sentence. A figure that cannot be had is reported with it, and the rest goes on.
pub type Trouble = String;
