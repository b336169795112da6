//! A probe that was verified and compiled, with its limits and its points: what is put into a target, once for what is
//! there, and again for each module that comes later. It does not know which modules there are.

use trocar_abi::import::{Capability, SYSTEM_CALL};
use trocar_abi::map::MapSpec;
use trocar_abi::operand::{Operand, form};
use trocar_compile::{Facts, Verified, lower};
use trocar_inject::{AttachPlan, Goroutines, ModulePlan, PlannedSite, ProbePlan, Span, StubPlan, Ticks};
use trocar_package::ParamValue;
use trocar_target::{Failure, FailureKind};

use crate::modules::Loaded;
use crate::reply::Limits;
use crate::request::RequestedPoint;
use crate::sites::{Handler, PlannedSites};

/// Bytes of each thread's ring.
const RING_BYTES: u64 = 256 << 10;

/// A probe, ready for any module.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) verified: Verified,
    pub(crate) limits: Limits,
    /// The fuel of a hit without what markers ask for; `None`: the user has said how much there is.
    pub(crate) own_fuel: Option<u64>,
    pub(crate) params: Vec<ParamValue>,
    pub(crate) code: Vec<u8>,
    pub(crate) ticks: Ticks,
    pub(crate) native: bool,
    pub(crate) points: Vec<RequestedPoint>,
    /// Calls are timed.
    pub(crate) spans: bool,
    /// Functions that it can tell apart.
    pub(crate) functions_max: Option<u32>,
}

/// What the whole process is.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// A Go program.
    pub(crate) go: bool,
    /// Where its goroutines are, if that is known.
    pub(crate) goroutines: Option<Goroutines>,
    /// It holds a collector that scans stacks.
    pub(crate) collector: bool,
    /// Faults become exceptions in it.
    pub(crate) throws_faults: bool,
}

impl Surroundings {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let go = loaded.is_go();
        let goroutines = go.then(|| loaded.goroutines().ok().cloned()).flatten();
        Self {
            go,
            goroutines,
            collector: loaded.has_scanning_collector(),
            throws_faults: loaded.throws_faults(),
        }
    }
}

fn in_memory(operand: &&Operand) -> bool {
    operand.form == form::MEMORY
}

/// The fuel that it takes to read each argument once that a marker has in memory: `arg` reads it.
pub(crate) fn marker_fuel(verified: &Verified, planned: &PlannedSites) -> u64 {
    if !verified.imports.iter().any(|i| i.name == "arg") {
        return 0;
    }
    let of_site = |operands: &Vec<Operand>| operands.iter().filter(in_memory).count();
    let most = planned.sites.iter().filter_map(|s| s.operands.as_ref()).map(of_site).max().unwrap_or(0);
    (most as u64).saturating_mul(SYSTEM_CALL)
}

impl Probe {
    /// Whether hits at these sites may read the target's memory.
    pub(crate) fn reads(&self, planned: &PlannedSites) -> bool {
        let mut operands = planned.sites.iter().flat_map(|site| site.operands.iter().flatten());
        self.verified.capabilities.contains(&Capability::Memory) || operands.any(|o| in_memory(&o))
    }

    /// The fuel of each hit at these sites.
    fn fuel(&self, planned: &PlannedSites) -> u64 {
        let needed = |own: u64| own.saturating_add(marker_fuel(&self.verified, planned));
        self.own_fuel.map_or(self.limits.fuel, |own| needed(own).max(self.limits.fuel))
    }

