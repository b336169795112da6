//! A probe in a running process, through the session API: put in, looked after, taken out, its counts read.

use std::collections::BTreeMap;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use trocar_session::reply::Receipt;
use trocar_session::reply::{Reply, Row};
use trocar_session::{Prepared, Request, Session, Turn};
use trocar_target::Failure;

use crate::Trouble;
use crate::probes::Probe;

/// How long a probe that traps on every hit may take to be seen as quarantined.
const QUARANTINE: Duration = Duration::from_secs(10);

/// A probe that is in place.
#[derive(Debug)]
pub struct Probed {
    session: Session,
    /// Nanoseconds to verify, resolve, plan and compile: nothing in the target is touched by that.
    pub prepare_ns: u64,
    /// Events that were read.
    pub events: u64,
    /// Why it was suspended, each time that it was.
    pub suspensions: Vec<String>,
}

/// What a probe counted, read after it was taken out.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Hits that came.
    pub hits: u64,
    /// Hits in which the handler ran to its end.
    pub executed: u64,
    /// Losses by reason.
    pub losses: BTreeMap<&'static str, u64>,
    /// Events that were read.
    pub events: u64,
    /// Values in its histograms.
    pub values: u64,
    /// Why it was suspended, each time that it was.
    pub suspensions: Vec<String>,
    /// The proof.
    pub receipt: Receipt,
}

impl Probed {
    /// Puts a probe on a function of a process, without a limit to its share of a core.
    ///
    /// # Errors
    /// What the session says, with its hint.
    pub fn attach(pid: u32, probe: Probe, point: &str) -> Result<Self, Trouble> {
        Self::put(pid, probe, point, None, true)
    }

    /// The same on all functions that a pattern names and that can be patched.
    ///
    /// # Errors
    /// As [`Probed::attach`].
    pub fn attach_all(pid: u32, probe: Probe, pattern: &str) -> Result<Self, Trouble> {
        Self::put(pid, probe, pattern, None, false)
    }

    /// The same with such a limit; 1 is all of a core.
    ///
    /// # Errors
    /// As [`Probed::attach`].
    pub fn attach_within(
        pid: u32,
        probe: Probe,
        point: &str,
        max_core: Option<f64>,
    ) -> Result<Self, Trouble> {
        Self::put(pid, probe, point, max_core, true)
    }

    fn put(
        pid: u32,
        probe: Probe,
        point: &str,
        max_core: Option<f64>,
        strict: bool,
    ) -> Result<Self, Trouble> {
        let request = Request {
            pid: i32::try_from(pid).map_err(|e| format!("process {pid}: {e}"))?,
            wasm: probe.wasm()?,
            name: probe.name().into(),
            points: vec![probe.point(point)],
            sets: Vec::new(),
            fuel: None,
            memory: None,
            ttl: None,
            rate: None,
            max_core,
            sample: 1,
            native: probe.is_native() != Some(false),
            strict,
            pending: false,
            functions_max: probe.functions_max(),
        };
        let say = |failure: Failure| format!("the probe {}: {failure}", probe.name());
        let began = Instant::now();
        let prepared = Prepared::new(&request).map_err(say)?;
        let prepare_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let session = prepared.attach().map_err(say)?;
        if probe.is_native().is_some_and(|native| native != (session.attached().tier == 2)) {
            return Err(format!("the probe {} runs in tier {}", probe.name(), session.attached().tier));
        }
        Ok(Self { session, prepare_ns, events: 0, suspensions: Vec::new() })
    }

    /// The session, for what it says of itself.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Reads what has come and keeps house.
    ///
    /// # Errors
    /// The session fails, or the target ended.
    pub fn poll(&mut self) -> Result<Turn, Trouble> {
        let (events, suspensions) = (&mut self.events, &mut self.suspensions);
        let turn = self.session.poll(&mut |reply| match reply {
            Reply::Event(_) => *events += 1,
            Reply::State(change) if change.state == "suspended" => suspensions.push(change.why),
            _ => {}
        });
        match turn.map_err(|failure| failure.to_string())? {
            Turn::Ended => Err("the target ended".into()),
            turn => Ok(turn),
        }
    }

    /// Keeps house for long enough that the stacks of all threads are known.
    ///
    /// # Errors
    /// As [`Probed::poll`].
    pub fn settle(&mut self) -> Result<(), Trouble> {
        for _ in 0..8 {
            self.poll()?;
            park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until the session is over: for a probe that was quarantined.
    ///
    /// # Errors
    /// It is not within ten seconds.
    pub fn until_over(&mut self) -> Result<(), Trouble> {
        let deadline = Instant::now() + QUARANTINE;
        while self.poll()? != Turn::Over {
            if Instant::now() > deadline {
                return Err("the probe was not quarantined".into());
            }
            park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Takes it out and reads the last of its counts.
    ///
    /// # Errors
    /// The target would not let it out, or something of it was left.
    pub fn detach(self) -> Result<Counts, Trouble> {
        let (mut hits, mut executed, mut events, mut values) = (0, 0, self.events, 0);
        let mut losses = BTreeMap::new();
        let receipt = self.session.detach(&mut |reply| match reply {
            Reply::Stats(stats) if stats.is_final => {
                hits += stats.hits;
                executed += stats.executed;
                for (reason, n) in stats.losses {
                    *losses.entry(reason).or_insert(0) += n;
                }
            }
            Reply::Event(_) => events += 1,
            Reply::Map(map) => {
                let count = |row: &Row| if let Row::Bucket { count, .. } = row { *count } else { 0 };
                values += map.rows.iter().map(count).sum::<u64>();
            }
            _ => {}
        });
        let receipt = receipt.map_err(|failure| failure.to_string())?;
        if !receipt.restored || receipt.mappings_left != 0 || !receipt.residue.is_empty() {
            return Err(format!("the target is not as it was: {receipt:?}"));
        }
        Ok(Counts { hits, executed, losses, events, values, suspensions: self.suspensions, receipt })
    }
}
