//! What a session says: one type per JSON object of the command line's contract, shared by every front end.

use serde::Serialize;
use trocar_abi::operand::form;
use trocar_symbols::{Origin, Resolved};

use crate::modules::Loaded;

pub use crate::evidence::{Evidence, Frame, Replay, arguments, frames};

/// One reply. As JSON it is an object with `kind` and the fields of its variant; the sink adds `ts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// The probe is in place.
    Attached(Attached),
    /// A record of a probe, decoded by its event schema.
    Event(Event),
    /// A log line of a probe.
    Log(LogLine),
    /// The rows of a map, merged over all threads.
    Map(MapRows),
    /// Counters of one probe at one site.
    Stats(Stats),
    /// The probe changed its state.
    State(StateChange),
    /// A module with sites was loaded.
    Armed(Armed),
    /// A module with sites was unloaded.
    Retired(Retired),
    /// The target is as it was before.
    Receipt(Receipt),
    /// The target ended.
    Exited(Exited),
}

/// The probe is in place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attached {
    /// Version of these objects.
    pub v: u32,
    /// The target.
    pub pid: i32,
    /// Readable id of the session.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// Limits in force.
    pub limits: Limits,
    /// The sites that were patched.
    pub sites: Vec<Site>,
    /// The sites that were not, and why.
    pub refusals: Vec<Refused>,
    /// Points that name nothing yet: they are armed in a module that has them, when it is loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// Time from the start of the work on the target to the last site written.
    pub attach_ns: u64,
    /// Longest single stop of the whole target.
    pub pause_ns: u64,
    /// Number of threads that were stopped.
    pub threads: usize,
    /// How hits run: 2 as native code, where the probe was proven simple; 1 under wasmtime.
    pub tier: u32,
}

/// Limits of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Fuel for each hit, in wasmtime's units.
    pub fuel: u64,
    /// Bytes of linear memory of one instance.
    pub memory_bytes: u64,
    /// Traps and out-of-fuel hits until quarantine.
    pub traps: u32,
    /// Time to live.
    pub ttl_ns: u64,
    /// Records a second, each KiB of one counted as one; none: no limit.
    pub records_per_second: Option<u32>,
    /// Per cent of a core; none: no limit.
    pub max_core_percent: Option<f64>,
    /// Of so many hits one runs.
    pub sample: u32,
}

impl Default for Limits {
    /// The defaults of the probe ABI: 10 000 fuel (about 6 µs), 1 MiB + 64 KiB, three traps, one hour, 10 000 records a
    /// second, 5 % of a core.
    fn default() -> Self {
        Self {
            fuel: 10_000,
            memory_bytes: (1 << 20) + (64 << 10),
            traps: 3,
            ttl_ns: 3_600_000_000_000,
            records_per_second: Some(10_000),
            max_core_percent: Some(5.0),
            sample: 1,
        }
    }
}

/// A session that was switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Off {
    /// The target.
    pub pid: i32,
    /// Gates that were closed, one for each module with sites.
    pub gates: usize,
    /// Nanoseconds from the first look at the target's memory to the last gate.
    pub off_ns: u64,
}

/// A site that was patched, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Index of the site in its session.
    pub site: u32,
    /// The point as the user wrote it.
    pub point: String,
    /// Module, by file name.
    pub module: String,
    /// Index of the function that it is an entry or an exit of, for `return:` points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<u32>,
    /// entry, return or tail_jump, for `return:` points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// The marker that is there, for `usdt:` points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<Marker>,
    /// The import whose calls pass here, for `import:` points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
    /// Symbol, demangled, if one covers the address.
    pub symbol: Option<String>,
    /// Offset from that symbol.
    pub offset: u64,
    /// Address in the process, hexadecimal.
    pub address: String,
    /// How it is patched: the rung's name.
    pub rung: String,
}

/// A USDT marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Marker {
    /// Its provider.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Its arguments, as its note writes them: size and operand of each.
    pub arguments: String,
    /// Those of its arguments whose place is not known (floats, thread-local data, names that the file has lost): zero.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<usize>,
    /// Address of its semaphore in the process, hexadecimal; none: it has none.
    pub semaphore: Option<String>,
}

impl Marker {
    /// The marker that a point has named there, if it named one.
    #[must_use]
    pub fn at(loaded: &Loaded, place: &Resolved) -> Option<Self> {
        let Origin::Marker(marker) = &place.origin else { return None };
        let operands = loaded.operands(place).unwrap_or_default();
        let unknown = operands.iter().enumerate().filter(|(_, o)| o.form == form::NONE).map(|(n, _)| n);
        Some(Self {
            provider: marker.provider.clone(),
            name: marker.name.clone(),
            arguments: marker.arguments.clone(),
            unknown: unknown.collect(),
            semaphore: place.semaphore().map(|at| format!("{at:#x}")),
        })
    }
}

/// A place where calls of an imported function pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// The function.
    pub name: String,
    /// stub, call, jump, or address where it is only taken.
    pub way: &'static str,
}

impl Import {
    /// The import that a point has named there, if it named one.
    #[must_use]
    pub fn at(place: &Resolved) -> Option<Self> {
        let Origin::Import(import) = &place.origin else { return None };
        Some(Self { name: import.name.clone(), way: import.way.name() })
    }
}

