//! The figures as a table for people, and as JSON lines for programs.

use serde::Serialize;

use crate::attaching::{Attaching, Memory};
use crate::hits::Row;
use crate::machine::Machine;
use crate::pairs::Spread;
use crate::serving::Serving;
use crate::share::Share;
use crate::sites::Sites;

/// One JSON line.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// The machine before the first figure.
    Machine(Machine),
    /// Added time of a hit.
    Hit(Row),
    /// Attaching to a target.
    Attach(Attaching),
    /// Memory of a target.
    Memory(Memory),
    /// Attaching to very many sites.
    Sites(Sites),
    /// Throughput of redis.
    Redis(Serving),
    /// Throughput of redis under a probe that burns its fuel.
    Share(Share),
    /// A part without figures.
    Absent {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// The machine after the last figure.
    After(Machine),
}

/// Figures for people.
#[must_use]
pub fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut last = "";
    for line in lines {
        let (section, row) = of(line);
        if section != last {
            last = section;
            text.push_str(&format!("\n{section}\n"));
        }
        text.push_str(&row);
        text.push('\n');
    }
    text
}

const HITS: &str =
    "ADDED TO A CALL, NS        (min: fastest probed batch - fastest twin batch; median: within pairs)
                           (more threads than processors: processor time of each thread, of which no least is known)
THREADS  WHAT                                  FUNCTION      MIN   MEDIAN  xFLOOR   AIM         HITS  LOST";
const ATTACH: &str = "ATTACHING, MICROSECONDS    (least / median / greatest; aim: together under 50 000, longest stop at most 1.5 bare stops)";
const MEMORY: &str = "MEMORY OF THE TARGET, KIB  (growth; aim: under 1536, agent image under 800 000 bytes)";
const SITES: &str = "EVERY FUNCTION AT ONCE, MILLISECONDS    (least / median / greatest; aim: 10 000 sites attached in under 1000)";
const REDIS: &str = "REDIS, A COUNTER ON processCommand   (aim: within 2 % of none)";
const SHARE: &str =
    "REDIS, ALL FUEL BURNT AT EVERY COMMAND   (aim: 95 % of none, for a probe that has 5 % of a core)";

fn of(line: &Line) -> (&'static str, String) {
    match line {
        Line::Machine(m) => (
            "MACHINE",
            format!("{}, {} processors, Linux {}, load {}", m.processor, m.processors, m.kernel, m.load),
        ),
        Line::After(m) => ("AFTERWARDS", format!("load {}", m.load)),
        Line::Hit(row) => (HITS, hit(row)),
        Line::Attach(a) => (ATTACH, attach(a)),
        Line::Memory(m) => (MEMORY, memory(m)),
        Line::Sites(s) => (SITES, sites(s)),
        Line::Redis(r) => (REDIS, redis(r)),
        Line::Share(s) => (SHARE, share(s)),
        Line::Absent { part, why } => ("WITHOUT FIGURES", format!("{part}: {why}")),
    }
}

fn hit(row: &Row) -> String {
    let head = format!("{:>7}  {:<37} {:<10}", row.threads, row.what, row.function);
    if let Some(why) = &row.absent {
        return format!("{head} {why}");
    }
    let number = |n: Option<f64>, digits: usize| n.map_or_else(|| "-".into(), |n| format!("{n:.digits$}"));
    let hits = match (row.hits, row.calls) {
        (Some(hits), Some(calls)) if hits != calls => format!("{hits} of {calls}"),
        (Some(hits), _) => hits.to_string(),
        (None, _) => "-".into(),
    };
    let lost: Vec<String> = row.losses.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    format!(
        "{head} {:>7} {:>8} {:>7} {:>5} {:>10}  {}",
        number(row.added_min_ns, 1),
        number(row.added_median_ns, 1),
        number(row.times_floor, 1),
        number(row.aim_ns, 0),
        hits,
        if row.hits.is_none() {
            "-".into()
        } else if lost.is_empty() {
            "0".into()
        } else {
            lost.join(", ")
        },
    )
}

fn spread(s: &Spread) -> String {
    format!("{:.0} / {:.0} / {:.0}", s.min, s.median, s.max)
}

