//! The target of a rehearsal: memory and clock of the hit that is running.

use std::sync::{Mutex, PoisonError};

use trocar_abi::import::errno::EFAULT;
use trocar_sandbox::Target;

/// What the running hit can read.
#[derive(Debug, Default)]
struct Moment {
    memory: Vec<(u64, Vec<u8>)>,
    time_ns: u64,
    reads: u64,
}

/// Answers from the hit that was set last.
#[derive(Debug, Default)]
pub(crate) struct Replay(Mutex<Moment>);

impl Replay {
    /// Before a hit: what it can read, and its time.
    pub(crate) fn set(&self, memory: Vec<(u64, Vec<u8>)>, time_ns: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Moment { memory, time_ns, reads: 0 };
    }

    /// Reads since then: what would be system calls in a target.
    pub(crate) fn reads(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reads
    }
}

impl Target for Replay {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32> {
        let mut moment = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moment.reads += 1;
        for (start, bytes) in &moment.memory {
            let from = address.checked_sub(*start).and_then(|offset| usize::try_from(offset).ok());
            let found = from.and_then(|from| bytes.get(from..from.checked_add(to.len())?));
            if let Some(found) = found {
                to.copy_from_slice(found);
                return Ok(());
            }
        }
        Err(EFAULT)
    }

    fn time_ns(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).time_ns
    }

    fn cpu(&self) -> u32 {
        0
    }
}
