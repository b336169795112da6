//! A live session: the probe is in the target, and what it says is read.

use std::time::{Duration, Instant};

use trocar_abi::evidence::Which;
use trocar_abi::import::Capability;
use trocar_abi::loss::Loss;
use trocar_abi::shared::{HIT_FUEL, ProbeState, SPAN_FUEL};
use trocar_collect::{Collector, Decoded, NamedRow, SiteTotals, decode, named_rows};
use trocar_inject::{Attachment, Span};
use trocar_package::{FieldValue, Manifest};
use trocar_target::{Failure, FailureKind, Process};

use crate::budget::{CoreBudget, Verdict};
use crate::evidence::Reader;
use crate::name::session_name;
use crate::prepare::{Prepared, unless_it_ended};
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
    pid: i32,
    id: String,
    probe: String,
    manifest: Manifest,
    attachment: Attachment,
    collector: Collector,
    attached: Attached,
    state: &'static str,
    why: String,
    /// Nothing more will come.
    over: bool,
    began: Instant,
    expires: Instant,
    tended: Instant,
    /// When records were granted last.
    granted: Instant,
    budget: Option<CoreBudget>,
    /// For each site, what a hit costs besides its handler, in fuel, and whether it is one that `--hits` counts.
    prices: Vec<(u64, bool)>,
    /// Fuel that a hit of the native code is billed, where there is such code.
    stub_fuel: Option<u64>,
    reported: (Instant, Vec<u64>),
    corrupt: Vec<String>,
    evidence: Reader,
    /// The functions of `return:` points.
    functions: Vec<String>,
    times_calls: bool,
    /// The probe reads memory, and nobody was told yet that it may not.
    untold_reads: bool,
}

fn bug(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Bug, message)
}

