//! For tests: a session's shared memory in ordinary memory, written as the agent would write it.

#![expect(unsafe_code, reason = "the target's side is raw memory")]

use std::mem::offset_of;

use trocar_abi::map::{HashEntry, HashHead, MapSpec};
use trocar_abi::record::{RecordHead, RecordKind};
use trocar_abi::shared::{ContextShared, Layout, MAGIC, SharedHead, SiteStats, TAIL_OFFSET};
use trocar_ring::{Producer, SharedView};

/// The shared memory of a session; freed when dropped, after everything that uses it.
pub(crate) struct Fake {
    /// From `Box::into_raw`, so that no reference to the words exists while views do.
    words: *mut [u64],
    pub(crate) view: SharedView,
    pub(crate) layout: Layout,
}

impl Fake {
    /// Memory with a valid head and nothing else.
    pub(crate) fn new(layout: Layout) -> Self {
        let bytes = usize::try_from(layout.total()).unwrap();
        let words = Box::into_raw(vec![0u64; bytes / 8].into_boxed_slice());
        // SAFETY: the box is `bytes` long and lives until `drop`; it is only reached through views and producers.
        let view = unsafe { SharedView::new(words.cast(), bytes) };
        view.store_u64(offset_of!(SharedHead, magic) as u64, MAGIC).unwrap();
        view.store_u32(offset_of!(SharedHead, version) as u64, trocar_abi::VERSION).unwrap();
        Self { words, view, layout }
    }

    /// Claims the next context for a thread, as the agent does, and gives its ring.
    pub(crate) fn claim(&self, thread_pointer: u64, tid: u32) -> (u32, Producer) {
        let claimed = offset_of!(SharedHead, claimed) as u64;
        let index = self.view.load_u32(claimed).unwrap();
        assert!(index < self.layout.contexts);
        self.view.store_u32(claimed, index + 1).unwrap();
        let at = self.layout.context(index);
        self.view.store_u64(at + offset_of!(ContextShared, first_sp) as u64, thread_pointer - 64).unwrap();
        self.view.store_u32(at + offset_of!(ContextShared, tid) as u64, tid).unwrap();
        self.view
            .store_u64_release(at + offset_of!(ContextShared, thread_pointer) as u64, thread_pointer)
            .unwrap();
        let base: *mut u8 = self.words.cast();
        let place = |offset: u64| base.wrapping_add(usize::try_from(offset).unwrap());
        let head = place(at + offset_of!(ContextShared, head) as u64).cast();
        let tail = place(at + TAIL_OFFSET).cast();
        let data = place(self.layout.context_ring(index));
        // SAFETY: all three are in the box, which the tests keep alive longer; one producer for each context.
        let producer = unsafe { Producer::new(head, tail, data, self.layout.ring) };
        (index, producer.unwrap())
    }

    /// Writes a site's counters in the block at `stats` (a context's, or the slow path's).
    pub(crate) fn stats(&self, stats: u64, site: u32, values: SiteStats) {
        let at = stats + u64::from(site) * size_of::<SiteStats>() as u64;
        let put = |field: usize, value| self.view.store_u64(at + field as u64, value).unwrap();
        put(offset_of!(SiteStats, hits), values.hits);
        put(offset_of!(SiteStats, executed), values.executed);
        put(offset_of!(SiteStats, condition_false), values.condition_false);
        for (i, n) in values.losses.iter().enumerate() {
            put(offset_of!(SiteStats, losses) + i * 8, *n);
        }
        put(offset_of!(SiteStats, ticks), values.ticks);
        put(offset_of!(SiteStats, timed), values.timed);
    }

    /// Writes word `word` of a map's shard.
    pub(crate) fn map_word(&self, context: u32, spec: &MapSpec, word: u64, value: u64) {
        let at = self.layout.context_maps(context) + u64::from(spec.offset) + word * 8;
        self.view.store_u64(at, value).unwrap();
    }

    /// Writes slot `slot` of a hash map's shard and counts it as used.
    pub(crate) fn hash_slot(&self, context: u32, spec: &MapSpec, slot: u64, key: &[u8], value: u64) {
        let slot_word = (size_of::<HashHead>() as u64 + slot * MapSpec::hash_stride(spec.key_bytes)) / 8;
        let key_word = slot_word + size_of::<HashEntry>() as u64 / 8;
        for (i, chunk) in (0..).zip(key.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.map_word(context, spec, key_word + i, u64::from_le_bytes(word));
        }
        self.map_word(context, spec, slot_word + 1, value);
        self.map_word(context, spec, slot_word + 2, key.len() as u64);
        self.map_word(context, spec, slot_word, 0x1234_5678 + slot);
        let head = self.layout.context_maps(context) + u64::from(spec.offset);
        self.view.store_u64(head, self.view.load_u64(head).unwrap() + 1).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // SAFETY: `Box::from_raw` wants a pointer from `Box::into_raw` that was not freed: made in `new`, freed
        // only here.
        drop(unsafe { Box::from_raw(self.words) });
    }
}

/// Head of an event.
pub(crate) fn event(tag: u16, tid: u32) -> RecordHead {
    RecordHead { len: 0, kind: RecordKind::Event as u16, tag, site: 1, tid }
}
