//! From points to sites: resolve each, plan each, check each against the live text.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use trocar_abi::control::FUNCTIONS_MAX;
use trocar_abi::operand::Operand;
use trocar_inject::{RemoteAddress, RemoteMemory, Span};
use trocar_patch::{
    Analysis, Claims, Exit, ExitKind, Overwrite, Reason, SitePlan, foreign_patch, jump_target, reaches_in,
    recognise,
};
use trocar_symbols::{Origin, Point, ResolveError, Resolved, Way};
use trocar_target::{Failure, FailureKind};

use crate::modules::Loaded;
use crate::reply::{Import, Marker, Pending, Refused, Site};
use crate::request::RequestedPoint;

/// The sites of a request.
#[derive(Debug, Default)]
pub struct PlannedSites {
    /// Sites in the order of their indexes.
    pub sites: Vec<PlannedPlace>,
    /// Sites that are not patched.
    pub refusals: Vec<Refused>,
    /// The functions of `return:` points, by their index.
    pub functions: Vec<String>,
    /// Points that name nothing in these modules, and why.
    pub pending: Vec<Pending>,
}

/// What a point that names nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Fails,
    /// A module that has it may come.
    Waits,
    /// It is none of these modules, which have just come; whatever else is in the way is a refusal.
    IsElsewhere,
}

/// A site that will be patched.
#[derive(Debug)]
pub struct PlannedPlace {
    /// The site, as it is told.
    pub site: Site,
    /// Index of its module.
    pub module: usize,
    /// How it is patched.
    pub plan: SitePlan,
    /// What runs there.
    pub handler: Handler,
    /// What it is to the calls of its function.
    pub span: Span,
    /// Address in the process of the semaphore of the marker that is here.
    pub semaphore: Option<u64>,
    /// Where the marker's arguments are; `None`: no marker is here.
    pub operands: Option<Vec<Operand>>,
}

/// What runs at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The probe's first handler.
    First,
    /// The handler of this name.
    Named(String),
    /// Nothing: the site only notes that a call begins.
    Nothing,
}

/// A site that is wanted.
#[derive(Debug)]
struct Wanted {
    point: String,
    place: Resolved,
    handler: Handler,
    span: Span,
    function: Option<u32>,
    /// The exit that it is.
    exit: Option<Exit>,
}

/// ENOENT and ESRCH (`asm-generic/errno-base.h`).
const NO_ENTRY: i32 = 2;
const NO_PROCESS: i32 = 3;
/// EIO: what `/proc/PID/mem` answers for memory that is not there (`mem_rw` in `fs/proc/base.c`).
const UNMAPPED: i32 = 5;

/// Resolves and plans points. Sites come out ordered by module, then by address. `spans`: calls are timed, so that the
/// entries of the functions of `return:` points are sites too.
///
/// # Errors
/// A point that is no point, that names nothing (see [`Missing`]), or more than one thing; text that cannot be read.
pub fn plan_points(
    loaded: &mut Loaded,
    points: &[RequestedPoint],
    spans: bool,
    missing: Missing,
) -> Result<PlannedSites, Failure> {
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
    let mut wanted: BTreeMap<(usize, u64), Wanted> = BTreeMap::new();
    for point in points {
        let (parsed, places) = match (resolve(loaded, &point.text), missing) {
            (Ok(found), _) => found,
            (Err(Unresolved { failure, nothing: true }), Missing::Waits) => {
                planned.pending.push(Pending { point: point.text.clone(), why: failure.message });
                continue;
            }
            (Err(Unresolved { nothing: true, .. }), Missing::IsElsewhere) => continue,
            (Err(Unresolved { failure, .. }), Missing::IsElsewhere) => {
                planned.refusals.push(refused(&point.text, "", "ambiguous", &failure.message));
                continue;
            }
            (Err(Unresolved { failure, .. }), Missing::Fails | Missing::Waits) => return Err(failure),
        };
        for place in places {
            let address = format!("{:#x}", place.address);
            if place.indirect {
                let detail = "an indirect function: its code only chooses which implementation calls go to; probe that one";
                planned.refusals.push(refused(&point.text, &address, "indirect_function", detail));
                continue;
            }
            if let Origin::Import(import) = &place.origin
                && import.way == Way::Address
            {
                let detail = format!(
                    "the address of {} is taken here: calls by it do not go through the import table",
                    import.name
                );
                planned.refusals.push(refused(&point.text, &address, "address_taken", &detail));
                continue;
            }
            let handler = point.handler.clone().map_or(Handler::First, Handler::Named);
            if matches!(parsed, Point::Return(_)) {
                want_exits(loaded, point, &place, handler, spans, &mut wanted, &mut planned)?;
                continue;
            }
            // An entry and the instruction after its `endbr64` are one site.
            match analysis(loaded, place.module)?.plan(place.vaddr) {
                Ok(plan) => {
                    let key = (place.module, plan.site);
                    let point = point.text.clone();
                    let new = Wanted { point, place, handler, span: Span::None, function: None, exit: None };
                    match wanted.get_mut(&key) {
                        // Known as the entry of a function whose calls are timed: this point's handler runs there too.
                        Some(known) if known.handler == Handler::Nothing || known.handler == new.handler => {
                            known.handler = new.handler;
                            // Two names of one place: it is a marker if either says so.
                            if known.place.origin == Origin::Code {
                                known.place.origin = new.place.origin;
                            }
                        }
                        Some(known) => {
                            let taken = one_handler(&known.point);
                            let point = &new.point;
                            planned.refusals.push(refused(point, &address, OVERLAPS, &taken));
                        }
                        None => drop(wanted.insert(key, new)),
                    }
                }
                Err(r) => {
                    planned.refusals.push(refused(&point.text, &address, r.reason.name(), &r.detail));
                }
            }
        }
    }
    plan_all(loaded, &memory, wanted, &mut planned)?;
    Ok(planned)
}

