//! WASI preview 1 for rehearsals: clock, random numbers, printing to standard error; no files, no arguments, no
//! environment, no network.

use trocar_sandbox::{Extension, State};
use wasmtime::Linker;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

/// What an instance keeps for WASI.
pub(crate) fn make() -> Extension {
    Box::new(WasiCtxBuilder::new().stdout(std::io::stderr()).stderr(std::io::stderr()).build_p1())
}

/// Adds WASI to what a probe can import.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p1::add_to_linker_sync(linker, |state: &mut State| {
        let context = state.extension().and_then(|extension| extension.downcast_mut::<WasiP1Ctx>());
        context.expect("every instance of a rehearsal is extended with `make`")
    })
}
