//! The engine's hand in the target: tracee, remote memory, remote system calls, loading the agent, patching, detaching.
//!
//! `Attachment::attach` turns an [`AttachPlan`] (made elsewhere, from symbols and the planner) into a live probe;
//! `Attachment::detach` takes it away and proves it. The program's own threads are stopped for some ten
//! microseconds at a time; what takes longer is done by a thread of ours that is gone when the transaction ends. The crate does not know what a point, a policy or an event is.

mod ahead;
mod arm;
mod asked;
mod asleep;
mod attachment;
mod detach;
mod filters;
mod foothold;
mod goroutines;
mod helper;
mod image;
mod journal;
mod keeper;
mod lender;
mod load;
mod look;
mod memory;
mod memory_file;
mod newborn;
mod orphan;
mod placed;
mod plain;
mod proof;
mod ptrace;
mod region;
mod register;
mod request;
mod seccomp;
mod semaphores;
mod sharers;
mod stacks;
mod stop;
mod stub;
mod threads;
mod ticks;
mod tracer;
mod uprobed;
mod vectors;
mod watched;

pub use attachment::Attachment;
pub use goroutines::{GoProgram, Goroutines};
pub use image::AGENT_IMAGE;
pub use look::Look;
pub use memory::{RemoteAddress, RemoteMemory};
pub use orphan::{Reaped, reap};
pub use proof::Detached;
pub use register::{SwitchedOff, switch_off_all};
pub use request::{AttachPlan, ModulePlan, PlannedSite, ProbePlan, Span, Stops, StubPlan};
pub use stop::bare_stop;
pub use ticks::Ticks;
pub use vectors::touches_high_vectors;
pub use watched::Head;
