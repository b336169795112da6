//! From numbers in the tree to instructions. Texts and buffers are next door, in `texts`.
//!
//! A function under construction is a [`Body`]: a list of operations in which host calls and helpers are
//! still names, because their numbers are known only when the module is put together. Every number is an
//! `i64` on the operand stack. What fails branches to the innermost failure block, after it has set the
//! local [`WHY`]; so nothing that may trap is ever executed.

use trocar_abi::import;
use wasm_encoder::{BlockType, Instruction as I, MemArg, ValType};

use crate::ast::{Binary, Kind, Node, Unary, Width};
use crate::helpers::Helper;

/// Local that says why the last failure block was entered: [`UNREADABLE`] or [`UNDEFINED`].
pub(crate) const WHY: u32 = 0;
/// A read failed.
pub(crate) const UNREADABLE: i32 = 0;
/// A division by zero.
pub(crate) const UNDEFINED: i32 = 1;
/// How failures are shown, by their number.
pub(crate) const FAILURES: [&str; 2] = ["<unreadable>", "<undefined>"];

// Memory of a generated probe, in bytes:
//
//   0       unused, so that no pointer is null
//   8       one number: a typed read, or an integer key
//   32      32 bytes for the digits of a number
//   64      texts, buffers, constants, the log line: handed out by `Memory`
/// Where typed reads and integer keys go.
pub(crate) const NUMBER: u32 = 8;
/// Where digits are made, from the end.
pub(crate) const DIGITS: u32 = 32;
/// End of the digits.
pub(crate) const DIGITS_END: u32 = 64;
/// End of the memory: one page.
const MEMORY_END: u32 = 65_536;
const _: () = assert!(NUMBER + 8 <= DIGITS && DIGITS_END - DIGITS >= 20, "the longest number has 20 digits");

/// An operation of a body.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A wasm instruction.
    Plain(I<'static>),
    /// A call of the host.
    Host(&'static str),
    /// A call of a helper function of the module.
    Call(Helper),
}

/// The linear memory of the module: who has which bytes, and what is in them at the start.
#[derive(Debug)]
pub(crate) struct Memory {
    next: u32,
    pub data: Vec<(u32, Vec<u8>)>,
}

impl Memory {
    pub const fn new() -> Self {
        Self { next: DIGITS_END, data: Vec::new() }
    }

    /// Room for this many bytes, aligned to eight.
    ///
    /// The parser bounds each expression, but not the sum over a template (17 expressions of up to 32 texts of
    /// 256 bytes): who builds the module asks [`Memory::full`].
    pub fn room(&mut self, bytes: u32) -> u32 {
        let at = self.next;
        self.next = self.next.saturating_add(bytes.next_multiple_of(8));
        at
    }

    /// A constant.
    pub fn constant(&mut self, bytes: &[u8]) -> (u32, u32) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let at = self.room(len);
        self.data.push((at, bytes.to_vec()));
        (at, len)
    }

    /// Whether more was handed out than there is.
    pub const fn full(&self) -> bool {
        self.next > MEMORY_END
    }
}

/// A function under construction.
#[derive(Debug)]
pub(crate) struct Body {
    pub ops: Vec<Op>,
    /// Types of the locals, in order; the first is [`WHY`].
    pub locals: Vec<ValType>,
    /// Number of blocks that are open.
    depth: u32,
    /// Depth of the innermost failure block.
    failure: u32,
    /// Upper bound of the fuel of one run.
    pub fuel: u64,
}

impl Body {
    pub fn new() -> Self {
        Self { ops: Vec::new(), locals: vec![ValType::I32], depth: 0, failure: 0, fuel: 1 }
    }

