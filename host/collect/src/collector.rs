//! The collector: one session's shared memory, and which parts of it are in use.
//!
//! INVARIANT (claim order). Threads claim contexts in the order of their index, and `SharedHead::claimed` is
//! raised before anything of a context is written. So contexts from `claimed` on are never read: reading a
//! page of a sparse memfd through a mapping would allocate it. Nor is a part of the slow path's counters whose bit in
//! `SharedHead::slow` is not set.

use std::mem::offset_of;

use trocar_abi::evidence::Which;
use trocar_abi::map::{ENTRIES_MAX, KEY_MAX, MAPS_MAX, MapKind, MapSpec};
use trocar_abi::record::RecordHead;
use trocar_abi::shared::{
    ContextShared, Layout, MAGIC, ProbeState, SLOW_PARTS, SharedHead, SiteStats, TAIL_OFFSET, TrapCode,
};
use trocar_ring::{Consumer, Corrupt, SharedView};

use crate::evidence::{self, TrapEvidence};
use crate::maps::{self, MergedMap};
use crate::totals::{self, ProbeStatus, SiteTotals};

/// Most sites and most contexts of a session: with them no offset overflows 64 bits.
const COUNT_MAX: u32 = 1 << 20;
/// Most bytes of a context's maps, or of its ring.
const AREA_MAX: u64 = 1 << 32;

/// Why shared memory cannot be read. Each is a mistake of the caller or memory of another program; nothing
/// has been read from it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadShared {
    /// It does not begin with the magic number.
    #[error(
        "the shared memory begins with {found:#x}, not with trocar's magic number {MAGIC:#x}; it belongs to another program \
         or was not initialised"
    )]
    Magic {
        /// The first word.
        found: u64,
    },
    /// Another version wrote it.
    #[error(
        "the shared memory has version {found}, this trocar reads version {}; use the trocar that made it",
        trocar_abi::VERSION
    )]
    Version {
        /// The version it has.
        found: u32,
    },
    /// It is shorter than its layout.
    #[error("the shared memory has {have} bytes, its layout needs {need}")]
    Short {
        /// Bytes needed.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// The layout's numbers are out of range: the ring is no power of two of at least 64 bytes, or a part is too
    /// large.
    #[error("the layout of the shared memory is out of range: {0:?}")]
    Layout(Layout),
    /// A map is of no known kind, larger than a map may be, unaligned, or not inside the context's maps.
    #[error("map {index} is out of range: {spec:?}")]
    Map {
        /// Number of the map.
        index: usize,
        /// What it says of itself.
        spec: MapSpec,
    },
}

/// A record as it lay in a ring. Its bytes are hostile.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The context, and so the thread, whose ring it was in.
    pub context: u32,
    /// Kind, tag, site and thread.
    pub head: RecordHead,
    /// The payload, at most [`trocar_abi::record::PAYLOAD_MAX`] bytes.
    pub payload: &'a [u8],
}

/// A ring that can no longer be read. What was in it is lost; the other rings go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring of context {context} is corrupt and is not read any more: {fault}")]
pub struct RingFault {
    /// The context.
    pub context: u32,
    /// What is wrong with it.
    pub fault: Corrupt,
}

/// What one pass over the rings gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed out.
    pub records: usize,
    /// Rings that were found corrupt in this pass; each is reported once.
    pub faults: Vec<RingFault>,
}

/// A context that a thread has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextInfo {
    /// Index of the context.
    pub index: u32,
    /// Thread pointer of the thread that claimed it.
    pub thread_pointer: u64,
    /// Stack pointer at its first hit.
    pub first_sp: u64,
    /// Kernel's id of the thread, zero if unknown.
    pub tid: u32,
}

/// Reads one session's shared memory.
#[derive(Debug)]
pub struct Collector {
    pub(crate) view: SharedView,
    pub(crate) layout: Layout,
    maps: Vec<MapSpec>,
    pub(crate) ticks_per_ns: f64,
    /// The consuming end of each claimed context's ring, and whether its fault was reported.
    rings: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    consumer: Option<Consumer>,
    reported: bool,
}

