//! The one engine configuration. Host and agent must agree on every setting here, else the agent refuses the
//! module that the host compiled.

use wasmtime::Config;

/// Most bytes of stack that wasm code may use. The agent asks for 48 KiB of room before it enters.
pub const WASM_STACK: usize = 32 << 10;

/// Applies the settings that both sides share.
///
/// - No signal handler is ever installed: traps are explicit checks in the code.
/// - Fuel bounds every hit; epochs would need a ticker.
/// - Memory is where the creator says, never reserved, never guarded, never copied on write.
/// - Only the features that every guest compiler needs (GUESTS.md, G1) are on; the verifier names the others.
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
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_extended_const(true)
        .wasm_simd(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false);
}
