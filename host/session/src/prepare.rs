//! A request, verified, compiled, resolved and planned. Nothing in the target has been touched yet: this is what
//! `--dry-run` shows.

use trocar_compile::{CompileError, Verified, VerifyOptions, precompile, verify_with};
use trocar_inject::Ticks;
use trocar_target::{Failure, FailureKind, Process, maps};

use crate::live::Session;
use crate::modules::Loaded;
use crate::probe::{Probe, marker_fuel};
use crate::reply::{Limits, Pending, Refused, Site};
use crate::request::{Request, RequestedPoint};
use crate::sites::{Missing, PlannedSites, plan_points};

/// A request that can be carried out.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) probe: Probe,
    pub(crate) planned: PlannedSites,
    pub(crate) loaded: Loaded,
    pub(crate) strict: bool,
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
        let missing = if request.pending { Missing::Waits } else { Missing::Fails };
        let planned = plan_points(&mut loaded, &points, spans, missing)?;
        check_refusals(request, &planned)?;
        let compiled = precompile(&request.wasm).map_err(|e| not_compiled(&e))?;
        let mut limits = limits(request, &verified);
        let own_fuel = request.fuel.map_or(Some(limits.fuel), |_| None);
        let marker_fuel = marker_fuel(&verified, &planned);
        if marker_fuel > 0 {
            // What a hit costs is not what the module alone says.
            (verified.worst_fuel, verified.system_calls_per_hit) = (None, None);
            limits.fuel = own_fuel.map_or(limits.fuel, |own| own.saturating_add(marker_fuel));
        }
        let probe = Probe {
            verified,
            limits,
            own_fuel,
            params,
            code: compiled.into_code(),
            ticks,
            native: request.native,
            points,
            spans,
            functions_max: request.functions_max,
        };
        Ok(Self { probe, planned, loaded, strict: request.strict })
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

    /// Points that name nothing yet.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.planned.pending
    }

    /// What is known of the probe.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.probe.verified
    }

    /// The limits that will be in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.probe.limits
    }

    /// Puts the probe into the target.
    ///
    /// # Errors
    /// The target ended or cannot be stopped; it is left as it was.
    pub fn attach(self) -> Result<Session, Failure> {
        let pid = self.loaded.process.pid;
        Session::attach(self).map_err(|failure| unless_it_ended(pid, failure))
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
    let nothing = planned.sites.is_empty() && planned.pending.is_empty();
    if !nothing && !request.strict {
        return Ok(());
    }
    let more = match planned.refusals.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    let what = if nothing { "nothing can be patched" } else { "a site is refused" };
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
