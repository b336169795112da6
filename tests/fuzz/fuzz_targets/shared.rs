//! Fuzzed: the shared memory of a session, of any content, read back by the host.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trocar_hostile::oracle;

fuzz_target!(|bytes: &[u8]| {
    oracle::shared(bytes);
});
