//! The shared memory of a session: written by the target, read by the host.
//!
//! ```text
//! 0          SharedHead, and the evidence of traps: one page
//! sites      [SiteStats; sites]      hits that entered no context; atomic, the slow path only
//!            …                       the same for each of SLOW_PARTS: a thread counts in one of them
//! context 0  ContextShared           one page: ring head and tail on their own cache lines
//!            [SiteStats; sites]      written by this context alone
//!            maps                    this context's shard of every map
//!            ring                    ring_bytes, a power of two
//! context 1  …
//! ```
//! Every part starts on a page, so that what is never hit costs no memory.

use crate::loss::COUNTED;
use crate::{PAGE, round_up};

/// First word of the shared memory.
pub const MAGIC: u64 = 0x6465_7261_6873_0001;

/// State of the probe, in [`SharedHead::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProbeState {
    /// Hits run.
    Armed = 0,
    /// The host suspended it.
    Suspended = 1,
    /// Three traps or out-of-fuel hits.
    Quarantined = 2,
    /// The agent panicked: a bug of ours. It has disarmed itself.
    Disarmed = 3,
    /// Its user switched it off, with everything else of theirs.
    Off = 4,
}

impl ProbeState {
    /// The state with this number; a number that the agent never writes is taken for `Disarmed`.
    #[must_use]
    pub const fn from_u32(n: u32) -> Self {
        match n {
            0 => Self::Armed,
            1 => Self::Suspended,
            2 => Self::Quarantined,
            4 => Self::Off,
            _ => Self::Disarmed,
        }
    }
}

/// Why a hit trapped, in [`SharedHead::trap_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TrapCode {
    /// No trap yet.
    None = 0,
    /// Out of fuel.
    OutOfFuel = 1,
    /// Out of stack.
    StackOverflow = 2,
    /// Access outside linear memory.
    MemoryOutOfBounds = 3,
    /// Access outside a table, or a null entry.
    Table = 4,
    /// Integer division by zero.
    DivideByZero = 5,
    /// Integer overflow, or a float that is no integer.
    Integer = 6,
    /// `unreachable`.
    Unreachable = 7,
    /// Indirect call of the wrong type.
    BadSignature = 8,
    /// A host call was given a range outside linear memory, a wrong map, or a record over the limit.
    HostCall = 9,
    /// Anything else.
    Other = 10,
    /// Memory or a table over its limit.
    OverLimit = 11,
    /// The probe ended itself: `proc_exit` or `abort`.
    Exit = 12,
}

impl TrapCode {
    /// The code with this number.
    #[must_use]
    pub const fn from_u32(n: u32) -> Self {
        match n {
            0 => Self::None,
            1 => Self::OutOfFuel,
            2 => Self::StackOverflow,
            3 => Self::MemoryOutOfBounds,
            4 => Self::Table,
            5 => Self::DivideByZero,
            6 => Self::Integer,
            7 => Self::Unreachable,
            8 => Self::BadSignature,
            9 => Self::HostCall,
            11 => Self::OverLimit,
            12 => Self::Exit,
            _ => Self::Other,
        }
    }

    /// What people read.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "no trap",
            Self::OutOfFuel => "out of fuel",
            Self::StackOverflow => "stack overflow",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::Table => "table access out of bounds or null",
            Self::DivideByZero => "integer divide by zero",
            Self::Integer => "integer overflow or bad conversion to integer",
            Self::Unreachable => "unreachable executed",
            Self::BadSignature => "indirect call of the wrong type",
            Self::HostCall => "host call with a bad range, map or length",
            Self::Other => "trap",
            Self::OverLimit => "memory or table over the limit",
            Self::Exit => "the probe ended itself (exit, panic or abort)",
        }
    }
}

/// Head of the shared memory.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SharedHead {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`crate::VERSION`].
    pub version: u32,
    /// Robust futex word of the host: the kernel sets [`OWNER_DIED`] in it when the host dies.
    pub host: u32,
    /// Number of a [`ProbeState`].
    pub state: u32,
    /// Traps and out-of-fuel hits so far.
    pub traps: u32,
    /// Number of the [`TrapCode`] of the last trap.
    pub trap_code: u32,
    /// Site of the last trap.
    pub trap_site: u32,
    /// Thread of the last trap.
    pub trap_tid: u32,
    /// Contexts claimed by threads so far; the host refills the pool before this reaches `contexts`.
    pub claimed: u32,
    /// Calls whose end was never seen, found when their place was used again.
    pub abandoned: u64,
    /// Address of the control block in the target, for who finds the session without its host.
    pub control: u64,
    /// Which parts of the slow path's counters have been counted in, a bit for each: the others are not read. It ends the
    /// cache line that every hit reads, and is written once for each part.
    pub slow: u64,
    /// Records that may still be written, a signed number: the host adds some with time, and contexts take them in
    /// batches. See [`record_tokens`].
    pub records: u64,
    /// Pads to a whole cache line.
    pub pad2: [u64; 7],
}
const _: () = assert!(size_of::<SharedHead>() == 128);
const _: () = assert!(core::mem::offset_of!(SharedHead, records) == 64);

/// Bytes of payload that count as one record for the rate limit, so that it limits bytes too.
pub const RECORD_BYTES: u32 = 1024;

