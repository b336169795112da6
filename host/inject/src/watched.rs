//! The modules with sites, and whether they are still there: the program may unload one (`dlclose`) at any moment, and
//! something else, or the same file again, may lie there afterwards.
//!
//! A module is there as long as one of its sites holds our jump: nobody else writes jumps to our trampolines, and a program
//! that moves its own text moves our jumps with it. It is gone when none does, and either nothing or the original bytes lie
//! at all of its sites (the file was mapped anew), or the module does not begin with the same page any more. Anything else
//! is another tool at our sites, which may put our jumps back: that is not gone. INVARIANT (gone): what was found to be gone
//! is never looked at, counted or written again, but for one look in the stop in which our memory is to go: a program that was
//! just laying its text anew has put our jumps back since, and they must not lead nowhere.

use std::ops::Range;

use trocar_patch::Trampoline;

use crate::memory::{RemoteAddress, RemoteMemory};
use crate::request::AttachPlan;

/// Bytes of a page, with the headers of the file and as a rule its build id, as it was when the sites were planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its address in the process.
    pub address: u64,
    /// What is there.
    pub bytes: Vec<u8>,
}

impl Head {
    /// Whether it lies there now.
    pub(crate) fn is_there(&self, memory: &RemoteMemory) -> bool {
        memory.some(RemoteAddress(self.address), self.bytes.len()) == self.bytes
    }
}

/// A module with sites.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Name, for messages.
    pub(crate) name: String,
    /// Indexes of its sites.
    pub(crate) sites: Range<usize>,
    pub(crate) head: Option<Head>,
    /// The site that is looked at first.
    witness: usize,
    pub(crate) gone: bool,
}

/// The modules of a plan.
pub(crate) fn of_plan(plan: &AttachPlan) -> Vec<Watched> {
    let mut first = 0;
    let watched = plan.modules.iter().map(|module| {
        let sites = first..first + module.sites.len();
        first = sites.end;
        let (name, head) = (module.name.clone(), module.head.clone());
        Watched { name, witness: sites.start, sites, head, gone: false }
    });
    watched.collect()
}

impl Watched {
    /// Its trampolines, among those of all modules.
    pub(crate) fn of<'a>(&self, trampolines: &'a [Trampoline]) -> &'a [Trampoline] {
        trampolines.get(self.sites.clone()).unwrap_or(&[])
    }

    /// Looks whether it is gone. A process that has ended looks as if all were.
    pub(crate) fn look(&mut self, memory: &RemoteMemory, trampolines: &[Trampoline]) -> bool {
        if self.gone || trampolines.get(self.witness).is_some_and(|t| holds_our_jump(memory, t)) {
            return self.gone;
        }
        let own = self.of(trampolines);
        if let Some(other) = own.iter().position(|t| holds_our_jump(memory, t)) {
            self.witness = self.sites.start + other;
            return false;
        }
        let fresh = own.iter().all(|t| is_void(memory, t));
        self.gone = fresh || self.head.as_ref().is_some_and(|head| !head.is_there(memory));
        self.gone
    }
}

/// In a stop, the last before our memory goes: the trampolines of the modules that are still there.
pub(crate) fn present<'a>(
    memory: &RemoteMemory,
    modules: &mut [Watched],
    trampolines: &'a [Trampoline],
) -> Vec<&'a Trampoline> {
    let mut there = vec![true; trampolines.len()];
    for module in modules {
        module.gone &= !module.of(trampolines).iter().any(|t| holds_our_jump(memory, t));
        if module.look(memory, trampolines) {
            there.get_mut(module.sites.clone()).unwrap_or(&mut []).fill(false);
        }
    }
    trampolines.iter().zip(there).filter_map(|(t, there)| there.then_some(t)).collect()
}

/// Whether one of a site's jumps lies there.
pub(crate) fn holds_our_jump(memory: &RemoteMemory, trampoline: &Trampoline) -> bool {
    trampoline.undo().any(|p| memory.some(RemoteAddress(p.address), p.bytes.len()) == p.bytes)
}

/// Whether there is nothing of ours and of nobody else's at a site: no memory, or the text as it was.
fn is_void(memory: &RemoteMemory, trampoline: &Trampoline) -> bool {
    trampoline.patches().iter().all(|p| {
        let live = memory.some(RemoteAddress(p.address), p.bytes.len());
        live.is_empty() || live == p.original
    })
}
