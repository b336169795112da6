//! Imports against the ABI's table of host calls.

use trocar_abi::import::{IMPORTS, Import, MODULE, RESERVED, Ty, resolve};
use trocar_abi::shim::{ABORT, ENV, SHIM, WASI};
use trocar_package::nearest;
use wasmparser::{FuncType, TypeRef, ValType};

use super::error::{Reason, VerifyError, shown};
use super::inventory::{Imported, Inventory};

/// Module of variables of the target by name.
const VARIABLES: &str = "trocar:var";

/// The host calls that the module imports, sorted by name, each once.
pub(super) fn check(inventory: &Inventory<'_>) -> Result<Vec<&'static Import>, VerifyError> {
    let mut used: Vec<&'static Import> = Vec::new();
    for import in &inventory.imports {
        used.push(check_one(inventory, import)?);
    }
    used.sort_unstable_by_key(|i| i.name);
    used.dedup_by_key(|i| i.name);
    Ok(used)
}

fn check_one(inventory: &Inventory<'_>, import: &Imported<'_>) -> Result<&'static Import, VerifyError> {
    let path = format!("`{}.{}`", shown(import.module), shown(import.name));
    let TypeRef::Func(ty) = import.ty else { return Err(no_function(import, &path)) };
    match import.module {
        MODULE if import.name == RESERVED => Err(VerifyError::new(
            Reason::Reserved,
            format!(
                "{path} is a reserved name: a probe observes the target and does not change what it does"
            ),
        )
        .hint("remove the import")),
        VARIABLES => Err(VerifyError::new(
            Reason::Variables,
            format!("{path} asks for a variable by name, which is not in this version"),
        )
        .hint("read it through its address: `arg` or `reg`, and `read` at its offset")),
        _ => {
            let Some(call) = resolve(import.module, import.name) else {
                return Err(if import.module == WASI {
                    wasi(inventory)
                } else {
                    unknown(import.name, &path)
                });
            };
            let found = inventory.types.get(ty as usize);
            if found.is_some_and(|f| same(f, call)) {
                return Ok(call);
            }
            let found = found.map_or_else(|| "of unknown type".to_owned(), signature);
            Err(VerifyError::new(
                Reason::Signature,
                format!("{path} is imported as {found}, but is {}", signature_of(call)),
            )
            .hint("take the declaration from the SDK or from PROBE-ABI.md"))
        }
    }
}

fn no_function(import: &Imported<'_>, path: &str) -> VerifyError {
    if matches!(import.ty, TypeRef::Memory(_)) {
        return VerifyError::new(
            Reason::ImportedMemory,
            format!("the module imports its memory as {path}; a probe brings its own"),
        )
        .hint(
            "export the memory instead: without --import-memory (wasm-ld, clang) or --importMemory \
             (AssemblyScript); in WAT: (memory (export \"memory\") 1)",
        );
    }
    let kind = match import.ty {
        TypeRef::Table(_) => "a table",
        TypeRef::Global(_) => "a global",
        TypeRef::Tag(_) => "a tag",
        TypeRef::Memory(_) => "a memory",
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "a function with an exact type",
    };
    VerifyError::new(
        Reason::ImportKind,
        format!("the module imports {path}, {kind}; only functions can be imported"),
    )
    .hint("link it as a module of its own, without -shared, -pie or --import-table")
}

fn wasi(inventory: &Inventory<'_>) -> VerifyError {
    let refused = inventory.imports.iter().filter(|i| i.module == WASI && resolve(WASI, i.name).is_none());
    let mut names: Vec<String> = refused.map(|i| shown(i.name)).take(16).collect();
    names.sort_unstable();
    names.dedup();
    let there: Vec<&str> = SHIM.iter().filter(|i| i.module == WASI).map(|i| i.name).collect();
    VerifyError::new(
        Reason::Wasi,
        format!("the module imports from WASI what probes do not have: {}", names.join(", ")),
    )
    .hint(format!(
        "leave out files, arguments and sockets (in Go: os, net, and fmt, which needs os), or build without an \
         operating system: Rust --target wasm32-unknown-unknown, clang --target=wasm32 -nostdlib, zig -target \
         wasm32-freestanding; of WASI there are {}",
        there.join(", ")
    ))
}

fn unknown(name: &str, path: &str) -> VerifyError {
    let names: Vec<&str> = IMPORTS.iter().map(|i| i.name).collect();
    let mut message = format!("there is no {path} to import");
    if let Some(near) = nearest(name, names.iter().copied()) {
        message = format!("{message}; did you mean `{MODULE}.{near}`?");
    }
    VerifyError::new(Reason::UnknownImport, message)
        .hint(format!("module `{MODULE}` has {}; module `{ENV}` has {ABORT}", names.join(", ")))
}

fn same(found: &FuncType, call: &Import) -> bool {
    let value = |t: &Ty| match t {
        Ty::I32 => ValType::I32,
        Ty::I64 => ValType::I64,
    };
    found.params().iter().copied().eq(call.params.iter().map(value))
        && found.results().iter().copied().eq(call.result.iter().map(value))
}

/// A type as `(i32, i64) -> (i32)`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", list(ty.params()), list(ty.results()))
}

fn signature_of(call: &Import) -> String {
    let name = |t: &Ty| match t {
        Ty::I32 => "i32",
        Ty::I64 => "i64",
    };
    let params: Vec<&str> = call.params.iter().map(name).collect();
    format!("({}) -> ({})", params.join(", "), call.result.as_ref().map_or("", name))
}
