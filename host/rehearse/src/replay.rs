//! The target of a rehearsal: memory and clock of the hit that is running.
//!
//! Memory is mapped by pages, here too: a page of which the hit has any byte can be read whole, and what the hit does
//! not have of it is zero. So a short text can be read with a long buffer, as in a process.

use std::sync::{Mutex, PoisonError};

use trocar_abi::PAGE;
use trocar_abi::hit::HitFrame;
use trocar_abi::import::errno::EFAULT;
use trocar_sandbox::Target;

use crate::hit::RecordedHit;

/// Memory of a process, for a hit that was recorded there a moment ago. False if the bytes cannot be read.
pub type Live = Box<dyn FnMut(u64, &mut [u8]) -> bool + Send>;

/// Most bytes of live memory that are kept of one hit.
const KEPT_MAX: usize = 1 << 20;

/// What the running hit can read.
#[derive(Default)]
struct Moment {
    memory: Vec<(u64, Vec<u8>)>,
    /// What is read there first, and what was.
    live: Option<Live>,
    kept: Vec<(u64, Vec<u8>)>,
    time_ns: u64,
    cpu: u32,
    function: u32,
    place: (u64, u64),
    reads: u64,
}

impl Moment {
    fn has_page(&self, page: u64) -> bool {
        self.memory.iter().any(|(start, bytes)| {
            let last = start.saturating_add((bytes.len() as u64).saturating_sub(1));
            !bytes.is_empty() && start / PAGE <= page && page <= last / PAGE
        })
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// Answers from the hit that was set last.
#[derive(Debug, Default)]
pub(crate) struct Replay(Mutex<Moment>);

impl Replay {
    /// Before a hit: what it can read, its stack pointer and instruction pointer, and its time.
    pub(crate) fn set(
        &self,
        memory: Vec<(u64, Vec<u8>)>,
        live: Option<Live>,
        place: (u64, u64),
        hit: &RecordedHit,
    ) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Moment {
            memory,
            live,
            kept: Vec::new(),
            time_ns: hit.time_ns,
            cpu: hit.cpu,
            function: hit.function,
            place,
            reads: 0,
        };
    }

    /// What was read of live memory since then.
    pub(crate) fn kept(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).kept)
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
        let Some(last) = address.checked_add(to.len().saturating_sub(1) as u64) else { return Err(EFAULT) };
        let was_live = moment.live.as_mut().is_some_and(|live| live(address, to));
        if !was_live {
            if !(address / PAGE..=last / PAGE).all(|page| moment.has_page(page)) {
                return Err(EFAULT);
            }
            to.fill(0);
        }
        // What was recorded at the hit itself is truer than what is there now.
        for (start, bytes) in &moment.memory {
            // The part of `bytes` that lies in the range asked for, and where it goes.
            let (skip, at) = (address.saturating_sub(*start), start.saturating_sub(address));
            let from = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
            let into = usize::try_from(at).ok().and_then(|at| to.get_mut(at..)).unwrap_or_default();
            into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        let kept: usize = moment.kept.iter().map(|(_, bytes)| bytes.len()).sum();
        if moment.live.is_some() && kept + to.len() <= KEPT_MAX {
            moment.kept.push((address, to.to_vec()));
        }
        Ok(())
    }

    fn time_ns(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).time_ns
    }

    /// A hit is rehearsed the same each time, so this clock is the hit's too.
    fn real_time_ns(&self) -> u64 {
        self.time_ns()
    }

    fn cpu(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cpu
    }

    fn place(&self, _: &HitFrame, _: u32) -> (u64, u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).place
    }

    fn function(&self, _: u32) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).function
    }
}
