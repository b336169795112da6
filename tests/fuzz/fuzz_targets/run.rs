//! Fuzzed: modules that the gate accepts, compiled and hit off target: their bounds hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    drop(oracle::run(bytes));
});
