//! The ready-made probes that come inside the binary: small modules, built from `probes/` and committed there.

/// A probe inside the binary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundled {
    /// Its name, as `trocar load` takes it.
    pub(crate) name: &'static str,
    /// The module.
    pub(crate) wasm: &'static [u8],
}

/// The probe in `probes/NAME/NAME.wasm`.
macro_rules! bundled {
    ($name:literal) => {
        Bundled { name: $name, wasm: include_bytes!(concat!("../../../probes/", $name, "/", $name, ".wasm")) }
    };
}

/// All of them, by name.
pub(crate) const BUNDLED: &[Bundled] = &[bundled!("call-count"), bundled!("redis-commands")];

/// The probe of this name.
pub(crate) fn find(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|probe| probe.name == name)
}
