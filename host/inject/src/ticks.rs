//! The rate of the time-stamp counter, measured against the monotonic clock while other work is done.
#![expect(unsafe_code, reason = "the time-stamp counter is read by an intrinsic")]

use std::time::Instant;

/// A start of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    instant: Instant,
    ticks: u64,
}

impl Ticks {
    /// Reads both clocks.
    #[must_use]
    pub fn start() -> Self {
        Self { instant: Instant::now(), ticks: now() }
    }

    /// Ticks in a nanosecond since the start. The longer that is ago, the better.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio of counts below 2^52")]
    pub fn per_nanosecond(&self) -> f64 {
        let nanoseconds = self.instant.elapsed().as_nanos().max(1) as f64;
        let ticks = now().wrapping_sub(self.ticks).max(1) as f64;
        ticks / nanoseconds
    }
}

fn now() -> u64 {
    // SAFETY: every x86-64 processor has the counter; reading it changes nothing.
    unsafe { std::arch::x86_64::_rdtsc() }
}