impl Session {
    pub(crate) fn attach(prepared: Prepared) -> Result<Self, Failure> {
        let plan = prepared.attach_plan()?;
        let mut attachment = Attachment::attach(&plan)?;
        let (specs, _) = prepared.verified.manifest.map_specs();
        let rate = prepared.ticks.per_nanosecond();
        let collector = match Collector::new(attachment.view(), attachment.layout(), specs, rate) {
            Ok(collector) => collector,
            Err(error) => {
                attachment.detach()?;
                return Err(bug(format!("the shared memory is not as we made it: {error}")));
            }
        };
        let untold_reads = prepared.verified.capabilities.contains(&Capability::Memory);
        let evidence = Reader {
            wasm: prepared.verified.wasm,
            code: prepared.code,
            handlers: plan.probe.handlers,
            go: plan.go,
        };
        let (pid, manifest) = (plan.process.pid, prepared.verified.manifest);
        let times_calls = prepared.planned.sites.iter().any(|s| s.span == Span::Entry);
        let functions = prepared.planned.functions;
        let price = |span: Span| match span {
            Span::None => (HIT_FUEL, true),
            Span::Entry => (HIT_FUEL + SPAN_FUEL, false),
            Span::Exit => (HIT_FUEL + SPAN_FUEL, true),
        };
        let prices = prepared.planned.sites.iter().map(|s| price(s.span)).collect();
        let sites: Vec<Site> = prepared.planned.sites.into_iter().map(|s| s.site).collect();
        let attached = Attached {
            v: 1,
            pid,
            session: session_name(pid),
            probe: manifest.name.clone(),
            limits: prepared.limits,
            refusals: prepared.planned.refusals,
            attach_ns: attachment.attach_ns(),
            pause_ns: attachment.stops().longest(),
            threads: attachment.threads(),
            tier: if attachment.has_stub() { 2 } else { 1 },
            sites,
        };
        let stub_fuel = plan.probe.stub.filter(|_| attachment.has_stub()).map(|s| s.fuel);
        let now = Instant::now();
        let share = prepared.limits.max_core_percent.map(|percent| percent / 100.0);
        Ok(Self {
            began: now,
            granted: now,
            budget: share.map(|share| CoreBudget::new(share, Duration::ZERO)),
            prices,
            stub_fuel,
            pid,
            id: attached.session.clone(),
            probe: manifest.name.clone(),
            reported: (now, vec![0; attached.sites.len()]),
            expires: now + Duration::from_nanos(prepared.limits.ttl_ns),
            manifest,
            attachment,
            collector,
            attached,
            state: "armed",
            why: String::new(),
            over: false,
            tended: now,
            corrupt: Vec::new(),
            evidence,
            functions,
            times_calls,
            untold_reads,
        })
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
    pub fn stops(&self) -> &[u64] {
        &self.attachment.stops().nanoseconds
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
        let totals = self.collector.totals();
        let counted = totals.iter().zip(&self.prices).filter(|(_, (_, counts))| *counts);
        counted.fold(0, |n, (t, _)| n.saturating_add(t.executed))
    }

    /// Reads what the probe wrote, and keeps house. To be called some tens of times a second.
    ///
    /// # Errors
    /// A failure of ours; that the target ended is no failure.
    pub fn poll(&mut self, say: &mut dyn FnMut(Reply)) -> Result<Turn, Failure> {
        self.drain(say);
        self.grant();
        if !self.attachment.is_there() {
            say(Reply::Exited(Exited { pid: self.pid, session: self.id.clone(), how: self.how_it_ended() }));
            return Ok(Turn::Ended);
        }
        if self.tended.elapsed() >= TEND_EVERY {
            self.tended = Instant::now();
            match self.attachment.tend() {
                // Ended between the look above and now: the next turn says so.
                Err(failure) if failure.kind == FailureKind::NoProcess => {}
                // A stop that took too long is tried again; the pool is only low, not empty.
                Err(failure) if failure.kind == FailureKind::NothingPatched => {}
                other => other?,
            }
            self.bill(say);
        }
        self.tell_reads(say);
        if self.over {
            return Ok(Turn::Over);
        }
        self.look_at_state(say)?;
        Ok(if self.over { Turn::Over } else { Turn::Live })
    }

    /// Lets the probe write the records that it may write in the time since the last turn.
    fn grant(&mut self) {
        let Some(rate) = self.attached.limits.records_per_second else { return };
        let rate64 = u64::from(rate);
        let elapsed = u64::try_from(self.granted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let records = (elapsed / 1000).saturating_mul(rate64) / 1_000_000;
        // The part of a record that is left stays for the next turn.
        self.granted += Duration::from_micros(records.saturating_mul(1_000_000) / rate64.max(1));
        self.collector.grant_records(u32::try_from(records).unwrap_or(u32::MAX), rate);
    }

    /// Bills the probe for its share of a core; suspends it, or lets it go on.
    fn bill(&mut self, say: &mut dyn FnMut(Reply)) {
        let Some(budget) = &mut self.budget else { return };
        // Read before the hits, so that they are not more.
        let stub_hits = self.collector.stub_hits();
        let totals = self.collector.totals();
        let ways = totals.iter().zip(&self.prices);
        let fuel = ways.fold(self.collector.fuel(), |sum, (site, (price, _))| {
            sum.saturating_add(site.hits.saturating_mul(*price))
        });
        // Hits of native code cost less, and none of them is timed: what the few others took says nothing of them.
        let (fuel, unit) = match self.stub_fuel {
            Some(price) => {
                let others = fuel.saturating_sub(stub_hits.saturating_mul(HIT_FUEL));
                (others.saturating_add(stub_hits.saturating_mul(price)), None)
            }
            None => (fuel, self.collector.unit_ns()),
        };
        let verdict = budget.bill(fuel, unit, self.began.elapsed());
        let limit = budget.limit() * 100.0;
        match verdict {
            Verdict::Suspend { share, during } if self.collector.suspend() => {
                let (share, ms) = (share * 100.0, during.as_millis());
                let why = format!(
                    "used {share:.1} % of a core for {ms} ms, limit {limit} % of a second; goes on in the next one"
                );
                self.change("suspended", why, say);
            }
            Verdict::Resume if self.collector.resume() => {
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
        let status = self.collector.status();
        let (state, why) = match status.state {
            ProbeState::Armed | ProbeState::Suspended if Instant::now() >= self.expires => {
                ("expired", "its time to live is over".to_owned())
            }
            ProbeState::Armed | ProbeState::Suspended => return Ok(()),
            ProbeState::Off => ("suspended", "switched off, with all others: trocar off".to_owned()),
            ProbeState::Quarantined => {
                let site = usize::try_from(status.trap_site).ok().and_then(|i| self.attached.sites.get(i));
                let place = site.map_or_else(String::new, |s| format!(" at {}", s.point));
                let what = status.trap_code.text();
                let thread = status.trap_tid;
                ("quarantined", format!("{what}{place} in thread {thread}; {} bad hits in all", status.traps))
            }
            ProbeState::Disarmed => {
                ("quarantined", "the agent disarmed itself: a bug of ours, please report it".to_owned())
            }
        };
        self.end(state, why, say)
    }

    /// Ends what the probe does, whatever the reason.
    fn end(&mut self, state: &'static str, why: String, say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        self.over = true;
        // The agent closes the gates itself when it quarantines; this also covers the other states.
        match self.attachment.close_gates() {
            Err(failure) if failure.kind != FailureKind::NoProcess => return Err(failure),
            _ => {}
        }
        self.change(state, why, say);
        Ok(())
    }

    /// What is to be said of the state, with the evidence of a hit.
    fn state_change(&self, why: String, which: Option<Which>) -> StateChange {
        let evidence = which.and_then(|w| self.evidence.of(w, &self.collector, &self.attached.sites));
        StateChange {
            pid: self.pid,
            session: self.id.clone(),
            probe: self.probe.clone(),
            state: self.state.into(),
            why,
            evidence: evidence.map(Box::new),
        }
    }

    /// That the probe finds no memory readable is said once, when it begins.
    fn tell_reads(&mut self, say: &mut dyn FnMut(Reply)) {
        if self.untold_reads && self.attachment.forbids_reading() {
            self.untold_reads = false;
            let why =
                "a seccomp filter of the process forbids process_vm_readv: read and read_str answer EPERM";
            self.change(self.state, why.to_owned(), say);
        }
    }

    /// Hits that trapped and were too few for a quarantine are told at the end, with the first of them.
    fn tell_traps(&self, say: &mut dyn FnMut(Reply)) {
        let traps = self.collector.status().traps;
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
        let (pid, manifest) = (self.pid, &self.manifest);
        let (session, probe) = (&self.id, &self.probe);
        let drained = self.collector.records(|record| {
            let (site, tid) = (record.head.site, record.head.tid);
            let (session, probe) = (session.clone(), probe.clone());
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
        let mut totals = self.collector.totals();
        let no_room = Loss::NoStackRoom as usize;
        for (site, turned_away) in totals.iter_mut().zip(self.attachment.turned_away()) {
            // Counted by the trampoline, before the agent could count the hit.
            site.hits = site.hits.saturating_add(*turned_away);
            if let Some(loss) = site.losses.get_mut(no_room) {
                *loss = loss.saturating_add(*turned_away);
            }
        }
        let elapsed = self.reported.0.elapsed().as_nanos().max(1);
        let before = std::mem::take(&mut self.reported.1);
        for (index, total) in totals.iter().enumerate() {
            let total = if is_final { *total } else { total.settled() };
            let ns_per_hit = self.collector.ns_per_hit(&total).filter(|_| self.stub_fuel.is_none());
            #[expect(clippy::cast_precision_loss, reason = "a share for people, from counts far below 2^52")]
            let share = ns_per_hit.map(|ns| {
                let new = ran(&total).saturating_sub(before.get(index).copied().unwrap_or(0));
                ns * new as f64 / elapsed as f64
            });
            say(Reply::Stats(self.stats(index, &total, ns_per_hit, share, is_final)));
        }
        self.reported = (Instant::now(), totals.iter().map(ran).collect());
        for (index, map) in self.manifest.maps.iter().enumerate() {
            let Some(merged) = self.collector.map(index) else { continue };
            let dropped =
                if let trocar_collect::MergedMap::Hash { dropped, .. } = &merged { *dropped } else { 0 };
            say(Reply::Map(MapRows {
                pid: self.pid,
                session: self.id.clone(),
                probe: self.probe.clone(),
                name: map.name.clone(),
                map_type: map.kind.kind().name().into(),
                rows: named_rows(map, &merged).into_iter().map(|r| self.row(r)).collect(),
                dropped,
            }));
        }
        if self.times_calls {
            let abandoned = self.collector.status().abandoned.cast_signed();
            let key = vec![("name".to_owned(), Value::Text("calls whose end was not seen".into()))];
            say(Reply::Map(MapRows {
                pid: self.pid,
                session: self.id.clone(),
                probe: self.probe.clone(),
                name: "abandoned".into(),
                map_type: "counter".into(),
                rows: if abandoned == 0 { Vec::new() } else { vec![Row::Keyed { key, value: abandoned }] },
                dropped: 0,
            }));
        }
    }

    fn row(&self, row: NamedRow) -> Row {
        match row {
            NamedRow::Keyed { key, value: sum } => {
                Row::Keyed { key: key.into_iter().map(|(n, v)| (n, value(v))).collect(), value: sum }
            }
            NamedRow::Bucket { entry, lo, hi, count } => {
                // Where calls are timed, the entries of a histogram are the functions.
                let function = entry.filter(|_| self.times_calls).and_then(|e| usize::try_from(e).ok());
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
            probe: self.probe.clone(),
            site: u32::try_from(index).unwrap_or(u32::MAX),
            hits: t.hits,
            executed: t.executed,
            condition_false: t.condition_false,
            losses: t.losses_by_name().collect(),
            ns_per_hit: ns,
            core_share: share,
            state: self.state.into(),
            is_final,
        }
    }

    /// Takes the probe out of the target, reads the last of what it wrote, and gives the receipt.
    ///
    /// # Errors
    /// The target would not be stopped: what is left is in the message. That it ended is no failure.
    pub fn detach(mut self, say: &mut dyn FnMut(Reply)) -> Result<Receipt, Failure> {
        let result = self.attachment.detach();
        // Every hit is over now: these are the exact numbers. To find out where a trap was may take its time.
        self.drain(say);
        self.tell_traps(say);
        self.report(true, say);
        let receipt = match result {
            Ok(done) => Receipt {
                pid: self.pid,
                session: self.id.clone(),
                sites: self.attached.sites.len(),
                restored: done.restored,
                text_sha256_before: done.sha256.0,
                text_sha256_after: done.sha256.1,
                mappings_left: done.mappings_left,
                residue: done.residue.into_iter().chain(self.corrupt).collect(),
                restored_ns: done.restored_ns,
                detach_ns: done.detach_ns,
                pause_ns: done.pause_ns,
            },
            Err(failure) => return Err(unless_it_ended(self.pid, failure)),
        };
        say(Reply::Receipt(receipt.clone()));
        Ok(receipt)
    }

    /// The last of what the probe wrote, after the target ended: the rings outlive it.
    pub fn last_words(mut self, say: &mut dyn FnMut(Reply)) {
        self.drain(say);
        self.tell_traps(say);
        self.report(true, say);
    }
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
