//! What the runtimes of languages insist on: a few functions of WASI preview 1, and AssemblyScript's `env.abort`.
//!
//! They answer for a process without files, arguments and environment, and make no system call. A module that imports
//! anything else of WASI is refused by its name. The sandbox links exactly these; `PROBE-ABI.md` has them as a table.

use crate::import::Ty::{I32, I64};
use crate::import::{Capability as C, Import, Ty};

/// Module of WASI preview 1.
pub const WASI: &str = "wasi_snapshot_preview1";
/// Module of [`ABORT`].
pub const ENV: &str = "env";
/// What AssemblyScript calls when an assertion fails.
pub const ABORT: &str = "abort";

/// Every function of the shim, sorted by name. Their texts are short, because they are part of the agent's image;
/// `PROBE-ABI.md` has the longer ones.
pub const SHIM: &[Import] = &[
    Import { module: ENV, ..shim(ABORT, &[I32, I32, I32, I32], None, C::Log, 40, "logs and traps") },
    shim("args_get", &[I32, I32], Some(I32), C::Runtime, 0, "nothing"),
    shim("args_sizes_get", &[I32, I32], Some(I32), C::Runtime, 0, "zeros"),
    shim("clock_time_get", &[I32, I64, I32], Some(I32), C::Time, 40, "real and monotonic time"),
    shim("environ_get", &[I32, I32], Some(I32), C::Runtime, 0, "nothing"),
    shim("environ_sizes_get", &[I32, I32], Some(I32), C::Runtime, 0, "zeros"),
    shim("fd_close", &[I32], Some(I32), C::Runtime, 0, "nothing"),
    shim("fd_fdstat_get", &[I32, I32], Some(I32), C::Runtime, 0, "terminals"),
    shim("fd_seek", &[I32, I64, I32, I32], Some(I32), C::Runtime, 0, "ESPIPE"),
    shim("fd_write", &[I32, I32, I32, I32], Some(I32), C::Log, 40, "log lines"),
    shim("poll_oneoff", &[I32, I32, I32, I32], Some(I32), C::Runtime, 40, "clocks have rung"),
    shim("proc_exit", &[I32], None, C::Runtime, 0, "traps"),
    shim("random_get", &[I32, I32], Some(I32), C::Runtime, 10, "not for secrets"),
    shim("sched_yield", &[], Some(I32), C::Runtime, 0, "nothing"),
];

const fn shim(
    name: &'static str,
    params: &'static [Ty],
    result: Option<Ty>,
    capability: C,
    fuel: u64,
    about: &'static str,
) -> Import {
    Import { module: WASI, name, params, result, capability, system_calls: 0, fuel, about }
}

/// The function of the shim with this name.
#[must_use]
pub fn find(module: &str, name: &str) -> Option<&'static Import> {
    SHIM.iter().find(|i| i.module == module && i.name == name)
}

/// Answers of WASI functions (`errno` of its `typenames.witx`).
pub mod errno {
    /// Done.
    pub const SUCCESS: i32 = 0;
    /// No such descriptor.
    pub const BADF: i32 = 8;
    /// An argument that makes no sense.
    pub const INVAL: i32 = 28;
    /// Not supported.
    pub const NOTSUP: i32 = 58;
    /// A descriptor that has no position.
    pub const SPIPE: i32 = 70;
}
