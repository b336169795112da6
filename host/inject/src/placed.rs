//! The control block and what it points to: what the agent is told of its target, its sites and its probe.

use std::hash::{BuildHasher, Hasher, RandomState};

use trocar_abi::control::{Control, MAGIC, NO_HANDLER, Probe, Site, context_heap, flags, site_flags};
use trocar_abi::operand::{ARGUMENTS, Operand, packed};
use trocar_abi::shared::Layout;
use trocar_abi::{PAGE, round_up};
use trocar_patch::{GoSource, Trampoline};
use trocar_target::Failure;

use crate::journal::Journal;
use crate::plain::{bytes_of, bytes_of_all};
use crate::region::{Region, SPARE_STACK};
use crate::request::{AttachPlan, PlannedSite, Span};
use crate::vectors::touches_high_vectors;

/// The control block and what it points to, as one run of bytes.
pub(crate) struct Placed {
    sites: Vec<u8>,
    gates: Vec<u8>,
    maps: Vec<u8>,
    params: Vec<u8>,
    strings: Vec<u8>,
    handlers: Vec<u8>,
    journal: Vec<u8>,
    operands: Vec<u8>,
    site_count: u32,
}

impl Placed {
    pub(crate) fn new(
        plan: &AttachPlan,
        trampolines: &[Trampoline],
        gates: &[u64],
        journal: Vec<u8>,
    ) -> Self {
        let planned = plan.modules.iter().flat_map(|m| &m.sites);
        let operands = planned.clone().filter_map(|p| p.operands.as_ref());
        let operands: Vec<Operand> = operands.flat_map(|o| o.iter().take(ARGUMENTS)).copied().collect();
        let mut first = 0;
        let mut site = |(t, p): (&Trampoline, &PlannedSite)| Site {
            address: t.site_address,
            handler: p.handler.unwrap_or(NO_HANDLER),
            function: p.function,
            operands: packed_operands(p, &mut first),
            flags: if skips_red_zone(p) { site_flags::RED_ZONE_SKIPPED } else { 0 }
                | if plan.probe.floats { site_flags::FLOATS } else { 0 }
                | if p.operands.is_some() { site_flags::MARKER } else { 0 }
                | match p.plan.go {
                    Some(GoSource::R14 | GoSource::Unchecked(_)) => site_flags::GOROUTINE,
                    Some(GoSource::Tls(_)) | None => 0,
                }
                | if plan.probe.sample > 1 { site_flags::SAMPLED } else { 0 }
                | match p.span {
                    Span::None => 0,
                    Span::Entry => site_flags::ENTRY,
                    Span::Exit => site_flags::EXIT,
                },
        };
        let sites: Vec<Site> = trampolines.iter().zip(planned).map(&mut site).collect();
        Self {
            site_count: u32::try_from(sites.len()).unwrap_or(0),
            sites: bytes_of_all(&sites),
            gates: gates.iter().flat_map(|g| g.to_le_bytes()).collect(),
            maps: bytes_of_all(&plan.probe.maps),
            params: plan.probe.params.iter().flat_map(|p| p.to_le_bytes()).collect(),
            strings: plan.probe.strings.clone(),
            operands: bytes_of_all(&operands),
            journal,
            handlers: plan.probe.handlers.iter().flat_map(|h| h.bytes().chain([0])).collect(),
        }
    }

    /// Puts the region's numbers into the session's record.
    pub(crate) fn settle(&mut self, region: &Region) -> Result<(), Failure> {
        self.journal = Journal::settle(&self.journal, region)?;
        Ok(())
    }

    fn parts(&self) -> [&[u8]; 8] {
        let Self { sites, gates, maps, params, strings, handlers, journal, operands, .. } = self;
        [sites, gates, maps, params, strings, handlers, journal, operands]
    }

    pub(crate) fn len(&self) -> usize {
        let each = self.parts().iter().map(|p| round_up(p.len() as u64, 16)).sum::<u64>();
        usize::try_from(PAGE + each).unwrap_or(usize::MAX)
    }

