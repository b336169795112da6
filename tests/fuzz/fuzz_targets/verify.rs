//! Fuzzed: bytes: refused by the gate with a reason, or accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    drop(oracle::verify(bytes));
});
