//! Fuzzed: modules of wasm-smith, compiled and hit off target: their bounds hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(wasm) = trocar_hostile::generate::smith(bytes) {
        drop(oracle::run(&wasm));
    }
});
