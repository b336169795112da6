//! The host calls that a probe may import from module `trocar`: the probe ABI's one table.
//!
//! The host verifies a module against it, the sandbox links exactly these, and tests compare the Rust SDK,
//! the C header and `PROBE-ABI.md` with it. A probe's capabilities are derived from the calls it imports.

/// Type of a parameter or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

/// What a host call lets a probe do. Ordered by how much it gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// What a language's runtime asks for and that gives nothing away: exit, random numbers, empty arguments.
    Runtime,
    /// Read its own parameters.
    Params,
    /// Keep counters, histograms and hash maps.
    Maps,
    /// Write records into the ring.
    Emit,
    /// Write log lines.
    Log,
    /// Know the thread, the processor and the site.
    Thread,
    /// Read the clock.
    Time,
    /// See registers and arguments.
    Registers,
    /// Read the target's memory.
    Memory,
}

impl Capability {
    /// The name in policies and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Params => "params",
            Self::Maps => "maps",
            Self::Emit => "emit",
            Self::Log => "log",
            Self::Thread => "thread",
            Self::Time => "time",
            Self::Registers => "registers",
            Self::Memory => "memory",
        }
    }
}

/// A host call.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// Module that it is imported from.
    pub module: &'static str,
    /// Name of the import.
    pub name: &'static str,
    /// Parameters.
    pub params: &'static [Ty],
    /// Result, if there is one.
    pub result: Option<Ty>,
    /// What it lets the probe do.
    pub capability: Capability,
    /// Most system calls that one call makes.
    pub system_calls: u32,
    /// Fuel charged besides the call itself, for the work it causes; see [`Import::price`].
    pub fuel: u64,
    /// What it does, in one line.
    pub about: &'static str,
}

/// Picoseconds that a unit of fuel stands for: what a unit of ordinary compiled code takes (10 000 units in about 6 µs).
///
/// Prices in the table are measured times divided by this, rounded up (two-core AMD EPYC guest, Linux 6.18): a record of 64
/// bytes or a hash update about 11 ns more than an empty handler (`runtime/agent/SPEED.md`; priced at twice that, for cold
/// caches), the processor's number 15 ns (`lsl`), the clock 22 ns, a read of ourselves 1.2 µs. Calls that are priced at zero
/// take about the nanosecond that the call instruction and its operands are charged for.
pub const FUEL_PICOSECONDS: u64 = 600;

/// Fuel of a system call.
pub const SYSTEM_CALL: u64 = 2000;

/// Bytes that are copied, or hashed, for a unit of fuel.
pub const BYTES_PER_FUEL: u64 = 8;

impl Import {
    /// Fuel charged besides the call itself before a call over so many bytes does anything.
    #[must_use]
    pub const fn price(&self, bytes: u32) -> u64 {
        self.fuel + bytes as u64 / BYTES_PER_FUEL
    }

    /// The most that such a call is charged: of several system calls those after the first are charged as they come.
    #[must_use]
    pub const fn worst_price(&self, bytes: u32) -> u64 {
        self.price(bytes) + SYSTEM_CALL * (self.system_calls as u64).saturating_sub(1)
    }
}

/// The module that all of them are imported from.
pub const MODULE: &str = "trocar";

/// The name that is reserved in v1: a module that imports it is refused.
pub const RESERVED: &str = "override";

use Capability as C;
use Ty::{I32, I64};