impl Collector {
    /// A collector of the memory behind `view`, which begins with a valid [`SharedHead`].
    ///
    /// `maps` are the probe's maps with their offsets in a context's map area; `ticks_per_ns` is the rate of the
    /// time-stamp counter.
    ///
    /// # Errors
    /// [`BadShared`] if memory, layout and maps do not fit each other.
    pub fn new(
        view: SharedView,
        layout: Layout,
        maps: Vec<MapSpec>,
        ticks_per_ns: f64,
    ) -> Result<Self, BadShared> {
        let areas = [layout.maps, layout.ring];
        let counts = [layout.sites, layout.contexts];
        if !layout.ring.is_power_of_two()
            || layout.ring < 64
            || areas.iter().any(|n| *n > AREA_MAX)
            || counts.iter().any(|n| *n > COUNT_MAX)
        {
            return Err(BadShared::Layout(layout));
        }
        let (need, have) = (layout.total(), view.len() as u64);
        if have < need {
            return Err(BadShared::Short { need, have });
        }
        let short = BadShared::Short { need, have };
        let magic = view.load_u64_acquire(offset_of!(SharedHead, magic) as u64).ok_or(short)?;
        if magic != MAGIC {
            return Err(BadShared::Magic { found: magic });
        }
        let version = view.load_u32(offset_of!(SharedHead, version) as u64).ok_or(short)?;
        if version != trocar_abi::VERSION {
            return Err(BadShared::Version { found: version });
        }
        for (index, spec) in maps.iter().enumerate() {
            if index >= MAPS_MAX as usize || !fits(spec, layout.maps) {
                return Err(BadShared::Map { index, spec: *spec });
            }
        }
        Ok(Self { view, layout, maps, ticks_per_ns, rings: Vec::new() })
    }

    /// The counters of every site, summed over all threads and the slow path.
    #[must_use]
    pub fn totals(&self) -> Vec<SiteTotals> {
        let mut sites = vec![SiteTotals::default(); self.layout.sites as usize];
        let of_context = |context| (self.layout.context_stats(context), self.is_retired(context));
        let blocks = (0..self.claimed()).map(of_context);
        let in_use = self.view.load_u64_acquire(offset_of!(SharedHead, slow) as u64).unwrap_or(0);
        let slow = (0..SLOW_PARTS).filter(|part| in_use >> part & 1 != 0);
        for (block, is_over) in slow.map(|part| (self.layout.slow_stats(part), false)).chain(blocks) {
            for (offset, site) in (block..).step_by(size_of::<SiteStats>()).zip(&mut sites) {
                let one = totals::read(&self.view, offset);
                site.add(&if is_over { one.over() } else { one });
            }
        }
        sites
    }

    /// Whether the hit that is inside a context was left for good.
    fn is_retired(&self, context: u32) -> bool {
        let at = self.layout.context(context) + offset_of!(ContextShared, retired) as u64;
        self.view.load_u32(at).is_some_and(|retired| retired != 0)
    }

    /// The state of the probe and its last trap.
    #[must_use]
    pub fn status(&self) -> ProbeStatus {
        let word = |offset: usize| self.view.load_u32(offset as u64).unwrap_or(0);
        ProbeStatus {
            state: ProbeState::from_u32(word(offset_of!(SharedHead, state))),
            traps: word(offset_of!(SharedHead, traps)),
            trap_code: TrapCode::from_u32(word(offset_of!(SharedHead, trap_code))),
            trap_site: word(offset_of!(SharedHead, trap_site)),
            trap_tid: word(offset_of!(SharedHead, trap_tid)),
            claimed: self.claimed(),
            abandoned: self.view.load_u64_acquire(offset_of!(SharedHead, abandoned) as u64).unwrap_or(0),
        }
    }

    /// What the first hit that trapped left, or the one that brought the quarantine; `None` before it did.
    #[must_use]
    pub fn evidence(&self, which: Which) -> Option<TrapEvidence> {
        evidence::read(&self.view, which)
    }

