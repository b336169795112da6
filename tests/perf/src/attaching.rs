//! Attaching: how long it takes, how long the target stands still, and how much memory it gets.
//!
//! Each attach is paired with a bare stop of the same target: every thread stopped and let go, nothing else. The
//! module's code comes from the compile cache, after a first attach that is not counted.

use std::thread::park_timeout;
use std::time::Duration;

use serde::Serialize;

use crate::Trouble;
use crate::memory::Resident;
use crate::options::Options;
use crate::pairs::{Spread, median, microseconds};
use crate::probed::Probed;
use crate::probes::Probe;
use crate::program::{Binary, Program, Variant};

/// What the threads of the target do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// All of them call the probed function.
    Calling,
    /// All of them sleep in the kernel.
    Sleeping,
}

/// Attaching to one target, again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Attaching {
    /// Threads of the target.
    pub threads: usize,
    /// What they do.
    pub doing: Doing,
    /// How many times.
    pub attaches: u32,
    /// Microseconds to verify, resolve, plan and load the compiled code, before the target is touched.
    pub prepare_us: Spread,
    /// Microseconds from the first touch of the target to the last site written.
    pub attach_us: Spread,
    /// Both together: from the request to the armed probe, with a warm compile cache.
    pub ready_us: Spread,
    /// Microseconds of each stop while attaching, in their order: of the thread that lends itself, once, or twice where it
    /// runs on in between (what it does for us then, some ten microseconds of its own time, is no stop), then of all.
    pub stops_us: Vec<Spread>,
    /// Microseconds of the longest stop of each attach.
    pub longest_stop_us: Spread,
    /// Microseconds of a bare stop of the same target, one for each attach.
    pub bare_stop_us: Spread,
    /// Median of the longest stops, divided by the median of the bare stops.
    pub ratio_of_medians: f64,
    /// The same for the least of both.
    pub ratio_of_least: f64,
    /// Median of the ratio within each pair of attach and bare stop.
    pub ratio_in_pairs: f64,
    /// Microseconds from the decision to take it out until the text was as before.
    pub restored_us: Spread,
    /// Microseconds from the decision to take it out to the last mapping gone.
    pub detach_us: Spread,
}

/// Memory of the target.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Bytes of the agent's image.
    pub agent_image_bytes: usize,
    /// Threads of the target.
    pub threads: usize,
    /// Which probe.
    pub probe: &'static str,
    /// Growth after attaching.
    pub attached: Resident,
    /// Growth after every thread has hit, and events have filled the rings if there are any.
    pub after_hits: Resident,
    /// What is left after detaching.
    pub after_detach: Resident,
}

/// Attaches to every target.
///
/// # Errors
/// A session fails: then nothing of this part can be trusted.
pub fn measure(options: &Options, binary: &Binary, note: &dyn Fn(&str)) -> Result<Vec<Attaching>, Trouble> {
    let targets = [Doing::Calling, Doing::Sleeping]
        .into_iter()
        .flat_map(|doing| options.attach_threads.iter().map(move |threads| (*threads, doing)));
    let each = targets.map(|(threads, doing)| {
        note(&format!("{} attaches to {threads} thread(s), {doing:?}", options.attaches));
        one_target(options.attaches, binary, threads, doing)
    });
    each.collect()
}

fn one_target(attaches: u32, binary: &Binary, threads: usize, doing: Doing) -> Result<Attaching, Trouble> {
    let mut program = Program::start(binary, threads);
    let pid = program.pid();
    let id = i32::try_from(pid).map_err(|e| e.to_string())?;
    Probed::attach(pid, Probe::Counter, Variant::Work.name())?.detach()?;
    if doing == Doing::Calling {
        program.keep_busy();
    }
    let (mut prepare, mut attach, mut longest, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut ready, mut ratios) = (Vec::new(), Vec::new());
    let (mut restored, mut detach) = (Vec::new(), Vec::new());
    let mut stops: Vec<Vec<u64>> = Vec::new();
    for _ in 0..attaches {
        let stop = trocar_inject::bare_stop(id).map_err(|failure| failure.to_string())?;
        let stop = u64::try_from(stop.as_nanos()).unwrap_or(u64::MAX);
        // The target gets some time of its own between two stops.
        park_timeout(Duration::from_millis(2));
        let probed = Probed::attach(pid, Probe::Counter, Variant::Work.name())?;
        let of_session = probed.session().stops().to_vec();
        let attached = probed.session().attached();
        prepare.push(probed.prepare_ns);
        ready.push(probed.prepare_ns.saturating_add(attached.attach_ns));
        attach.push(attached.attach_ns);
        longest.push(attached.pause_ns);
        bare.push(stop);
        ratios.push(microseconds(attached.pause_ns) / microseconds(stop.max(1)));
        for (n, ns) in of_session.into_iter().enumerate() {
            match stops.get_mut(n) {
                Some(all) => all.push(ns),
                None => stops.push(vec![ns]),
            }
        }
        let receipt = probed.detach()?.receipt;
        restored.push(receipt.restored_ns);
        detach.push(receipt.detach_ns);
        park_timeout(Duration::from_millis(2));
    }
    let spread = |ns: &[u64]| Spread::of_ns_in_us(ns).unwrap_or_default();
    let (longest, bare) = (spread(&longest), spread(&bare));
    Ok(Attaching {
        threads,
        doing,
        attaches,
        prepare_us: spread(&prepare),
        attach_us: spread(&attach),
        ready_us: spread(&ready),
        stops_us: stops.iter().map(|ns| spread(ns)).collect(),
        longest_stop_us: longest,
        bare_stop_us: bare,
        ratio_of_medians: longest.median / bare.median,
        ratio_of_least: longest.min / bare.min,
        ratio_in_pairs: median(&ratios).unwrap_or_default(),
        restored_us: spread(&restored),
        detach_us: spread(&detach),
    })
}

/// Growth of the target's resident memory.
///
/// # Errors
/// A session fails, or the target's memory cannot be read.
pub fn memory(binary: &Binary, note: &dyn Fn(&str)) -> Result<Vec<Memory>, Trouble> {
    let cases = [(1, Probe::Counter), (8, Probe::Counter), (1, Probe::Event)];
    let each = cases.iter().map(|(threads, probe)| {
        note(&format!("memory of {threads} thread(s), {}", probe.name()));
        let mut program = Program::start(binary, *threads);
        // What the program itself touches when it runs is there before.
        program.run(Variant::Work, 100, 100)?;
        let before = Resident::of(program.pid())?;
        let mut probed = Probed::attach(program.pid(), *probe, Variant::Work.name())?;
        let attached = Resident::of(program.pid())?.since(&before);
        // 10 000 events of 80 bytes fill a ring of 256 KiB.
        program.run(Variant::Work, 100, 100)?;
        probed.settle()?;
        let after_hits = Resident::of(program.pid())?.since(&before);
        probed.detach()?;
        let after_detach = Resident::of(program.pid())?.since(&before);
        Ok(Memory {
            agent_image_bytes: trocar_inject::AGENT_IMAGE.len(),
            threads: *threads,
            probe: probe.name(),
            attached,
            after_hits,
            after_detach,
        })
    });
    each.collect()
}
