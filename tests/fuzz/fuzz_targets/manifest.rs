//! Fuzzed: the manifest, as JSON in a module and as TOML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    oracle::manifest(bytes);
});
