//! The live view: one row per site with its state, hits, losses, price and time to live.
//!
//! It keeps the last counters of each site, so that it can say hits per second. Time comes in from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use trocar_session::reply::{Armed, Attached, Site, StateChange, Stats};

use super::grid::{Align, Grid};
use super::line::{Line, Tone};
use super::number::{clock, three};

/// Up to so many rows stand in the order of their sites; more are sorted by hits.
const CALM_ROWS: usize = 20;

/// State of a site whose module was unloaded.
const RETIRED: &str = "retired";

/// What is known of one session.
#[derive(Debug)]
struct Session {
    attached: SystemTime,
    ttl: Duration,
    /// Name of each site, by its index.
    sites: BTreeMap<u32, String>,
    /// Why the probe is in the state it is in.
    why: Option<(String, String)>,
}

/// The last counters of a site.
#[derive(Debug)]
struct Last {
    stats: Stats,
    /// Hits per second since the report before.
    rate: Option<f64>,
    at: SystemTime,
}

/// All sessions and sites that were heard of.
#[derive(Debug)]
pub(super) struct Board {
    sessions: BTreeMap<String, Session>,
    last: BTreeMap<(String, u32), Last>,
    /// Sites that reported since the table was last shown.
    reported: BTreeSet<(String, u32)>,
}

impl Board {
    /// Nothing was heard of yet.
    pub(super) const fn new() -> Self {
        Self { sessions: BTreeMap::new(), last: BTreeMap::new(), reported: BTreeSet::new() }
    }

    /// A probe is in place.
    pub(super) fn attach(&mut self, attached: &Attached, now: SystemTime) {
        let session = Session {
            attached: now,
            ttl: Duration::from_nanos(attached.limits.ttl_ns),
            sites: attached.sites.iter().map(|site| (site.site, name(site))).collect(),
            why: None,
        };
        self.sessions.insert(attached.session.clone(), session);
    }

    /// Sites came.
    pub(super) fn arm(&mut self, armed: &Armed) {
        if let Some(session) = self.sessions.get_mut(&armed.session) {
            session.sites.extend(armed.sites.iter().map(|site| (site.site, name(site))));
        }
    }

    /// A probe changed its state.
    pub(super) fn change(&mut self, change: &StateChange) {
        if let Some(session) = self.sessions.get_mut(&change.session) {
            session.why = Some((change.state.clone(), change.why.clone()));
        }
    }

    /// Counters of a site came. True if now every known site has reported, so that the table is worth showing.
    pub(super) fn update(&mut self, stats: &Stats, now: SystemTime) -> bool {
        let key = (stats.session.clone(), stats.site);
        let session = self.sessions.get(&stats.session);
        let since_attach = session.map(|s| (0, s.attached));
        let since = match self.last.get(&key) {
            // The final report says the mean over the whole time.
            Some(last) if !stats.is_final => Some((last.stats.hits, last.at)),
            _ => since_attach,
        };
        let rate = since.and_then(|(hits, then)| {
            let seconds = now.duration_since(then).ok()?.as_secs_f64();
            (seconds > 0.0).then(|| stats.hits.saturating_sub(hits) as f64 / seconds)
        });
        self.last.insert(key.clone(), Last { stats: stats.clone(), rate, at: now });
        self.reported.insert(key);
        let known: usize = self.sessions.values().map(|s| s.sites.len()).sum();
        self.reported.len() >= known
    }

    /// Name of a site, and whether there is more than one.
    pub(super) fn site(&self, session: &str, site: u32) -> (String, bool) {
        let known = self.sessions.get(session);
        let name = known.and_then(|s| s.sites.get(&site)).cloned();
        (name.unwrap_or_else(|| format!("site {site}")), known.is_none_or(|s| s.sites.len() > 1))
    }

    /// Whether counters came, of one session or of any, that were not shown.
    pub(super) fn has_news(&self, only: Option<&str>) -> bool {
        self.reported.iter().any(|(session, _)| only.is_none_or(|only| only == session))
    }

