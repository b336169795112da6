//! What a session leaves on record in the target, so that it can be removed by somebody else when its host is killed.

use serde::{Deserialize, Serialize};
use trocar_patch::Trampoline;
use trocar_target::{Failure, FailureKind};

use crate::region::{Block, Region};
use crate::semaphores::Semaphore;

/// The record, which the control block leads to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Offset of the control block in the region, and offset of the shared memory there.
    pub(crate) private: u64,
    pub(crate) shared: u64,
    /// Bytes of the region.
    pub(crate) len: u64,
    pub(crate) blocks: Vec<Block>,
    pub(crate) trampolines: Vec<Trampoline>,
    pub(crate) semaphores: Vec<Semaphore>,
}

/// Most bytes that are read of somebody's record: tens of thousands of sites.
pub(crate) const JOURNAL_MAX: u64 = 64 << 20;

impl Journal {
    /// The record's bytes, for a region that is laid out only when their number is known.
    pub(crate) fn draft(
        blocks: &[Block],
        trampolines: &[Trampoline],
        semaphores: &[Semaphore],
    ) -> Result<Vec<u8>, Failure> {
        // Fixed numbers of the greatest length, so that the true ones fit: see `settle`.
        let most = u64::MAX;
        let journal = Self {
            private: most,
            shared: most,
            len: most,
            blocks: blocks.to_vec(),
            trampolines: trampolines.to_vec(),
            semaphores: semaphores.to_vec(),
        };
        journal.bytes()
    }

    /// The same record with the region's true numbers, padded to the draft's length.
    pub(crate) fn settle(draft: &[u8], region: &Region) -> Result<Vec<u8>, Failure> {
        let mut journal = Self::read(draft).ok_or_else(|| bug("it cannot be read back"))?;
        (journal.private, journal.shared, journal.len) = (region.private, region.shared, region.len);
        let mut bytes = journal.bytes()?;
        bytes.resize(draft.len(), 0);
        Ok(bytes)
    }

    /// Reads a record. `None`: it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(journal, _)| journal)
    }

    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        postcard::to_allocvec(self).map_err(|e| bug(&e.to_string()))
    }
}

fn bug(what: &str) -> Failure {
    Failure::new(FailureKind::Bug, format!("the session's record: {what}"))
}
