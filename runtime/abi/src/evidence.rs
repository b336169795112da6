//! What a hit that trapped leaves behind: where in the probe it was, and what a handler could see of the target.
//!
//! Two of them lie in the page of the shared head, behind it: of the first hit that trapped, and of the one that
//! brought the quarantine. Each is written once, by the one hit whose trap had that number, before the probe's state
//! says quarantined; a hit that does not trap never touches them.

use crate::PAGE;
use crate::shared::SharedHead;

/// Most addresses of a backtrace.
pub const FRAMES_MAX: usize = 16;

/// Words of the target's stack that are kept, from the stack pointer at the site upwards.
pub const STACK_WORDS: usize = 64;

/// Which evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of the first hit that trapped.
    First = 0,
    /// Of the hit that brought the quarantine.
    Last = 1,
}

/// What one trap left.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Evidence {
    /// Not zero when everything else is written.
    pub written: u32,
    /// Number of a [`crate::shared::TrapCode`].
    pub trap_code: u32,
    /// Index of the site.
    pub site: u32,
    /// Kernel's id of the thread, zero if unknown.
    pub tid: u32,
    /// Index of the handler.
    pub handler: u32,
    /// Index of the function that the site belongs to.
    pub function: u32,
    /// Number of the processor.
    pub cpu: u32,
    /// How many of `frames` there are.
    pub frame_count: u32,
    /// The clock when it trapped, in nanoseconds; zero where reading it would take a system call.
    pub time_ns: u64,
    /// Nanoseconds since the call began, -1 if unknown.
    pub span_ns: i64,
    /// Registers at the site by their DWARF numbers ([`crate::hit::REGISTERS`]).
    pub registers: [u64; 17],
    /// How many of `stack` there are.
    pub stack_count: u64,
    /// The stack from `rsp` upwards.
    pub stack: [u64; STACK_WORDS],
    /// Return addresses in the module's compiled code, as offsets in it, innermost first.
    pub frames: [u32; FRAMES_MAX],
}

/// Where in the shared memory the evidence lies.
#[must_use]
pub const fn offset(which: Which) -> u64 {
    PAGE / 2 + which as u64 * size_of::<Evidence>() as u64
}

const _: () = assert!(size_of::<SharedHead>() as u64 <= PAGE / 2);
const _: () = assert!(offset(Which::Last) + size_of::<Evidence>() as u64 <= PAGE);
const _: () = assert!(size_of::<Evidence>() == 16 * 4 + 48 + 17 * 8 + 8 + 8 * STACK_WORDS);