const OVERLAPS: &str = Reason::OverlapsSite.name();

/// Why a point has no site of its own.
fn one_handler(other: &str) -> String {
    format!("{other} is this very place, with another handler; a site has one")
}

/// Adds the exits of a function, and its entry if calls are timed.
fn want_exits(
    loaded: &mut Loaded,
    point: &RequestedPoint,
    place: &Resolved,
    handler: Handler,
    spans: bool,
    wanted: &mut BTreeMap<(usize, u64), Wanted>,
    planned: &mut PlannedSites,
) -> Result<(), Failure> {
    let address = format!("{:#x}", place.address);
    let name = place.symbol.clone().unwrap_or_else(|| address.clone());
    let number = u32::try_from(planned.functions.len()).ok().filter(|n| *n < FUNCTIONS_MAX);
    let Some(number) = number else {
        let detail = format!("more than {FUNCTIONS_MAX} functions; use a narrower pattern");
        planned.refusals.push(refused(&point.text, &address, "too_many", &detail));
        return Ok(());
    };
    let analysis = analysis(loaded, place.module)?;
    let planned_entry = if spans { analysis.plan(place.vaddr).map(Some) } else { Ok(None) };
    let (entry, exits) = match planned_entry.and_then(|entry| Ok((entry, analysis.exits(place.vaddr)?))) {
        Ok(found) => found,
        Err(r) => {
            planned.refusals.push(refused(&point.text, &address, r.reason.name(), &r.detail));
            return Ok(());
        }
    };
    if exits.is_empty() {
        let detail = "the function has no exit: it never returns";
        planned.refusals.push(refused(&point.text, &address, "no_exit", detail));
        return Ok(());
    }
    planned.functions.push(name);
    for exit in exits {
        let mut at = place.clone();
        at.vaddr = exit.address;
        at.offset = exit.address.wrapping_sub(place.vaddr);
        at.address = place.address.wrapping_add(at.offset);
        // Also what may be an exit, or not: planning it says why it is refused.
        let new = Wanted {
            point: point.text.clone(),
            place: at,
            handler: handler.clone(),
            span: Span::Exit,
            function: Some(number),
            exit: Some(exit),
        };
        match wanted.entry((place.module, exit.address)) {
            Entry::Vacant(free) => drop(free.insert(new)),
            Entry::Occupied(mut known) if known.get().handler == new.handler => {
                let known = known.get_mut();
                if known.span == Span::None {
                    (known.span, known.function, known.exit) = (new.span, new.function, new.exit);
                }
            }
            Entry::Occupied(known) => {
                let taken = one_handler(&known.get().point);
                let address = format!("{:#x}", new.place.address);
                planned.refusals.push(refused(&point.text, &address, OVERLAPS, &taken));
            }
        }
    }
    if let Some(entry) = entry {
        let new = Wanted {
            point: point.text.clone(),
            place: place.clone(),
            handler: Handler::Nothing,
            span: Span::Entry,
            function: Some(number),
            exit: None,
        };
        let site = wanted.entry((place.module, entry.site)).or_insert(new);
        if site.exit.is_none() {
            (site.span, site.function) = (Span::Entry, Some(number));
        }
    }
    Ok(())
}