    /// Hands out what all rings hold: oldest first within a thread; between threads there is no order.
    /// Records that arrive meanwhile wait for the next pass, so a pass ends however fast the target writes.
    pub fn records(&mut self, mut f: impl FnMut(Record<'_>)) -> Drained {
        self.find_rings();
        let mut drained = Drained::default();
        for (context, ring) in (0..).zip(&mut self.rings) {
            let result = match &mut ring.consumer {
                Some(consumer) => consumer.drain(usize::MAX, |head, payload| {
                    drained.records += 1;
                    f(Record { context, head, payload });
                }),
                None => Err(Corrupt::Place),
            };
            if let Err(fault) = result
                && !ring.reported
            {
                ring.reported = true;
                drained.faults.push(RingFault { context, fault });
            }
        }
        drained
    }

    /// Map number `index`, merged over all threads; `None` if the probe has no such map.
    #[must_use]
    pub fn map(&self, index: usize) -> Option<MergedMap> {
        let spec = self.maps.get(index)?;
        let shards =
            (0..self.claimed()).map(|context| self.layout.context_maps(context) + u64::from(spec.offset));
        maps::merge(&self.view, spec, shards)
    }

    /// Number of the probe's maps.
    #[must_use]
    pub const fn map_count(&self) -> usize {
        self.maps.len()
    }

    /// The contexts that threads have claimed, for finding the threads' stacks.
    #[must_use]
    pub fn contexts(&self) -> Vec<ContextInfo> {
        (0..self.claimed())
            .filter_map(|index| {
                let at = self.layout.context(index);
                let word = |offset: usize| self.view.load_u64_acquire(at + offset as u64);
                let thread_pointer = word(offset_of!(ContextShared, thread_pointer)).filter(|tp| *tp != 0)?;
                let first_sp = word(offset_of!(ContextShared, first_sp))?;
                let tid = self.view.load_u32(at + offset_of!(ContextShared, tid) as u64)?;
                Some(ContextInfo { index, thread_pointer, first_sp, tid })
            })
            .collect()
    }

    /// Mean time of a hit in nanoseconds, from the hits that were timed; `None` if none was.
    #[must_use]
    pub fn ns_per_hit(&self, site: &SiteTotals) -> Option<f64> {
        site.mean_ticks().map(|ticks| ticks / self.ticks_per_ns).filter(|ns| ns.is_finite())
    }

    /// The fastest timed hit in nanoseconds; `None` if none was timed.
    #[must_use]
    pub fn ns_min(&self, site: &SiteTotals) -> Option<f64> {
        (site.timed > 0).then(|| f64::from(site.ticks_min) / self.ticks_per_ns).filter(|ns| ns.is_finite())
    }

    /// Contexts that threads have claimed; INVARIANT (claim order) bounds what is read by it. A number beyond
    /// what there is room for is cut; one that sinks below the rings already found is not believed.
    pub(crate) fn claimed(&self) -> u32 {
        let claimed = self.view.load_u32(offset_of!(SharedHead, claimed) as u64).unwrap_or(0);
        let known = u32::try_from(self.rings.len()).unwrap_or(u32::MAX);
        claimed.max(known).min(self.layout.contexts)
    }

    /// Makes a consumer for each context that was claimed since the last pass.
    fn find_rings(&mut self) {
        let known = u32::try_from(self.rings.len()).unwrap_or(u32::MAX);
        for index in known..self.claimed() {
            let at = self.layout.context(index);
            let head = at + offset_of!(ContextShared, head) as u64;
            let data = self.layout.context_ring(index);
            let consumer = Consumer::new(self.view, head, at + TAIL_OFFSET, data, self.layout.ring);
            self.rings.push(Ring { consumer, reported: false });
        }
    }
}

const _: () = assert!(offset_of!(ContextShared, tail) as u64 == TAIL_OFFSET);

/// Whether a map is within the limits and inside `area` bytes.
fn fits(spec: &MapSpec, area: u64) -> bool {
    MapKind::from_u32(spec.kind).is_some()
        && spec.entries <= ENTRIES_MAX
        && spec.key_bytes <= KEY_MAX
        && spec.offset.is_multiple_of(8)
        && u64::from(spec.offset) + spec.shard_bytes() <= area
}
