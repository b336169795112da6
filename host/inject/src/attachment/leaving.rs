//! How an attachment loses sites, and how it ends: modules that go take their sites with them, and what is left is taken out
//! at the end.

use std::ops::Range;
use std::time::{Duration, Instant};

use trocar_abi::PAGE;
use trocar_patch::Trampoline;
use trocar_target::{Failure, maps};

use super::{Attachment, nanoseconds};
use crate::asked::tracer_of;
use crate::detach::{Detach, PATIENCE, detach, stays};
use crate::look::Look;
use crate::memory::RemoteAddress;
use crate::proof::{self, Detached, Text};
use crate::region::Block;
use crate::request::Stops;
use crate::tracer::transaction;
use crate::uprobed::uprobed;
use crate::watched::Watched;

/// Sites that are looked at in a turn for what the kernel may have put there: a read of some bytes each.
const SITES_A_LOOK: usize = 16;
/// Looks at what is not as it was, while modules go and come.
const LOOKS: u32 = 16;

impl Attachment {
    /// Looks for modules that the program has unloaded. Their sites are retired: their text went with them, and whatever
    /// lies there from now on is not touched. Indexes of the sites that are retired since the last look.
    pub fn retire(&mut self) -> Vec<usize> {
        let mut retired = Vec::new();
        for module in self.modules.iter_mut().filter(|m| !m.gone) {
            if module.look(&self.memory, &self.trampolines) {
                retired.push(module.sites.clone());
            }
        }
        if retired.is_empty() {
            return Vec::new();
        }
        if !self.is_there() {
            // It ended, and everything with it.
            self.modules.iter_mut().for_each(|m| m.gone &= !retired.contains(&m.sites));
            return Vec::new();
        }
        self.forget(&retired);
        retired.into_iter().flatten().collect()
    }

    /// Looks at some of the sites, at others the next time, whether a uprobe of the kernel has come to one: its address. A
    /// debugger's breakpoint is none: it knows what was there, and puts that back.
    pub fn uprobed(&mut self) -> Option<u64> {
        let all = self.trampolines.len();
        let some = self.trampolines.iter().cycle().skip(self.looked_at).take(all.min(SITES_A_LOOK));
        // Where a module is gone, or nothing was written, whatever lies there is the program's.
        let is_armed = |site: u32| {
            let gone = |site: usize| self.modules.iter().any(|m| m.gone && m.sites.contains(&site));
            !self.left_out.contains(&site) && !usize::try_from(site).is_ok_and(gone)
        };
        let has_one = |t: &&Trampoline| {
            t.undo().any(|p| uprobed(p, &self.memory.some(RemoteAddress(p.address), p.bytes.len())))
        };
        let found = some.filter(|t| is_armed(t.site_index)).find(has_one);
        // A debugger may have come since, or be just about to leave: it would be seen, or its breakpoint be gone.
        let is_untraced = || tracer_of(self.pid) == 0;
        let found = found.filter(|t| is_untraced() && has_one(t) && is_untraced()).map(|t| t.site_address);
        self.looked_at = (self.looked_at + SITES_A_LOOK) % all.max(1);
        found
    }

    /// Drops what was kept for the text of sites that are retired.
    fn forget(&mut self, retired: &[Range<usize>]) {
        let is_retired = |site: usize| retired.iter().any(|r| r.contains(&site));
        self.text.retain(|t| !is_retired(t.site));
        for trampoline in retired.iter().flat_map(|r| self.trampolines.get(r.clone())).flatten() {
            self.semaphores.iter_mut().for_each(|s| s.forget(trampoline.window.start));
            let written: Vec<Range<u64>> = trampoline.overwritten().collect();
            self.clean_pages
                .retain(|(page, _)| !written.iter().any(|w| w.start < page + PAGE && *page < w.end));
        }
    }

