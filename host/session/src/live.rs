//! A live session: the probe is in the target, and what it says is read.

use std::time::{Duration, Instant};

use trocar_abi::evidence::Which;
use trocar_abi::loss::Loss;
use trocar_abi::shared::ProbeState;
use trocar_collect::{Collector, Decoded, NamedRow, SiteTotals, decode, named_rows};
use trocar_inject::{Attachment, Look, RemoteMemory};
use trocar_package::FieldValue;
use trocar_symbols::LoadedModule;
use trocar_target::{Failure, FailureKind, Process};

use crate::arrivals::Arrivals;
use crate::budget::{CoreBudget, Verdict};
use crate::come::providers;
use crate::evidence::Reader;
use crate::kept::Kept;
use crate::name::session_name;
use crate::part::Part;
use crate::prepare::{Prepared, unless_it_ended};
use crate::probe::{Probe, Surroundings};
use crate::reply::{
    Attached, Event, Exited, LogLine, MapRows, Receipt, Reply, Row, Site, StateChange, Stats, Value,
};

/// How often new threads' stacks are looked for and the pool is refilled.
const TEND_EVERY: Duration = Duration::from_millis(20);

/// What a turn of [`Session::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All is well.
    Live,
    /// The probe was quarantined or disarmed, or its time is over: nothing more will come.
    Over,
    /// The target ended.
    Ended,
}

/// A probe in a target.
#[derive(Debug)]
pub struct Session {
    pub(crate) pid: i32,
    pub(crate) id: String,
    pub(crate) probe: Probe,
    pub(crate) around: Surroundings,
    /// What is in the target, in the order in which it came.
    pub(crate) parts: Vec<Part>,
    /// What is not any more.
    pub(crate) kept: Kept,
    pub(crate) arrivals: Arrivals,
    pub(crate) providers: Vec<LoadedModule>,
    /// What was attached, and what has come since.
    pub(crate) attached: Attached,
    /// For each number of a site, also of those that were left out, whether its module was unloaded.
    pub(crate) retired: Vec<bool>,
    pub(crate) state: &'static str,
    why: String,
    /// Nothing more will come.
    pub(crate) over: bool,
    began: Instant,
    expires: Instant,
    tended: Instant,
    /// When records were granted last.
    granted: Instant,
    budget: Option<CoreBudget>,
    /// Hits of some part run as native code.
    pub(crate) native: bool,
    ticks_per_ns: f64,
    reported: (Instant, Vec<u64>),
    corrupt: Vec<String>,
    evidence: Reader,
    /// The functions of `return:` points.
    pub(crate) functions: Vec<String>,
    memory: Option<RemoteMemory>,
    /// The threads, when they were looked at last.
    look: Option<Look>,
    /// It was said that the probe may not read memory.
    told_reads: bool,
}

impl Session {
    pub(crate) fn attach(prepared: Prepared) -> Result<Self, Failure> {
        let Prepared { probe, planned, loaded, strict } = prepared;
        let (pid, around) = (loaded.process.pid, Surroundings::of(&loaded));
        let manifest = &probe.verified.manifest;
        let mut part = if planned.sites.is_empty() {
            None
        } else {
            let plan = probe.attach_plan(&planned, &loaded, &around)?;
            Some(Part::attach(&plan, &probe, &planned)?)
        };
        let native = part.as_ref().is_some_and(|p| p.stub_fuel.is_some());
        let numbers = planned.sites.len();
        let (sites, occupied) = match &part {
            Some(part) => part.armed(planned.sites),
            None => Default::default(),
        };
        if let (true, Some(refused), Some(part)) = (strict, occupied.first(), &mut part) {
            part.attachment.detach()?;
            let what =
                format!("a site is refused: {} at {}: {}", refused.point, refused.address, refused.detail);
            return Err(
                Failure::new(FailureKind::NothingPatched, what).hint("try again, or without --strict")
            );
        }
        let attachment = part.as_ref().map(|p| &p.attachment);
        let attached = Attached {
            v: 1,
            pid,
            session: session_name(pid),
            probe: manifest.name.clone(),
            limits: probe.limits,
            refusals: planned.refusals.into_iter().chain(occupied).collect(),
            pending: planned.pending,
            attach_ns: attachment.map_or(0, Attachment::attach_ns),
            pause_ns: attachment.map_or(0, |a| a.stops().longest()),
            threads: attachment.map_or(0, Attachment::threads),
            tier: if native { 2 } else { 1 },
            sites,
        };
        let evidence = Reader {
            wasm: probe.verified.wasm.clone(),
            code: probe.code.clone(),
            handlers: probe.verified.handlers.iter().map(|h| h.name.clone()).collect(),
            go: around.go,
        };
        let now = Instant::now();
        let share = probe.limits.max_core_percent.map(|percent| percent / 100.0);
        Ok(Self {
            began: now,
            granted: now,
            budget: share.map(|share| CoreBudget::new(share, Duration::ZERO)),
            pid,
            id: attached.session.clone(),
            arrivals: Arrivals::after(pid, &loaded.found),
            providers: providers(&loaded, &probe.points),
            around,
            kept: Kept::default(),
            retired: vec![false; numbers],
            reported: (now, vec![0; numbers]),
            expires: now + Duration::from_nanos(probe.limits.ttl_ns),
            native,
            ticks_per_ns: probe.ticks.per_nanosecond(),
            probe,
            parts: part.into_iter().collect(),
            attached,
            state: "armed",
            why: String::new(),
            over: false,
            tended: now,
            corrupt: Vec::new(),
            evidence,
            functions: planned.functions,
            memory: RemoteMemory::open(pid).ok(),
            look: None,
            told_reads: false,
        })
    }

