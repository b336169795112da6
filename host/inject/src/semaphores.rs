//! Semaphores of USDT markers: 16-bit counters in the program's data that say how many tracers want a marker. While one
//! is zero, the program may skip the marker.
//!
//! Raising adds one and lowering takes one away, so that what other tracers have added stays. The program only reads them;
//! all the same both is done in the stops in which text is written, because a module may go, and its data with it. How many
//! are raised is counted in the control block, for whoever removes a session whose host was killed; a child of fork has its
//! own semaphores, and its own such block. A semaphore is counted after it is raised, and no longer before it is lowered. So a host that is
//! killed right between the two leaves one of its semaphores raised, which costs the program the marker's preparation; the
//! other way round a count of another tracer's would be taken away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trocar_patch::Trampoline;
use trocar_target::{Failure, FailureKind, Mapping};

use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::AttachPlan;
use crate::watched::holds_our_jump;

/// A semaphore of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Semaphore {
    /// Its address.
    at: u64,
    /// First bytes of the windows of its markers, which are in its module: as long as one of our jumps is there, so is the
    /// semaphore.
    windows: Vec<u64>,
}

/// The semaphores of a session, and how many of them are raised.
#[derive(Debug)]
pub(crate) struct Raised {
    /// Address of the number in the session's control block.
    pub(crate) count: u64,
    pub(crate) semaphores: Vec<Semaphore>,
}

/// The semaphores of all sites, each once: several places of a marker have one between them.
pub(crate) fn of_sites(plan: &AttachPlan, trampolines: &[Trampoline]) -> Vec<Semaphore> {
    let sites = plan.modules.iter().flat_map(|m| &m.sites).zip(trampolines);
    let mut windows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (at, window) in sites.filter_map(|(site, t)| Some((site.semaphore?, t.window.start))) {
        windows.entry(at).or_default().push(window);
    }
    windows.into_iter().map(|(at, windows)| Semaphore { at, windows }).collect()
}

impl Raised {
    /// Raises those of markers that were patched; `trampolines` holds these. They are counted with the others, in their order.
    pub(crate) fn raise(&self, memory: &RemoteMemory, trampolines: &[&Trampoline]) -> Result<(), Failure> {
        for (raised, semaphore) in (1..).zip(&self.semaphores) {
            if !trampolines.iter().any(|t| semaphore.windows.contains(&t.window.start)) {
                continue;
            }
            let failure = |what: &str| {
                Failure::new(
                    FailureKind::NothingPatched,
                    format!("the semaphore of a marker at {:#x} {what}", semaphore.at),
                )
                .hint("see the markers and their semaphores: trocar points -p PID 'usdt:*' -o json")
            };
            let next = semaphore
                .value(memory)
                .ok_or_else(|| failure("cannot be read"))?
                .checked_add(1)
                .ok_or_else(|| failure("is at its greatest value: no more tracers can be counted"))?;
            let written = semaphore.write(memory, next);
            written
                .and_then(|()| memory.write_word(RemoteAddress(self.count), raised))
                .map_err(|e| failure(&format!("cannot be written: {e}")))?;
        }
        Ok(())
    }

    /// The module with this window is gone, and its semaphore with it.
    pub(crate) fn forget(&mut self, window: u64) {
        self.semaphores.iter_mut().for_each(|s| s.windows.retain(|w| *w != window));
    }

    /// Lowers those that are raised, unless their module is gone. Before the text is restored. What stays raised, because none
    /// of our jumps is left that tells whose the memory is, is named.
    pub(crate) fn lower(&self, memory: &RemoteMemory, trampolines: &[&Trampoline]) -> Vec<String> {
        let raised = memory.word(RemoteAddress(self.count)).ok().and_then(|n| usize::try_from(n).ok());
        let raised = raised.unwrap_or(0).min(self.semaphores.len());
        let mut stays = Vec::new();
        for (left, semaphore) in self.semaphores.iter().enumerate().take(raised).rev() {
            // Where the number cannot be written, the process is gone.
            if memory.write_word(RemoteAddress(self.count), left as u64).is_err() {
                return stays;
            }
            let mut windows =
                trampolines.iter().filter(|t| semaphore.windows.contains(&t.window.start)).peekable();
            if windows.peek().is_none() {
                continue;
            }
            let lower = semaphore.value(memory).and_then(|value| value.checked_sub(1));
            if let Some(lower) = lower.filter(|_| windows.any(|t| holds_our_jump(memory, t))) {
                let _ = semaphore.write(memory, lower);
            } else if lower.is_some() {
                stays.push(format!("the semaphore at {:#x} is as we raised it", semaphore.at));
            }
        }
        stays
    }

    /// Only semaphores in data of the program's: for a record that may be forged.
    pub(crate) fn within(mut self, maps: &[Mapping]) -> Self {
        let in_data = |s: &Semaphore| {
            let whole =
                |m: &&Mapping| m.range().contains(&s.at) && m.range().contains(&s.at.saturating_add(1));
            maps.iter().find(whole).is_some_and(|m| m.write && !m.execute)
        };
        // Without a window it is not lowered.
        self.semaphores.iter_mut().filter(|s| !in_data(s)).for_each(|s| s.windows.clear());
        self
    }
}

impl Semaphore {
    fn value(&self, memory: &RemoteMemory) -> Option<u16> {
        let mut bytes = [0; 2];
        memory.read(RemoteAddress(self.at), &mut bytes).ok()?;
        Some(u16::from_le_bytes(bytes))
    }

    fn write(&self, memory: &RemoteMemory, value: u16) -> std::io::Result<()> {
        memory.write(RemoteAddress(self.at), &value.to_le_bytes())
    }
}