/// Plans what is wanted, each beside the others.
fn plan_all(
    loaded: &mut Loaded,
    memory: &RemoteMemory,
    wanted: BTreeMap<(usize, u64), Wanted>,
    planned: &mut PlannedSites,
) -> Result<(), Failure> {
    let mut claims: BTreeMap<usize, Claims> = BTreeMap::new();
    let mut without_entry = BTreeSet::new();
    // Entries first: without its entry a function's exits say nothing of its calls.
    let (entries, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, w)| w.span == Span::Entry);
    for ((module, _), wanted) in entries.into_iter().chain(others) {
        if wanted.span == Span::Exit && wanted.function.is_some_and(|f| without_entry.contains(&f)) {
            continue;
        }
        let claims = claims.entry(module).or_default();
        match plan_place(loaded, memory, &wanted, claims)? {
            Ok((mut site, plan)) => {
                claims.claim(&plan);
                site.function = wanted.function;
                site.role = role(&wanted);
                let Wanted { handler, span, place, .. } = wanted;
                let semaphore = place.semaphore();
                let operands = loaded.operands(&place);
                planned.sites.push(PlannedPlace { site, module, plan, handler, span, semaphore, operands });
            }
            Err(refused) => {
                if wanted.span == Span::Entry {
                    without_entry.extend(wanted.function);
                }
                planned.refusals.push(refused);
            }
        }
    }
    // An entry whose function has no exit that can be patched would only count calls that seem never to end.
    let ended: BTreeSet<u32> =
        planned.sites.iter().filter(|s| s.span == Span::Exit).filter_map(|s| s.site.function).collect();
    let (kept, endless): (Vec<_>, Vec<_>) = std::mem::take(&mut planned.sites).into_iter().partition(|s| {
        let idle = s.span == Span::Entry && s.handler == Handler::Nothing;
        !idle || s.site.function.is_some_and(|f| ended.contains(&f))
    });
    planned.sites = kept;
    for place in endless {
        let detail = "no exit of this function can be patched, so its calls cannot be timed";
        planned.refusals.push(refused(&place.site.point, &place.site.address, "no_exit", detail));
    }
    planned.sites.sort_by_key(|s| (s.module, s.plan.site));
    for (index, place) in planned.sites.iter_mut().enumerate() {
        place.site.site = u32::try_from(index).unwrap_or(u32::MAX);
    }
    Ok(())
}

fn role(wanted: &Wanted) -> Option<&'static str> {
    match (wanted.span, wanted.exit.map(|e| e.kind)) {
        (Span::Entry, _) => Some("entry"),
        (Span::Exit, Some(ExitKind::TailJump { .. })) => Some("tail_jump"),
        (Span::Exit, _) => Some("return"),
        (Span::None, _) => None,
    }
}

fn analysis(loaded: &mut Loaded, module: usize) -> Result<&Analysis, Failure> {
    loaded
        .analysis(module)
        .ok_or_else(|| Failure::new(FailureKind::Bug, "a point resolved to a module without code"))
}

/// Why a point has no places.
struct Unresolved {
    failure: Failure,
    /// It names nothing that is there.
    nothing: bool,
}

impl From<Failure> for Unresolved {
    fn from(failure: Failure) -> Self {
        Self { failure, nothing: false }
    }
}

fn names_nothing(error: &ResolveError) -> bool {
    match error {
        ResolveError::Unknown { .. }
        | ResolveError::NoMarker { .. }
        | ResolveError::NoImport { .. }
        | ResolveError::NoModule { .. } => true,
        ResolveError::Ambiguous { .. }
        | ResolveError::OutsideFunction { .. }
        | ResolveError::NoCode { .. }
        | ResolveError::OutsideText { .. }
        | ResolveError::NotYet { .. } => false,
    }
}

