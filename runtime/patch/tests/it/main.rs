//! Tests of the planner and the encoder. Contents:
//! - `support`: small images from bytes, placements near and far
//! - `planning`: each rung, each refusal
//! - `short_sites`: windows that begin before the site, padding behind exits, short jumps to slack
//! - `trampolines`: each part, each kind of relocation, twins, recognition
//! - `faults`: what is not displaced where a fault becomes an exception
//! - `go_code`: stack checks, faults, room
//! - `go_room`: functions without a stack check
//! - `peers`: ways in which others have crashed programs (PEERS §3), by number
//! - `own_executable`: every function of this test binary, planned, emitted, decoded back
//! - `exits`: returns, tail jumps, cold parts, switches
//! - `elf`: reads an ELF file into an image

#[cfg(test)]
mod elf;
#[cfg(test)]
mod exits;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod go_code;
#[cfg(test)]
mod go_room;
#[cfg(test)]
mod own_executable;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod planning;
#[cfg(test)]
mod short_sites;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trampolines;
