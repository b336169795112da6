//! Why a module cannot be a probe.

use std::fmt;

/// The kind of reason; its name is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A size is over its limit.
    TooLarge,
    /// The bytes are no WebAssembly at all.
    NotWasm,
    /// The bytes are WebAssembly text.
    Text,
    /// The bytes are a component.
    Component,
    /// The module is damaged or invalid.
    Malformed,
    /// The module uses a feature that probes may not use.
    Feature,
    /// An import that does not exist.
    UnknownImport,
    /// An import of another type than it has.
    Signature,
    /// An import that is reserved.
    Reserved,
    /// A variable of the target by name.
    Variables,
    /// A function of WASI that probes do not have.
    Wasi,
    /// Something other than a function is imported.
    ImportKind,
    /// The memory is imported.
    ImportedMemory,
    /// The memory is too large or not exported.
    Memory,
    /// There is no such handler.
    Handler,
    /// The manifest is wrong.
    Manifest,
    /// The manifest was written for a later ABI.
    NewerAbi,
}

impl Reason {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotWasm => "not_wasm",
            Self::Text => "text",
            Self::Component => "component",
            Self::Malformed => "malformed",
            Self::Feature => "feature",
            Self::UnknownImport => "unknown_import",
            Self::Signature => "signature",
            Self::Reserved => "reserved",
            Self::Variables => "variables",
            Self::Wasi => "wasi",
            Self::ImportKind => "import_kind",
            Self::ImportedMemory => "imported_memory",
            Self::Memory => "memory",
            Self::Handler => "handler",
            Self::Manifest => "manifest",
            Self::NewerAbi => "newer_abi",
        }
    }
}

/// Longest message in characters.
const MESSAGE_MAX: usize = 1000;

/// A module that cannot be a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// Which kind.
    pub reason: Reason,
    /// Cause and place: one sentence without a final period.
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
}

impl VerifyError {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        // Names of the module reach messages of the parser too: nothing of them may reach a terminal as it is.
        let clean = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Self { reason, message: message.into().chars().take(MESSAGE_MAX).map(clean).collect(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for VerifyError {}

/// The parser's or validator's word on a module.
pub(super) fn malformed(e: wasmparser::Error) -> VerifyError {
    VerifyError::new(
        Reason::Malformed,
        format!("the module is not valid at offset {:#x}: {}", e.offset(), e.message()),
    )
}

/// A name from the module, safe to print and of bounded length.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).collect::<String>().escape_debug().to_string()
}
