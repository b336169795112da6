//! A context's shard of every map: plain memory that this context alone writes and the host reads.
#![expect(
    unsafe_code,
    reason = "shards are raw memory shared with another process; no reference may be formed"
)]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use trocar_abi::import::errno::ENOSPC;
use trocar_abi::map::{HashEntry, HashHead, MapKind, MapSpec, PROBES, hist_bucket};

use crate::hash::hash;

/// The shards of one context.
///
/// INVARIANT (shards): `base` points at memory for every shard that `specs` describes, aligned to eight bytes,
/// writable for the life of the value, written by no other thread.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    base: *mut u8,
    specs: &'static [MapSpec],
}

// SAFETY: the memory behind `base` belongs to this value alone (INVARIANT shards), so it may move with it.
unsafe impl Send for Maps {}

/// Offset from the base of the shards.
#[expect(clippy::cast_possible_truncation, reason = "x86-64 only; a shard is a few megabytes at most")]
fn place(spec: &MapSpec, offset: u64) -> usize {
    spec.offset as usize + offset as usize
}

impl Maps {
    /// The shards at `base`.
    ///
    /// # Safety
    /// INVARIANT (shards) holds: for each spec, `base + offset .. + shard_bytes()` is writable memory, eight-byte
    /// aligned, that no other thread writes.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, specs: &'static [MapSpec]) -> Self {
        Self { base, specs }
    }

    fn spec(&self, map: u32, kind: MapKind) -> Option<&'static MapSpec> {
        self.specs.get(map as usize).filter(|s| s.kind == kind as u32)
    }

    /// The word at `offset` of a shard.
    fn word(&self, spec: &MapSpec, offset: u64) -> &AtomicU64 {
        debug_assert!(offset + 8 <= spec.shard_bytes());
        let at = place(spec, offset);
        // SAFETY: callers keep `offset + 8` within the shard, which INVARIANT (shards) makes valid memory.
        let word = unsafe { self.base.add(at) };
        // SAFETY: as above, and `offset` and the shard are multiples of eight; the host reads it at the same time,
        // therefore an atomic and not a plain reference.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Adds to a word that this thread alone writes: a load and a store, no lock prefix.
    fn add(word: &AtomicU64, n: u64) {
        word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds `n` to counter `entry`. `None` if there is no such counter.
    #[must_use]
    pub fn counter_add(&self, map: u32, entry: u32, n: u64) -> Option<()> {
        let spec = self.spec(map, MapKind::Counter)?;
        (entry < spec.entries).then(|| Self::add(self.word(spec, u64::from(entry) * 8), n))
    }

    /// Adds a value to log2 histogram `entry`. `None` if there is no such histogram.
    #[must_use]
    pub fn hist_add(&self, map: u32, entry: u32, value: u64) -> Option<()> {
        let spec = self.spec(map, MapKind::Hist)?;
        let bucket = u64::from(entry) * trocar_abi::map::HIST_BUCKETS as u64 + hist_bucket(value) as u64;
        (entry < spec.entries).then(|| Self::add(self.word(spec, bucket * 8), 1))
    }

    /// Adds to, or sets, the value of a key. `Some(0)`, `Some(ENOSPC)`, or `None` if there is no such map or the key
    /// is too long.
    #[must_use]
    pub fn hash_update(&self, map: u32, key: &[u8], n: u64, set: bool) -> Option<i32> {
        let spec = self.spec(map, MapKind::Hash)?;
        if key.len() > spec.key_bytes as usize {
            return None;
        }
        let Some(slot) = self.find(spec, key, true) else {
            Self::add(self.word(spec, 8), 1);
            return Some(ENOSPC);
        };
        let value = self.word(spec, slot + 8);
        if set {
            value.store(n, Ordering::Relaxed);
        } else {
            Self::add(value, n);
        }
        Some(0)
    }

    /// The value of a key in this shard, zero if absent; `None` if there is no such map or the key is too long.
    #[must_use]
    pub fn hash_get(&self, map: u32, key: &[u8]) -> Option<u64> {
        let spec = self.spec(map, MapKind::Hash)?;
        if key.len() > spec.key_bytes as usize {
            return None;
        }
        Some(match self.find(spec, key, false) {
            Some(slot) => self.word(spec, slot + 8).load(Ordering::Relaxed),
            None => 0,
        })
    }

    /// Offset in the shard of the key's slot, which is made if `create`. `None` if absent, or no room.
    fn find(&self, spec: &MapSpec, key: &[u8], create: bool) -> Option<u64> {
        let stride = MapSpec::hash_stride(spec.key_bytes);
        let mask = u64::from(spec.entries).checked_sub(1)?;
        let wanted = hash(key);
        for step in 0..u64::from(PROBES) {
            let slot = size_of::<HashHead>() as u64 + ((wanted >> 8).wrapping_add(step) & mask) * stride;
            let mark = self.word(spec, slot);
            let found = mark.load(Ordering::Relaxed);
            if found == wanted && self.key_is(spec, slot, key) {
                return Some(slot);
            }
            if found == 0 {
                if create {
                    self.write_key(spec, slot, key);
                    self.word(spec, slot + 16).store(key.len() as u64, Ordering::Relaxed);
                    mark.store(wanted, Ordering::Release);
                    Self::add(self.word(spec, 0), 1);
                }
                return create.then_some(slot);
            }
        }
        None
    }

    fn key_is(&self, spec: &MapSpec, slot: u64, key: &[u8]) -> bool {
        let at = place(spec, slot) + size_of::<HashEntry>();
        if self.word(spec, slot + 16).load(Ordering::Relaxed) != key.len() as u64 {
            return false;
        }
        // SAFETY: the slot lies within the shard (its index is masked) and has `key_bytes` >= `key.len()` bytes.
        let start = unsafe { self.base.add(at) };
        // SAFETY: as above; only this thread writes the shard, so the bytes do not change under the reference. A host
        // that writes here breaks nothing but the answer.
        let stored = unsafe { core::slice::from_raw_parts(start, key.len()) };
        // Word by word: `==` would be a call that the agent's few instructions for it do not earn.
        let ((words, tail), (own, own_tail)) = (stored.as_chunks::<8>(), key.as_chunks::<8>());
        words.iter().zip(own).all(|(a, b)| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b))
            && tail.iter().zip(own_tail).all(|(a, b)| a == b)
    }

    fn write_key(&self, spec: &MapSpec, slot: u64, key: &[u8]) {
        let at = place(spec, slot) + size_of::<HashEntry>();
        // SAFETY: the slot lies within the shard and has `key_bytes` >= `key.len()` bytes.
        let to = unsafe { self.base.add(at) };
        // SAFETY: as above; the key is the probe's or the caller's memory, never the shard.
        unsafe { ptr::copy_nonoverlapping(key.as_ptr(), to, key.len()) };
    }
}
