//! Very many sites at once: a counter on every function of a large program, which is `trocar` itself with a session of
//! its own under way: tens of thousands of functions with names.

use serde::Serialize;
use trocar_test_support::Live;

use crate::Trouble;
use crate::options::Options;
use crate::pairs::Spread;
use crate::probed::Probed;
use crate::probes::Probe;
use crate::program::{Binary, Program, Variant};

/// Its functions.
const PATTERN: &str = "trocar:*";

/// Attaching to all of them, again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Sites {
    /// Which functions.
    pub pattern: &'static str,
    /// How many times.
    pub attaches: u32,
    /// Functions that were patched.
    pub sites: usize,
    /// Functions that were refused.
    pub refused: usize,
    /// Microseconds to resolve and plan, before the target is touched.
    pub prepare_us: Spread,
    /// Microseconds from the first touch of the target to the last site written.
    pub attach_us: Spread,
    /// Microseconds of the longest stop while attaching.
    pub longest_stop_us: Spread,
    /// Microseconds from the decision to take it out until the text was as before.
    pub restored_us: Spread,
    /// Microseconds from there to the last mapping gone, and that.
    pub detach_us: Spread,
    /// Microseconds of the longest stop while detaching.
    pub longest_stop_detaching_us: Spread,
}

/// Attaches to all of them, again and again.
///
/// # Errors
/// A session fails.
pub fn measure(options: &Options, binary: &Binary, note: &dyn Fn(&str)) -> Result<Sites, Trouble> {
    let watched = Program::start(binary, 1);
    let target = Live::attached(&["count", "-p", &watched.pid().to_string(), Variant::Work.name()]);
    let mut figures: [Vec<u64>; 6] = Default::default();
    let (mut sites, mut refused) = (0, 0);
    for turn in 1..=options.site_attaches {
        note(&format!("attach {turn} of {} to {PATTERN}", options.site_attaches));
        let probed = Probed::attach_all(target.pid(), Probe::NativeCounter, PATTERN)?;
        let (prepare, attached) = (probed.prepare_ns, probed.session().attached().clone());
        (sites, refused) = (attached.sites.len(), attached.refusals.len());
        let receipt = probed.detach()?.receipt;
        let all = [
            prepare,
            attached.attach_ns,
            attached.pause_ns,
            receipt.restored_ns,
            receipt.detach_ns,
            receipt.pause_ns,
        ];
        figures.iter_mut().zip(all).for_each(|(list, ns)| list.push(ns));
    }
    let [prepare_us, attach_us, longest_stop_us, restored_us, detach_us, longest_stop_detaching_us] =
        figures.map(|ns| Spread::of_ns_in_us(&ns).unwrap_or_default());
    target.interrupt().assert_clean();
    Ok(Sites {
        pattern: PATTERN,
        attaches: options.site_attaches,
        sites,
        refused,
        prepare_us,
        attach_us,
        longest_stop_us,
        restored_us,
        detach_us,
        longest_stop_detaching_us,
    })
}