/// Every host call of ABI v1, sorted by name.
pub const IMPORTS: &[Import] = &[
    import(
        "arg",
        &[I32],
        Some(I64),
        C::Registers,
        0,
        0,
        "integer argument n of the call, counted from zero; zero past the registers",
    ),
    import(
        "counter_add",
        &[I32, I32, I64],
        None,
        C::Maps,
        0,
        0,
        "adds to entry i of counter map m; traps if there is no such entry",
    ),
    import("cpu", &[], Some(I32), C::Thread, 0, 25, "number of the processor"),
    import(
        "emit",
        &[I32, I32, I32],
        None,
        C::Emit,
        0,
        40,
        "writes an event of schema s with len payload bytes at ptr",
    ),
    import(
        "function",
        &[],
        Some(I32),
        C::Thread,
        0,
        5,
        "index of the function whose entry or exit the site is; its sites share it; zero elsewhere",
    ),
    import(
        "hash_add",
        &[I32, I32, I32, I64],
        Some(I32),
        C::Maps,
        0,
        40,
        "adds to the value of the key of len bytes at ptr in hash map m; 0, or ENOSPC when the table is full",
    ),
    import(
        "hash_get",
        &[I32, I32, I32],
        Some(I64),
        C::Maps,
        0,
        40,
        "value of the key of len bytes at ptr in this thread's shard of hash map m; zero if absent",
    ),
    import(
        "hash_set",
        &[I32, I32, I32, I64],
        Some(I32),
        C::Maps,
        0,
        40,
        "sets the value of the key in this thread's shard of hash map m; 0 or ENOSPC",
    ),
    import(
        "hist_add",
        &[I32, I32, I64],
        None,
        C::Maps,
        0,
        0,
        "adds an unsigned value to entry i of log2-histogram map m",
    ),
    import(
        "log",
        &[I32, I32, I32],
        None,
        C::Log,
        0,
        40,
        "writes a log line of level (0 error, 1 warn, 2 info, 3 debug, 4 trace), len bytes of text at ptr",
    ),
    import("param", &[I32], Some(I64), C::Params, 0, 0, "value of integer parameter n"),
    import(
        "param_str",
        &[I32, I32, I32],
        Some(I32),
        C::Params,
        0,
        10,
        "copies string parameter n to ptr, at most len bytes; its whole length",
    ),
    import(
        "read",
        &[I64, I32, I32],
        Some(I32),
        C::Memory,
        1,
        SYSTEM_CALL,
        "copies len bytes at the target's address to ptr; 0, or EFAULT if any byte is not readable",
    ),
    import(
        "read_str",
        &[I64, I32, I32],
        Some(I32),
        C::Memory,
        2,
        SYSTEM_CALL,
        "copies a NUL-terminated string at the target's address to ptr, at most len bytes; its length without NUL, or EFAULT",
    ),
    import("reg", &[I32], Some(I64), C::Registers, 0, 0, "register by DWARF number (0 rax … 7 rsp … 16 rip)"),
    import(
        "ret",
        &[],
        Some(I64),
        C::Registers,
        0,
        0,
        "integer result register rax, meaningful where a function returns",
    ),
    import("site", &[], Some(I32), C::Thread, 0, 0, "index of the site in this session"),
    import(
        "span_ns",
        &[],
        Some(I64),
        C::Time,
        0,
        5,
        "at an exit of a function: nanoseconds since this call of it began; -1 if its beginning was not seen",
    ),
    import("tid", &[], Some(I32), C::Thread, 0, 0, "kernel's id of the thread, zero if unknown"),
    import("time_ns", &[], Some(I64), C::Time, 0, 40, "nanoseconds of CLOCK_MONOTONIC"),
];

const fn import(
    name: &'static str,
    params: &'static [Ty],
    result: Option<Ty>,
    capability: Capability,
    system_calls: u32,
    fuel: u64,
    about: &'static str,
) -> Import {
    Import { module: MODULE, name, params, result, capability, system_calls, fuel, about }
}

/// The host call of this name, where the compiler can find it.
///
/// # Panics
/// There is none: an error of the compiler, where this is evaluated by it.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports an index out of range")]
pub const fn known(name: &str) -> &'static Import {
    let mut row = 0;
    while row < IMPORTS.len() {
        if same(IMPORTS[row].name.as_bytes(), name.as_bytes()) {
            return &IMPORTS[row];
        }
        row += 1;
    }
    panic!("no such host call")
}

#[expect(clippy::indexing_slicing, reason = "as above")]
const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// The host call of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Import> {
    IMPORTS.iter().find(|i| i.name == name)
}

/// The function of this module and name: a host call, or one of [`crate::shim`].
#[must_use]
pub fn resolve(module: &str, name: &str) -> Option<&'static Import> {
    if module == MODULE { find(name) } else { crate::shim::find(module, name) }
}

/// Error codes of host calls, negative as in the kernel.
pub mod errno {
    /// The address is not readable.
    pub const EFAULT: i32 = -14;
    /// There is no room.
    pub const ENOSPC: i32 = -28;
    /// Reading is not allowed in this target (a seccomp filter forbids it).
    pub const EPERM: i32 = -1;
}

/// Name of the handler of a module without a manifest, and of a point that names none.
pub const DEFAULT_HANDLER: &str = "on_hit";

/// Custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "trocar.manifest";
