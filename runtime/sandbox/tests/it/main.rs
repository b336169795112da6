//! The sandbox, run as the agent runs it: one engine configuration, one instance, made-up hits. Contents:
//! - `rig`: an instance over memory of the test, a made-up target, a made-up hit
//! - `direct`: a hit whose trap does not come back to its caller
//! - `hit`: what a probe sees of a hit: arguments, registers, site, thread, clock
//! - `ranges`: every call that takes a pointer, at the edges of linear memory
//! - `maps`: counters, histograms, hash tables
//! - `records`: events and log lines, and the ring when it is full
//! - `reading`: the target's memory
//! - `params`: parameters
//! - `fuel`: what each thing costs, and where exactly it runs out
//! - `traps`: each trap, by its code, and the instance after it
//! - `shim`: what languages' runtimes import: WASI, `env.abort`
//! - `trace`: where it trapped
//! - `life`: start functions, handlers, what is kept between hits
//! - `allocations`: a hit takes no memory, and a trap keeps none
//! - `config`: which features are on
//!
//! Modules are marked `cfg(test)` so that clippy knows their helpers for test code.

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod config;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod fuel;
#[cfg(test)]
mod hit;
#[cfg(test)]
mod life;
#[cfg(test)]
mod maps;
#[cfg(test)]
mod params;
#[cfg(test)]
mod ranges;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod records;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod shim;
mod trace;
#[cfg(test)]
mod traps;
