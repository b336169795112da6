//! The freestanding image that runs probes inside the target.
//!
//! It has no libc, no dynamic linker, no thread-local storage and no thread of its own. The host maps it, applies
//! its relocations, and enters it in two ways: `agent_entry` on the host's helper thread (`boot`), and `hit_entry` from
//! trampolines (`entry`, then `dispatch`). On the hit path it makes no system call, takes no lock and allocates
//! nothing; the exceptions are named where they stand. A bug of ours disarms it; the target lives.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod context;
mod dispatch;
mod entry;
mod evidence;
mod global;
mod heap;
mod mem;
mod memory;
mod panic;
mod platform;
mod retired;
mod spans;
mod sys;
mod target;
