//! The gate for modules: what a probe is allowed to be, and what follows from what it is.
//!
//! Bytes go through in this order, and the first refusal wins: format, sizes, features, inventory, imports,
//! manifest, memory, handlers. Out comes a [`Verified`] with the capabilities that the imports imply and the
//! cost that the code can have. It relies on `wasmparser` for validity and on `trocar_abi::import` for what
//! there is to import. It does not compile and does not run anything, and it decides no policy.

mod charges;
mod cost;
mod counted;
mod error;
mod features;
mod handlers;
mod imports;
pub(crate) mod inventory;
mod report;
mod sizes;
mod ways;

use trocar_abi::import::{Capability, Import};
use trocar_abi::shim::WASI;
use trocar_package::{Manifest, ManifestError};
use trocar_sandbox::RUNS_ONCE;

pub use error::{Reason, VerifyError};
use inventory::Inventory;
pub use trocar_sandbox::START_FUEL;

/// Largest module in bytes.
pub const MODULE_BYTES_MAX: usize = 4 << 20;
/// Linear memory of an instance where neither the user nor the manifest says otherwise, in bytes (DESIGN §5).
pub const DEFAULT_MEMORY_BYTES: u64 = (1 << 20) + (64 << 10);
/// Bytes of a page of linear memory.
const WASM_PAGE: u64 = 65_536;

/// What the caller knows about a module besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Name for a module without manifest, usually that of its file; else it is `probe`.
    pub name: Option<&'a str>,
    /// Limit of linear memory in bytes; else what the manifest asks for, else [`DEFAULT_MEMORY_BYTES`].
    pub memory_bytes: Option<u64>,
}

/// A handler of a verified module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Name of the export.
    pub name: String,
    /// Whether it answers if its condition holds: its type is `() -> (i32)` and not `() -> ()`.
    pub returns_condition: bool,
    /// Upper bound of the fuel of one hit, or why there is none. Then the limit is all that bounds it.
    pub worst_fuel: Result<u64, Unbounded>,
    /// Most system calls of one hit; `None` where that is unknown.
    pub system_calls: Option<u32>,
}

/// Why nothing bounds the fuel of a handler but its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbounded {
    /// It has a loop on the way whose rounds are not known.
    Loop,
    /// A function calls itself, through others perhaps.
    Recursion,
    /// It calls through a table.
    Indirect,
    /// It copies, fills or reads as many bytes as a value says that is no constant.
    Length,
    /// Its code could not be followed, which is a bug of ours in a module that is valid.
    Malformed,
}

impl Unbounded {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Recursion => "recursion",
            Self::Indirect => "indirect_call",
            Self::Length => "unknown_length",
            Self::Malformed => "not_understood",
        }
    }

    /// The same for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Loop => "a loop",
            Self::Recursion => "recursion",
            Self::Indirect => "a call through a table",
            Self::Length => "an operation on as many bytes as a variable says",
            Self::Malformed => "code that was not understood",
        }
    }
}

/// Linear memory of a module, in pages of 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPages {
    /// Pages at the start; zero for a module without memory.
    pub min: u64,
    /// Most pages, if the module says.
    pub max: Option<u64>,
}

/// A module that may be compiled. Only [`verify`] makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// Its manifest, or the default one.
    pub manifest: Manifest,
    /// Whether the module itself had the manifest.
    pub has_manifest: bool,
    /// The host calls it imports, sorted by name.
    pub imports: Vec<&'static Import>,
    /// What they let it do, sorted, each once.
    pub capabilities: Vec<Capability>,
    /// Its handlers, in the order of the manifest.
    pub handlers: Vec<Handler>,
    /// Whether floats occur anywhere in its types or code.
    pub uses_floats: bool,
    /// Its linear memory.
    pub memory: MemoryPages,
    /// The limit of linear memory that it was checked against, in bytes.
    pub memory_limit: u64,
    /// Whether it has a start function, which runs when it is instantiated.
    pub has_start: bool,
    /// The export that runs once before the first hit: `_initialize`, else the constructors by themselves.
    pub runs_once: Option<&'static str>,
    /// Most system calls of one hit of any handler; `None` where a loop, recursion or indirect call makes that unknown.
    pub system_calls_per_hit: Option<u32>,
    /// Most system calls of any one host call that it imports.
    pub system_calls_per_call: u32,
    /// Upper bound of the fuel of one hit of any handler; `None` if one of them has none.
    pub worst_fuel: Option<u64>,
    /// Remarks for the author, in sentences.
    pub notes: Vec<String>,
    /// Functions with code.
    pub functions: usize,
    /// The module, unchanged.
    pub wasm: Vec<u8>,
}

