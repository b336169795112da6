//! Fuzzed: an expression and a template, and the probes that come of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    let _ = oracle::expression(bytes);
});