    /// Whether the target still is the program that the probe was put into.
    fn is_there(&self) -> bool {
        let alive = || self.memory.as_ref().is_some_and(RemoteMemory::is_alive);
        self.parts.first().map_or_else(alive, |part| part.attachment.is_there())
    }

    /// What was attached.
    #[must_use]
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// The sites.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.attached.sites
    }

    /// The stops of the whole target so far, in nanoseconds.
    #[must_use]
    pub fn stops(&self) -> Vec<u64> {
        self.parts.iter().flat_map(|p| &p.attachment.stops().nanoseconds).copied().collect()
    }

    /// Why the session is over, for people.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The probe's state: armed, quarantined, suspended or expired.
    #[must_use]
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// Hits that were executed so far, over all sites; where calls are timed, at their exits.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.parts.iter().fold(self.kept.executed, |n, part| n.saturating_add(part.executed()))
    }

    /// Reads what the probe wrote, and keeps house. To be called some tens of times a second.
    ///
    /// # Errors
    /// A failure of ours; that the target ended is no failure.
    pub fn poll(&mut self, say: &mut dyn FnMut(Reply)) -> Result<Turn, Failure> {
        self.drain(say);
        self.grant();
        if !self.is_there() {
            say(Reply::Exited(Exited { pid: self.pid, session: self.id.clone(), how: self.how_it_ended() }));
            return Ok(Turn::Ended);
        }
        if self.tended.elapsed() >= TEND_EVERY {
            self.tended = Instant::now();
            match self.tend() {
                // Ended between the look above and now: the next turn says so.
                Err(failure) if failure.kind == FailureKind::NoProcess => {}
                other => other?,
            }
            self.bill(say);
            self.follow_modules(say)?;
        }
        self.tell_reads(say);
        if self.over {
            return Ok(Turn::Over);
        }
        self.look_at_state(say)?;
        Ok(if self.over { Turn::Over } else { Turn::Live })
    }

    /// The housekeeping of all parts, by one look at the process.
    fn tend(&mut self) -> Result<(), Failure> {
        match &mut self.look {
            Some(look) => look.again()?,
            None => self.look = Some(Look::at(self.pid)?),
        }
        let Some(look) = &self.look else { return Ok(()) };
        for part in &mut self.parts {
            match part.attachment.tend(look) {
                // A stop that took too long is tried again; the pool is only low, not empty.
                Err(failure) if failure.kind == FailureKind::NothingPatched => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Lets the probe write the records that it may write in the time since the last turn.
    fn grant(&mut self) {
        let Some(rate) = self.attached.limits.records_per_second else { return };
        let rate64 = u64::from(rate);
        let elapsed = u64::try_from(self.granted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let records = (elapsed / 1000).saturating_mul(rate64) / 1_000_000;
        // The part of a record that is left stays for the next turn.
        self.granted += Duration::from_micros(records.saturating_mul(1_000_000) / rate64.max(1));
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(1);
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        for (part, n) in self.parts.iter().zip(0u32..) {
            let more = records / parts + u32::from(n < records % parts);
            part.collector.grant_records(more, rate.div_ceil(parts));
        }
    }

    /// Bills the probe for its share of a core; suspends it, or lets it go on.
    fn bill(&mut self, say: &mut dyn FnMut(Reply)) {
        let Some(budget) = &mut self.budget else { return };
        let fuel = self.parts.iter().fold(self.kept.fuel, |sum, part| sum.saturating_add(part.fuel()));
        // None of the hits of native code is timed: what the few others took says nothing of them.
        let units = self.parts.iter().filter_map(|part| part.collector.unit_ns());
        let unit = units.reduce(f64::min).filter(|_| !self.native);
        let verdict = budget.bill(fuel, unit, self.began.elapsed());
        let limit = budget.limit() * 100.0;
        // All of them, whichever were armed.
        let all = |change: fn(&Collector) -> bool| {
            self.parts.iter().filter(|part| change(&part.collector)).count() > 0
        };
        match verdict {
            Verdict::Suspend { share, during } if all(Collector::suspend) => {
                let (share, ms) = (share * 100.0, during.as_millis());
                let why = format!(
                    "used {share:.1} % of a core for {ms} ms, limit {limit} % of a second; goes on in the next one"
                );
                self.change("suspended", why, say);
            }
            Verdict::Resume if all(Collector::resume) => {
                self.change("armed", format!("has {limit} % of a core for another second"), say);
            }
            Verdict::Suspend { .. } | Verdict::Resume | Verdict::Go => {}
        }
    }

    fn change(&mut self, state: &'static str, why: String, say: &mut dyn FnMut(Reply)) {
        self.state = state;
        self.why = why;
        let which = (state == "quarantined").then_some(Which::Last);
        say(Reply::State(self.state_change(self.why.clone(), which)));
    }

    fn look_at_state(&mut self, say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        if let Some(fault) = self.corrupt.first() {
            // Whoever wrote there was not the agent: nothing that this memory says can be believed any more.
            let why = format!("{fault}; something in the process writes into our memory");
            return self.end("quarantined", why, say);
        }
        for part in &self.parts {
            let status = part.collector.status();
            let (state, why) = match status.state {
                ProbeState::Armed | ProbeState::Suspended => continue,
                ProbeState::Off => ("suspended", "switched off, with all others: trocar off".to_owned()),
                ProbeState::Quarantined => {
                    let site = site(&self.attached.sites, part.site(status.trap_site));
                    let place = site.map_or_else(String::new, |s| format!(" at {}", s.point));
                    let what = status.trap_code.text();
                    let thread = status.trap_tid;
                    let bad = format!("{} bad hits in all", self.traps());
                    ("quarantined", format!("{what}{place} in thread {thread}; {bad}"))
                }
                ProbeState::Disarmed => {
                    ("quarantined", "the agent disarmed itself: a bug of ours, please report it".to_owned())
                }
            };
            return self.end(state, why, say);
        }
        if Instant::now() >= self.expires {
            return self.end("expired", "its time to live is over".to_owned(), say);
        }
        // No part has had so many, but all have together.
        let (traps, limit) = (self.traps(), self.attached.limits.traps);
        if traps >= limit && self.parts.iter().all(|part| part.collector.status().traps < limit) {
            return self.end("quarantined", format!("{traps} bad hits in all"), say);
        }
        Ok(())
    }

    /// Traps and out-of-fuel hits so far.
    fn traps(&self) -> u32 {
        let parts = self.parts.iter().map(|part| part.collector.status().traps);
        parts.fold(self.kept.traps, u32::saturating_add)
    }

    /// Ends what the probe does, whatever the reason.
    fn end(&mut self, state: &'static str, why: String, say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        self.over = true;
        // The agent closes the gates itself when it quarantines; this also covers the other states.
        for part in &self.parts {
            match part.attachment.close_gates() {
                Err(failure) if failure.kind != FailureKind::NoProcess => return Err(failure),
                _ => {}
            }
        }
        self.change(state, why, say);
        Ok(())
    }

    /// What is to be said of the state, with the evidence of a hit.
    fn state_change(&self, why: String, which: Option<Which>) -> StateChange {
        let of = |w| self.parts.iter().find_map(|part| self.evidence.of(w, part, &self.attached.sites));
        let evidence = which.and_then(of);
        StateChange {
            pid: self.pid,
            session: self.id.clone(),
            probe: self.attached.probe.clone(),
            state: self.state.into(),
            why,
            evidence: evidence.map(Box::new),
        }
    }

    /// That the probe finds no memory readable is said once, when it begins.
    fn tell_reads(&mut self, say: &mut dyn FnMut(Reply)) {
        if !self.told_reads && self.parts.iter().any(Part::is_kept_from_reading) {
            self.told_reads = true;
            let why = "a seccomp filter of the process forbids process_vm_readv: read and read_str answer EPERM, and a marker's arguments that lie in memory are zero";
            self.change(self.state, why.to_owned(), say);
        }
    }

    /// Hits that trapped and were too few for a quarantine are told at the end, with the first of them.
    fn tell_traps(&self, say: &mut dyn FnMut(Reply)) {
        let traps = self.traps();
        if traps > 0 && self.state != "quarantined" {
            let limit = self.attached.limits.traps;
            let why = format!("bad hits: {traps}, of the {limit} that bring a quarantine; this is the first");
            say(Reply::State(self.state_change(why, Some(Which::First))));
        }
    }

    fn how_it_ended(&self) -> String {
        match Process::inspect(self.pid) {
            Ok(process) if !process.ended => "it started another program (exec)".into(),
            _ => "it ended".into(),
        }
    }

    /// Hands out the records that have come.
    fn drain(&mut self, say: &mut dyn FnMut(Reply)) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.iter_mut().for_each(|part| self.drain_part(part, say));
        self.parts = parts;
    }

    /// The same for one part.
    pub(crate) fn drain_part(&mut self, part: &mut Part, say: &mut dyn FnMut(Reply)) {
        let (pid, manifest) = (self.pid, &self.probe.verified.manifest);
        let Part { collector, sites, .. } = part;
        let drained = collector.records(|record| {
            let tid = record.head.tid;
            let site = usize::try_from(record.head.site).ok().and_then(|i| sites.get(i).copied());
            let site = site.unwrap_or(u32::MAX);
            let (session, probe) = (self.id.clone(), manifest.name.clone());
            say(match decode(manifest, &record.head, record.payload) {
                Decoded::Event { name, fields } => {
                    let fields = fields.into_iter().map(|(n, v)| (n, value(v))).collect();
                    Reply::Event(Event { pid, session, probe, site, tid, name, fields })
                }
                Decoded::Log { level, message } => {
                    Reply::Log(LogLine { pid, session, probe, site, tid, level: level.into(), message })
                }
            });
        });
        self.corrupt.extend(drained.faults.iter().map(ToString::to_string));
    }

    /// Reports counters and maps as they are now.
    pub fn report(&mut self, is_final: bool, say: &mut dyn FnMut(Reply)) {
        let mut totals = self.kept.totals(self.retired.len());
        self.parts.iter_mut().for_each(|part| part.add_totals(&mut totals));
        let elapsed = self.reported.0.elapsed().as_nanos().max(1);
        let before = std::mem::take(&mut self.reported.1);
        for (index, total) in totals.iter().enumerate() {
            if u32::try_from(index).ok().and_then(|i| site(&self.attached.sites, i)).is_none() {
                continue;
            }
            let total = if is_final { total.over() } else { total.settled() };
            let ns_per_hit = total.mean_ticks().map(|ticks| ticks / self.ticks_per_ns);
            let ns_per_hit = ns_per_hit.filter(|ns| ns.is_finite() && !self.native);
            #[expect(clippy::cast_precision_loss, reason = "a share for people, from counts far below 2^52")]
            let share = ns_per_hit.map(|ns| {
                let new = ran(&total).saturating_sub(before.get(index).copied().unwrap_or(0));
                ns * new as f64 / elapsed as f64
            });
            say(Reply::Stats(self.stats(index, &total, ns_per_hit, share, is_final)));
        }
        self.reported = (Instant::now(), totals.iter().map(ran).collect());
        for (index, map) in self.probe.verified.manifest.maps.iter().enumerate() {
            let Some(merged) = self.kept.map(index, &self.parts) else { continue };
            let dropped =
                if let trocar_collect::MergedMap::Hash { dropped, .. } = &merged { *dropped } else { 0 };
            say(Reply::Map(MapRows {
                pid: self.pid,
                session: self.id.clone(),
                probe: self.attached.probe.clone(),
                name: map.name.clone(),
                map_type: map.kind.kind().name().into(),
                rows: named_rows(map, &merged).into_iter().map(|r| self.row(r)).collect(),
                dropped,
            }));
        }
        if self.times_calls() {
            let parts = self.parts.iter().map(|part| part.collector.status().abandoned);
            let abandoned = parts.fold(self.kept.abandoned, u64::saturating_add).cast_signed();
            let key = vec![("name".to_owned(), Value::Text("calls whose end was not seen".into()))];
            say(Reply::Map(MapRows {
                pid: self.pid,
                session: self.id.clone(),
                probe: self.attached.probe.clone(),
                name: "abandoned".into(),
                map_type: "counter".into(),
                rows: if abandoned == 0 { Vec::new() } else { vec![Row::Keyed { key, value: abandoned }] },
                dropped: 0,
            }));
        }
    }

    /// Entries of functions are sites, to time their calls.
    fn times_calls(&self) -> bool {
        self.probe.spans && !self.functions.is_empty()
    }

    fn row(&self, row: NamedRow) -> Row {
        match row {
            NamedRow::Keyed { key, value: sum } => {
                Row::Keyed { key: key.into_iter().map(|(n, v)| (n, value(v))).collect(), value: sum }
            }
            NamedRow::Bucket { entry, lo, hi, count } => {
                // Where calls are timed, the entries of a histogram are the functions.
                let function = entry.filter(|_| self.times_calls()).and_then(|e| usize::try_from(e).ok());
                let name = function.and_then(|e| self.functions.get(e)).cloned();
                Row::Bucket { entry, name, lo, hi, count }
            }
        }
    }

    fn stats(
        &self,
        index: usize,
        t: &SiteTotals,
        ns: Option<f64>,
        share: Option<f64>,
        is_final: bool,
    ) -> Stats {
        Stats {
            pid: self.pid,
            session: self.id.clone(),
            probe: self.attached.probe.clone(),
            site: u32::try_from(index).unwrap_or(u32::MAX),
            hits: t.hits,
            executed: t.executed,
            condition_false: t.condition_false,
            losses: t.losses_by_name().collect(),
            ns_per_hit: ns,
            core_share: share,
            state: if self.retired.get(index) == Some(&true) { "retired" } else { self.state }.into(),
            is_final,
        }
    }

    /// Takes the probe out of the target, reads the last of what it wrote, and gives the receipt.
    ///
    /// # Errors
    /// The target would not be stopped: the receipt, which is said all the same, tells what is left. Or it ended.
    pub fn detach(mut self, say: &mut dyn FnMut(Reply)) -> Result<Receipt, Failure> {
        let began = Instant::now();
        let mut done = std::mem::take(&mut self.kept.detached);
        done.restored_ns = 0;
        let mut failed = None;
        let mut retired = Vec::new();
        // None counts longer than another.
        self.parts.iter().for_each(|part| drop(part.attachment.close_gates()));
        let now = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for part in &mut self.parts {
            let start = now();
            let mut one = part.attachment.detach().unwrap_or_else(|failure| {
                let remains = part.attachment.remains(&failure);
                failed.get_or_insert(failure);
                remains
            });
            one.restored_ns = one.restored_ns.saturating_add(start);
            retired.extend(part.numbers(&one.retired));
            done.add(one);
        }
        self.set_retired(&retired, true);
        // Every hit is over now: these are the exact numbers. To find out where a trap was may take its time.
        self.drain(say);
        self.tell_traps(say);
        self.report(true, say);
        let failed = failed.map(|failure| unless_it_ended(self.pid, failure));
        if let Some(ended) = failed.clone().filter(|failure| failure.kind == FailureKind::NoProcess) {
            return Err(ended);
        }
        let (before, after) = done.sha256();
        let receipt = Receipt {
            pid: self.pid,
            session: self.id.clone(),
            sites: self.attached.sites.len(),
            retired: self.attached.sites.iter().filter(|site| self.is_retired(site.site)).count(),
            restored: done.restored,
            text_sha256_before: before,
            text_sha256_after: after,
            mappings_left: done.mappings_left,
            residue: done.residue.into_iter().chain(self.corrupt).collect(),
            restored_ns: done.restored_ns,
            detach_ns: now(),
            pause_ns: done.pause_ns,
        };
        say(Reply::Receipt(receipt.clone()));
        failed.map_or(Ok(receipt), Err)
    }

    /// The last of what the probe wrote, after the target ended: the rings outlive it.
    pub fn last_words(mut self, say: &mut dyn FnMut(Reply)) {
        self.drain(say);
        self.tell_traps(say);
        self.report(true, say);
    }
}

/// The site with an index; `None`: it was left out.
pub(crate) fn site(sites: &[Site], index: u32) -> Option<&Site> {
    sites.binary_search_by_key(&index, |s| s.site).ok().and_then(|at| sites.get(at))
}

/// Hits in which the handler ran: those of a suspended probe, and those that were left out, take no time worth a share.
fn ran(total: &SiteTotals) -> u64 {
    let idle = [Loss::Suspended, Loss::SampledOut].map(|loss| total.losses.get(loss as usize).copied());
    idle.into_iter().flatten().fold(total.hits, u64::saturating_sub)
}

fn value(value: FieldValue) -> Value {
    match value {
        FieldValue::Int(n) => Value::Int(n),
        FieldValue::Uint(n) => Value::Uint(n),
        FieldValue::Hex(n) => Value::Text(format!("{n:#x}")),
        FieldValue::Float(n) => Value::Float(n),
        FieldValue::Text(text) => Value::Text(text),
    }
}
