//! The manifest, from text and from modules.
//!
//! 1. reading: the documented example, defaults, merging of sections and objects
//! 2. refusals: each names its field
//! 3. layout of maps, decoding of keys and events
//! 4. parameters
//! 5. writing into a module
//!
//! Modules are marked `cfg(test)` so that clippy knows their helpers for test code.

#[cfg(test)]
mod modules;
#[cfg(test)]
mod params;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod values;
