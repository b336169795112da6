//! From points to sites: resolve each, plan each, check each against the live text.

use std::collections::BTreeMap;

use trocar_inject::{RemoteAddress, RemoteMemory};
use trocar_patch::{Analysis, Claims, SitePlan, foreign_patch, jump_target, recognise};
use trocar_symbols::{Point, Resolved};
use trocar_target::{Failure, FailureKind};

use crate::modules::Loaded;
use crate::reply::{Refused, Site};
use crate::request::RequestedPoint;

/// The sites of a request.
#[derive(Debug, Default)]
pub struct PlannedSites {
    /// Sites in the order of their indexes, with the module and the plan of each.
    pub sites: Vec<(Site, usize, SitePlan, Option<String>)>,
    /// Sites that are not patched.
    pub refusals: Vec<Refused>,
}

/// ENOENT and ESRCH (`asm-generic/errno-base.h`).
const NO_ENTRY: i32 = 2;
const NO_PROCESS: i32 = 3;

/// Resolves and plans points. Sites come out ordered by module, then by address.
///
/// # Errors
/// A point that is no point, that names nothing, or more than one thing; text that cannot be read.
pub fn plan_points(loaded: &mut Loaded, points: &[RequestedPoint]) -> Result<PlannedSites, Failure> {
    let pid = loaded.process.pid;
    let memory = RemoteMemory::open(pid).map_err(|error| match error.raw_os_error() {
        // A process that is ending has no memory any more while it still has its entry under /proc.
        Some(NO_ENTRY | NO_PROCESS) => {
            Failure::new(FailureKind::NoProcess, format!("process {pid} has ended"))
                .hint("list what runs: trocar ps")
        }
        _ => {
            Failure::new(FailureKind::NotPermitted, format!("the target's memory cannot be opened: {error}"))
        }
    })?;
    let mut planned = PlannedSites::default();
    // Ordered, and one site for each address: two points may name the same.
    let mut wanted: BTreeMap<(usize, u64), (String, Resolved, Option<String>)> = BTreeMap::new();
    for point in points {
        for place in resolve(loaded, &point.text)? {
            let address = format!("{:#x}", place.address);
            if place.indirect {
                let detail = "an indirect function: its code only chooses which implementation calls go to; probe that one";
                planned.refusals.push(refused(&point.text, &address, "indirect_function", detail));
                continue;
            }
            // An entry and the instruction after its `endbr64` are one site.
            match analysis(loaded, place.module)?.plan(place.vaddr) {
                Ok(plan) => {
                    let rest = (point.text.clone(), place, point.handler.clone());
                    wanted.entry((rest.1.module, plan.site)).or_insert(rest);
                }
                Err(r) => {
                    planned.refusals.push(refused(&point.text, &address, r.reason.name(), &r.detail));
                }
            }
        }
    }
    let mut claims: BTreeMap<usize, Claims> = BTreeMap::new();
    for ((module, _), (point, place, handler)) in wanted {
        let claims = claims.entry(module).or_default();
        match plan_place(loaded, &memory, &point, &place, claims)? {
            Ok((mut site, plan)) => {
                claims.claim(&plan);
                site.site = u32::try_from(planned.sites.len()).unwrap_or(u32::MAX);
                planned.sites.push((site, module, plan, handler));
            }
            Err(refused) => planned.refusals.push(refused),
        }
    }
    Ok(planned)
}

fn analysis(loaded: &mut Loaded, module: usize) -> Result<&Analysis, Failure> {
    loaded
        .analysis(module)
        .ok_or_else(|| Failure::new(FailureKind::Bug, "a point resolved to a module without code"))
}

fn resolve(loaded: &Loaded, text: &str) -> Result<Vec<Resolved>, Failure> {
    let pid = loaded.process.pid;
    let point = Point::parse(text).map_err(|e| {
        Failure::new(FailureKind::Usage, format!("{text:?} is not a point: {e}"))
            .hint(format!("list what there is: trocar points -p {pid} '*NAME*'"))
    })?;
    let later = |what: &str| {
        Failure::new(FailureKind::NothingPatched, format!("{what} are not in this version: {text}"))
            .hint(format!("probe a function or an instruction: trocar points -p {pid} '*NAME*'"))
    };
    match point {
        Point::Return(_) => return Err(later("return points")),
        Point::Line { .. } => return Err(later("source lines")),
        Point::Usdt { .. } => return Err(later("USDT markers")),
        Point::Import { .. } => return Err(later("import points")),
        Point::Place(_) => {}
    }
    loaded.resolver.resolve(&point).map_err(|error| {
        let mut failure = Failure::new(FailureKind::NothingPatched, error.to_string());
        let unread: Vec<&str> = loaded.unread.iter().map(|(name, _)| name.as_str()).collect();
        if !unread.is_empty() {
            failure.message = format!(
                "{} (not searched, because they cannot be read: {})",
                failure.message,
                unread.join(", ")
            );
        }
        failure.hint(
            error.hint().unwrap_or_else(|| format!("list what there is: trocar points -p {pid} '*NAME*'")),
        )
    })
}

