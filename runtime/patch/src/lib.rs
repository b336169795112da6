//! Bytes in, bytes out: decode a module's text, plan a site, encode its trampoline, match it back.
//!
//! The way through this crate, for x86-64 and System V or Go code:
//!
//! ```text
//! Image (what the host knows of one ELF module, in link-time addresses)
//!   └─ Analysis::new          decode the whole text once; where can control arrive?
//!        ├─ Analysis::exits   one function → where it is left
//!        └─ Analysis::plan    one address → SitePlan (rung, window, writes) or Refusal (reason, address);
//!             │               plan_beside, plan_exit: beside the Claims of a session's other sites
//!             └─ Template::make   lay the trampoline out, part by part, with named parts
//!                  └─ Template::emit   bytes; fails only where an address is out of reach
//!                       └─ Trampoline   what to write where, and how to move threads in and out
//! ```
//!
//! It relies on what the host says about the module being true (function starts, entries, ranges never to
//! be touched). It knows nothing of processes: it reads no file, writes no memory, and does not decide when
//! a site may be written.
//!
//! # INVARIANT (closed window)
//! A planned site overwrites five bytes at the start of its window, or two there and five of slack. **No
//! transfer of control can arrive at an address strictly inside the bytes at the window**, nor between its
//! start and the site, save that of a thread which was already between two instructions of the window when
//! the site was written (the host moves it to its twin). `window.rs` says which ways of arriving there are,
//! and how each is excluded.
//!
//! # INVARIANT (dead padding)
//! Bytes that are written outside the window, behind it or as slack, are executed by nobody. `padding.rs` says
//! when that is proven. What is written in slack is a jump, and only the window's own jump leads to it.
#![forbid(unsafe_code)]

mod analysis;
mod claims;
mod exits;
mod faults;
mod go;
mod image;
mod indirect;
mod instruction;
mod marks;
mod padding;
mod plan;
mod plan_go;
mod recognise;
mod refusal;
mod relocate;
mod site_plan;
mod sweep;
mod tables;
mod template;
mod trampoline;
mod window;

pub use analysis::{Analysis, Statistics};
pub use claims::Claims;
pub use exits::{Exit, ExitKind};
pub use go::{GO_STACK_ROOM, GoSource};
pub use image::{FunctionRange, Image, Segment};
pub use instruction::data_named;
pub use recognise::{Recognised, jump_target, recognise};
pub use refusal::{Reason, Refusal, foreign_patch, reaches_in};
pub use site_plan::{HitPosition, Notes, Overwrite, Rung, SitePlan};
pub use template::{Part, Placement, Template};
pub use trampoline::{Patch, Trampoline};

/// Bytes of the jump that leads to a trampoline: `jmp rel32`.
pub const JUMP: usize = 5;
/// Bytes of the jump that leads to slack: `jmp rel8`.
pub const SHORT_JUMP: usize = 2;