    pub fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        u32::try_from(self.locals.len()).unwrap_or(u32::MAX).saturating_sub(1)
    }

    pub fn put(&mut self, instruction: I<'static>) {
        match &instruction {
            I::Block(_) | I::If(_) | I::Loop(_) => self.depth += 1,
            I::End => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.fuel += 1;
        self.ops.push(Op::Plain(instruction));
    }

    pub fn i32(&mut self, value: u32) {
        self.put(I::I32Const(value.cast_signed()));
    }

    /// Calls the host.
    pub fn host(&mut self, name: &'static str) {
        self.fuel += 1 + import::find(name).map_or(0, |i| i.fuel);
        self.ops.push(Op::Host(name));
    }

    /// Calls a helper that handles at most this many bytes.
    pub fn call(&mut self, helper: Helper, bytes: u32) {
        self.fuel += 1 + helper.fuel(bytes);
        self.ops.push(Op::Call(helper));
    }

    /// Opens a block that failures branch to; give what it returns to [`Body::close_failure`].
    pub fn open_failure(&mut self) -> u32 {
        let outer = self.failure;
        self.put(I::Block(BlockType::Empty));
        self.failure = self.depth;
        outer
    }

    /// Closes the innermost failure block.
    pub fn close_failure(&mut self, outer: u32) {
        self.put(I::End);
        self.failure = outer;
    }

    /// Fails if the `i32` on the stack is not zero.
    pub fn fail_if(&mut self, why: i32) {
        self.put(I::I32Const(why));
        self.put(I::LocalSet(WHY));
        self.put(I::BrIf(self.depth - self.failure));
    }

    /// A number onto the stack.
    pub fn number(&mut self, node: &Node, memory: &mut Memory) {
        match &node.kind {
            Kind::Int(n) => self.put(I::I64Const(*n)),
            Kind::Arg(n) => {
                self.i32(*n);
                self.host("arg");
            }
            Kind::Reg(n) => {
                self.i32(*n);
                self.host("reg");
            }
            Kind::Ret => self.host("ret"),
            Kind::Tid => {
                self.host("tid");
                self.put(I::I64ExtendI32U);
            }
            Kind::Cpu => {
                self.host("cpu");
                self.put(I::I64ExtendI32U);
            }
            Kind::Unsigned(x) => self.number(x, memory),
            Kind::Unary(op, x) => self.unary(*op, x, memory),
            Kind::Read(width, address) => self.read(*width, address, memory),
            Kind::Binary(op, a, b) if a.is_int() => self.binary(*op, a, b, memory),
            Kind::Binary(op, a, b) => self.compare_texts(*op == Binary::Ne, a, b, memory),
            // The parser lets no text come where a number is needed.
            Kind::Text(_) | Kind::Str(..) | Kind::Buf(..) => self.put(I::I64Const(0)),
        }
    }

    fn unary(&mut self, op: Unary, x: &Node, memory: &mut Memory) {
        match op {
            Unary::Neg => {
                self.put(I::I64Const(0));
                self.number(x, memory);
                self.put(I::I64Sub);
            }
            Unary::Complement => {
                self.number(x, memory);
                self.put(I::I64Const(-1));
                self.put(I::I64Xor);
            }
            Unary::Not => {
                self.number(x, memory);
                self.put(I::I64Eqz);
                self.put(I::I64ExtendI32U);
            }
        }
    }

    fn read(&mut self, width: Width, address: &Node, memory: &mut Memory) {
        self.number(address, memory);
        self.i32(NUMBER);
        self.put(I::I32Const(width.bytes()));
        self.host("read");
        self.fail_if(UNREADABLE);
        self.i32(NUMBER);
        let at = mem(0);
        self.put(match width {
            Width::U8 => I::I64Load8U(at),
            Width::I8 => I::I64Load8S(at),
            Width::U16 => I::I64Load16U(at),
            Width::I16 => I::I64Load16S(at),
            Width::U32 => I::I64Load32U(at),
            Width::I32 => I::I64Load32S(at),
            Width::U64 | Width::I64 => I::I64Load(at),
        });
    }

    fn binary(&mut self, op: Binary, a: &Node, b: &Node, memory: &mut Memory) {
        let unsigned = a.is_unsigned() || b.is_unsigned();
        match op {
            Binary::AndAnd | Binary::OrOr => return self.short_circuit(op == Binary::AndAnd, a, b, memory),
            Binary::Div | Binary::Rem => return self.divide(op == Binary::Div, unsigned, a, b, memory),
            _ => {}
        }
        self.number(a, memory);
        self.number(b, memory);
        let pick = |signed, other| if unsigned { other } else { signed };
        let (instruction, is_bool) = match op {
            Binary::Mul => (I::I64Mul, false),
            Binary::Add => (I::I64Add, false),
            Binary::Sub => (I::I64Sub, false),
            Binary::Shl => (I::I64Shl, false),
            Binary::Shr => (if a.is_unsigned() { I::I64ShrU } else { I::I64ShrS }, false),
            Binary::And => (I::I64And, false),
            Binary::Xor => (I::I64Xor, false),
            Binary::Or => (I::I64Or, false),
            Binary::Eq => (I::I64Eq, true),
            Binary::Ne => (I::I64Ne, true),
            Binary::Lt => (pick(I::I64LtS, I::I64LtU), true),
            Binary::Le => (pick(I::I64LeS, I::I64LeU), true),
            Binary::Gt => (pick(I::I64GtS, I::I64GtU), true),
            Binary::Ge => (pick(I::I64GeS, I::I64GeU), true),
            // Handled above.
            Binary::Div | Binary::Rem | Binary::AndAnd | Binary::OrOr => return,
        };
        self.put(instruction);
        if is_bool {
            self.put(I::I64ExtendI32U);
        }
    }

    fn short_circuit(&mut self, and: bool, a: &Node, b: &Node, memory: &mut Memory) {
        self.number(a, memory);
        self.put(I::I64Eqz);
        self.put(I::If(BlockType::Result(ValType::I64)));
        if and {
            self.put(I::I64Const(0));
        } else {
            self.truth(b, memory);
        }
        self.put(I::Else);
        if and {
            self.truth(b, memory);
        } else {
            self.put(I::I64Const(1));
        }
        self.put(I::End);
    }

    /// 0 or 1 onto the stack.
    fn truth(&mut self, node: &Node, memory: &mut Memory) {
        self.number(node, memory);
        self.put(I::I64Const(0));
        self.put(I::I64Ne);
        self.put(I::I64ExtendI32U);
    }

    /// Division and remainder, without the two traps that wasm has for them: a zero divisor fails, and the
    /// quotient of the least number by -1 wraps.
    fn divide(&mut self, quotient: bool, unsigned: bool, a: &Node, b: &Node, memory: &mut Memory) {
        let (n, d) = (self.local(ValType::I64), self.local(ValType::I64));
        self.number(a, memory);
        self.put(I::LocalSet(n));
        self.number(b, memory);
        self.put(I::LocalSet(d));
        if b.literal().is_none() {
            self.put(I::LocalGet(d));
            self.put(I::I64Eqz);
            self.fail_if(UNDEFINED);
        }
        // The remainder by -1 does not trap: it is zero by definition.
        let may_overflow = quotient && !unsigned && matches!(b.literal(), None | Some(-1));
        if may_overflow {
            self.put(I::LocalGet(d));
            self.put(I::I64Const(-1));
            self.put(I::I64Eq);
            self.put(I::If(BlockType::Result(ValType::I64)));
            self.put(I::I64Const(0));
            self.put(I::LocalGet(n));
            self.put(I::I64Sub);
            self.put(I::Else);
        }
        self.put(I::LocalGet(n));
        self.put(I::LocalGet(d));
        self.put(match (quotient, unsigned) {
            (true, false) => I::I64DivS,
            (true, true) => I::I64DivU,
            (false, false) => I::I64RemS,
            (false, true) => I::I64RemU,
        });
        if may_overflow {
            self.put(I::End);
        }
    }
}

/// The operand of a load or store at an offset, with no claim about alignment.
pub(crate) const fn mem(offset: u32) -> MemArg {
    MemArg { offset: offset as u64, align: 0, memory_index: 0 }
}
