//! Probes for the tests, written in WAT and put into a folder that goes with the test.

use std::path::Path;

use tempfile::TempDir;

/// A probe file.
#[derive(Debug)]
pub(crate) struct Probe {
    folder: TempDir,
}

impl Probe {
    /// A probe of these bytes.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("probe.wasm"), bytes).unwrap();
        Self { folder }
    }

    /// A probe from WAT text.
    pub(crate) fn of_wat(text: &str) -> Self {
        Self::of_bytes(&wat::parse_str(text).unwrap())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        let path: &Path = self.folder.path();
        // Leaked so that an argument list can hold it; a test makes a handful.
        Box::leak(path.join("probe.wasm").to_str().unwrap().to_owned().into_boxed_str())
    }
}

/// A counter with its manifest: one counter map `calls` with one entry `all`.
pub(crate) fn counter() -> Probe {
    Probe::of_wat(
        r#"(module
            (import "trocar" "counter_add" (func $add (param i32 i32 i64)))
            (func (export "on_hit") (call $add (i32.const 0) (i32.const 0) (i64.const 1)))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"calls\",\"maps\":[{\"name\":\"calls\",\"kind\":\"counter\",\"entries\":1,\"labels\":[\"all\"]}]}"))"#,
    )
}