    /// A session is over: its counters are not shown again. Without a session: all of them.
    pub(super) fn forget(&mut self, only: Option<&str>) {
        let other = |session: &str| only.is_some_and(|only| only != session);
        self.sessions.retain(|session, _| other(session));
        self.last.retain(|(session, _), _| other(session));
        self.reported.retain(|(session, _)| other(session));
    }

    /// The table as it is now, of one session or of all. What it shows is no news any more.
    pub(super) fn show(&mut self, only: Option<&str>, now: SystemTime) -> Vec<Line> {
        let shown = |session: &str| only.is_none_or(|only| only == session);
        self.reported.retain(|(session, _)| !shown(session));
        let mut rows: Vec<_> = self.last.iter().filter(|((session, _), _)| shown(session)).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let many = only.is_none() && self.sessions.len() > 1;
        let mut columns = vec![
            ("SITE", Align::Left),
            ("STATE", Align::Left),
            ("HITS", Align::Right),
            ("HITS/S", Align::Right),
            ("LOST", Align::Right),
            ("NS/HIT", Align::Right),
            ("%CORE", Align::Right),
            ("TTL", Align::Right),
            ("WHY", Align::Left),
        ];
        if many {
            columns.insert(0, ("PID", Align::Right));
        }
        let mut grid = Grid::new(&columns);
        if rows.len() > CALM_ROWS {
            rows.sort_by_key(|(_, last)| std::cmp::Reverse(last.stats.hits));
        }
        for ((session, site), last) in rows {
            let mut cells = self.cells(session, *site, last, now);
            if many {
                let pid = last.stats.pid.to_string();
                cells.insert(0, Line::new().with(Tone::Plain, &pid));
            }
            grid.row(cells);
        }
        grid.lines()
    }

    /// The cells of one site.
    fn cells(&self, session: &str, site: u32, last: &Last, now: SystemTime) -> Vec<Line> {
        let stats = &last.stats;
        let known = self.sessions.get(session);
        let changed = known.and_then(|s| s.why.as_ref());
        // What became of one site says more of it than what became of all.
        let changed = changed.filter(|_| stats.state != RETIRED);
        let state = changed.map_or(stats.state.as_str(), |(state, _)| state.as_str());
        let tone = match state {
            "armed" => Tone::Good,
            "quarantined" => Tone::Bad,
            _ => Tone::Warning,
        };
        let lost = stats.losses.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        let cell = |tone, text: String| Line::new().with(tone, &text);
        let number = |n: Option<f64>| cell(Tone::Plain, n.map_or_else(|| "-".to_owned(), three));
        let ttl = known.filter(|_| !stats.is_final).map(|s| {
            let spent = now.duration_since(s.attached).unwrap_or(Duration::ZERO);
            clock(s.ttl.saturating_sub(spent).as_secs())
        });
        vec![
            cell(Tone::Strong, self.site(session, site).0),
            cell(tone, state.to_owned()),
            cell(Tone::Plain, stats.hits.to_string()),
            number(last.rate),
            cell(if lost > 0 { Tone::Warning } else { Tone::Plain }, lost.to_string()),
            number(stats.ns_per_hit),
            number(stats.core_share.map(|share| share * 100.0)),
            cell(Tone::Plain, ttl.unwrap_or_else(|| "-".to_owned())),
            cell(Tone::Plain, why(stats, changed)),
        ]
    }
}

/// How a site is called.
fn name(site: &Site) -> String {
    match &site.symbol {
        Some(symbol) if site.offset == 0 => format!("{}:{symbol}", site.module),
        Some(symbol) => format!("{}:{symbol}+{:#x}", site.module, site.offset),
        None => format!("{}:{}", site.module, site.address),
    }
}

/// The words in the last column: reason of the state, losses by name, and what else a number does not say.
fn why(stats: &Stats, changed: Option<&(String, String)>) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some((_, reason)) = changed {
        parts.push(reason.clone());
    }
    parts.extend(stats.losses.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{n} {name}")));
    if stats.condition_false > 0 {
        parts.push(format!("{} condition false", stats.condition_false));
    }
    if stats.state == RETIRED {
        parts.push("its module was unloaded".to_owned());
    }
    if stats.is_final && stats.hits == 0 {
        parts.push("never reached while attached".to_owned());
    }
    parts.join(", ")
}
