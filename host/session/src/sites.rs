//! From points to sites: resolve each, plan each, check each against the live text.

use std::collections::BTreeMap;

use trocar_inject::{RemoteAddress, RemoteMemory};
use trocar_patch::{SitePlan, foreign_patch, recognise};
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
    let mut found: BTreeMap<(usize, u64), (Site, SitePlan, Option<String>)> = BTreeMap::new();
    for point in points {
        for place in resolve(loaded, &point.text)? {
            match plan_place(loaded, &memory, &point.text, &place)? {
                Ok((site, plan)) => {
                    let key = (place.module, plan.site);
                    found.entry(key).or_insert((site, plan, point.handler.clone()));
                }
                Err(refused) => planned.refusals.push(refused),
            }
        }
    }
    let mut end = (usize::MAX, 0);
    for ((module, _), (mut site, plan, handler)) in found {
        if end.0 == module && plan.window.start < end.1 {
            let detail = "the site before it displaces this instruction too; probe one of the two";
            planned.refusals.push(refused(&site.point, &site.address, "overlaps_site", detail));
            continue;
        }
        end = (module, plan.window.end);
        site.site = u32::try_from(planned.sites.len()).unwrap_or(u32::MAX);
        planned.sites.push((site, module, plan, handler));
    }
    Ok(planned)
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

fn plan_place(
    loaded: &mut Loaded,
    memory: &RemoteMemory,
    point: &str,
    place: &Resolved,
) -> Result<Planned, Failure> {
    let address = format!("{:#x}", place.address);
    if place.indirect {
        let detail =
            "an indirect function: its code only chooses which implementation calls go to; probe that one";
        return Ok(Err(refused(point, &address, "indirect_function", detail)));
    }
    let Some(module) = loaded.module(place.module) else {
        return Err(Failure::new(FailureKind::Bug, "a point resolved to a module that is not there"));
    };
    let (name, bias) = (module.name.clone(), module.bias);
    let Some(analysis) = loaded.analysis(place.module) else {
        return Err(Failure::new(FailureKind::Bug, "a module without code resolved"));
    };
    let plan = match analysis.plan(place.vaddr) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refused(point, &address, refusal.reason.name(), &refusal.detail))),
    };
    if plan.notes.call && loaded.process.shadow_stack {
        let detail = "a call would be displaced, and the target has a shadow stack";
        return Ok(Err(refused(point, &address, "shadow_stack", detail)));
    }
    let at = plan.site.wrapping_add(bias);
    let live = memory.bytes(RemoteAddress(at), plan.original.len()).map_err(|e| {
        Failure::new(FailureKind::NoProcess, format!("the text at {at:#x} cannot be read: {e}"))
    })?;
    if let Some(site) = our_trampoline(memory, at, &live) {
        let detail = format!("site {site} of another trocar session is here, or of one that was killed");
        return Ok(Err(refused(point, &address, "already_probed", &detail)));
    }
    if let Some(refusal) = foreign_patch(at, &plan.original, &live) {
        return Ok(Err(refused(point, &address, refusal.reason.name(), &refusal.detail)));
    }
    let symbol = place.symbol.clone();
    let site = Site {
        site: 0,
        point: point.to_owned(),
        module: name,
        offset: place.offset.wrapping_add(plan.site.wrapping_sub(place.vaddr)),
        symbol,
        address: format!("{at:#x}"),
        rung: plan.rung.name().to_owned(),
    };
    Ok(Ok((site, plan)))
}

/// The site's index in its session, if the jump that lies at the address leads to a trampoline of ours.
fn our_trampoline(memory: &RemoteMemory, at: u64, live: &[u8]) -> Option<u32> {
    /// Bytes that are always enough to recognise one.
    const TRAMPOLINE: usize = 200;
    const JUMP: u8 = 0xe9;
    let (&opcode, rest) = live.split_first()?;
    let distance = i32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
    let to = (opcode == JUMP).then(|| at.wrapping_add(5).wrapping_add_signed(i64::from(distance)))?;
    recognise(to, &memory.some(RemoteAddress(to), TRAMPOLINE)).map(|r| r.site_index)
}
