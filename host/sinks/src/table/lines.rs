//! Replies that are a line or a few: attached, events, log lines, changes of state, receipt, exit, failure.

use trocar_session::reply::{
    Armed, Attached, Event, Evidence, Exited, LogLine, Receipt, Refused, Retired, Site, StateChange, Value,
};
use trocar_target::Failure;

use super::grid::{Align, Grid};
use super::line::{Line, Tone};
use super::maps::plain;
use super::number::{bytes, clock, count, duration};

/// Most sites, and most refusals, that are listed; JSON has them all.
const LISTED: usize = 50;

/// What is in place, under which limits, and what was refused.
pub(super) fn attached(a: &Attached) -> Vec<Line> {
    let mut first = Line::new().with(Tone::Good, "attached");
    first.push(Tone::Plain, " ");
    first.push(Tone::Strong, &a.session);
    let refused = match a.refusals.len() {
        0 => String::new(),
        n => format!(" ({n} refused)"),
    };
    let text = format!(
        ": {} in process {} at {}{refused}, in {}; {} stopped for at most {}",
        a.probe,
        a.pid,
        count(a.sites.len(), "site"),
        duration(a.attach_ns),
        count(a.threads, "thread"),
        duration(a.pause_ns)
    );
    first.push(Tone::Plain, &text);
    let records = a.limits.records_per_second.map_or_else(String::new, |n| format!("{n} records a second, "));
    let core = a.limits.max_core_percent.map_or_else(String::new, |n| format!("{n} % of a core, "));
    let limits = format!(
        "limits: {} fuel a hit, {} of memory, {} to quarantine, {records}{core}{} to live{}",
        a.limits.fuel,
        bytes(a.limits.memory_bytes),
        count(usize::try_from(a.limits.traps).unwrap_or(usize::MAX), "trap"),
        clock(a.limits.ttl_ns / 1_000_000_000),
        if a.tier == 2 { "; runs as native code, some nanoseconds a hit" } else { "" }
    );
    let mut out = vec![first, Line::new().with(Tone::Faint, &limits)];
    places(&mut out, &a.sites, &a.refusals);
    for pending in &a.pending {
        let line = Line::new().with(Tone::Warning, "waiting").with(Tone::Plain, " for a module with ");
        out.push(line.with(Tone::Strong, &pending.point).with(Tone::Faint, &format!(": {}", pending.why)));
    }
    out
}

/// Sites in modules that were loaded.
pub(super) fn armed(a: &Armed) -> Vec<Line> {
    let mut first = Line::new().with(Tone::Strong, &a.session);
    first.push(Tone::Plain, ": modules were loaded: ");
    first.push(Tone::Good, &format!("{} armed", count(a.sites.len(), "site")));
    if !a.refusals.is_empty() {
        first.push(Tone::Plain, &format!(" ({} refused)", a.refusals.len()));
    }
    if !a.sites.is_empty() {
        let text = format!(
            ", in {}; {} stopped for at most {}",
            duration(a.attach_ns),
            count(a.threads, "thread"),
            duration(a.pause_ns)
        );
        first.push(Tone::Plain, &text);
    }
    let mut out = vec![first];
    places(&mut out, &a.sites, &a.refusals);
    out
}