    /// Whether the modules of all sites are gone.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.modules.iter().all(|m| m.gone)
    }

    /// Takes the probe out of the target.
    ///
    /// # Errors
    /// The target ended, or would not be stopped: then the gates are closed, and [`Attachment::remains`] tells what is left.
    ///
    /// The shared memory can be read until the attachment is dropped.
    pub fn detach(&mut self) -> Result<Detached, Failure> {
        self.leave(PATIENCE).map(|(done, _)| done).map_err(|failure| stays(self.pid, failure))
    }

    /// What a detach that failed has left, and why.
    #[must_use]
    pub fn remains(&self, failure: &Failure) -> Detached {
        let text = proof::after(&self.memory, self.text.clone());
        let ours = |at: u64| {
            self.region.contains(&at) || self.blocks.iter().any(|block| block.range().contains(&at))
        };
        let mappings_left = maps(self.pid).map_or(0, |all| all.iter().filter(|m| ours(m.start)).count());
        Detached {
            restored: text.iter().all(Text::is_same),
            mappings_left,
            residue: vec![failure.message.clone()],
            text,
            ..Detached::default()
        }
    }

    /// Takes the probe out of the target unless a thread is still in our memory; then `None`, and it can be tried again. For
    /// attachments whose sites are all retired.
    ///
    /// # Errors
    /// As [`Attachment::detach`].
    pub fn detach_if_idle(&mut self) -> Result<Option<Detached>, Failure> {
        self.leave(Duration::ZERO).map(|(done, in_use)| (!in_use).then_some(done))
    }

    /// The proof, and whether somebody is still in our memory.
    fn leave(&mut self, patience: Duration) -> Result<(Detached, bool), Failure> {
        let began = Instant::now();
        self.close_gates()?;
        self.turned_away();
        // What goes from here on is found in the stop.
        let mut retired = self.retire();
        // A thread may have ended in a hit just now.
        if self.pool.is_any_inside(&self.memory)
            && let Ok(look) = Look::at(self.pid)
        {
            // The target ended: so the rest will say.
            let _ = self.pool.tend(&self.memory, self.same_namespace, &look.tids());
        }
        let mut ranges = vec![self.region.clone()];
        ranges.extend(self.blocks.iter().map(Block::range));
        let before: Vec<bool> = self.modules.iter().map(|m| m.gone).collect();
        let mut job = Detach {
            pid: self.pid,
            memory: &self.memory,
            trampolines: &self.trampolines,
            modules: &mut self.modules,
            gates: &self.gates,
            ranges: &ranges,
            semaphores: &self.semaphores,
            contexts: self.pool.contexts(),
            ended: self.pool.ended(),
            clean_pages: &self.clean_pages,
            files: &self.files,
            filtered: self.filters.exist(),
            goroutines: self.goroutines.as_ref(),
            patience,
        };
        let mut stops = Stops::default();
        let lock = self.memory.lock(self.pid)?;
        let gone = transaction(|| detach(&mut job, &mut stops))?;
        drop(lock);
        let went = self.modules.iter().zip(before).filter(|(m, before)| m.gone && !before);
        let went: Vec<Range<usize>> = went.map(|(m, _)| m.sites.clone()).collect();
        self.forget(&went);
        retired.extend(went.into_iter().flatten());
        let text = self.text_after(&mut retired)?;
        if !gone.in_use || !patience.is_zero() {
            drop(self.keeper.take());
            // They are as they were read last: the program may have memory of its own there by now.
            self.skipped_cells.clear();
        }
        let done = Detached {
            restored: gone.restored && text.iter().all(Text::is_same),
            retired,
            mappings_left: gone.mappings_left,
            residue: gone.residue,
            restored_ns: nanoseconds(gone.restored_at.saturating_duration_since(began)),
            detach_ns: nanoseconds(began.elapsed()),
            pause_ns: stops.longest(),
            text,
        };
        Ok((done, gone.in_use))
    }

    /// The sites of the modules that have gone, by what lies in their place.
    fn went(&self, text: &[Text]) -> Vec<Range<usize>> {
        let went = |m: &&Watched| {
            let mut own = text.iter().filter(|t| m.sites.contains(&t.site));
            let other = m.head.as_ref().is_some_and(|head| !head.is_there(&self.memory));
            !m.gone && own.any(|t| !t.is_same() && (t.is_void() || other))
        };
        self.modules.iter().filter(went).map(|m| m.sites.clone()).collect()
    }

    /// The text of the sites whose modules are there, with what lies there now. A module may also have gone since it was
    /// restored.
    fn text_after(&mut self, retired: &mut Vec<usize>) -> Result<Vec<Text>, Failure> {
        let mut text = proof::after(&self.memory, self.text.clone());
        let mut went = self.went(&text);
        // One that had gone may have come again when its head was looked at: what differs must do so in the next look, too.
        for _ in 0..LOOKS {
            let is_told = |t: &Text| t.is_same() || went.iter().any(|w| w.contains(&t.site));
            if text.iter().all(is_told) {
                break;
            }
            let now = proof::after(&self.memory, text.clone());
            let gone_now = self.went(&now);
            if now == text && gone_now == went {
                break;
            }
            (text, went) = (now, gone_now);
        }
        if went.is_empty() {
            return Ok(text);
        }
        if maps(self.pid)?.is_empty() {
            return Err(crate::stop::gone(self.pid));
        }
        self.modules.iter_mut().for_each(|m| m.gone |= went.contains(&m.sites));
        self.forget(&went);
        retired.extend(went.iter().cloned().flatten());
        text.retain(|t| !went.iter().any(|w| w.contains(&t.site)));
        Ok(text)
    }
}
