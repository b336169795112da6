//! The verifier, refusal by refusal; then what it says of cost, and the code that is made, against the engine.
//!
//! 1. formats: what is no module
//! 2. features: each refused one by name, each accepted one
//! 3. imports: unknown names, types, what other worlds import
//! 4. limits: memory and sizes
//! 5. handlers and manifests
//! 6. cost: fuel, system calls, floats, capabilities
//! 7. generated: the probes of `count` and `log` pass the same gate
//! 8. hostile: damaged modules
//! 9. measured: the bound of fuel beside what hits really use (machine: runs them)
//! 10. random_ways: the same for random modules without a loop
//! 11. precompiled: the code, who loads it, and its cache
//! 12. lower: simple handlers as native code, beside the same under the engine
//!
//! Modules are marked `cfg(test)` so that clippy knows their helpers for test code.

#[cfg(test)]
mod cost;
#[cfg(test)]
mod features;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lower;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod measured;
#[cfg(test)]
mod precompiled;
#[cfg(test)]
mod random_ways;

use trocar_compile::{Reason, Verified, VerifyError, verify};

/// A module from its text.
fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn accepted(text: &str) -> Verified {
    verify(&wasm(text)).unwrap_or_else(|e| panic!("{e}\n{:?}\n{text}", e.hint))
}

/// Checks that a module is refused for this reason, with these words in the message and in the hint.
fn refused(bytes: &[u8], reason: Reason, message: &str, hint: &str) {
    let e: VerifyError = verify(bytes).map(|v| v.functions).expect_err(message);
    assert_eq!(e.reason, reason, "{e}");
    assert!(e.message.contains(message), "{}\n  want: {message}", e.message);
    let found = e.hint.unwrap_or_default();
    assert!(found.contains(hint), "{found}\n  want: {hint}");
}
