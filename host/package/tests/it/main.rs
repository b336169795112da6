//! The manifest, from text and from modules.
//!
//! 1. reading: the documented example, defaults, merging of sections and objects
//! 2. refusals: each names its field
//! 3. layout of maps, decoding of keys and events
//! 4. parameters
//! 5. writing into a module

mod modules;
mod params;
mod reading;
mod refusals;
mod values;