/// Tables of sites and refusals.
fn places(out: &mut Vec<Line>, all_sites: &[Site], all_refusals: &[Refused]) {
    let cell = |text: &str| Line::new().with(Tone::Plain, text);
    let mut sites = Grid::new(&[
        ("SITE", Align::Right),
        ("POINT", Align::Left),
        ("MODULE", Align::Left),
        ("SYMBOL", Align::Left),
        ("ADDRESS", Align::Left),
        ("RUNG", Align::Left),
    ]);
    for site in all_sites.iter().take(LISTED) {
        let symbol = match (&site.symbol, site.offset) {
            (Some(symbol), 0) => symbol.clone(),
            (Some(symbol), offset) => format!("{symbol}+{offset:#x}"),
            (None, _) => "-".to_owned(),
        };
        let number = site.site.to_string();
        let texts = [&number, &site.point, &site.module, &symbol, &site.address, &site.rung];
        sites.row(texts.map(|text| cell(text)).into());
    }
    list(out, sites, all_sites.len(), "site");

    let mut refusals = Grid::new(&[
        ("REFUSED", Align::Left),
        ("ADDRESS", Align::Left),
        ("REASON", Align::Left),
        ("DETAIL", Align::Left),
    ]);
    for refusal in all_refusals.iter().take(LISTED) {
        refusals.row(vec![
            cell(&refusal.point),
            cell(&refusal.address),
            Line::new().with(Tone::Warning, &refusal.reason),
            cell(&refusal.detail),
        ]);
    }
    list(out, refusals, all_refusals.len(), "refusal");
}

/// Adds a table, and how many rows of it are left out.
fn list(out: &mut Vec<Line>, grid: Grid, all: usize, noun: &str) {
    let shown = grid.len();
    if shown == 0 {
        return;
    }
    out.extend(grid.lines());
    if all > shown {
        let text = format!("{} more (all of them with -o json)", count(all - shown, noun));
        out.push(Line::new().with(Tone::Faint, &text));
    }
}

/// An event: time, thread, name, fields, and its site if there are several.
pub(super) fn event(e: &Event, time: &str, site: Option<&str>) -> Line {
    let mut line = Line::new().with(Tone::Faint, time);
    line.push(Tone::Faint, &format!(" {} ", e.tid));
    line.push(Tone::Strong, &e.name);
    for (name, value) in &e.fields {
        line.push(Tone::Plain, " ");
        line.push(Tone::Faint, name);
        line.push(Tone::Faint, "=");
        match value {
            Value::Text(text) => line.push_quoted(Tone::Plain, text),
            number => line.push(Tone::Plain, &plain(number)),
        }
    }
    at_site(&mut line, site);
    line
}

/// A log line: time, thread, level, text, and its site if there are several.
pub(super) fn log(l: &LogLine, time: &str, site: Option<&str>) -> Line {
    let tone = match l.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Warning,
        "info" => Tone::Plain,
        _ => Tone::Faint,
    };
    let mut line = Line::new().with(Tone::Faint, time);
    line.push(Tone::Faint, &format!(" {} ", l.tid));
    line.push(tone, &format!("{:5} ", l.level));
    line.push(Tone::Plain, &l.message);
    at_site(&mut line, site);
    line
}

fn at_site(line: &mut Line, site: Option<&str>) {
    if let Some(site) = site {
        line.push(Tone::Faint, " at ");
        line.push(Tone::Faint, site);
    }
}

/// A change of state, and what is known of the hit that brought it.
pub(super) fn state(s: &StateChange) -> Vec<Line> {
    let tone = match s.state.as_str() {
        "armed" => Tone::Good,
        "quarantined" => Tone::Bad,
        _ => Tone::Warning,
    };
    let mut line = Line::new().with(Tone::Strong, &s.session);
    line.push(Tone::Plain, &format!(": {} is ", s.probe));
    line.push(tone, &s.state);
    line.push(Tone::Plain, &format!(": {}", s.why));
    std::iter::once(line).chain(s.evidence.iter().flat_map(|e| evidence(e))).collect()
}

/// A module was unloaded.
pub(super) fn retired(r: &Retired) -> Line {
    let mut line = Line::new().with(Tone::Strong, &r.session);
    line.push(Tone::Plain, &format!(": {} was unloaded: ", r.module));
    line.push(Tone::Warning, &format!("{} retired", count(r.sites.len(), "site")));
    line.push(Tone::Plain, ", what was counted stays");
    line
}

