//! wasm to Cranelift's intermediate form, for simple handlers: every branch goes forward, calls of the module's own
//! functions are copied in.

use std::collections::HashMap;

use cranelift_codegen::ir::{
    Block, BlockArg, InstBuilder, InstructionData, MemFlagsData, Opcode, Type, Value, ValueDef, types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, Variable};
use trocar_abi::hit::{HitFrame, REGISTERS, StubFrame};
use trocar_abi::map::{MapKind, MapSpec, hist_buckets};
use wasmparser::{BlockType, Operator, Parser, Payload, ValType};

use super::{Facts, NotSimple, Offsets, STATS_SHIFT, small};
use crate::verify::inventory::Inventory;

/// Most operators that are translated, those of called functions counted each time.
const OPERATORS_MAX: usize = 1000;
/// How deep calls of the module's own functions may be.
const CALLS_MAX: usize = 8;

pub(super) type Simple<T> = Result<T, NotSimple>;

/// Values of the immutable globals that are constants; `None` for the others.
pub(super) fn globals(wasm: &[u8]) -> Simple<Vec<Option<(Type, i64)>>> {
    let mut all = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(bad)? {
            Payload::ImportSection(section) => {
                // A probe imports functions only (`verify::imports`).
                for import in section.into_imports() {
                    if matches!(import.map_err(bad)?.ty, wasmparser::TypeRef::Global(_)) {
                        all.push(None);
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.map_err(bad)?;
                    let mut operators = global.init_expr.get_operators_reader();
                    let value = match operators.read().map_err(bad)? {
                        Operator::I32Const { value } => Some((types::I32, i64::from(value))),
                        Operator::I64Const { value } => Some((types::I64, value)),
                        _ => None,
                    };
                    let is_all = matches!(operators.read().map_err(bad)?, Operator::End);
                    all.push(value.filter(|_| is_all && !global.ty.mutable));
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn bad(error: wasmparser::BinaryReaderError) -> NotSimple {
    NotSimple::because(error.to_string())
}

pub(super) fn no<T>(why: impl Into<String>) -> Simple<T> {
    Err(NotSimple::because(why))
}

/// A block of wasm that is open.
struct Frame {
    /// Where its end is; its parameters are the block's results.
    exit: Block,
    /// The other arm of an `if` that is still to come.
    otherwise: Option<Block>,
    results: Vec<Type>,
    /// Height of the operand stack at its beginning.
    height: usize,
    /// What follows cannot be reached, up to its end or `else`.
    dead: bool,
}

/// Translates one handler.
pub(super) struct Translator<'a> {
    pub(super) b: FunctionBuilder<'a>,
    inventory: &'a Inventory<'a>,
    globals: Vec<Option<(Type, i64)>>,
    facts: &'a Facts<'a>,
    offsets: Offsets,
    shared: Value,
    site: Value,
    frame: Value,
    pub(super) stack: Vec<Value>,
    /// What is known of a value: it is at most this, as an unsigned number.
    pub(super) bounds: HashMap<Value, u64>,
    operators: usize,
    /// It looks at registers.
    registers: bool,
}

impl<'a> Translator<'a> {
    pub(super) fn new(
        mut b: FunctionBuilder<'a>,
        inventory: &'a Inventory<'a>,
        globals: Vec<Option<(Type, i64)>>,
        facts: &'a Facts<'a>,
    ) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let param = |b: &FunctionBuilder<'_>, n: usize| {
            b.block_params(entry).get(n).copied().unwrap_or_else(|| Value::from_u32(0))
        };
        let (shared, site, frame) = (param(&b, 0), param(&b, 1), param(&b, 2));
        let bounds = HashMap::from([(site, u64::from(facts.sites.saturating_sub(1)))]);
        let offsets = Offsets::of(facts.sites);
        Self {
            b,
            inventory,
            globals,
            facts,
            offsets,
            shared,
            site,
            frame,
            stack: Vec::new(),
            bounds,
            operators: 0,
            registers: false,
        }
    }

    /// The whole handler, its accounting included. Whether it looks at registers.
    pub(super) fn handler(mut self, index: u32, config: TargetFrontendConfig) -> Simple<bool> {
        let site = self.b.ins().uextend(types::I64, self.site);
        let at = self.b.ins().ishl_imm_u(site, STATS_SHIFT);
        let stats = self.b.ins().iadd(self.shared, at);
        // Counted before it runs, as the agent does.
        let one = self.b.ins().iconst(types::I64, 1);
        self.add(stats, self.offsets.stats + Offsets::HITS, one);
        self.add(self.shared, Offsets::STUB_HITS, one);
        self.call(index, Vec::new(), 0)?;
        match self.stack.pop() {
            Some(answer) => {
                let [executed, not] = [(); 2].map(|()| self.b.create_block());
                self.b.ins().brif(answer, executed, &[], not, &[]);
                for (block, counter) in [(executed, Offsets::EXECUTED), (not, Offsets::CONDITION_FALSE)] {
                    self.b.switch_to_block(block);
                    self.b.seal_block(block);
                    self.add(stats, self.offsets.stats + counter, one);
                    self.b.ins().return_(&[]);
                }
            }
            None => {
                self.add(stats, self.offsets.stats + Offsets::EXECUTED, one);
                self.b.ins().return_(&[]);
            }
        }
        self.b.finalize(config);
        Ok(self.registers)
    }

    /// Adds to a word of the shared block: a load, an addition, a store, which become one instruction (`proof` looks).
    fn add(&mut self, base: Value, offset: i32, n: Value) {
        let flags = MemFlagsData::trusted();
        let old = self.b.ins().load(types::I64, flags, base, offset);
        let new = self.b.ins().iadd(old, n);
        self.b.ins().store(flags, new, base, offset);
    }

    pub(super) fn pop(&mut self) -> Simple<Value> {
        self.stack.pop().map_or_else(|| no("its operands do not fit"), Ok)
    }

    fn pop_many(&mut self, n: usize) -> Simple<Vec<Value>> {
        match self.stack.len().checked_sub(n) {
            Some(at) => Ok(self.stack.split_off(at)),
            None => no("its operands do not fit"),
        }
    }

    /// The value's number, if it is a constant.
    pub(super) fn constant(&self, value: Value) -> Option<i64> {
        let function = &self.b.func;
        let ValueDef::Result(inst, 0) = function.dfg.value_def(function.dfg.resolve_aliases(value)) else {
            return None;
        };
        match function.dfg.insts[inst] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits()),
            _ => None,
        }
    }

    /// What the value cannot exceed, as an unsigned number.
    pub(super) fn bound(&self, value: Value) -> Option<u64> {
        let value = self.b.func.dfg.resolve_aliases(value);
        let of_type = |n: i64| match self.b.func.dfg.value_type(value) {
            types::I32 => u64::from((n & 0xffff_ffff) as u32),
            _ => n.cast_unsigned(),
        };
        self.constant(value).map(of_type).or_else(|| self.bounds.get(&value).copied())
    }

    /// A call of one of the module's own functions: its code in this place.
    fn call(&mut self, index: u32, arguments: Vec<Value>, depth: usize) -> Simple<()> {
        if depth > CALLS_MAX {
            return no("its calls are too deep");
        }
        let inventory = self.inventory;
        let body = (index as usize).checked_sub(inventory.imported_functions);
        let body = body.and_then(|i| inventory.bodies.get(i));
        let (Some(body), Some(ty)) = (body, inventory.function_type(index)) else {
            return no("it calls what is not there");
        };
        let results: Vec<Type> = ty.results().iter().map(|t| int(*t)).collect::<Simple<_>>()?;
        let mut locals = Vec::new();
        for argument in arguments {
            let of = self.b.func.dfg.value_type(argument);
            locals.push(self.local(of, argument));
        }
        for local in body.code.get_locals_reader().map_err(bad)? {
            let (count, ty) = local.map_err(bad)?;
            let ty = int(ty)?;
            self.spend(count as usize)?;
            for _ in 0..count {
                let zero = self.b.ins().iconst(ty, 0);
                locals.push(self.local(ty, zero));
            }
        }
        let base = self.stack.len();
        let exit = self.open(&results);
        let mut frames = vec![Frame { exit, otherwise: None, results, height: base, dead: false }];
        for operator in body.code.get_operators_reader().map_err(bad)? {
            self.spend(1)?;
            self.operator(&operator.map_err(bad)?, &locals, &mut frames, depth)?;
        }
        if frames.is_empty() { Ok(()) } else { no("its blocks do not fit") }
    }

    fn spend(&mut self, operators: usize) -> Simple<()> {
        self.operators = self.operators.saturating_add(operators);
        if self.operators > OPERATORS_MAX { no("it is too long") } else { Ok(()) }
    }

    fn local(&mut self, ty: Type, value: Value) -> Variable {
        let variable = self.b.declare_var(ty);
        self.b.def_var(variable, value);
        variable
    }

    /// A block with these parameters.
    fn open(&mut self, results: &[Type]) -> Block {
        let block = self.b.create_block();
        for ty in results {
            self.b.append_block_param(block, *ty);
        }
        block
    }

    fn block_results(&self, ty: BlockType) -> Simple<Vec<Type>> {
        match ty {
            BlockType::Empty => Ok(Vec::new()),
            BlockType::Type(ty) => Ok(vec![int(ty)?]),
            BlockType::FuncType(_) => no("a block of it takes operands"),
        }
    }

    /// The values that a branch to a frame's end carries.
    fn carried(&self, frame: &Frame) -> Simple<Vec<BlockArg>> {
        let at = self.stack.len().checked_sub(frame.results.len());
        let carried = at.and_then(|at| self.stack.get(at..));
        carried.map_or_else(
            || no("its operands do not fit"),
            |v| Ok(v.iter().map(|v| BlockArg::from(*v)).collect()),
        )
    }

    fn target<'f>(&self, frames: &'f [Frame], depth: u32) -> Simple<&'f Frame> {
        let at = frames.len().checked_sub(depth as usize + 1);
        at.and_then(|at| frames.get(at)).map_or_else(|| no("a branch of it leads nowhere"), Ok)
    }

    /// Ends the current block: nothing that follows is reached.
    fn die(&mut self, frames: &mut [Frame]) {
        if let Some(frame) = frames.last_mut() {
            frame.dead = true;
            self.stack.truncate(frame.height);
        }
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        locals: &[Variable],
        frames: &mut Vec<Frame>,
        depth: usize,
    ) -> Simple<()> {
        let dead = frames.last().is_none_or(|f| f.dead);
        match operator {
            Operator::Block { blockty } => {
                let results = self.block_results(*blockty)?;
                let exit = self.open(&results);
                frames.push(Frame { exit, otherwise: None, results, height: self.stack.len(), dead });
                return Ok(());
            }
            Operator::If { blockty } => {
                let results = self.block_results(*blockty)?;
                let exit = self.open(&results);
                let otherwise = self.b.create_block();
                if !dead {
                    let condition = self.pop()?;
                    let then = self.b.create_block();
                    self.b.ins().brif(condition, then, &[], otherwise, &[]);
                    self.b.switch_to_block(then);
                    self.b.seal_block(then);
                    self.b.seal_block(otherwise);
                }
                let otherwise = (!dead).then_some(otherwise);
                frames.push(Frame { exit, otherwise, results, height: self.stack.len(), dead });
                return Ok(());
            }
            Operator::Else => return self.otherwise(frames),
            Operator::End => return self.end(frames),
            _ if dead => return Ok(()),
            _ => {}
        }
        match operator {
            Operator::Br { relative_depth } => {
                let frame = self.target(frames, *relative_depth)?;
                let carried = self.carried(frame)?;
                self.b.ins().jump(frame.exit, &carried);
                self.die(frames);
            }
            Operator::BrIf { relative_depth } => {
                let condition = self.pop()?;
                let frame = self.target(frames, *relative_depth)?;
                let carried = self.carried(frame)?;
                let on = self.b.create_block();
                self.b.ins().brif(condition, frame.exit, &carried, on, &[]);
                self.b.switch_to_block(on);
                self.b.seal_block(on);
            }
            Operator::Return => {
                let Some(frame) = frames.first() else { return no("a branch of it leads nowhere") };
                let carried = self.carried(frame)?;
                self.b.ins().jump(frame.exit, &carried);
                self.die(frames);
            }
            Operator::Call { function_index } => self.calls(*function_index, depth)?,
            Operator::LocalGet { local_index } => {
                let value = self.b.use_var(variable(locals, *local_index)?);
                self.stack.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop()?;
                self.b.def_var(variable(locals, *local_index)?, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop()?;
                self.b.def_var(variable(locals, *local_index)?, value);
                self.stack.push(value);
            }
            Operator::GlobalGet { global_index } => {
                let Some((ty, value)) = self.globals.get(*global_index as usize).copied().flatten() else {
                    return no("it uses a global that changes");
                };
                self.number(ty, value);
            }
            _ => self.compute(operator)?,
        }
        Ok(())
    }

    fn otherwise(&mut self, frames: &mut [Frame]) -> Simple<()> {
        let Some(frame) = frames.last_mut() else { return no("its blocks do not fit") };
        // `None`: the whole `if` is dead.
        let Some(otherwise) = frame.otherwise.take() else { return Ok(()) };
        if !frame.dead {
            let carried = self.carried(frame)?;
            self.b.ins().jump(frame.exit, &carried);
        }
        frame.dead = false;
        self.stack.truncate(frame.height);
        self.b.switch_to_block(otherwise);
        Ok(())
    }

    fn end(&mut self, frames: &mut Vec<Frame>) -> Simple<()> {
        let Some(frame) = frames.pop() else { return no("its blocks do not fit") };
        if !frame.dead {
            let carried = self.carried(&frame)?;
            self.b.ins().jump(frame.exit, &carried);
        }
        if let Some(otherwise) = frame.otherwise {
            // An `if` without `else` gives nothing.
            self.b.switch_to_block(otherwise);
            self.b.ins().jump(frame.exit, &[]);
        }
        self.b.switch_to_block(frame.exit);
        self.b.seal_block(frame.exit);
        self.stack.truncate(frame.height);
        self.stack.extend_from_slice(self.b.block_params(frame.exit));
        Ok(())
    }

    pub(super) fn number(&mut self, ty: Type, value: i64) {
        // Constants of 32 bits are kept zero-extended (`iconst` in Cranelift's documentation).
        let value = if ty == types::I32 { value & 0xffff_ffff } else { value };
        let value = self.b.ins().iconst(ty, value);
        self.stack.push(value);
    }

    /// A call: of a function of the module, or of one of the host calls that are simple.
    fn calls(&mut self, index: u32, depth: usize) -> Simple<()> {
        let Some(import) = self.inventory.imports.get(index as usize) else {
            let parameters = self.inventory.function_type(index).map_or(0, |t| t.params().len());
            let arguments = self.pop_many(parameters)?;
            return self.call(index, arguments, depth + 1);
        };
        match (import.module, import.name) {
            (trocar_abi::import::MODULE, "counter_add") => {
                let (n, entry, map) = (self.pop()?, self.pop()?, self.pop()?);
                let spec = self.map(map, MapKind::Counter)?;
                let entry = self.entry(entry, &spec)?;
                let at = self.b.ins().ishl_imm_u(entry, 3);
                self.add_to_map(&spec, at, n)
            }
            (trocar_abi::import::MODULE, "hist_add") => {
                let (value, entry, map) = (self.pop()?, self.pop()?, self.pop()?);
                let spec = self.map(map, MapKind::Hist)?;
                let entry = self.entry(entry, &spec)?;
                let precision = spec.precision();
                let first =
                    self.b.ins().imul_imm_u(entry, i64::try_from(hist_buckets(precision)).unwrap_or(0));
                // `trocar_abi::map::hist_bucket`, where both of its cases are one: a shift of at least zero.
                let zeros = self.b.ins().clz(value);
                let most = self.b.ins().iconst(types::I64, 63 - i64::from(precision));
                let shift = self.b.ins().isub(most, zeros);
                let zero = self.b.ins().iconst(types::I64, 0);
                let shift = self.b.ins().smax(shift, zero);
                let high = self.b.ins().ishl_imm_u(shift, i64::from(precision));
                let low = self.b.ins().ushr(value, shift);
                let bucket = self.b.ins().iadd(high, low);
                let bucket = self.b.ins().iadd(bucket, first);
                let at = self.b.ins().ishl_imm_u(bucket, 3);
                let one = self.b.ins().iconst(types::I64, 1);
                self.add_to_map(&spec, at, one)
            }
            (trocar_abi::import::MODULE, "arg") => {
                let n = self.pop()?;
                let Some(n) = self.constant(n) else { return no("which argument it wants is not constant") };
                let names: &[&str] =
                    if self.facts.go { &HitFrame::GO_ARGUMENTS } else { &HitFrame::ARGUMENTS };
                match usize::try_from(n).ok().and_then(|n| names.get(n)) {
                    Some(name) => self.register(name),
                    // Zero past the registers, as the host call answers.
                    None => {
                        self.number(types::I64, 0);
                        Ok(())
                    }
                }
            }
            (trocar_abi::import::MODULE, "reg") => {
                let n = self.pop()?;
                let n = self.constant(n).and_then(|n| usize::try_from(n).ok());
                let Some(name) = n.and_then(|n| REGISTERS.get(n)) else {
                    return no("which register it wants is not constant");
                };
                self.register(name)
            }
            (trocar_abi::import::MODULE, "ret") => self.register("rax"),
            (trocar_abi::import::MODULE, "site") => {
                self.stack.push(self.site);
                Ok(())
            }
            (trocar_abi::import::MODULE, "param") => {
                let n = self.pop()?;
                let n = self.constant(n).and_then(|n| usize::try_from(n).ok());
                let Some(value) = n.and_then(|n| self.facts.params.get(n).copied().flatten()) else {
                    return no("which parameter it wants is not constant");
                };
                self.number(types::I64, value.cast_signed());
                Ok(())
            }
            (_, name) => no(format!("it calls `{name}`")),
        }
    }

    fn register(&mut self, name: &str) -> Simple<()> {
        let Some(offset) = StubFrame::offset(name) else { return no(format!("it wants {name}")) };
        self.registers = true;
        let value = self.b.ins().load(types::I64, MemFlagsData::trusted(), self.frame, small(offset));
        self.stack.push(value);
        Ok(())
    }

    /// The map with this number, if it is a constant and of this kind.
    fn map(&self, number: Value, kind: MapKind) -> Simple<MapSpec> {
        let index = self.constant(number).and_then(|n| usize::try_from(n).ok());
        let spec = index.and_then(|i| self.facts.maps.get(i)).filter(|s| s.kind == kind as u32);
        spec.copied().map_or_else(|| no("which map it counts in is not constant"), Ok)
    }

    /// The entry as a 64-bit number, if it is proven that the map has it.
    fn entry(&mut self, entry: Value, spec: &MapSpec) -> Simple<Value> {
        if self.bound(entry).is_none_or(|most| most >= u64::from(spec.entries)) {
            return no("that the map has the entry is not proven");
        }
        Ok(self.b.ins().uextend(types::I64, entry))
    }

    fn add_to_map(&mut self, spec: &MapSpec, at: Value, n: Value) -> Simple<()> {
        let start = self.offsets.maps + i64::from(spec.offset);
        let Ok(start) = i32::try_from(start) else { return no("its maps are too large") };
        let base = self.b.ins().iadd(self.shared, at);
        self.add(base, start, n);
        Ok(())
    }
}

fn variable(locals: &[Variable], index: u32) -> Simple<Variable> {
    locals.get(index as usize).copied().map_or_else(|| no("its locals do not fit"), Ok)
}

fn int(ty: ValType) -> Simple<Type> {
    match ty {
        ValType::I32 => Ok(types::I32),
        ValType::I64 => Ok(types::I64),
        _ => no("it uses values that are no integers"),
    }
}
