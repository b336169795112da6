//! Puts a module together: types, imports, helpers, memory, the handler, data, and the manifest.

use std::collections::BTreeSet;

use trocar_abi::import::{self, DEFAULT_HANDLER, MODULE, Ty};
use trocar_package::{Manifest, attach_section};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, Instruction, MemorySection, MemoryType, Module, TypeSection, ValType,
};

use crate::emit::{Body, Memory, Op};
use crate::error::ExprError;
use crate::helpers::Helper;

/// Fuel of a hit that probes get when they ask for nothing (DESIGN §5).
const DEFAULT_FUEL: u64 = 10_000;

/// A generated probe.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The module. Its handler is `on_hit`, of type `() -> (i32)`; the manifest is in it.
    pub wasm: Vec<u8>,
    /// The same manifest.
    pub manifest: Manifest,
}

/// The module of a handler, with its manifest. Asks for more fuel than the default where one run may need it.
pub(crate) fn build(
    body: Body,
    memory: &Memory,
    mut manifest: Manifest,
    text: &str,
) -> Result<Compiled, ExprError> {
    let whole = |message: String| ExprError::new(text, 0..text.len(), message);
    if memory.full() {
        return Err(whole("the texts together do not fit into one page of memory; give them lengths".into()));
    }
    if body.fuel > DEFAULT_FUEL {
        manifest.limits.fuel = Some(body.fuel);
    }
    manifest.limits.memory_bytes = Some(1 << 16);
    let bare = encode(body, memory);
    let wasm = attach_section(&bare, &manifest).map_err(|e| whole(e.to_string()))?;
    Ok(Compiled { wasm, manifest })
}

fn encode(body: Body, memory: &Memory) -> Vec<u8> {
    let mut hosts = BTreeSet::new();
    let mut helpers = BTreeSet::new();
    for op in &body.ops {
        match op {
            Op::Host(name) => drop(hosts.insert(*name)),
            Op::Call(helper) => drop(helpers.insert(*helper)),
            Op::Plain(_) => {}
        }
    }
    let hosts: Vec<&import::Import> = hosts.into_iter().filter_map(import::find).collect();
    let helpers: Vec<Helper> = helpers.into_iter().collect();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);

    // Type i belongs to function i: imports, then helpers, then the handler.
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for (i, host) in hosts.iter().enumerate() {
        types.ty().function(host.params.iter().map(value_type), host.result.iter().map(value_type));
        imports.import(MODULE, host.name, EntityType::Function(number(i)));
    }
    for (i, helper) in helpers.iter().enumerate() {
        types.ty().function(helper.params().iter().copied(), [ValType::I32]);
        functions.function(number(hosts.len() + i));
        code.function(&helper.function());
    }
    let handler = number(hosts.len() + helpers.len());
    types.ty().function([], [ValType::I32]);
    functions.function(handler);

    let mut f = Function::new_with_locals_types(body.locals);
    for op in body.ops {
        match op {
            Op::Plain(instruction) => drop(f.instruction(&instruction)),
            Op::Host(name) => {
                let index = hosts.iter().position(|h| h.name == name).map_or(u32::MAX, number);
                f.instruction(&Instruction::Call(index));
            }
            Op::Call(helper) => {
                let index =
                    helpers.iter().position(|h| *h == helper).map_or(u32::MAX, |i| number(hosts.len() + i));
                f.instruction(&Instruction::Call(index));
            }
        }
    }
    f.instruction(&Instruction::End);
    code.function(&f);

    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: Some(1),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(DEFAULT_HANDLER, ExportKind::Func, handler);
    let mut data = DataSection::new();
    for (at, bytes) in &memory.data {
        data.active(0, &ConstExpr::i32_const(at.cast_signed()), bytes.iter().copied());
    }

    let mut module = Module::new();
    module.section(&types);
    if !hosts.is_empty() {
        module.section(&imports);
    }
    module.section(&functions).section(&memories).section(&exports).section(&code);
    if !memory.data.is_empty() {
        module.section(&data);
    }
    module.finish()
}

const fn value_type(ty: &Ty) -> ValType {
    match ty {
        Ty::I32 => ValType::I32,
        Ty::I64 => ValType::I64,
    }
}
