//! The grid's probe in Rust: counts and emits, traps by a panic, or never ends, as `mode` says.
#![no_std]

use core::sync::atomic::{AtomicU32, Ordering};

use trocar_probe_sdk::*;

/// Data of its own: it lies behind the stack, on the seventeenth page.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

manifest! {
    name: "grid",
    version: "0.1.0",
    params: { MODE: int = 0 },
    maps: { CALLS: counter[1] },
    events: { Call { n: u64 } },
}

#[probe]
fn on_hit() {
    match MODE.get() {
        0 => {
            CALLS.add(0, 1);
            Call { n: arg(0) }.emit();
        }
        1 => panic!("trap"),
        _ => loop {
            ROUNDS.fetch_add(1, Ordering::Relaxed);
        },
    }
}
