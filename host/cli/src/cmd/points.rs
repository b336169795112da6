//! `trocar points`: where. Matching points, and with `--plan` how each site would be patched.
//!
//! A plan is made as `count` and `load` make it, on the same patterns: what it says is what they would do.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args};
use serde::Serialize;
use trocar_session::reply::{Import, Marker};
use trocar_session::{Loaded, Missing, RequestedPoint, plan_points};
use trocar_sinks::{Align, Grid, Line, Tone};
use trocar_symbols::{Point, Way};
use trocar_target::{Failure, FailureKind};

use super::arming::with_pid;
use crate::out::Out;
use crate::target::Targets;
use crate::trouble::{Outcome, Trouble};

const EXAMPLES: &str = "\
Examples:
  trocar points -p redis-server 'process*'
  trocar points -p 812 'libc.so.6:mall*' --plan
  trocar points -p 812 'main.(*Server).*' --plan -o json
  trocar points -p 812 'usdt:*'";

/// Lists the places that a point or pattern names; with --plan, whether and how each can be patched.
///
/// A pattern with `*` matches names of functions in every module; MODULE:PATTERN those of one. With --plan each site
/// shows its rung (the way in which it would be patched) or the reason why it is refused, and the sums of both. Nothing
/// in the process is touched.
///
/// usdt:PROVIDER:NAME is a marker that the program's author left for tracers, with the arguments that its note tells:
/// size (negative: signed) and operand of each. Both parts may be patterns; usdt:NAME is that name of any provider.
///
/// import:MODULE:NAME are the calls of NAME that MODULE makes through its import table; if MODULE provides NAME and does not
/// import it, those that all other modules make to it. import:NAME are those of all modules. A call by an address that
/// the module has taken before cannot be seen; --plan says where it is taken.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("target").required(true).args(["pids"])))]
pub(crate) struct Points {
    #[command(flatten)]
    targets: Targets,
    /// What to look for: names or patterns
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Say how each site would be patched, or why not
    #[arg(long)]
    plan: bool,
}

/// A site as an object.
#[derive(Serialize)]
struct SiteRow<'a> {
    pid: i32,
    point: &'a str,
    module: &'a str,
    symbol: Option<&'a str>,
    offset: u64,
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<Marker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Import>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rung: Option<&'a str>,
}

/// A refusal as an object.
#[derive(Serialize)]
struct RefusalRow<'a> {
    pid: i32,
    point: &'a str,
    module: Option<&'a str>,
    symbol: Option<&'a str>,
    offset: u64,
    address: &'a str,
    reason: &'a str,
    detail: &'a str,
}

/// The sums of a plan as an object.
#[derive(Serialize)]
struct Sums<'a> {
    pid: i32,
    verdict: &'static str,
    sites: usize,
    refusals: usize,
    rungs: BTreeMap<&'a str, usize>,
    reasons: BTreeMap<&'a str, usize>,
}

/// `NAME+0xOFFSET`, or a dash.
pub(crate) fn place(symbol: Option<&str>, offset: u64) -> String {
    match (symbol, offset) {
        (None, _) => "-".into(),
        (Some(symbol), 0) => symbol.into(),
        (Some(symbol), offset) => format!("{symbol}+{offset:#x}"),
    }
}

/// A place with the function that is called from there.
fn through(place: String, import: Option<&Import>) -> String {
    import
        .filter(|i| i.way != Way::Stub.name())
        .map_or_else(|| place.clone(), |i| format!("{place} ({} of {})", i.way, i.name))
}

