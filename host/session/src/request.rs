//! What a front end asks for.

use std::time::Duration;

/// A probe to be put into a process.
#[derive(Clone, Debug)]
pub struct Request {
    /// The target.
    pub pid: i32,
    /// The probe: a core wasm module.
    pub wasm: Vec<u8>,
    /// Name of the probe if its manifest has none: usually the file's name without its ending.
    pub name: String,
    /// Where. Empty: the points that the manifest names.
    pub points: Vec<RequestedPoint>,
    /// Parameters, name and text.
    pub sets: Vec<(String, String)>,
    /// Fuel for each hit, instead of the probe's wish or the default.
    pub fuel: Option<u64>,
    /// Bytes of memory of an instance, instead of the probe's wish or the default.
    pub memory: Option<u64>,
    /// Time to live, instead of an hour.
    pub ttl: Option<Duration>,
    /// Records a second; `None`: as many as fit into the rings.
    pub rate: Option<u32>,
    /// Share of a core, 1 is all of one; `None`: no limit.
    pub max_core: Option<f64>,
    /// Of so many hits of a thread at a site one runs; 1: all.
    pub sample: u32,
    /// A handler that is proven simple may run as native code.
    pub native: bool,
    /// A site that is refused fails the whole request.
    pub strict: bool,
    /// A point that names nothing is no error: it waits for a module that has it.
    pub pending: bool,
    /// Functions that the probe can tell apart, if that matters to it.
    pub functions_max: Option<u32>,
}

/// A point, and which handler runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedPoint {
    /// The point as the user wrote it.
    pub text: String,
    /// The handler's export name; `None`: the manifest's first.
    pub handler: Option<String>,
}
