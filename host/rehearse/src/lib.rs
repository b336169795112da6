//! A probe run outside any target, against made-up, recorded or hostile hits.
//!
//! ```text
//! RecordedHit ──▶ HitFrame, memory ──▶ trocar-sandbox (the code that runs in a target too) ──▶ ring, maps
//!                                                                                               │
//!                 HitResult, maps ◀── trocar-collect (the code that reads a target too) ◀───────┘
//! ```
//! So what a probe does here it does there, save what depends on the target's memory. It does not verify: give it what
//! the verifier accepted.

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
pub use replay::Live;
pub use trocar_sandbox::Outcome;