    /// The engine's part of the plan.
    pub(crate) fn attach_plan(
        &self,
        planned: &PlannedSites,
        loaded: &Loaded,
        around: &Surroundings,
    ) -> Result<AttachPlan, Failure> {
        let mut modules: Vec<ModulePlan> = Vec::new();
        let mut current = usize::MAX;
        for place in &planned.sites {
            let index = place.module;
            if index != current {
                current = index;
                let module = loaded.module(index);
                let (name, bias) = module.map_or_else(Default::default, |m| (m.name.clone(), m.bias));
                let (range, head) = (loaded.range(index), loaded.head(index));
                modules.push(ModulePlan { name, range, bias, head, sites: Vec::new() });
            }
            let handler = match &place.handler {
                Handler::First => Some(self.handler_index(None)?),
                Handler::Named(name) => Some(self.handler_index(Some(name))?),
                Handler::Nothing => None,
            };
            if let Some(module) = modules.last_mut() {
                module.sites.push(PlannedSite {
                    plan: place.plan.clone(),
                    handler,
                    function: place.site.function.unwrap_or(0),
                    span: place.span,
                    semaphore: place.semaphore,
                    operands: place.operands.clone(),
                });
            }
        }
        let (maps, maps_bytes) = self.verified.manifest.map_specs();
        let stub = self.stub(&modules, &maps, around.go);
        let (params, strings) = pack_params(&self.params);
        let page = 64 << 10;
        let memory_max = self.verified.memory.max.map_or(self.limits.memory_bytes, |pages| {
            pages.saturating_mul(page).min(self.limits.memory_bytes)
        });
        Ok(AttachPlan {
            process: loaded.process.clone(),
            modules,
            probe: ProbePlan {
                code: self.code.clone(),
                handlers: self.verified.handlers.iter().map(|h| h.name.clone()).collect(),
                maps,
                maps_bytes,
                params,
                strings,
                fuel: self.fuel(planned),
                memory_max,
                functions: self.verified.functions,
                trap_limit: self.limits.traps,
                record_batch: self.limits.records_per_second.map_or(0, record_batch),
                first_records: self.limits.records_per_second.unwrap_or(0),
                sample: self.limits.sample,
                floats: self.verified.uses_floats,
                stub,
            },
            go: around.go,
            goroutines: around.goroutines.clone(),
            collector: around.collector,
            ring_bytes: RING_BYTES,
            ticks_per_nanosecond: self.ticks.per_nanosecond(),
        })
    }

    /// The handler as native code, where all sites have the same one, it is simple, and each hit is to run it.
    fn stub(&self, modules: &[ModulePlan], maps: &[MapSpec], go: bool) -> Option<StubPlan> {
        let sites = || modules.iter().flat_map(|m| &m.sites);
        let handler = sites().next()?.handler?;
        // A marker's arguments are not where a call's are.
        let asks = self.verified.imports.iter().any(|i| i.name == "arg");
        let plain = |s: &PlannedSite| {
            s.handler == Some(handler) && s.span == Span::None && !(asks && s.operands.is_some())
        };
        if !self.native || self.limits.sample > 1 || !sites().all(plain) {
            return None;
        }
        let handler = self.verified.handlers.get(usize::try_from(handler).ok()?)?;
        // Less fuel than it may need: some hits must run out of it.
        if handler.worst_fuel.as_ref().is_ok_and(|worst| *worst > self.limits.fuel) {
            return None;
        }
        let params: Vec<Option<u64>> = self.params.iter().map(integer).collect();
        let sites = u32::try_from(sites().count()).ok()?;
        let facts = Facts { maps, params: &params, sites, go };
        let lowered = lower(&self.verified.wasm, &self.verified, &handler.name, &facts).ok()?;
        Some(StubPlan { code: lowered.code, registers: lowered.registers, fuel: lowered.fuel })
    }

    fn handler_index(&self, name: Option<&str>) -> Result<u32, Failure> {
        let handlers = &self.verified.handlers;
        let at = name.map_or(Some(0), |n| handlers.iter().position(|h| h.name == n));
        at.and_then(|i| u32::try_from(i).ok()).ok_or_else(|| {
            let names: Vec<&str> = handlers.iter().map(|h| h.name.as_str()).collect();
            Failure::new(
                FailureKind::BadProbe,
                format!("the probe has no handler {:?}", name.unwrap_or_default()),
            )
            .hint(format!("it has: {}", names.join(", ")))
        })
    }
}

/// Records that a thread takes from the limit at once: few, so that what idle threads keep of them is little beside it.
fn record_batch(rate: u32) -> u32 {
    (rate / 1000).clamp(1, 16)
}

fn integer(value: &ParamValue) -> Option<u64> {
    match value {
        ParamValue::Int(n) => Some(n.cast_unsigned()),
        ParamValue::Str(_) => None,
    }
}

/// Parameters as the agent takes them: integers, or offset and length of a string.
fn pack_params(values: &[ParamValue]) -> (Vec<u64>, Vec<u8>) {
    let mut strings = Vec::new();
    let mut pack = |value: &ParamValue| match value {
        ParamValue::Int(n) => n.cast_unsigned(),
        ParamValue::Str(text) => {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            at << 32 | text.len() as u64
        }
    };
    (values.iter().map(&mut pack).collect(), strings)
}