/// What a record of so many bytes takes of the rate limit.
#[must_use]
pub const fn record_tokens(bytes: u32) -> u32 {
    if bytes == 0 { 1 } else { bytes.div_ceil(RECORD_BYTES) }
}

/// Fuel that stands for what a hit costs before and after its handler (about 15 ns; `runtime/agent/SPEED.md`), for the share
/// of a core.
pub const HIT_FUEL: u64 = 25;
/// Fuel that stands for what a hit costs that a native stub serves (some 2 ns of the 3.5 that a counter adds), besides half the handler's own bound.
pub const STUB_FUEL: u64 = 4;
/// The same for noting, or taking, the time of a call (a look at the time-stamp counter and at the table of calls).
pub const SPAN_FUEL: u64 = 40;

/// What [`ContextShared::unit_ticks`] is multiplied by.
pub const UNIT_SCALE: u64 = 1024;

/// Bit that the kernel sets in a robust futex word when its owner dies (`linux/futex.h`).
pub const OWNER_DIED: u32 = 0x4000_0000;

/// Counters of one site, in one context or in the slow path.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SiteStats {
    /// Hits that came.
    pub hits: u64,
    /// Hits whose handler ran to its end and whose records all went out.
    pub executed: u64,
    /// Hits whose handler answered that its condition does not hold.
    pub condition_false: u64,
    /// Losses by reason, in the order of [`crate::loss::Loss::ALL`], which has one more.
    pub losses: [u64; COUNTED],
    /// Time-stamp counter ticks of the hits that were timed, one in [`TIMED_EVERY`].
    pub ticks: u64,
    /// Number of hits timed, in the low half; their least ticks in the high half.
    pub timed: u64,
}
const _: () = assert!(size_of::<SiteStats>() == 128);

/// Parts of the slow path's counters, a power of two: threads that lose hits count in different ones, as far as chance goes,
/// so that what a lost hit costs does not grow with their number.
pub const SLOW_PARTS: u32 = 32;

/// One hit in so many is timed, per context and site.
pub const TIMED_EVERY: u64 = 256;

/// Head of a context's block. Producer and consumer fields are on cache lines of their own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct ContextShared {
    /// Bytes ever written to the ring; written by the target.
    pub head: u64,
    /// Thread pointer of the thread that claimed this context; zero before.
    pub thread_pointer: u64,
    /// Stack pointer at the first hit, from which the host finds the stack.
    pub first_sp: u64,
    /// Kernel's id of the thread, zero if unknown.
    pub tid: u32,
    /// Not zero: the hit that is inside was left for good, and the context is retired.
    pub retired: u32,
    /// Fuel that handlers have used here.
    pub fuel: u64,
    /// Ticks of the time-stamp counter that a unit of fuel took in the cheapest hit that was timed, times
    /// [`UNIT_SCALE`], [`HIT_FUEL`] included; zero if none was.
    pub unit_ticks: u64,
    /// Hits, of those in the [`SiteStats`] that follow, which the native stub served: they are billed at its price.
    pub stub_hits: u64,
    /// Pads to the next cache line.
    pub pad: u64,
    /// Bytes ever read from the ring; written by the host.
    pub tail: u64,
    /// Pads to a whole cache line.
    pub pad2: [u64; 7],
}
const _: () = assert!(size_of::<ContextShared>() == 128);

/// Offset of [`ContextShared::tail`].
pub const TAIL_OFFSET: u64 = 64;

/// Sizes of a session's shared memory, and from them every offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// Number of sites.
    pub sites: u32,
    /// Contexts there is room for.
    pub contexts: u32,
    /// Bytes of a context's shards of all maps.
    pub maps: u64,
    /// Bytes of a ring, a power of two.
    pub ring: u64,
}

impl Layout {
    const fn stats_bytes(&self) -> u64 {
        round_up(self.sites as u64 * size_of::<SiteStats>() as u64, PAGE)
    }

    /// Offset of a part of the slow path's counters, below [`SLOW_PARTS`].
    #[must_use]
    pub const fn slow_stats(&self, part: u32) -> u64 {
        PAGE + part as u64 * self.stats_bytes()
    }

    /// Bytes of one context's block.
    #[must_use]
    pub const fn context_stride(&self) -> u64 {
        PAGE + self.stats_bytes() + round_up(self.maps, PAGE) + round_up(self.ring, PAGE)
    }

    /// Offset of a context's block.
    #[must_use]
    pub const fn context(&self, index: u32) -> u64 {
        self.slow_stats(SLOW_PARTS) + index as u64 * self.context_stride()
    }

    /// Offset of a context's counters.
    #[must_use]
    pub const fn context_stats(&self, index: u32) -> u64 {
        self.context(index) + PAGE
    }

    /// Offset of a context's maps.
    #[must_use]
    pub const fn context_maps(&self, index: u32) -> u64 {
        self.context_stats(index) + self.stats_bytes()
    }

    /// Offset of a context's ring.
    #[must_use]
    pub const fn context_ring(&self, index: u32) -> u64 {
        self.context_maps(index) + round_up(self.maps, PAGE)
    }

    /// Bytes of the whole.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.context(self.contexts)
    }
}
