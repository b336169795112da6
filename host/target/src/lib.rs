//! What runs: processes, maps, modules, build ids, and the failures that every host crate speaks.
//!
//! Everything read under /proc belongs to a process that may be hostile or may end at any moment: sizes are
//! bounded, and a file that vanishes is a [`Failure`] of kind [`FailureKind::NoProcess`]. Nothing here stops,
//! signals or writes to a process; what is found may be old by the time it is used, so that whoever acts on it
//! looks again while the target is stopped ([`Process::still_there`]).

#![forbid(unsafe_code)]

mod elf;
mod failure;
mod gap;
mod list;
mod maps;
mod memory;
mod module;
mod open;
mod process;
mod procfs;
mod status;
mod system;
mod verdict;

pub use elf::{build_id, check_machine};
pub use failure::{Failure, FailureKind};
pub use gap::{REACH, free_gap_near};
pub use list::{ProcessSummary, list_processes, resolve_target};
pub use maps::{Mapping, maps, parse_maps};
pub use module::{Module, aliases, modules};
pub use open::{ModuleFile, Source};
pub use process::{Process, Thread, Tracer};
pub use status::{Seccomp, SignalSet, Signals};
pub use system::{Capability, has_capability, kernel_release, ptrace_scope, user_name};
pub use verdict::{Access, explain_denied};
