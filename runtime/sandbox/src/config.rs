//! The one engine configuration. Host and agent must agree on every setting here, else the agent refuses the
//! module that the host compiled.

use wasmtime::{Config, WasmFeatures};

/// Most bytes of stack that wasm code may use. The agent asks for 48 KiB of room before it enters.
pub const WASM_STACK: usize = 32 << 10;
/// Fuel for the start function and `_initialize` of one instance, in a target and in a rehearsal (GUESTS.md G3: Go's
/// takes 613 000).
pub const START_FUEL: u64 = 10_000_000;

/// The features that guest compilers need (GUESTS.md, G1); the verifier names every other by its name. Said in full, so
/// that it does not depend on which parts of wasmtime a build contains.
const ACCEPTED: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::FLOATS);

/// Applies the settings that both sides share.
///
/// - No signal handler is ever installed: traps are explicit checks in the code.
/// - Fuel bounds every hit; epochs would need a ticker.
/// - Memory is where the creator says, never reserved, never guarded, never copied on write.
/// - Only [`ACCEPTED`] features are on.
pub fn configure(config: &mut Config) {
    config
        .signals_based_traps(false)
        .consume_fuel(true)
        .epoch_interruption(false)
        .memory_reservation(0)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .memory_init_cow(false)
        .max_wasm_stack(WASM_STACK)
        .wasm_backtrace_max_frames(None)
        .wasm_features(WasmFeatures::all().difference(ACCEPTED), false)
        .wasm_features(ACCEPTED, true);
}
