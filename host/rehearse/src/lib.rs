//! A probe run outside any target, against made-up, recorded or hostile hits.
//!
//! ```text
//! RecordedHit ──▶ HitFrame, memory ──▶ trocar-sandbox (the code that runs in a target too) ──▶ ring, maps
//!                                                                                               │
//!                 HitResult, maps ◀── trocar-collect (the code that reads a target too) ◀───────┘
//! ```
//! So what a probe does here it does there, save what depends on the target's memory. Besides the host calls, WASI
//! preview 1 is there, whole, for probes that print while they are written. It does not verify: give it what the
//! verifier accepted, or what it refused for WASI alone.

mod code;
mod hit;
mod hostile;
mod memory;
mod rehearsal;
mod replay;
mod wasi;

pub use hit::{HitError, RecordedHit, RecordedMemory, Word, made_up};
pub use hostile::{HOSTILE, HostileKind};
pub use rehearsal::{HitResult, MapResult, Probe, Rehearsal, RehearseError};
pub use trocar_sandbox::Outcome;
