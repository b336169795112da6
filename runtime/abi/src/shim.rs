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

/// Every function of the shim, sorted by name.
pub const SHIM: &[Import] = &[
    Import {
        module: ENV,
        ..shim(ABORT, &[I32, I32, I32, I32], None, C::Log, 40, "logs message and place, then traps")
    },
    shim("args_get", &[I32, I32], Some(I32), C::Runtime, 0, "there are no arguments"),
    shim("args_sizes_get", &[I32, I32], Some(I32), C::Runtime, 0, "zero arguments of zero bytes"),
    shim(
        "clock_time_get",
        &[I32, I64, I32],
        Some(I32),
        C::Time,
        40,
        "clocks 0 (real time) and 1 (monotonic), through the target's vdso; EINVAL for others",
    ),
    shim("environ_get", &[I32, I32], Some(I32), C::Runtime, 0, "there is no environment"),
    shim("environ_sizes_get", &[I32, I32], Some(I32), C::Runtime, 0, "zero variables of zero bytes"),
    shim("fd_close", &[I32], Some(I32), C::Runtime, 0, "nothing, for 0 to 2; EBADF for others"),
    shim("fd_fdstat_get", &[I32, I32], Some(I32), C::Runtime, 0, "0 to 2 are terminals; EBADF for others"),
    shim("fd_seek", &[I32, I64, I32, I32], Some(I32), C::Runtime, 0, "ESPIPE for 0 to 2, EBADF for others"),
    shim(
        "fd_write",
        &[I32, I32, I32, I32],
        Some(I32),
        C::Log,
        40,
        "each line becomes a log line, of level info for 1 and warn for 2; EBADF for others",
    ),
    shim(
        "poll_oneoff",
        &[I32, I32, I32, I32],
        Some(I32),
        C::Runtime,
        40,
        "nobody sleeps in a hit: each clock has rung already, all else is ENOTSUP",
    ),
    shim("proc_exit", &[I32], None, C::Runtime, 0, "traps"),
    shim("random_get", &[I32, I32], Some(I32), C::Runtime, 10, "numbers that are not for secrets"),
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
