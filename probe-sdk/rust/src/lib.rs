//! Write Trocar probes in Rust.
//!
//! A probe is a handler that runs at a hit, a few maps that it counts in, and events that it writes:
//!
//! ```
//! # mod probe {
//! use trocar_probe_sdk::*;
//!
//! manifest! {
//!     name: "calls",
//!     maps: { CALLS: counter[1] },
//! }
//!
//! #[probe(at = "processCommand")]
//! fn on_hit() {
//!     CALLS.add(0, 1);
//! }
//! # }
//! ```
//!
//! It relies on the host for the calls of `PROBE-ABI.md` (module `trocar`), on `no_std`, and on nothing else. A panic
//! is a trap, which the host counts; at the third the probe is quarantined and the target goes on without it.
#![no_std]

// Names in code that the macros write, also where they are used in this crate's own tests.
extern crate self as trocar_probe_sdk;

mod errno;
mod field;
mod log;
mod macros;
pub mod manifest;
mod map;
mod param;
pub mod raw;
pub mod register;
pub mod target;
mod text;

pub use errno::Errno;
#[doc(hidden)]
pub use field::emit;
pub use field::{Field, Fields, Hex64};
pub use log::{Level, log};
pub use map::{Counter, Hash, Hist};
pub use param::{Int, Str};
pub use raw::{arg, cpu, function, reg, ret, site, span_ns, tid, time_ns};
pub use target::{read, read_bytes, read_str, read_value};
pub use text::Text;
pub use trocar_probe_macros::probe;

/// What a handler returns: whether the probe's condition held at this hit.
pub trait Outcome {
    /// Zero if it did not.
    fn number(self) -> i32;
}

impl Outcome for bool {
    fn number(self) -> i32 {
        self.into()
    }
}

impl Outcome for i32 {
    fn number(self) -> i32 {
        self
    }
}

/// A panic is a trap. Its message is not formatted: that would make the probe twenty times larger.
#[cfg(all(target_arch = "wasm32", feature = "panic-handler"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
