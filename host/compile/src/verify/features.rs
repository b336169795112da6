//! The format of the bytes, and the features that a module may use.
//!
//! Accepted is what the common compilers emit by default: WebAssembly 1.0 with mutable globals, sign
//! extension, saturating conversions, bulk memory, multi-value, extended constants, and of reference types
//! only the long encoding of the table index in `call_indirect`. Everything else is refused by its name.

use wasmparser::{Validator, WasmFeatures};

use super::MODULE_BYTES_MAX;
use super::error::{Reason, VerifyError, malformed};

const ACCEPTED: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG);

/// The accepted ones by name.
const NAMES: [(WasmFeatures, &str); 8] = [
    (WasmFeatures::MUTABLE_GLOBAL, "mutable globals"),
    (WasmFeatures::SATURATING_FLOAT_TO_INT, "saturating conversions"),
    (WasmFeatures::SIGN_EXTENSION, "sign extension"),
    (WasmFeatures::MULTI_VALUE, "multi-value"),
    (WasmFeatures::BULK_MEMORY, "bulk memory"),
    (WasmFeatures::FLOATS, "floats"),
    (WasmFeatures::EXTENDED_CONST, "extended constants"),
    (WasmFeatures::CALL_INDIRECT_OVERLONG, "long table index"),
];

/// A feature that probes may not use.
struct Refused {
    flag: WasmFeatures,
    name: &'static str,
    /// How to build without it.
    without: &'static str,
}

/// Special features come before those that they build on, so that the first one found names the cause.
const REFUSED: [Refused; 18] = [
    refused(
        WasmFeatures::STACK_SWITCHING,
        "stack switching",
        "no flag: build with a compiler back end that does not use continuations",
    ),
    refused(
        WasmFeatures::CUSTOM_DESCRIPTORS,
        "custom descriptors",
        "no flag: use a compiler that targets linear memory",
    ),
    refused(
        WasmFeatures::GC,
        "garbage collection",
        "no flag: use a compiler that targets linear memory (Rust, C, C++, Zig, AssemblyScript, Go)",
    ),
    refused(
        WasmFeatures::FUNCTION_REFERENCES,
        "function references",
        "use call_indirect instead of call_ref; rustc and clang do so by default",
    ),
    refused(
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "shared-everything threads",
        "rustc: -Ctarget-feature=-atomics; clang: -mno-atomics, without -pthread",
    ),
    refused(
        WasmFeatures::THREADS,
        "threads (atomics or shared memory)",
        "rustc: -Ctarget-feature=-atomics; clang: -mno-atomics, without -pthread",
    ),
    refused(
        WasmFeatures::RELAXED_SIMD,
        "relaxed SIMD",
        "rustc: -Ctarget-feature=-relaxed-simd; clang: -mno-relaxed-simd",
    ),
    refused(WasmFeatures::SIMD, "SIMD", "rustc: -Ctarget-feature=-simd128; clang: -mno-simd128"),
    refused(
        WasmFeatures::LEGACY_EXCEPTIONS,
        "legacy exceptions",
        "rustc: -Cpanic=abort; clang: -fno-exceptions, without -fwasm-exceptions",
    ),
    refused(
        WasmFeatures::EXCEPTIONS,
        "exceptions",
        "rustc: -Cpanic=abort; clang: -fno-exceptions, without -fwasm-exceptions",
    ),
    refused(
        WasmFeatures::TAIL_CALL,
        "tail calls",
        "rustc: -Ctarget-feature=-tail-call; clang: -mno-tail-call",
    ),
    refused(
        WasmFeatures::MEMORY64,
        "memory64",
        "build for 32 bits: rustc --target wasm32-unknown-unknown; clang --target=wasm32",
    ),
    refused(
        WasmFeatures::MULTI_MEMORY,
        "multi-memory",
        "rustc: -Ctarget-feature=-multimemory; clang: -mno-multimemory",
    ),
    refused(
        WasmFeatures::CUSTOM_PAGE_SIZES,
        "custom page sizes",
        "wasm-ld: without --page-size; memory is counted in pages of 64 KiB",
    ),
    refused(WasmFeatures::MEMORY_CONTROL, "memory control", "do not use memory.discard"),
    refused(
        WasmFeatures::WIDE_ARITHMETIC,
        "wide arithmetic",
        "rustc: -Ctarget-feature=-wide-arithmetic; clang: -mno-wide-arithmetic",
    ),
    refused(
        WasmFeatures::COMPACT_IMPORTS,
        "compact imports",
        "have the linker write one import after another, as it does by default",
    ),
    refused(
        WasmFeatures::REFERENCE_TYPES,
        "reference types",
        "rustc: -Ctarget-feature=-reference-types; clang: -mno-reference-types",
    ),
];