fn refused(point: &str, address: &str, reason: &str, detail: &str) -> Refused {
    Refused { point: point.into(), address: address.into(), reason: reason.into(), detail: detail.into() }
}

type Planned = Result<(Site, SitePlan), Refused>;

/// Plans a place beside what is claimed, and compares what it would touch with the live text.
fn plan_place(
    loaded: &mut Loaded,
    memory: &RemoteMemory,
    point: &str,
    place: &Resolved,
    claims: &mut Claims,
) -> Result<Planned, Failure> {
    let address = format!("{:#x}", place.address);
    let Some(module) = loaded.module(place.module) else {
        return Err(Failure::new(FailureKind::Bug, "a point resolved to a module that is not there"));
    };
    let (name, bias) = (module.name.clone(), module.bias);
    let shadow_stack = loaded.process.shadow_stack;
    let analysis = analysis(loaded, place.module)?;
    let plan = loop {
        let plan = match analysis.plan_beside(place.vaddr, claims) {
            Ok(plan) => plan,
            Err(refusal) => return Ok(Err(refused(point, &address, refusal.reason.name(), &refusal.detail))),
        };
        // Slack in which somebody else has written is not ours; the next try finds other slack, or none.
        match plan.slack() {
            Some(slack) if !as_in_file(memory, &plan, bias)? => claims.take(slack),
            _ => break plan,
        }
    };
    if plan.notes.call && shadow_stack {
        let detail = "a call would be displaced, and the target has a shadow stack";
        return Ok(Err(refused(point, &address, "shadow_stack", detail)));
    }
    let at = plan.window.start.wrapping_add(bias);
    let mut file = plan.original.clone();
    // With the padding behind a short window, which is written too.
    let written = plan.writes.last().map_or(&[][..], |w| w.original.as_slice());
    file.extend(written.get(file.len()..).unwrap_or(&[]));
    let live = live(memory, at, file.len())?;
    if let Some(site) = our_trampoline(memory, at, &live) {
        let detail = format!("site {site} of another trocar session is here, or of one that was killed");
        return Ok(Err(refused(point, &address, "already_probed", &detail)));
    }
    if let Some(refusal) = foreign_patch(at, &file, &live) {
        return Ok(Err(refused(point, &address, refusal.reason.name(), &refusal.detail)));
    }
    let symbol = place.symbol.clone();
    let site = Site {
        site: 0,
        point: point.to_owned(),
        module: name,
        offset: place.offset.wrapping_add(plan.site.wrapping_sub(place.vaddr)),
        symbol,
        address: format!("{:#x}", plan.site.wrapping_add(bias)),
        rung: plan.rung.name().to_owned(),
    };
    Ok(Ok((site, plan)))
}

/// Whether the slack of a plan is in memory as in the file.
fn as_in_file(memory: &RemoteMemory, plan: &SitePlan, bias: u64) -> Result<bool, Failure> {
    let Some(slack) = plan.writes.first() else { return Ok(true) };
    Ok(live(memory, slack.start.wrapping_add(bias), slack.original.len())? == slack.original)
}

fn live(memory: &RemoteMemory, at: u64, length: usize) -> Result<Vec<u8>, Failure> {
    memory
        .bytes(RemoteAddress(at), length)
        .map_err(|e| Failure::new(FailureKind::NoProcess, format!("the text at {at:#x} cannot be read: {e}")))
}

/// The site's index in its session, if the jump that lies at the address leads to a trampoline of ours: at once, or
/// through slack.
fn our_trampoline(memory: &RemoteMemory, at: u64, live: &[u8]) -> Option<u32> {
    /// Bytes that are always enough to recognise one.
    const TRAMPOLINE: usize = 200;
    let read = |at: u64| memory.some(RemoteAddress(at), TRAMPOLINE);
    let to = jump_target(at, live)?;
    let bytes = read(to);
    let found = recognise(to, &bytes).or_else(|| {
        let further = jump_target(to, &bytes)?;
        recognise(further, &read(further))
    });
    found.map(|r| r.site_index)
}
