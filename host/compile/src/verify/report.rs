//! What `check` tells about a verified module: remarks for its author, and its facts as rows of text.

use trocar_sandbox::START_FUEL;

use super::error::shown;
use super::inventory::Inventory;
use super::{Handler, MemoryPages, Verified, WASM_PAGE, features};

/// Remarks about what is allowed but probably not meant, or costs more than it must.
pub(super) fn notes(inventory: &Inventory<'_>, memory: MemoryPages) -> Vec<String> {
    let mut notes = Vec::new();
    let initialize = inventory.exports_plain("_initialize");
    if initialize && inventory.has_start {
        notes.push("It has both a start function and `_initialize`; the start function runs first.".into());
    }
    if inventory.exports_plain("_start") {
        notes.push(
            "It exports `_start`, which never runs in a target. Link as a library: -mexec-model=reactor or --no-entry."
                .into(),
        );
    }
    // 17 pages are the default of rustc and zig: one mebibyte of stack, and one page for everything else.
    if memory.min >= 17 {
        notes.push(format!(
            "Its memory starts at {} pages of 64 KiB; a smaller stack makes instances smaller \
             (Rust -Clink-arg=-zstack-size=8192, clang -Wl,-z,stack-size=8192, zig --stack 8192).",
            memory.min
        ));
    }
    notes
}

impl Handler {
    fn text(&self) -> String {
        let condition = if self.returns_condition { ", answers a condition" } else { "" };
        let fuel = match self.worst_fuel {
            Ok(fuel) => format!("fuel <= {fuel}"),
            Err(why) => format!("fuel metered, because of {}", why.text()),
        };
        let calls = self.system_calls.map_or_else(|| "not bounded".to_owned(), |n| format!("<= {n}"));
        format!("{}{condition}: {fuel}; system calls {calls}", shown(&self.name))
    }
}

impl Verified {
    /// Features beyond the first version of WebAssembly that the module needs, by name.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        features::used(&self.wasm)
    }

    /// The facts as rows of a label and a text, in the order in which `check` prints them.
    #[must_use]
    pub fn report(&self) -> Vec<(&'static str, String)> {
        let join = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let calls: Vec<String> =
            self.imports.iter().map(|i| format!("{} ({})", i.name, i.capability.name())).collect();
        let mut rows = vec![
            ("probe", format!("{} {}", self.manifest.name, self.manifest.version)),
            ("size", format!("{} bytes, {} functions", self.wasm.len(), self.functions)),
            ("features", join(self.features())),
            ("capabilities", join(self.capabilities.iter().map(|c| c.name()).collect())),
            ("host calls", join(calls.iter().map(String::as_str).collect())),
            ("memory", self.memory_text()),
            ("floats", if self.uses_floats { "yes" } else { "no" }.to_owned()),
        ];
        rows.extend(self.handlers.iter().map(|h| ("handler", h.text())));
        rows.push(("fuel per hit", self.fuel_text()));
        rows.push(("system calls per hit", self.system_calls_text()));
        let once: Vec<&str> =
            self.has_start.then_some("start function").into_iter().chain(self.runs_once).collect();
        if !once.is_empty() {
            rows.push((
                "runs once before",
                format!("{}: metered, cut at {START_FUEL} fuel", once.join(", then ")),
            ));
        }
        rows.extend(self.notes.iter().map(|n| ("note", n.clone())));
        rows
    }

    fn memory_text(&self) -> String {
        let max = self.memory.max.map_or_else(|| "the limit".to_owned(), |m| format!("{m} pages"));
        format!(
            "{} pages of {} KiB, growing to {max}; limit {} bytes",
            self.memory.min,
            WASM_PAGE / 1024,
            self.memory_limit
        )
    }

    fn fuel_text(&self) -> String {
        match self.worst_fuel {
            Some(fuel) => format!("<= {fuel}"),
            None => "metered, and cut at the limit".to_owned(),
        }
    }

    fn system_calls_text(&self) -> String {
        match self.system_calls_per_hit {
            Some(n) => format!("<= {n}"),
            None => {
                format!("<= {} per host call; how many calls, a loop decides", self.system_calls_per_call)
            }
        }
    }
}