    /// The bytes, for a region at `base`.
    pub(crate) fn at(
        &self,
        plan: &AttachPlan,
        base: u64,
        region: &Region,
        layout: &Layout,
        clock: u64,
        extra: u32,
    ) -> Vec<u8> {
        let mut tail = Vec::new();
        let start = base + region.private + PAGE;
        let mut put = |bytes: &[u8]| {
            let at = start + tail.len() as u64;
            tail.extend_from_slice(bytes);
            tail.resize(usize::try_from(round_up(tail.len() as u64, 16)).unwrap_or(0), 0);
            at
        };
        let [sites, gates, maps, params, strings, handlers, journal, operands] = self.parts().map(&mut put);
        let count = |bytes: &[u8], size: usize| u32::try_from(bytes.len() / size).unwrap_or(0);
        let probe = Probe {
            module: base + region.module,
            module_len: plan.probe.code.len() as u64,
            fuel: plan.probe.fuel,
            memory_max: plan.probe.memory_max,
            maps,
            map_count: count(&self.maps, 16),
            handler_count: u32::try_from(plan.probe.handlers.len()).unwrap_or(0),
            handlers,
            handlers_len: self.handlers.len() as u64,
            params,
            param_count: count(&self.params, 8),
            trap_limit: plan.probe.trap_limit,
            strings,
            strings_len: self.strings.len() as u64,
            record_batch: plan.probe.record_batch,
            sample: plan.probe.sample,
            context_heap: context_heap(plan.probe.functions),
            seed: random(),
        };
        let control = Control {
            magic: MAGIC,
            version: trocar_abi::VERSION,
            flags: extra,
            pid: plan.process.pid_inside.cast_unsigned(),
            site_count: self.site_count,
            sites,
            shared: base + region.shared,
            shared_len: layout.total(),
            gates,
            gate_count: count(&self.gates, 8),
            contexts_wanted: 0,
            context_capacity: layout.contexts,
            spare_stack: SPARE_STACK,
            probe,
            heap: base + region.heap,
            heap_len: region.heap_len(),
            table: 0,
            table_len: 0,
            contexts: 0,
            context_list: 0,
            region: base + region.contexts,
            clock_gettime: clock,
            nanoseconds_per_tick: nanoseconds_per_tick(plan.ticks_per_nanosecond),
            layout: *layout,
            journal,
            journal_len: self.journal.len() as u64,
            operands,
            operand_count: (self.operands.len() / size_of::<Operand>()) as u64,
            raised: 0,
            hit_entry: 0,
            flags_at: 0,
            failed: 0,
            message_len: 0,
            table_mask: 0,
            message: [0; trocar_abi::control::MESSAGE_BYTES],
        };
        let mut bytes = bytes_of(&control).to_vec();
        bytes.resize(usize::try_from(PAGE).unwrap_or(0), 0);
        bytes.extend(tail);
        bytes
    }
}

/// Where a site's operands are in the table of all, of which `first` are others'.
fn packed_operands(site: &PlannedSite, first: &mut u32) -> u32 {
    let count = site.operands.as_ref().map_or(0, |o| o.len().min(ARGUMENTS));
    let count = u32::try_from(count).unwrap_or(0);
    let at = packed(*first, count);
    *first += count;
    at
}

/// A number that nobody can guess who does not see the target's memory: that of a hash table's keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Bits of [`flags`], but for what filters forbid.
pub(crate) fn target_flags(plan: &AttachPlan) -> u32 {
    let mut bits = 0;
    if plan.go {
        bits |= flags::ALWAYS_SWITCH | flags::GO_ARGUMENTS;
    }
    if plan.collector {
        bits |= flags::NEVER_SWITCH;
    }
    if !touches_high_vectors(&plan.probe.code) {
        bits |= flags::LOW_VECTORS;
    }
    bits
}

/// Go keeps nothing below the stack pointer, and at the entry of a function nothing is there yet.
pub(crate) fn skips_red_zone(site: &PlannedSite) -> bool {
    site.plan.go.is_none() && !site.plan.red_zone_dead
}

/// The factor by which the agent turns ticks into nanoseconds, times 2^32.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number below 2^42: clocks tick faster than a megahertz"
)]
fn nanoseconds_per_tick(ticks_per_nanosecond: f64) -> u64 {
    (4_294_967_296.0 / ticks_per_nanosecond.max(0.001)) as u64
}
