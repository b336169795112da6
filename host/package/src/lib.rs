//! Probe packages: the manifest, in `probe.toml` and in the module.
//!
//! A manifest says what a probe is: its handlers and their default points, its parameters, its maps, the
//! layout of its events, the limits it asks for. It travels as JSON in the custom section `trocar.manifest`
//! of the module. This crate reads it, checks every bound, lays out the maps, decodes keys and events with
//! it, and writes it into a module. It relies on `trocar-abi` for the limits of maps and records. It does no
//! I/O, and it does not judge the code of a module: that is `host/compile`.
#![forbid(unsafe_code)]

mod check;
mod error;
mod field;
mod layout;
mod manifest;
mod merge;
mod nearest;
mod params;
mod section;

pub use error::{ManifestError, ParamError};
pub use field::{DecodeError, Field, FieldType, FieldValue, decode_fields};
pub use layout::MAP_BYTES_MAX;
pub use manifest::{Event, Handler, Limits, MANIFEST_BYTES_MAX, Manifest, Map, MapType, Param};
pub use nearest::nearest;
pub use params::{ParamType, ParamValue};
pub use section::attach_section;