/// A hit that trapped: why, where, which, and how to see it again.
#[must_use]
pub fn evidence(e: &Evidence) -> Vec<Line> {
    let row = |name: &str, text: &str| {
        Line::new().with(Tone::Faint, &format!("  {name:7} ")).with(Tone::Plain, text)
    };
    let mut out = vec![row("trap", &e.trap)];
    // Recursion is one line, as often as it went.
    for (n, same) in e.backtrace.chunk_by(|a, b| a == b).enumerate() {
        let Some(frame) = same.first() else { continue };
        let source = frame.source.as_ref().map_or_else(String::new, |source| format!(" at {source}"));
        let offset = frame.offset.as_ref().map_or_else(String::new, |offset| format!(", offset {offset}"));
        let what =
            if frame.inlined { "inlined".to_owned() } else { format!("function {}{offset}", frame.index) };
        let often = if same.len() > 1 { format!(", {} times", same.len()) } else { String::new() };
        let text = format!("{}{source} ({what}){often}", frame.function);
        out.push(row(if n == 0 { "in" } else { "from" }, &text));
    }
    let point = if e.point.is_empty() { String::new() } else { format!("{} in ", e.point) };
    out.push(row(
        "hit",
        &format!("{point}thread {}, handler {}, arguments {}", e.tid, e.handler, e.args.join(" ")),
    ));
    if let Some(replay) = &e.replay {
        let name = if replay.same { "again" } else { "retry" };
        out.push(row(name, &replay.command));
        if !replay.same {
            let why =
                "it went otherwise here: it depended on earlier hits, or on memory that has changed since";
            out.push(row("", why));
        }
    }
    out
}

/// The receipt.
pub(super) fn receipt(r: &Receipt) -> Vec<Line> {
    let mut first = Line::new().with(Tone::Good, "detached");
    first.push(Tone::Plain, " ");
    first.push(Tone::Strong, &r.session);
    let retired = match r.retired {
        0 => String::new(),
        1 => " (1 went with its module)".to_owned(),
        n => format!(" ({n} went with their modules)"),
    };
    first.push(Tone::Plain, &format!(" from process {}: {}{retired}, ", r.pid, count(r.sites, "site")));
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    if r.restored {
        first.push(Tone::Good, "text as before");
        first.push(Tone::Plain, &format!(" (sha256 {}…)", short(&r.text_sha256_after)));
    } else {
        first.push(Tone::Bad, "TEXT NOT RESTORED");
        let hashes = format!(
            " (sha256 {}… before, {}… after)",
            short(&r.text_sha256_before),
            short(&r.text_sha256_after)
        );
        first.push(Tone::Plain, &hashes);
    }
    first.push(Tone::Plain, ", ");
    match r.mappings_left {
        0 => first.push(Tone::Good, "nothing of ours left in it"),
        n => first.push(Tone::Warning, &format!("{} left in it", count(n, "mapping"))),
    }
    let times = format!(", in {}; stopped for at most {}", duration(r.detach_ns), duration(r.pause_ns));
    first.push(Tone::Plain, &times);
    let mut out = vec![first];
    out.extend(
        r.residue.iter().map(|what| Line::new().with(Tone::Warning, "left: ").with(Tone::Plain, what)),
    );
    out
}

/// The target ended.
pub(super) fn exited(e: &Exited) -> Line {
    let mut line = Line::new().with(Tone::Strong, &e.session);
    line.push(Tone::Plain, &format!(": process {} ended ({}), and the probe with it", e.pid, e.how));
    line
}

/// Why a command failed, and each line of the hint.
pub(super) fn failure(f: &Failure) -> Vec<Line> {
    let mut out = vec![Line::new().with(Tone::Bad, "error: ").with(Tone::Plain, &f.message)];
    let hint = f.hint.as_deref().unwrap_or_default();
    out.extend(hint.lines().map(|line| Line::new().with(Tone::Strong, "  try: ").with(Tone::Plain, line)));
    out
}
