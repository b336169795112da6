//! A request, verified, compiled, resolved and planned. Nothing in the target has been touched yet: this is what
//! `--dry-run` shows.

use trocar_abi::import::SYSTEM_CALL;
use trocar_abi::map::MapSpec;
use trocar_abi::operand::{Operand, form};
use trocar_compile::{CompileError, Facts, Verified, VerifyOptions, lower, precompile, verify_with};
use trocar_inject::{AttachPlan, ModulePlan, PlannedSite, ProbePlan, Span, StubPlan, Ticks};
use trocar_package::ParamValue;
use trocar_target::{Failure, FailureKind, Process, maps};

use crate::live::Session;
use crate::modules::Loaded;
use crate::reply::{Limits, Refused, Site};
use crate::request::{Request, RequestedPoint};
use crate::sites::{Handler, PlannedSites, plan_points};

/// Bytes of each thread's ring.
const RING_BYTES: u64 = 256 << 10;

/// A request that can be carried out.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) verified: Verified,
    pub(crate) limits: Limits,
    pub(crate) planned: PlannedSites,
    pub(crate) params: Vec<ParamValue>,
    pub(crate) code: Vec<u8>,
    pub(crate) loaded: Loaded,
    pub(crate) ticks: Ticks,
    pub(crate) strict: bool,
    native: bool,
}

impl Prepared {
    /// Verifies the probe, finds its sites, compiles it.
    ///
    /// # Errors
    /// A probe that is not acceptable, a process that cannot be probed, points of which nothing can be patched.
    pub fn new(request: &Request) -> Result<Self, Failure> {
        Self::make(request).map_err(|failure| unless_it_ended(request.pid, failure))
    }

    fn make(request: &Request) -> Result<Self, Failure> {
        let ticks = Ticks::start();
        let options = VerifyOptions { name: Some(&request.name), memory_bytes: request.memory };
        let mut verified =
            verify_with(&request.wasm, &options).map_err(|e| bad_probe(&e.message, e.hint.clone()))?;
        let sets: Vec<(&str, &str)> = request.sets.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let params = verified
            .manifest
            .resolve_params(&sets)
            .map_err(|e| Failure::new(FailureKind::Usage, format!("--set: {e}")))?;
        let points = points(request, &verified)?;
        let mut loaded = Loaded::open(request.pid)?;
        let spans = verified.imports.iter().any(|i| i.name == "span_ns");
        let planned = plan_points(&mut loaded, &points, spans)?;
        check_refusals(request, &planned)?;
        let compiled = precompile(&request.wasm).map_err(|e| not_compiled(&e))?;
        let mut limits = limits(request, &verified);
        arguments_in_memory(request, &planned, &mut verified, &mut limits);
        Ok(Self {
            verified,
            limits,
            planned,
            params,
            code: compiled.into_code(),
            loaded,
            ticks,
            strict: request.strict,
            native: request.native,
        })
    }