fn attach(a: &Attaching) -> String {
    let doing = format!("{:?}", a.doing).to_lowercase();
    let stops: Vec<String> = a.stops_us.iter().map(spread).collect();
    format!(
        "{} thread(s) {doing}, {} times
    prepare {}   attach {}   together {}
    text as before {} (99 in 100 under {:.0}, aim 10000)   detach {}
    stops {}
    longest stop {}   bare stop {}   ratio {:.2} (of the least {:.2}, in pairs {:.2})
    99 in 100: longest stop under {:.0}, bare under {:.0}   (aim: 100 and 15 for each thread, {})",
        a.threads,
        a.attaches,
        spread(&a.prepare_us),
        spread(&a.attach_us),
        spread(&a.ready_us),
        spread(&a.restored_us),
        a.restored_us.p99,
        spread(&a.detach_us),
        stops.join("   then "),
        spread(&a.longest_stop_us),
        spread(&a.bare_stop_us),
        a.ratio_of_medians,
        a.ratio_of_least,
        a.ratio_in_pairs,
        a.longest_stop_us.p99,
        a.bare_stop_us.p99,
        100 + 15 * a.threads,
    )
}

fn memory(m: &Memory) -> String {
    let parts = |r: &crate::memory::Resident| {
        format!(
            "{} ({} anonymous, {} file, {} shared)",
            r.total_kib(),
            r.anonymous_kib,
            r.file_kib,
            r.shared_kib
        )
    };
    format!(
        "{} thread(s), {}; agent image {} bytes
    attached {}   after hits {}   after detach {}",
        m.threads,
        m.probe,
        m.agent_image_bytes,
        parts(&m.attached),
        parts(&m.after_hits),
        parts(&m.after_detach),
    )
}

fn sites(s: &Sites) -> String {
    let spread = |s: &Spread| format!("{:.1} / {:.1} / {:.1}", s.min / 1e3, s.median / 1e3, s.max / 1e3);
    format!(
        "{}: {} sites, {} refused, {} times
    prepare {}   attach {}   longest stop {}
    text as before {}   detach {}   longest stop {}",
        s.pattern,
        s.sites,
        s.refused,
        s.attaches,
        spread(&s.prepare_us),
        spread(&s.attach_us),
        spread(&s.longest_stop_us),
        spread(&s.restored_us),
        spread(&s.detach_us),
        spread(&s.longest_stop_detaching_us),
    )
}

fn redis(r: &Serving) -> String {
    format!(
        "{} pairs of {} GET and as many SET
    requests a second {:.0} with, {:.0} without   ratio {:.3} (quartiles {:.3} to {:.3})
    runs without a probe, each beside the one before, differ by {:.3} to {:.3} (quartiles)
    processor time of a command {:.0} ns with, {:.0} ns without   ratio {:.3} (quartiles {:.3} to {:.3})
    commands counted {}, by redis {}, lost {}",
        r.pairs,
        r.requests,
        r.probed_rps,
        r.bare_rps,
        r.ratio,
        r.ratio_low,
        r.ratio_high,
        r.noise_low,
        r.noise_high,
        r.probed_cpu_ns,
        r.bare_cpu_ns,
        r.cpu_ratio,
        r.cpu_ratio_low,
        r.cpu_ratio_high,
        r.hits,
        r.commands,
        r.lost,
    )
}

fn share(s: &Share) -> String {
    format!(
        "a probe that {}, {} pairs of {} GET
    requests a second {:.0} with, {:.0} without   ratio {:.3}, the least {:.3}
    runs without a probe, each beside the one before, differ by {:.3} to {:.3} (quartiles)
    share of its processor time that redis keeps {:.3}, the least {:.3}; the probe took {:.3} of a core
    of {} commands {} were executed, {} found it suspended; suspended {} times
    {}",
        s.probe,
        s.pairs,
        s.requests,
        s.probed_rps,
        s.bare_rps,
        s.ratio,
        s.ratio_least,
        s.noise_low,
        s.noise_high,
        s.kept,
        s.kept_least,
        s.used,
        s.hits,
        s.executed,
        s.suspended,
        s.suspensions,
        s.why,
    )
}