impl Points {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let mut sites = 0;
        for pid in self.targets.resolve()? {
            out.progress(&format!("reading the modules of process {pid}"));
            let mut loaded = Loaded::open(pid)?;
            for (name, failure) in &loaded.unread {
                out.note(&format!("{name} is not searched: {failure}"));
            }
            sites += if self.plan { self.plan(&mut loaded, out)? } else { self.list(&loaded, out)? };
        }
        // Every place was refused: as `count` would, the status says that nothing could be patched.
        Ok(if sites == 0 { FailureKind::NothingPatched.exit_status() } else { 0 })
    }

    fn list(&self, loaded: &Loaded, out: &mut Out) -> Result<usize, Trouble> {
        let pid = loaded.process.pid;
        let mut rows: Vec<(Vec<Line>, Option<Marker>)> = Vec::new();
        let cell = |text: &str| Line::new().with(Tone::Plain, text);
        for pattern in &self.patterns {
            let point = Point::parse(pattern).map_err(|e| {
                Failure::new(FailureKind::Usage, format!("{pattern:?} is not a point: {e}")).hint(e.hint())
            })?;
            let found = loaded.resolver.resolve(&point).map_err(|e| {
                let failure = Failure::new(FailureKind::NothingPatched, e.to_string());
                let hint = e.hint().unwrap_or_else(|| "look for names with a pattern: '*NAME*'".to_owned());
                with_pid(failure.hint(hint), pid)
            })?;
            for place_found in found {
                let module = loaded.module(place_found.module).map_or("?", |m| m.name.as_str());
                let address = format!("{:#x}", place_found.address);
                let symbol = place_found.symbol.as_deref();
                let offset = place_found.offset;
                let marker = Marker::at(loaded, &place_found);
                let import = Import::at(&place_found);
                let named = through(place(symbol, offset), import.as_ref());
                rows.push((vec![cell(&address), cell(module), cell(&named)], marker.clone()));
                let (point, address) = (pattern.as_str(), address.as_str());
                out.row(
                    "site",
                    &SiteRow { pid, point, module, symbol, offset, address, marker, import, rung: None },
                )?;
            }
        }
        let mut columns = vec![("ADDRESS", Align::Right), ("MODULE", Align::Left), ("FUNCTION", Align::Left)];
        let markers = rows.iter().any(|(_, marker)| marker.is_some());
        if markers {
            columns.extend([("MARKER", Align::Left), ("ARGUMENTS", Align::Left)]);
        }
        let mut grid = Grid::new(&columns);
        for (mut row, marker) in rows {
            match marker {
                Some(m) => row.extend([cell(&format!("{}:{}", m.provider, m.name)), cell(&m.arguments)]),
                None if markers => row.extend([cell("-"), cell("-")]),
                None => {}
            }
            grid.row(row);
        }
        let sites = grid.len();
        out.grid(grid)?;
        Ok(sites)
    }

    fn plan(&self, loaded: &mut Loaded, out: &mut Out) -> Result<usize, Trouble> {
        let pid = loaded.process.pid;
        out.progress("planning");
        let points: Vec<RequestedPoint> =
            self.patterns.iter().map(|text| RequestedPoint { text: text.clone(), handler: None }).collect();
        let planned = plan_points(loaded, &points, false, Missing::Fails)?;
        let mut grid = Grid::new(&[
            ("ADDRESS", Align::Right),
            ("MODULE", Align::Left),
            ("FUNCTION", Align::Left),
            ("RUNG OR REASON", Align::Left),
        ]);
        let cell = |text: &str| Line::new().with(Tone::Plain, text);
        let (mut rungs, mut reasons) = (BTreeMap::new(), BTreeMap::new());
        for site in planned.sites.iter().map(|place| &place.site) {
            *rungs.entry(site.rung.as_str()).or_default() += 1;
            let (module, symbol, offset) = (site.module.as_str(), site.symbol.as_deref(), site.offset);
            let (point, address, rung) =
                (site.point.as_str(), site.address.as_str(), Some(site.rung.as_str()));
            let (marker, import) = (site.marker.clone(), site.import.clone());
            let mut named = through(place(symbol, offset), import.as_ref());
            if let Some(m) = &marker {
                named = format!("{named} ({}:{})", m.provider, m.name);
            }
            out.row("site", &SiteRow { pid, point, module, symbol, offset, address, marker, import, rung })?;
            grid.row(vec![
                cell(address),
                cell(module),
                cell(&named),
                Line::new().with(Tone::Good, &site.rung),
            ]);
        }
        for refused in &planned.refusals {
            *reasons.entry(refused.reason.as_str()).or_default() += 1;
            let address = refused.address.trim_start_matches("0x");
            let found = u64::from_str_radix(address, 16).ok().and_then(|a| loaded.resolver.symbolize(a));
            let module =
                found.as_ref().and_then(|(module, ..)| loaded.module(*module)).map(|m| m.name.as_str());
            let (symbol, offset) =
                found.as_ref().map_or((None, 0), |(_, name, offset)| (Some(name.as_str()), *offset));
            let row = RefusalRow {
                pid,
                point: &refused.point,
                module,
                symbol,
                offset,
                address: &refused.address,
                reason: &refused.reason,
                detail: &refused.detail,
            };
            out.row("refusal", &row)?;
            let why = Line::new()
                .with(Tone::Warning, &refused.reason)
                .with(Tone::Faint, &format!(": {}", refused.detail));
            grid.row(vec![
                cell(&refused.address),
                cell(module.unwrap_or("-")),
                cell(&place(symbol, offset)),
                why,
            ]);
        }
        out.grid(grid)?;
        let (sites, refusals) = (planned.sites.len(), planned.refusals.len());
        out.say(&format!(
            "{sites} sites can be patched ({}), {refusals} not ({})",
            list(&rungs),
            list(&reasons)
        ))?;
        out.row("verdict", &Sums { pid, verdict: "planned", sites, refusals, rungs, reasons })?;
        Ok(sites)
    }
}

/// `3 one, 2 other`, or `none`.
fn list(sums: &BTreeMap<&str, usize>) -> String {
    if sums.is_empty() {
        return "none".into();
    }
    let mut parts: Vec<(&str, usize)> = sums.iter().map(|(name, n)| (*name, *n)).collect();
    parts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    parts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}
