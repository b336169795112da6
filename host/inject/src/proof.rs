//! What a detach proves: the text of every site that is still there, before and after.

use sha2::{Digest, Sha256};
use trocar_patch::Trampoline;
use trocar_target::Failure;

use crate::load::unreadable;
use crate::memory::{RemoteAddress, RemoteMemory};

/// A patched range of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// Index of its site.
    pub(crate) site: usize,
    address: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// The proof of a detach.
#[derive(Clone, Debug)]
pub struct Detached {
    /// Whether every patched range is as before.
    pub restored: bool,
    /// Indexes of the sites whose module had gone without having been found yet.
    pub retired: Vec<usize>,
    /// Mappings of ours that are left.
    pub mappings_left: usize,
    /// What is left, and why.
    pub residue: Vec<String>,
    /// Nanoseconds from the start until the text was written back.
    pub restored_ns: u64,
    /// Nanoseconds from the start to the last mapping gone.
    pub detach_ns: u64,
    /// Longest stop of the whole target.
    pub pause_ns: u64,
    pub(crate) text: Vec<Text>,
}

impl Default for Detached {
    /// Nothing was patched.
    fn default() -> Self {
        Self {
            restored: true,
            retired: Vec::new(),
            mappings_left: 0,
            residue: Vec::new(),
            restored_ns: 0,
            detach_ns: 0,
            pause_ns: 0,
            text: Vec::new(),
        }
    }
}

/// The text of all sites, before anything is written.
pub(crate) fn before(
    pid: i32,
    memory: &RemoteMemory,
    trampolines: &[Trampoline],
) -> Result<Vec<Text>, Failure> {
    let mut all = Vec::new();
    for (site, trampoline) in trampolines.iter().enumerate() {
        for range in trampoline.touched() {
            let len = usize::try_from(range.end - range.start).unwrap_or(0);
            let before = memory
                .bytes(RemoteAddress(range.start), len)
                .map_err(|e| unreadable(pid, range.start, &e))?;
            all.push(Text { site, address: range.start, before, after: Vec::new() });
        }
    }
    Ok(all)
}

/// The same text afterwards, as far as it is there.
pub(crate) fn after(memory: &RemoteMemory, mut text: Vec<Text>) -> Vec<Text> {
    for one in &mut text {
        one.after = memory.some(RemoteAddress(one.address), one.before.len());
    }
    text
}

impl Text {
    /// Whether it is as before.
    pub(crate) fn is_same(&self) -> bool {
        self.before == self.after
    }

    /// Whether nothing is there any more.
    pub(crate) fn is_void(&self) -> bool {
        self.after.is_empty()
    }
}

impl Detached {
    /// SHA-256 over the patched ranges in order of address, before and after.
    #[must_use]
    pub fn sha256(&self) -> (String, String) {
        let mut text: Vec<&Text> = self.text.iter().collect();
        text.sort_by_key(|t| t.address);
        let hash = |bytes: fn(&Text) -> &Vec<u8>| {
            let mut hasher = Sha256::new();
            text.iter().for_each(|t| hasher.update(bytes(t)));
            hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
        };
        (hash(|t| &t.before), hash(|t| &t.after))
    }

    /// What another attachment of the same session has proven besides.
    pub fn add(&mut self, other: Self) {
        self.restored &= other.restored;
        self.retired.extend(other.retired);
        self.mappings_left += other.mappings_left;
        self.residue.extend(other.residue);
        self.restored_ns = self.restored_ns.max(other.restored_ns);
        self.detach_ns = self.detach_ns.saturating_add(other.detach_ns);
        self.pause_ns = self.pause_ns.max(other.pause_ns);
        self.text.extend(other.text);
    }
}