/// The point, and the places that it names: for a `return:` point the functions.
fn resolve(loaded: &Loaded, text: &str) -> Result<(Point, Vec<Resolved>), Unresolved> {
    let pid = loaded.process.pid;
    let point = Point::parse(text).map_err(|e| {
        let failure = Failure::new(FailureKind::Usage, format!("{text:?} is not a point: {e}"));
        failure.hint(format!("list what there is: trocar points -p {pid} '*NAME*'"))
    })?;
    let later = |what: &str| {
        Failure::new(FailureKind::NothingPatched, format!("{what} are not in this version: {text}"))
            .hint(format!("probe a function or an instruction: trocar points -p {pid} '*NAME*'"))
    };
    let function = match &point {
        Point::Return(place) => Point::Place(place.clone()),
        other => other.clone(),
    };
    match point {
        Point::Line { .. } => return Err(later("source lines").into()),
        Point::Place(_) | Point::Return(_) | Point::Usdt { .. } | Point::Import { .. } => {}
    }
    let places = loaded.resolve(&function).map_err(|error| {
        let mut failure = Failure::new(FailureKind::NothingPatched, error.to_string());
        let unread: Vec<&str> = loaded.unread.iter().map(|(name, _)| name.as_str()).collect();
        if !unread.is_empty() {
            failure.message = format!(
                "{} (not searched, because they cannot be read: {})",
                failure.message,
                unread.join(", ")
            );
        }
        let hint = error.hint();
        let hint = hint.unwrap_or_else(|| format!("list what there is: trocar points -p {pid} '*NAME*'"));
        Unresolved { failure: failure.hint(hint), nothing: names_nothing(&error) }
    })?;
    Ok((point, places))
}

pub(crate) fn refused(point: &str, address: &str, reason: &str, detail: &str) -> Refused {
    Refused { point: point.into(), address: address.into(), reason: reason.into(), detail: detail.into() }
}

/// A site that was planned, and that nobody could be kept out of while it was to be written.
pub(crate) fn occupied(site: &Site) -> Refused {
    let detail = "at every try a goroutine, or a thread in a signal handler, would have come back into the middle of the bytes to be overwritten";
    refused(&site.point, &site.address, "occupied", detail)
}

type Planned = Result<(Site, SitePlan), Refused>;

/// Plans a place beside what is claimed, and compares what it would touch with the live text.
fn plan_place(
    loaded: &mut Loaded,
    memory: &RemoteMemory,
    wanted: &Wanted,
    claims: &mut Claims,
) -> Result<Planned, Failure> {
    let Wanted { point, place, exit, .. } = wanted;
    let address = format!("{:#x}", place.address);
    let Some(module) = loaded.module(place.module) else {
        return Err(Failure::new(FailureKind::Bug, "a point resolved to a module that is not there"));
    };
    let (name, bias) = (module.name.clone(), module.bias);
    let shadow_stack = loaded.process.shadow_stack;
    let analysis = analysis(loaded, place.module)?;
    let plan = loop {
        let plan = match exit {
            Some(exit) => analysis.plan_exit(exit, claims),
            None => analysis.plan_beside(place.vaddr, claims),
        };
        let plan = match plan {
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
    if let Some(write) = plan.writes.last()
        && !free_in_front(memory, write, bias)?
    {
        let detail =
            "a jump of another trocar session, or another tool's patch, begins right before and reaches in";
        return Ok(Err(refused(point, &address, "already_patched", detail)));
    }
    let symbol = place.symbol.clone();
    let site = Site {
        site: 0,
        point: point.clone(),
        module: name,
        function: None,
        role: None,
        marker: Marker::at(loaded, place),
        import: Import::at(place),
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
    let as_in_file = live(memory, slack.start.wrapping_add(bias), slack.original.len())? == slack.original;
    Ok(as_in_file && free_in_front(memory, slack, bias)?)
}

/// Whether nobody's patch in front of what is to be written reaches into it.
fn free_in_front(memory: &RemoteMemory, write: &Overwrite, bias: u64) -> Result<bool, Failure> {
    let length = write.before.len();
    let start = write.start.wrapping_add(bias).wrapping_sub(length as u64);
    Ok(!reaches_in(&write.before, &live(memory, start, length)?))
}

fn live(memory: &RemoteMemory, at: u64, length: usize) -> Result<Vec<u8>, Failure> {
    memory.bytes(RemoteAddress(at), length).map_err(|e| {
        // The process is there, and this memory is not: its module was unloaded.
        let unloaded = e.raw_os_error() == Some(UNMAPPED);
        let kind = if unloaded { FailureKind::NothingPatched } else { FailureKind::NoProcess };
        Failure::new(kind, format!("the text at {at:#x} cannot be read: {e}"))
            .hint("what is loaded now, and what runs: trocar points -p PID '*'; trocar ps")
    })
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
