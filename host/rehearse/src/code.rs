//! The code of a rehearsal: what a target would get, loaded here.
#![expect(unsafe_code, reason = "loading compiled code is what the agent does, and is unsafe")]

use trocar_compile::Compiled;
use wasmtime::{Engine, Module};

/// Loads compiled code.
pub(crate) fn load(engine: &Engine, compiled: &Compiled) -> wasmtime::Result<Module> {
    // SAFETY: `Module::deserialize` wants bytes that `Engine::precompile_module` made. Nothing but `precompile` makes a
    // `Compiled`, of what this program's own compiler wrote, now or into the user's own cache.
    unsafe { Module::deserialize(engine, compiled.code()) }
}
