//! The whole of WASI preview 1 in place of the small part that a target has: what a probe prints comes to standard error
//! at once, clock and random numbers are this machine's. No files, no arguments, no environment, no network.

use trocar_sandbox::{Extension, State};
use wasmtime::Linker;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

/// What an instance keeps for WASI.
pub(crate) fn make() -> Extension {
    Box::new(WasiCtxBuilder::new().stdout(std::io::stderr()).stderr(std::io::stderr()).build_p1())
}

/// Puts WASI in place of what a target has of it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p1::add_to_linker_sync(linker, |state: &mut State| {
        let context = state.extension().and_then(|extension| extension.downcast_mut::<WasiP1Ctx>());
        context.expect("every instance of this linker is extended with `make`")
    })
}
