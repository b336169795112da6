//! What is in a module: its types, imports, exports, and for each function what it calls.
//!
//! It is made of modules that are valid and within the limits of sizes, but trusts that no further than an index that
//! is looked up.

use std::collections::BTreeSet;

use wasmparser::{
    CompositeInnerType, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef,
};

use super::MemoryPages;
use super::error::{Reason, VerifyError, malformed};

/// An import.
#[derive(Debug)]
pub(crate) struct Imported<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
}

/// A function with code.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub code: FunctionBody<'a>,
    /// It calls through a table.
    pub indirect: bool,
    /// Which functions are called from here, by index.
    pub calls: BTreeSet<u32>,
}

/// A module, counted.
#[derive(Debug, Default)]
pub(crate) struct Inventory<'a> {
    pub types: Vec<FuncType>,
    pub imports: Vec<Imported<'a>>,
    /// Type of each function: imported ones, then those with code.
    pub functions: Vec<u32>,
    /// How many of them are imported.
    pub imported_functions: usize,
    pub bodies: Vec<Body<'a>>,
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
                self.bodies.push(calls(body)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a function calls.
fn calls(code: FunctionBody<'_>) -> Result<Body<'_>, VerifyError> {
    let (mut calls, mut indirect) = (BTreeSet::new(), false);
    for operator in code.get_operators_reader().map_err(malformed)? {
        match operator.map_err(malformed)? {
            Operator::Call { function_index } => {
                calls.insert(function_index);
            }
            Operator::CallIndirect { .. } => indirect = true,
            _ => {}
        }
    }
    Ok(Body { code, indirect, calls })
}

fn unexpected(what: &str) -> VerifyError {
    VerifyError::new(Reason::Malformed, format!("the module has {what}"))
}
