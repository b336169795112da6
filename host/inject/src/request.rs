//! What the engine is asked to put into a target, and what it answers.

use std::ops::Range;

use trocar_abi::map::MapSpec;
use trocar_abi::operand::Operand;
use trocar_patch::SitePlan;
use trocar_target::Process;

use crate::goroutines::Goroutines;
use crate::watched::Head;

/// Everything that is to be put into a target, decided beforehand.
#[derive(Debug)]
pub struct AttachPlan {
    /// The target, as it was when the sites were planned.
    pub process: Process,
    /// The modules with sites. Site indexes run through all of them, from zero.
    pub modules: Vec<ModulePlan>,
    /// The probe.
    pub probe: ProbePlan,
    /// The target is a Go program: goroutine stacks, Go's argument registers.
    pub go: bool,
    /// Where its goroutines are, if the sites were planned on the promise that they are searched.
    pub goroutines: Option<Goroutines>,
    /// The target holds a collector that scans the stacks of threads which it stops by signal.
    pub collector: bool,
    /// Bytes of a ring, a power of two.
    pub ring_bytes: u64,
    /// Ticks of the time-stamp counter in a nanosecond.
    pub ticks_per_nanosecond: f64,
}

/// The sites of one module.
#[derive(Debug)]
pub struct ModulePlan {
    /// Name of the module, for messages.
    pub name: String,
    /// Addresses in the process that the trampolines must reach.
    pub range: Range<u64>,
    /// What is added to a link-time address of the module to get one in the process.
    pub bias: u64,
    /// What it begins with, by which it is known again; `None`: it cannot be read, or is not as in the file.
    pub head: Option<Head>,
    /// The sites.
    pub sites: Vec<PlannedSite>,
}

/// One site.
#[derive(Debug)]
pub struct PlannedSite {
    /// How it is patched.
    pub plan: SitePlan,
    /// Index of the handler; `None`: it only notes that a call begins.
    pub handler: Option<u32>,
    /// Index of the function that it is an entry or an exit of.
    pub function: u32,
    /// Whether a call begins or ends here, or neither.
    pub span: Span,
    /// Address of the semaphore of the marker that is here: it is raised while the site is patched.
    pub semaphore: Option<u64>,
    /// Where the arguments of the marker are that is here; `None`: it is no marker.
    pub operands: Option<Vec<Operand>>,
}

/// What a site is to the calls of its function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// Nothing.
    #[default]
    None,
    /// They begin here.
    Entry,
    /// They end here.
    Exit,
}

/// The probe, ready to be loaded.
#[derive(Clone, Debug, Default)]
pub struct ProbePlan {
    /// The precompiled module.
    pub code: Vec<u8>,
    /// Export names of the handlers.
    pub handlers: Vec<String>,
    /// The maps, with the offsets of their shards.
    pub maps: Vec<MapSpec>,
    /// Bytes of all shards of a context.
    pub maps_bytes: u64,
    /// Parameters: integers, or `offset << 32 | length` into `strings`.
    pub params: Vec<u64>,
    /// Bytes of string parameters.
    pub strings: Vec<u8>,
    /// Fuel for each hit.
    pub fuel: u64,
    /// Most bytes of linear memory.
    pub memory_max: u64,
    /// Functions of the module: they decide how much heap an instance needs.
    pub functions: usize,
    /// Traps until quarantine.
    pub trap_limit: u32,
    /// Records that a context takes from the rate limit at once; zero: there is no limit.
    pub record_batch: u32,
    /// Records that may be written before the host adds more.
    pub first_records: u32,
    /// Of so many hits one runs; one or less: all.
    pub sample: u32,
    /// The probe contains floating-point instructions.
    pub floats: bool,
    /// The one handler of all sites as native code, if it was proven simple.
    pub stub: Option<StubPlan>,
}

/// A handler as native code: `handler(rdi: the context's block in shared memory, esi: site, rdx: StubFrame)`, which keeps
/// every register and changes nothing but words of that block, each by one instruction, and flags.
#[derive(Clone, Debug, Default)]
pub struct StubPlan {
    /// The code: position-independent, it calls nothing and ends in `ret`.
    pub code: Vec<u8>,
    /// It looks at the [`trocar_abi::hit::StubFrame`].
    pub registers: bool,
    /// The fuel that a hit of it is billed.
    pub fuel: u64,
}

/// How long the target stood still, for each stop.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Nanoseconds of each stop of the whole process.
    pub nanoseconds: Vec<u64>,
}

impl Stops {
    /// The longest.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.nanoseconds.iter().copied().max().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, stop: std::time::Duration) {
        self.nanoseconds.push(u64::try_from(stop.as_nanos()).unwrap_or(u64::MAX));
    }
}
