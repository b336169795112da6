//! The manifest as a value, and the ways to get one: from a module, from `probe.toml`, by default.
//!
//! Reading is in two steps: `merge` turns text into an unchecked manifest, `check` judges it. What leaves
//! this file has passed both.

use serde::Serialize;

use crate::error::ManifestError;
use crate::field::Field;
use crate::params::{ParamType, ParamValue};
use crate::{check, merge, section};

/// Most bytes of a manifest, as JSON (all objects of all sections together) or as TOML.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// What a probe says about itself.
///
/// # `probe.toml`
///
/// A manifest is written by the SDK, or by hand in a file `probe.toml` that `trocar pack` puts into the
/// module. Both have the same structure. Everything but `abi` and `name` may be left out.
///
/// ```toml
/// abi = 1                                   # version of the probe ABI
/// name = "redis-commands"                   # letters, digits, `_`, `-`, `.`; at most 64
/// version = "0.1.0"                         # default "0.0.0"
/// description = "Commands of a redis-server, by name"
///
/// # Exported functions of type () -> () or () -> (i32), where the result 0 means "my condition does not
/// # hold". Without this list: `on_hit`.
/// [[handlers]]
/// name = "on_hit"
/// points = ["redis-server:processCommand"]  # where it goes unless --at says otherwise
///
/// # Read with `param` and `param_str` by their position in this list; set with --set NAME=VALUE.
/// [[params]]
/// name = "argc_offset"
/// type = "int"                              # or "str"
/// default = 88                              # without it the user must give a value
/// about = "offset of argc in struct client"
///
/// # Used by their position in this list.
/// [[maps]]
/// name = "commands"
/// kind = "hash"                             # counter, hist or hash
/// entries = 1024                            # at most 65536; a hash map rounds up to a power of two
/// key = [{ name = "command", type = "str", bytes = 32 }]     # hash only, at most 256 bytes in all
///
/// [[maps]]
/// name = "totals"
/// kind = "counter"
/// entries = 2
/// labels = ["calls", "large"]               # counter only, a name for each of the first entries
///
/// # Written with `emit` by their position in this list. Fields are packed: no alignment, little endian.
/// [[events]]
/// name = "large_command"
/// fields = [
///   { name = "argc", type = "u64" },        # u8 i8 u16 i16 u32 i32 u64 i64 f64, hex64 (u64 shown in hex),
///   { name = "command", type = "str", bytes = 32 },          # str: `bytes` bytes, filled up with NUL
/// ]
///
/// [limits]                                  # what the probe asks for; the defaults stand without them
/// fuel = 20000                              # per hit, at most 10 000 000
/// memory_bytes = 131072                     # per instance, at most 64 MiB
/// ```
///
/// In the module the same structure is JSON in the custom section `trocar.manifest`. The section may occur
/// several times, and one section may hold several objects one after another (linkers concatenate): they are
/// merged. Numbers and texts may be given once (or again with the same value), lists are appended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the probe ABI; never more than [`trocar_abi::VERSION`].
    pub abi: u32,
    /// Name of the probe.
    pub name: String,
    /// Version of the probe, as its author writes it.
    pub version: String,
    /// One line for people; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Handlers; never empty.
    pub handlers: Vec<Handler>,
    /// Parameters, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// Maps, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maps: Vec<Map>,
    /// Event schemas, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// Limits that the probe asks for.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// A handler: an exported function that runs at a hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Handler {
    /// Name of the export.
    pub name: String,
    /// Points where it goes by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<String>,
}

/// A parameter of the probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Param {
    /// Name, as in `--set NAME=VALUE`.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub ty: ParamType,
    /// Value without `--set`; of the right type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<ParamValue>,
    /// One line for people; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// Kind of a map; the names are those of [`trocar_abi::map::MapKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapType {
    /// An array of 64-bit counters.
    Counter,
    /// An array of log2 histograms.
    Hist,
    /// A hash table from byte keys to 64-bit sums.
    Hash,
}

impl MapType {
    /// The same kind in the ABI.
    #[must_use]
    pub const fn kind(self) -> trocar_abi::map::MapKind {
        match self {
            Self::Counter => trocar_abi::map::MapKind::Counter,
            Self::Hist => trocar_abi::map::MapKind::Hist,
            Self::Hash => trocar_abi::map::MapKind::Hash,
        }
    }
}

/// A map of the probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Map {
    /// Name in reports.
    pub name: String,
    /// Kind.
    pub kind: MapType,
    /// Entries as asked; a hash map gets the next power of two.
    pub entries: u32,
    /// Parts of the key of a hash map, packed; empty for the other kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Field>,
    /// Names of the first entries of a counter map; may be empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Bits by which the buckets of a histogram are finer than powers of two.
    #[serde(skip_serializing_if = "is_zero")]
    pub precision: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The schema of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Name in reports.
    pub name: String,
    /// Fields of the payload, packed.
    pub fields: Vec<Field>,
}

/// Limits that a probe asks for. What it gets is decided elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Fuel for each hit, in wasmtime's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Bytes of linear memory of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Limits {
    const fn is_empty(&self) -> bool {
        self.fuel.is_none() && self.memory_bytes.is_none()
    }
}

impl Manifest {
    /// The manifest in a module; `None` if the module has no such section.
    ///
    /// # Errors
    /// The module cannot be parsed, or the manifest is wrong.
    pub fn from_module(wasm: &[u8]) -> Result<Option<Self>, ManifestError> {
        let sections = section::manifest_sections(wasm)?;
        if sections.is_empty() {
            return Ok(None);
        }
        check::checked(merge::from_json(&sections)?).map(Some)
    }

    /// The manifest in the text of a `probe.toml`.
    ///
    /// # Errors
    /// The text is not TOML, or the manifest is wrong.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        check::checked(merge::from_toml(text)?)
    }

    /// The manifest of a module that has none: its handler is `on_hit`, its limits are the defaults.
    ///
    /// `name` is usually the file's name without `.wasm`; what a name may not hold is replaced by `_`.
    #[must_use]
    pub fn default_for(name: &str) -> Self {
        let name: String = name
            .chars()
            .take(check::NAME_MAX)
            .map(|c| if check::is_name_char(c) { c } else { '_' })
            .collect();
        Self {
            abi: trocar_abi::VERSION,
            name: if name.is_empty() { "probe".into() } else { name },
            version: "0.0.0".into(),
            description: String::new(),
            handlers: vec![Handler { name: trocar_abi::import::DEFAULT_HANDLER.into(), points: Vec::new() }],
            params: Vec::new(),
            maps: Vec::new(),
            events: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The manifest as the JSON of the custom section. Reading it back gives an equal manifest.
    #[must_use]
    pub fn to_section_json(&self) -> String {
        // Serializing plain structs of strings and numbers cannot fail: no map with keys that are not text,
        // no writer that could report an error.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks a manifest that was built or changed by code rather than read.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn check(&self) -> Result<(), ManifestError> {
        check::check(self)
    }
}
