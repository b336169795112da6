//! The handlers: exported functions of the right type, under the names that the manifest gives.

use trocar_package::{Manifest, nearest};
use wasmparser::{FuncType, ValType};

use super::Handler;
use super::cost::HandlerCost;
use super::error::{Reason, VerifyError, shown};
use super::imports::signature;
use super::inventory::Inventory;

/// Exports of the right type that linkers make, and that are never meant as handlers.
const NEVER: [&str; 4] = ["_initialize", "_start", "__wasm_call_ctors", "__wasm_init_memory"];
/// Most names in a message.
const LISTED: usize = 20;

/// A handler and the index of its function.
#[derive(Debug)]
pub(super) struct Found {
    name: String,
    returns_condition: bool,
    pub function: u32,
}

impl Found {
    pub fn with(self, cost: HandlerCost) -> Handler {
        Handler {
            name: self.name,
            returns_condition: self.returns_condition,
            worst_fuel: cost.fuel,
            system_calls: cost.system_calls,
        }
    }
}

/// The handlers in the order of the manifest.
pub(super) fn find(
    inventory: &Inventory<'_>,
    manifest: &Manifest,
    has_manifest: bool,
) -> Result<Vec<Found>, VerifyError> {
    let mut all = Vec::new();
    for wanted in &manifest.handlers {
        let export = inventory.exports.iter().find(|(name, _)| *name == wanted.name);
        let Some((_, function)) = export else {
            return Err(missing(inventory, &wanted.name, has_manifest));
        };
        let ty = inventory.function_type(*function);
        let Some(returns_condition) = ty.and_then(answer) else {
            let found = ty.map_or_else(String::new, signature);
            return Err(VerifyError::new(
                Reason::Handler,
                format!(
                    "handler `{}` is of type {found}; it must be () -> () or () -> (i32)",
                    shown(&wanted.name)
                ),
            )
            .hint("a handler takes nothing: it asks for arguments with `arg`"));
        };
        if (*function as usize) < inventory.imported_functions {
            return Err(VerifyError::new(
                Reason::Handler,
                format!("handler `{}` is a host call that is exported again, not code", shown(&wanted.name)),
            )
            .hint("write a function that calls it, and export that"));
        }
        all.push(Found { name: wanted.name.clone(), returns_condition, function: *function });
    }
    Ok(all)
}

/// Whether a handler's type answers with a condition; `None` for a type that no handler has.
fn answer(ty: &FuncType) -> Option<bool> {
    match (ty.params(), ty.results()) {
        ([], []) => Some(false),
        ([], [ValType::I32]) => Some(true),
        _ => None,
    }
}

fn missing(inventory: &Inventory<'_>, wanted: &str, has_manifest: bool) -> VerifyError {
    let exist: Vec<&str> = inventory
        .exports
        .iter()
        .filter(|(name, index)| {
            !NEVER.contains(name) && inventory.function_type(*index).and_then(answer).is_some()
        })
        .map(|(name, _)| *name)
        .collect();
    let source = if has_manifest { "the manifest names" } else { "a module without manifest has" };
    let mut message = format!("the module exports no handler `{}`, which {source}", shown(wanted));
    if let Some(near) = nearest(wanted, exist.iter().copied()) {
        message = format!("{message}; did you mean `{}`?", shown(near));
    }
    let hint = if exist.is_empty() {
        "export a function of type () -> () or () -> (i32); no export has that type".to_owned()
    } else {
        let names: Vec<String> = exist.iter().take(LISTED).map(|n| shown(n)).collect();
        let more = if exist.len() > LISTED { ", …" } else { "" };
        format!("exports of the right type: {}{more}; name one in `handlers` of probe.toml", names.join(", "))
    };
    VerifyError::new(Reason::Handler, message).hint(hint)
}
