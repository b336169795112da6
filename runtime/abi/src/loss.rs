//! Why a hit was not executed. `hits = executed + condition_false + the sum of losses`, always.

/// A reason for a hit that was not executed, or whose record was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Loss {
    /// The thread was already inside a hit (a signal handler, a child of clone that shares its thread pointer).
    Reentrant = 0,
    /// The probe used up its fuel.
    OutOfFuel = 1,
    /// The probe trapped.
    Trap = 2,
    /// A record did not fit into the ring.
    RingFull = 3,
    /// The probe had its records for this second.
    RateLimited = 4,
    /// The probe was suspended, quarantined or expired.
    Suspended = 5,
    /// No context was left in the pool, or the thread has no thread pointer.
    NoContext = 6,
    /// Not enough stack below the stack pointer, and the target forbids leaving it.
    NoStackRoom = 7,
    /// The thread was on its alternate signal stack, which is too small.
    AlternateStack = 8,
    /// Left out by `--sample`.
    SampledOut = 9,
    /// The host died; its gate was not closed yet.
    HostGone = 10,
    /// The hit never came to its end: its thread left it, as `siglongjmp` out of a signal handler does, or ended in it.
    Abandoned = 11,
}

/// Number of reasons.
pub const LOSSES: usize = 12;
/// Number of those that the target counts: nobody is there to count the last, so it is what is left of the hits.
pub const COUNTED: usize = 11;
const _: () = assert!(Loss::Abandoned as usize == COUNTED);

impl Loss {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; LOSSES] = [
        Self::Reentrant,
        Self::OutOfFuel,
        Self::Trap,
        Self::RingFull,
        Self::RateLimited,
        Self::Suspended,
        Self::NoContext,
        Self::NoStackRoom,
        Self::AlternateStack,
        Self::SampledOut,
        Self::HostGone,
        Self::Abandoned,
    ];

    /// The name in JSON and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reentrant => "reentrant",
            Self::OutOfFuel => "out_of_fuel",
            Self::Trap => "trap",
            Self::RingFull => "ring_full",
            Self::RateLimited => "rate_limited",
            Self::Suspended => "suspended",
            Self::NoContext => "no_context",
            Self::NoStackRoom => "no_stack_room",
            Self::AlternateStack => "alternate_stack",
            Self::SampledOut => "sampled_out",
            Self::HostGone => "host_gone",
            Self::Abandoned => "abandoned",
        }
    }
}
