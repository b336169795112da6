//! What `check` tells about a verified module: remarks for its author, and its facts as rows of text.

use super::inventory::Inventory;
use super::{Handler, MemoryPages, Verified, WASM_PAGE};

/// Remarks about what is allowed but probably not meant, or costs more than it must.
pub(super) fn notes(inventory: &Inventory<'_>, memory: MemoryPages) -> Vec<String> {
    let mut notes = Vec::new();
    let initialize = inventory.exports_plain("_initialize");
    if initialize && inventory.has_start {
        notes.push("It has both a start function and `_initialize`; the start function runs first.".into());
    }
    if !initialize && inventory.exports_plain("__wasm_call_ctors") {
        notes.push(
            "It exports `__wasm_call_ctors` but no `_initialize`: its constructors do not run. Link with \
             -mexec-model=reactor."
                .into(),
        );
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

impl Verified {
    /// The facts as rows of a label and a text, in the order in which `check` prints them.
    #[must_use]
    pub fn report(&self) -> Vec<(&'static str, String)> {
        let join = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let mut rows = vec![
            ("probe", format!("{} {}", self.manifest.name, self.manifest.version)),
            ("size", format!("{} bytes, {} functions", self.wasm.len(), self.functions)),
            ("handlers", join(self.handlers.iter().map(|h| h.name.as_str()).collect())),
            ("capabilities", join(self.capabilities.iter().map(|c| c.name()).collect())),
            ("host calls", join(self.imports.iter().map(|i| i.name).collect())),
            ("memory", self.memory_text()),
            ("floats", if self.uses_floats { "yes" } else { "no" }.to_owned()),
            ("fuel per hit", self.fuel_text()),
            ("system calls per hit", self.system_calls_text()),
        ];
        if self.has_start || self.needs_initialize {
            let what = match (self.has_start, self.needs_initialize) {
                (true, true) => "start function, then _initialize",
                (true, false) => "start function",
                (false, _) => "_initialize",
            };
            rows.push(("runs once before", what.to_owned()));
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
            None => {
                let why = |h: &Handler| Some(format!("{} in `{}`", h.worst_fuel.err()?.text(), h.name));
                let why: Vec<String> = self.handlers.iter().filter_map(why).collect();
                format!("metered and cut at the limit: {}", why.join(", "))
            }
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