const fn refused(flag: WasmFeatures, name: &'static str, without: &'static str) -> Refused {
    Refused { flag, name, without }
}

/// Checks size and format: a core module in binary form.
pub(super) fn check_format(wasm: &[u8]) -> Result<(), VerifyError> {
    if wasm.len() > MODULE_BYTES_MAX {
        let message = format!("the module has {} bytes; the limit is {MODULE_BYTES_MAX} bytes", wasm.len());
        return Err(VerifyError::new(Reason::TooLarge, message).hint(
            "build with optimization for size and strip it (-Copt-level=z -Cstrip=symbols; -Os -Wl,-s)",
        ));
    }
    if wasm.starts_with(b"\0asm") {
        return match wasm.get(4..8) {
            Some([1, 0, 0, 0]) => Ok(()),
            // A component: version 0x0d and layer 1 (component model, Binary.md).
            Some([_, _, 1, 0]) => Err(VerifyError::new(
                Reason::Component,
                "this is a WebAssembly component, not a core module",
            )
            .hint(
                "build a core module: for Rust --target wasm32-unknown-unknown, not wasm32-wasip2; languages \
                 that only make components cannot be used for probes",
            )),
            Some([a, b, c, d]) => Err(VerifyError::new(
                Reason::Malformed,
                format!("WebAssembly of version {} is unknown", u32::from_le_bytes([*a, *b, *c, *d])),
            )),
            _ => Err(VerifyError::new(Reason::Malformed, "the module ends after its first bytes")
                .hint("copy or download it again")),
        };
    }
    let start = wasm.trim_ascii_start();
    if [&b"(module"[..], b"(component", b"(;", b";;"].iter().any(|s| start.starts_with(s)) {
        return Err(VerifyError::new(Reason::Text, "this is WebAssembly text, not a binary module")
            .hint("compile it with `trocar build FILE.wat`, which writes FILE.wasm"));
    }
    let what = match wasm {
        [] => "the file is empty",
        [0x7f, b'E', b'L', b'F', ..] => "this is an ELF file, not a WebAssembly module",
        [0x1f, 0x8b, ..] => "this is a gzip file, not a WebAssembly module",
        [b'P', b'K', 3, 4, ..] => "this is a zip file, not a WebAssembly module",
        _ => "this is not a WebAssembly module: it does not start with \\0asm",
    };
    Err(VerifyError::new(Reason::NotWasm, what)
        .hint("give the .wasm file that the compiler wrote; `trocar new` makes a project that builds one"))
}

/// Validates the module with the accepted features. If it needs others, they are found by validating with
/// all but one: the validator's own message does not always name them.
pub(super) fn check_features(wasm: &[u8]) -> Result<(), VerifyError> {
    let Err(error) = validate(wasm, ACCEPTED) else { return Ok(()) };
    if let Err(error) = validate(wasm, WasmFeatures::all()) {
        return Err(invalid(error));
    }
    let needed: Vec<&Refused> = REFUSED.iter().filter(|f| validate(wasm, all_but(f.flag)).is_err()).collect();
    let Some((first, others)) = needed.split_first() else { return Err(invalid(error)) };
    let mut message = format!("the module uses {}, which probes may not use", first.name);
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|f| f.name).collect();
        message = format!("{message} (and {})", names.join(", "));
    }
    Err(VerifyError::new(Reason::Feature, message).hint(format!("to build without it: {}", first.without)))
}

/// Whether floats occur in the types or the code of a module that passed [`check_features`].
pub(super) fn uses_floats(wasm: &[u8]) -> bool {
    validate(wasm, ACCEPTED.difference(WasmFeatures::FLOATS)).is_err()
}

/// The accepted features that a module which passed [`check_features`] cannot do without.
pub(super) fn used(wasm: &[u8]) -> Vec<&'static str> {
    let needs = |flag: WasmFeatures| validate(wasm, ACCEPTED.difference(flag)).is_err();
    NAMES.iter().filter(|(flag, _)| needs(*flag)).map(|(_, name)| *name).collect()
}

/// All features but one. Features that share bits with others keep the others' bits.
fn all_but(flag: WasmFeatures) -> WasmFeatures {
    WasmFeatures::all()
        .difference(flag)
        .union(ACCEPTED.difference(flag))
        .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
}

fn validate(wasm: &[u8], features: WasmFeatures) -> Result<(), wasmparser::Error> {
    Validator::new_with_features(features).validate_all(wasm).map(drop)
}

fn invalid(error: wasmparser::Error) -> VerifyError {
    malformed(error).hint("build it again; if it was downloaded, download it again")
}
