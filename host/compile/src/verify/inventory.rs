//! What is in a module: its types, imports, exports, and for each function what it costs and calls.
//!
//! It is made of modules that are valid and within the limits of sizes, but trusts that no further than an index that
//! is looked up.

use std::collections::BTreeMap;

use wasmparser::{
    CompositeInnerType, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef,
};

use trocar_abi::map::KEY_MAX;
use trocar_abi::record::PAYLOAD_MAX;

use super::MemoryPages;
use super::error::{Reason, VerifyError, malformed};

/// An import.
#[derive(Debug)]
pub(super) struct Imported<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
}

/// What the code of a function holds.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Fuel of all its operators, each counted once, one for entering it, and what host calls charge for bytes.
    pub fuel: u64,
    /// It has a loop.
    pub loops: bool,
    /// It has an operation whose cost depends on an operand (bulk memory and table operations, host calls with a length
    /// that is no constant and has no limit of its own).
    pub bulk: bool,
    /// It calls through a table.
    pub indirect: bool,
    /// How often each function is called from here, by its index.
    pub calls: BTreeMap<u32, u32>,
}

/// A module, counted.
#[derive(Debug, Default)]
pub(super) struct Inventory<'a> {
    pub types: Vec<FuncType>,
    pub imports: Vec<Imported<'a>>,
    /// Type of each function: imported ones, then those with code.
    pub functions: Vec<u32>,
    /// How many of them are imported.
    pub imported_functions: usize,
    /// Their names.
    function_imports: Vec<&'a str>,
    pub bodies: Vec<Body>,
    /// Exported functions: name and index.
    pub exports: Vec<(&'a str, u32)>,
    pub memory: Option<MemoryPages>,
    pub exports_memory: bool,
    pub has_start: bool,
}

impl<'a> Inventory<'a> {
    /// Counts a module.
    pub fn of(wasm: &'a [u8]) -> Result<Self, VerifyError> {
        let mut inventory = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            inventory.take(payload.map_err(malformed)?)?;
        }
        Ok(inventory)
    }

    /// The type of a function by its index.
    pub fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(index as usize)? as usize)
    }

    /// Whether a function of type `() -> ()` is exported under this name.
    pub fn exports_plain(&self, name: &str) -> bool {
        self.exports.iter().any(|(n, index)| {
            *n == name
                && self.function_type(*index).is_some_and(|t| t.params().is_empty() && t.results().is_empty())
        })
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<(), VerifyError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.map_err(malformed)?.types() {
                        match &ty.composite_type.inner {
                            CompositeInnerType::Func(f) => self.types.push(f.clone()),
                            CompositeInnerType::Array(_)
                            | CompositeInnerType::Struct(_)
                            | CompositeInnerType::Cont(_) => {
                                return Err(unexpected("a type that is no function"));
                            }
                        }
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(malformed)?;
                    if let TypeRef::Func(ty) = import.ty {
                        self.functions.push(ty);
                        self.imported_functions += 1;
                        self.function_imports.push(import.name);
                    }
                    self.imports.push(Imported { module: import.module, name: import.name, ty: import.ty });
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty.map_err(malformed)?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(malformed)?;
                    self.memory = Some(MemoryPages { min: memory.initial, max: memory.maximum });
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => {
                            self.exports.push((export.name, export.index));
                        }
                        ExternalKind::Memory => self.exports_memory |= export.name == "memory",
                        // Tables and globals are exported by many compilers, and are of no use to us.
                        ExternalKind::Table | ExternalKind::Global | ExternalKind::Tag => {}
                    }
                }
            }
            Payload::StartSection { .. } => self.has_start = true,
            Payload::CodeSectionEntry(body) => {
                let body = self.count(&body)?;
                self.bodies.push(body);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Inventory<'_> {
    /// Counts a function.
    fn count(&self, body: &FunctionBody<'_>) -> Result<Body, VerifyError> {
        let mut counted = Body { fuel: 1, ..Body::default() };
        let mut last = Last::default();
        for operator in body.get_operators_reader().map_err(malformed)? {
            let operator = operator.map_err(malformed)?;
            counted.fuel = counted.fuel.saturating_add(fuel(&operator));
            match operator {
                Operator::Loop { .. } => counted.loops = true,
                Operator::Call { function_index } => {
                    *counted.calls.entry(function_index).or_default() += 1;
                    if let Some(name) = self.function_imports.get(function_index as usize) {
                        match bytes_charged(name, &last) {
                            Some(bytes) => counted.fuel = counted.fuel.saturating_add(bytes / 8),
                            None => counted.bulk = true,
                        }
                    }
                }
                Operator::CallIndirect { .. } => counted.indirect = true,
                Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::MemoryInit { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. } => counted.bulk = true,
                _ => {}
            }
            last.take(&operator);
        }
        Ok(counted)
    }
}

/// The constants that the last operators left on top of the stack: the topmost, and the one below it.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    top: Pushed,
    below: Pushed,
}

/// What an operator put on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pushed {
    /// A constant of 32 bits.
    Length(u32),
    /// One other value, and it took none.
    Value,
    /// Not known.
    #[default]
    Unknown,
}

impl Last {
    fn take(&mut self, operator: &Operator<'_>) {
        let pushed = match operator {
            // It leaves the stack as it is.
            Operator::LocalTee { .. } => return,
            Operator::I32Const { value } => Pushed::Length(value.cast_unsigned()),
            Operator::I64Const { .. } | Operator::LocalGet { .. } | Operator::GlobalGet { .. } => {
                Pushed::Value
            }
            _ => Pushed::Unknown,
        };
        *self =
            Self { top: pushed, below: if pushed == Pushed::Unknown { Pushed::Unknown } else { self.top } };
    }
}

/// Most bytes that a host call is charged for: its length where that is a constant, else what it takes at most; `None`
/// where only the size of memory limits it.
fn bytes_charged(name: &str, last: &Last) -> Option<u64> {
    let (length, most) = match name {
        "emit" | "log" => (last.top, Some(u64::from(PAYLOAD_MAX))),
        "hash_get" => (last.top, Some(u64::from(KEY_MAX))),
        // The length is below the value that is added or set.
        "hash_add" | "hash_set" if last.top != Pushed::Unknown => (last.below, Some(u64::from(KEY_MAX))),
        "hash_add" | "hash_set" => (Pushed::Unknown, Some(u64::from(KEY_MAX))),
        "param_str" | "read" | "read_str" => (last.top, None),
        _ => return Some(0),
    };
    if let Pushed::Length(bytes) = length { Some(bytes.into()) } else { most }
}

/// Fuel of an operator as wasmtime 48 charges it by default (`wasmtime-environ`, `default_operator_cost`).
const fn fuel(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Unreachable
        | Operator::Return
        | Operator::Else
        | Operator::End => 0,
        _ => 1,
    }
}

fn unexpected(what: &str) -> VerifyError {
    VerifyError::new(Reason::Malformed, format!("the module has {what}"))
}
