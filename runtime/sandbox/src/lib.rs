//! The sandbox: one engine configuration for both sides, a probe's instance, its entry, host calls, traps.
//!
//! The agent runs probes with it inside the target; `trocar test` runs them with it outside, against made-up
//! hits. So what a probe sees is the same code in both places. It relies on memory that its creator provides
//! (maps and ring, [`Env`]); it does not know how that memory is shared, nor how a hit came about.
#![no_std]

extern crate alloc;

mod config;
mod direct;
mod hash;
mod host_call;
mod instance;
mod limits;
mod maps;
mod marker;
mod parked;
mod rate;
mod shim;
mod trace;

pub use config::{START_FUEL, WASM_STACK, configure};
pub use host_call::{HostCallError, link};
pub use instance::{Arguments, Env, Extension, Hit, Instance, Loaded, Outcome, RUNS_ONCE, State, Target};
pub use maps::Maps;
pub use parked::AfterTrap;
pub use rate::Rate;
pub use trace::{Trace, note};
