//! Counts hits, each site for itself.
//!
//! It asks for nothing but the number of the site, and makes no system call.
#![no_std]

use trocar_probe_sdk::{manifest, probe, site};

/// Counters. What a session has of more sites goes into the last one.
const ENTRIES: u32 = 1024;

manifest! {
    name: "call-count",
    version: env!("CARGO_PKG_VERSION"),
    description: "Counts hits, each site for itself",
    maps: {
        /// Hits, by the number of the site.
        CALLS: counter[1024],
    },
}

#[probe]
fn on_hit() {
    CALLS.add(site().min(ENTRIES - 1), 1);
}