impl Verified {
    /// Most system calls of one hit that has so much fuel: what the code proves, else what can be paid for, because every
    /// host call that makes one is charged.
    #[must_use]
    pub fn most_system_calls(&self, fuel: u64) -> Option<u64> {
        let paid = |i: &&Import| fuel.checked_div(i.fuel).map(|n| n.saturating_mul(i.system_calls.into()));
        let calls = self.imports.iter().copied().filter(|i| i.system_calls > 0);
        let paid = calls.map(|i| paid(&i)).try_fold(0, |most, n| Some(n?.max(most)));
        match (self.system_calls_per_hit.map(u64::from), paid) {
            (Some(proven), Some(paid)) => Some(proven.min(paid)),
            (proven, paid) => proven.or(paid),
        }
    }
}

/// Verifies a module with the default limits.
///
/// # Errors
/// The first reason why it cannot be a probe.
pub fn verify(wasm: &[u8]) -> Result<Verified, VerifyError> {
    verify_with(wasm, &Options::default())
}

/// Verifies a module.
///
/// # Errors
/// The first reason why it cannot be a probe.
pub fn verify_with(wasm: &[u8], options: &Options<'_>) -> Result<Verified, VerifyError> {
    features::check_format(wasm)?;
    sizes::check(wasm)?;
    features::check_features(wasm)?;
    let inventory = Inventory::of(wasm)?;
    let imports = imports::check(&inventory)?;
    let found = Manifest::from_module(wasm).map_err(manifest_error)?;
    let has_manifest = found.is_some();
    let manifest = found.unwrap_or_else(|| Manifest::default_for(options.name.unwrap_or("probe")));

    let memory_limit = options.memory_bytes.or(manifest.limits.memory_bytes).unwrap_or(DEFAULT_MEMORY_BYTES);
    let memory = inventory.memory.unwrap_or_default();
    check_memory(&inventory, memory, memory_limit)?;
    let found = handlers::find(&inventory, &manifest, has_manifest)?;
    let costs = cost::of(&inventory, found.iter().map(|h| h.function));
    let handlers: Vec<Handler> = found.into_iter().zip(costs).map(|(found, cost)| found.with(cost)).collect();

    let mut capabilities: Vec<Capability> = imports.iter().map(|i| i.capability).collect();
    capabilities.sort_unstable();
    capabilities.dedup();
    Ok(Verified {
        notes: report::notes(&inventory, memory),
        manifest,
        has_manifest,
        capabilities,
        uses_floats: features::uses_floats(wasm),
        memory,
        memory_limit,
        has_start: inventory.has_start,
        runs_once: RUNS_ONCE.into_iter().find(|name| inventory.exports_plain(name)),
        system_calls_per_hit: handlers
            .iter()
            .map(|h| h.system_calls)
            .try_fold(0, |most, n| Some(n?.max(most))),
        system_calls_per_call: imports.iter().map(|i| i.system_calls).max().unwrap_or(0),
        worst_fuel: handlers.iter().map(|h| h.worst_fuel.ok()).try_fold(0, |most, n| Some(n?.max(most))),
        functions: inventory.bodies.len(),
        handlers,
        imports,
        wasm: wasm.to_vec(),
    })
}

fn manifest_error(e: ManifestError) -> VerifyError {
    let reason = match e {
        ManifestError::NewerAbi { .. } => Reason::NewerAbi,
        ManifestError::MissingAbi
        | ManifestError::TooLarge { .. }
        | ManifestError::Field { .. }
        | ManifestError::Module { .. } => Reason::Manifest,
    };
    VerifyError::new(reason, e.to_string()).hint(e.hint())
}

/// Host calls that take an address in linear memory. A test compares the list with the ABI's table.
const TAKE_POINTERS: [&str; 8] =
    ["emit", "hash_add", "hash_get", "hash_set", "log", "param_str", "read", "read_str"];

fn check_memory(inventory: &Inventory<'_>, memory: MemoryPages, limit: u64) -> Result<(), VerifyError> {
    let needs = inventory.imports.iter().find(|i| i.module == WASI || TAKE_POINTERS.contains(&i.name));
    if let Some(import) = needs.filter(|_| !inventory.exports_memory) {
        return Err(VerifyError::new(
            Reason::Memory,
            format!(
                "the module imports `{}.{}`, which takes addresses, but exports no memory",
                import.module, import.name
            ),
        )
        .hint("export the memory under the name `memory`; in WAT: (memory (export \"memory\") 1)"));
    }
    let bytes = memory.min.saturating_mul(WASM_PAGE);
    if bytes > limit {
        return Err(VerifyError::new(
            Reason::Memory,
            format!(
                "the module starts with {} pages of memory, {bytes} bytes; the limit is {limit} bytes",
                memory.min
            ),
        )
        .hint(
            "most of it is stack: build with a small one (Rust -Clink-arg=-zstack-size=8192, clang and zig cc \
             -Wl,-z,stack-size=8192, zig --stack 8192, emcc -sINITIAL_MEMORY=131072), or raise the limit with \
             --memory or `limits.memory_bytes`",
        ));
    }
    Ok(())
}