    /// The sites that will be patched.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.planned.sites.iter().map(|s| &s.site)
    }

    /// Number of functions of `return:` points.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.planned.functions.len()
    }

    /// The sites that will not.
    #[must_use]
    pub fn refusals(&self) -> &[Refused] {
        &self.planned.refusals
    }

    /// What is known of the probe.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The limits that will be in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts the probe into the target.
    ///
    /// # Errors
    /// The target ended or cannot be stopped; it is left as it was.
    pub fn attach(self) -> Result<Session, Failure> {
        let pid = self.loaded.process.pid;
        Session::attach(self).map_err(|failure| unless_it_ended(pid, failure))
    }

    /// The engine's part of the plan.
    pub(crate) fn attach_plan(&self) -> Result<AttachPlan, Failure> {
        let mut modules: Vec<ModulePlan> = Vec::new();
        let mut current = usize::MAX;
        for place in &self.planned.sites {
            let index = place.module;
            if index != current {
                current = index;
                let module = self.loaded.module(index);
                let (name, bias) = module.map_or_else(Default::default, |m| (m.name.clone(), m.bias));
                let (range, head) = (self.loaded.range(index), self.loaded.head(index));
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
        let stub = self.stub(&modules, &maps);
        let (params, strings) = pack_params(&self.params);
        let page = 64 << 10;
        let memory_max = self.verified.memory.max.map_or(self.limits.memory_bytes, |pages| {
            pages.saturating_mul(page).min(self.limits.memory_bytes)
        });
        Ok(AttachPlan {
            process: self.loaded.process.clone(),
            modules,
            probe: ProbePlan {
                code: self.code.clone(),
                handlers: self.verified.handlers.iter().map(|h| h.name.clone()).collect(),
                maps,
                maps_bytes,
                params,
                strings,
                fuel: self.limits.fuel,
                memory_max,
                functions: self.verified.functions,
                trap_limit: self.limits.traps,
                record_batch: self.limits.records_per_second.map_or(0, record_batch),
                first_records: self.limits.records_per_second.unwrap_or(0),
                sample: self.limits.sample,
                floats: self.verified.uses_floats,
                stub,
            },
            go: self.loaded.is_go(),
            goroutines: self.loaded.is_go().then(|| self.loaded.goroutines().ok().cloned()).flatten(),
            collector: self.loaded.has_scanning_collector(),
            ring_bytes: RING_BYTES,
            ticks_per_nanosecond: self.ticks.per_nanosecond(),
        })
    }

    /// The handler as native code, where all sites have the same one, it is simple, and each hit is to run it.
    fn stub(&self, modules: &[ModulePlan], maps: &[MapSpec]) -> Option<StubPlan> {
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
        let facts = Facts { maps, params: &params, sites, go: self.loaded.is_go() };
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

/// A target that ends makes any step fail in its own way; what the user is told is that it ended. One that is ending has
/// no memory any more while it still has its entry under /proc.
pub(crate) fn unless_it_ended(pid: i32, failure: Failure) -> Failure {
    let about_the_target =
        matches!(failure.kind, FailureKind::Bug | FailureKind::NothingPatched | FailureKind::NotPermitted);
    // Maps that may not be read belong to a process that is there.
    let has_memory = || !maps(pid).is_ok_and(|m| m.is_empty());
    let there = Process::inspect(pid).is_ok_and(|p| !p.ended && (p.kernel_thread || has_memory()));
    if there || !about_the_target {
        return failure;
    }
    Failure::new(FailureKind::NoProcess, format!("process {pid} has ended")).hint("list what runs: trocar ps")
}

/// A module without code, as a failure: the probe's, unless there was no compiler.
#[must_use]
pub fn not_compiled(error: &CompileError) -> Failure {
    let kind = match error {
        CompileError::Refused(_) | CompileError::Stopped(_) => FailureKind::BadProbe,
        CompileError::NoCompiler(_) => FailureKind::NotPermitted,
    };
    Failure::new(kind, error.to_string()).hint(error.hint())
}

fn bad_probe(message: &str, hint: Option<String>) -> Failure {
    let failure = Failure::new(FailureKind::BadProbe, message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint("see what is wrong and what is allowed: trocar check PROBE.wasm"),
    }
}

fn points(request: &Request, verified: &Verified) -> Result<Vec<RequestedPoint>, Failure> {
    if !request.points.is_empty() {
        return Ok(request.points.clone());
    }
    let of = |h: &trocar_package::Handler| {
        let name = h.name.clone();
        h.points.clone().into_iter().map(move |text| RequestedPoint { text, handler: Some(name.clone()) })
    };
    let points: Vec<RequestedPoint> = verified.manifest.handlers.iter().flat_map(of).collect();
    if points.is_empty() {
        return Err(Failure::new(
            FailureKind::Usage,
            format!("the probe {} names no point", verified.manifest.name),
        )
        .hint("say where it goes: --at POINT"));
    }
    Ok(points)
}

fn check_refusals(request: &Request, planned: &PlannedSites) -> Result<(), Failure> {
    let Some(first) = planned.refusals.first() else { return Ok(()) };
    if !planned.sites.is_empty() && !request.strict {
        return Ok(());
    }
    let more = match planned.refusals.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    let what = if request.strict && !planned.sites.is_empty() {
        "a site is refused"
    } else {
        "nothing can be patched"
    };
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("{what}: {} at {}: {}{more}", first.point, first.address, first.detail),
    )
    .hint(format!("see each site's plan: trocar points -p {} '{}' --plan", request.pid, first.point)))
}

fn limits(request: &Request, verified: &Verified) -> Limits {
    let wished = verified.manifest.limits;
    let default = Limits::default();
    Limits {
        fuel: request.fuel.or(wished.fuel).unwrap_or(default.fuel),
        memory_bytes: verified.memory_limit,
        traps: default.traps,
        ttl_ns: request.ttl.map_or(default.ttl_ns, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)),
        records_per_second: request.rate,
        max_core_percent: request.max_core.map(|share| share * 100.0),
        sample: request.sample.max(1),
    }
}

/// Where a marker has arguments in memory, `arg` reads it: a hit gets the fuel to read each once, and what it costs is not
/// what the module alone says.
fn arguments_in_memory(
    request: &Request,
    planned: &PlannedSites,
    verified: &mut Verified,
    limits: &mut Limits,
) {
    let in_memory = |operands: &Vec<Operand>| operands.iter().filter(|o| o.form == form::MEMORY).count();
    let most = planned.sites.iter().filter_map(|s| s.operands.as_ref()).map(in_memory).max().unwrap_or(0);
    if most == 0 || !verified.imports.iter().any(|i| i.name == "arg") {
        return;
    }
    (verified.worst_fuel, verified.system_calls_per_hit) = (None, None);
    if request.fuel.is_none() {
        limits.fuel = limits.fuel.saturating_add(most as u64 * SYSTEM_CALL);
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