/// A site that is not patched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The point as the user wrote it.
    pub point: String,
    /// Address in the process, hexadecimal.
    pub address: String,
    /// The reason's stable name.
    pub reason: String,
    /// The reason for people.
    pub detail: String,
}

/// A value of an event's field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A float.
    Float(f64),
    /// Text of the target: lossy UTF-8, escaped by the sink.
    Text(String),
}

/// A decoded event. `fields` keeps the order of the schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// Index of the site.
    pub site: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the event.
    pub name: String,
    /// Fields in the order of the schema.
    #[serde(serialize_with = "as_object")]
    pub fields: Vec<(String, Value)>,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// Index of the site.
    pub site: u32,
    /// Thread.
    pub tid: u32,
    /// error, warn, info, debug or trace.
    pub level: String,
    /// The text, lossy UTF-8.
    pub message: String,
}

/// A map, merged over all threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapRows {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// Name of the map.
    pub name: String,
    /// counter, hist or hash.
    #[serde(rename = "type")]
    pub map_type: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// Updates of a hash map that found no slot.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// A row of a map.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// A counter or a hash entry.
    Keyed {
        /// Name and value of each part of the key.
        #[serde(serialize_with = "as_object")]
        key: Vec<(String, Value)>,
        /// The sum over all threads.
        value: i64,
    },
    /// A bucket of a histogram, `lo <= value <= hi`.
    Bucket {
        /// Entry of the histogram map.
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<u32>,
        /// The function that the entry is about, where entries are functions.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Least value.
        lo: u64,
        /// Greatest value.
        hi: u64,
        /// How many.
        count: u64,
    },
}

/// Counters of a probe at a site: `hits = executed + condition_false + the sum of losses`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// Index of the site.
    pub site: u32,
    /// Hits that came.
    pub hits: u64,
    /// Hits that ran to the end.
    pub executed: u64,
    /// Hits whose condition did not hold.
    pub condition_false: u64,
    /// Losses by reason; reasons without loss are left out.
    pub losses: std::collections::BTreeMap<&'static str, u64>,
    /// Median-free estimate: mean of the timed hits, in nanoseconds, without the trampoline's registers.
    pub ns_per_hit: Option<f64>,
    /// Share of one core since the last report, estimated from `ns_per_hit`.
    pub core_share: Option<f64>,
    /// armed, suspended, quarantined or expired; retired where the site's module was unloaded.
    pub state: String,
    /// The last one of this site.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// The probe changed its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// armed, suspended, quarantined or expired.
    pub state: String,
    /// Why.
    pub why: String,
    /// What is known of the hit that brought the quarantine, or of the first that trapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
}

/// A point that names nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// The point as the user wrote it.
    pub point: String,
    /// Why it names nothing.
    pub why: String,
}

/// The program loaded modules in which points of the session name something: these sites are armed besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Armed {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// The sites that were patched. One that was retired, and is there again, has the index that it had.
    pub sites: Vec<Site>,
    /// The sites that were not, and why.
    pub refusals: Vec<Refused>,
    /// Time from the start of the work on the target to the last site written.
    pub attach_ns: u64,
    /// Longest single stop of the whole target.
    pub pause_ns: u64,
    /// Number of threads that were stopped.
    pub threads: usize,
}

/// The program unloaded a module: its sites went with it, and what they counted stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Name of the probe.
    pub probe: String,
    /// The module, by file name.
    pub module: String,
    /// Indexes of its sites.
    pub sites: Vec<u32>,
}

/// What detaching did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// Number of sites that were patched.
    pub sites: usize,
    /// Those of them whose module was unloaded, and their text with it.
    pub retired: usize,
    /// Whether every patched range that is still there is as before.
    pub restored: bool,
    /// SHA-256 over the patched ranges, in order of address, before.
    pub text_sha256_before: String,
    /// The same, after.
    pub text_sha256_after: String,
    /// Mappings of ours that are left in the target.
    pub mappings_left: usize,
    /// What is left and why, by name.
    pub residue: Vec<String>,
    /// Time from the decision until the text was as before, or could not be made so.
    pub restored_ns: u64,
    /// Time from the decision to the last mapping gone.
    pub detach_ns: u64,
    /// Longest single stop of the whole target.
    pub pause_ns: u64,
}

/// What killed hosts had left in a process was removed before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reaped {
    /// The target.
    pub pid: i32,
    /// Sessions whose host was killed.
    pub sessions: usize,
    /// Sites of theirs.
    pub sites: usize,
    /// Whether all of them are as before.
    pub restored: bool,
    /// Mappings of ours that are left in the target.
    pub mappings_left: usize,
    /// What is left and why, by name.
    pub residue: Vec<String>,
}

/// The target ended while the probe was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exited {
    /// The target.
    pub pid: i32,
    /// Session id.
    pub session: String,
    /// What is known: exited, killed, or replaced by exec.
    pub how: String,
}

fn as_object<S: serde::Serializer>(fields: &[(String, Value)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(fields.iter().map(|(k, v)| (k, v)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
