//! A session's shared memory in ordinary memory: the same layout, one site, one context.
//!
//! It is never freed: what the sandbox and the collector hold of it lives as long as the process. A rehearsal is made
//! once for each command.
#![expect(unsafe_code, reason = "rings and maps are raw memory, in a target and here")]

use std::mem::offset_of;

use trocar_abi::map::MapSpec;
use trocar_abi::shared::{ContextShared, Layout, MAGIC, SharedHead, TAIL_OFFSET};
use trocar_ring::{Producer, SharedView};
use trocar_sandbox::Maps;

/// Bytes of the ring, as in a session.
const RING_BYTES: u64 = 256 << 10;
/// Most bytes of the whole, far above what a manifest may ask for.
const BYTES_MAX: u64 = 256 << 20;

/// What the probe writes through, and what the collector reads.
pub(crate) struct Shared {
    pub(crate) view: SharedView,
    pub(crate) layout: Layout,
    pub(crate) maps: Maps,
    pub(crate) ring: Producer,
}

/// Makes the memory for a probe with these maps; `None` if they are larger than any manifest allows.
pub(crate) fn make(specs: &'static [MapSpec], maps_bytes: u64) -> Option<Shared> {
    let layout = Layout { sites: 1, contexts: 1, maps: maps_bytes, ring: RING_BYTES };
    let end = specs.iter().map(|s| u64::from(s.offset) + s.shard_bytes()).max().unwrap_or(0);
    if layout.total() > BYTES_MAX || end > maps_bytes || specs.iter().any(|s| !s.offset.is_multiple_of(8)) {
        return None;
    }
    let bytes = usize::try_from(layout.total()).ok()?;
    let words: &'static mut [u64] = Box::leak(vec![0u64; bytes.div_ceil(8)].into_boxed_slice());
    let base: *mut u8 = words.as_mut_ptr().cast();
    // SAFETY: `SharedView::new` wants memory that stays mapped and is accessed only atomically: it was leaked just now,
    // it has at least `bytes` bytes, and the reference to it ends here.
    let view = unsafe { SharedView::new(base, bytes) };
    let context = layout.context(0);
    view.store_u64(offset_of!(SharedHead, magic) as u64, MAGIC)?;
    view.store_u32(offset_of!(SharedHead, version) as u64, trocar_abi::VERSION)?;
    view.store_u32(offset_of!(SharedHead, claimed) as u64, 1)?;
    view.store_u64(context + offset_of!(ContextShared, thread_pointer) as u64, 1)?;

    let at = |offset: u64| usize::try_from(offset).ok().filter(|o| *o < bytes).map(|o| base.wrapping_add(o));
    let head = at(context + offset_of!(ContextShared, head) as u64)?.cast();
    let tail = at(context + TAIL_OFFSET)?.cast();
    let data = at(layout.context_ring(0))?;
    // SAFETY: `Producer::new` wants head, tail and `ring` bytes of data, valid for ever and with no other producer: the
    // layout places all three inside the leaked memory, and this is the only producer that is made of it.
    let ring = unsafe { Producer::new(head, tail, data, layout.ring) }?;
    let shards = at(layout.context_maps(0))?;
    // SAFETY: INVARIANT (shards): the layout has `maps_bytes` bytes there, every spec ends within them (checked above),
    // pages and offsets are multiples of eight, and nothing else writes there.
    let maps = unsafe { Maps::new(shards, specs) };
    Some(Shared { view, layout, maps, ring })
}
