//! Fuzzed: an executable file, and everything that is asked of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    let _ = oracle::elf(bytes);
});
