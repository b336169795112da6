//! Operators that only compute: each is the one of Cranelift that means the same.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value, ValueDef, types};
use wasmparser::Operator;

use super::translate::{Simple, Translator, no};

impl Translator<'_> {
    /// Operators that only compute.
    pub(super) fn compute(&mut self, operator: &Operator<'_>) -> Simple<()> {
        use Operator as O;
        use types::{I8, I16, I32, I64};
        let value = match operator {
            O::Nop => return Ok(()),
            O::Drop => {
                self.pop()?;
                return Ok(());
            }
            O::I32Const { value } => {
                self.number(I32, i64::from(*value));
                return Ok(());
            }
            O::I64Const { value } => {
                self.number(I64, *value);
                return Ok(());
            }
            O::Select => return self.select(),
            O::I32Eqz | O::I64Eqz => {
                let x = self.pop()?;
                let answer = self.b.ins().icmp_imm_u(IntCC::Equal, x, 0);
                self.b.ins().uextend(I32, answer)
            }
            O::I32WrapI64 => {
                let x = self.pop()?;
                self.b.ins().ireduce(I32, x)
            }
            O::I64ExtendI32U => {
                let x = self.pop()?;
                let bound = self.bound(x);
                let wide = self.b.ins().uextend(I64, x);
                self.bounds.extend(bound.map(|most| (wide, most)));
                wide
            }
            O::I64ExtendI32S => {
                let x = self.pop()?;
                self.b.ins().sextend(I64, x)
            }
            O::I32Extend8S | O::I32Extend16S | O::I64Extend8S | O::I64Extend16S | O::I64Extend32S => {
                let (part, whole) = match operator {
                    O::I32Extend8S => (I8, I32),
                    O::I32Extend16S => (I16, I32),
                    O::I64Extend8S => (I8, I64),
                    O::I64Extend16S => (I16, I64),
                    _ => (I32, I64),
                };
                let x = self.pop()?;
                let x = self.b.ins().ireduce(part, x);
                self.b.ins().sextend(whole, x)
            }
            O::I32Clz | O::I64Clz => {
                let x = self.pop()?;
                self.b.ins().clz(x)
            }
            O::I32Ctz | O::I64Ctz => {
                let x = self.pop()?;
                self.b.ins().ctz(x)
            }
            _ => return self.compute_two(operator),
        };
        self.stack.push(value);
        Ok(())
    }

    fn compute_two(&mut self, operator: &Operator<'_>) -> Simple<()> {
        use Operator as O;
        if let Some(condition) = comparison(operator) {
            let (y, x) = (self.pop()?, self.pop()?);
            let answer = self.b.ins().icmp(condition, x, y);
            let answer = self.b.ins().uextend(types::I32, answer);
            self.stack.push(answer);
            return Ok(());
        }
        let arithmetic = matches!(
            operator,
            O::I32Add
                | O::I64Add
                | O::I32Sub
                | O::I64Sub
                | O::I32Mul
                | O::I64Mul
                | O::I32And
                | O::I64And
                | O::I32Or
                | O::I64Or
                | O::I32Xor
                | O::I64Xor
                | O::I32Shl
                | O::I64Shl
                | O::I32ShrU
                | O::I64ShrU
                | O::I32ShrS
                | O::I64ShrS
                | O::I32Rotl
                | O::I64Rotl
                | O::I32Rotr
                | O::I64Rotr
        );
        if !arithmetic {
            let name = format!("{operator:?}");
            let name = name.split([' ', '{']).next().unwrap_or("an operator");
            return no(format!("it uses {name}"));
        }
        let (y, x) = (self.pop()?, self.pop()?);
        let mask = self.bound(x).into_iter().chain(self.bound(y)).min();
        let ins = self.b.ins();
        // Shifts take their count modulo the width, in wasm as in Cranelift.
        let value = match operator {
            O::I32Add | O::I64Add => ins.iadd(x, y),
            O::I32Sub | O::I64Sub => ins.isub(x, y),
            O::I32Mul | O::I64Mul => ins.imul(x, y),
            O::I32And | O::I64And => ins.band(x, y),
            O::I32Or | O::I64Or => ins.bor(x, y),
            O::I32Xor | O::I64Xor => ins.bxor(x, y),
            O::I32Shl | O::I64Shl => ins.ishl(x, y),
            O::I32ShrU | O::I64ShrU => ins.ushr(x, y),
            O::I32ShrS | O::I64ShrS => ins.sshr(x, y),
            O::I32Rotl | O::I64Rotl => ins.rotl(x, y),
            _ => ins.rotr(x, y),
        };
        if matches!(operator, O::I32And | O::I64And) {
            // No bit that is not in both.
            self.bounds.extend(mask.map(|most| (value, most)));
        }
        self.stack.push(value);
        Ok(())
    }

    /// One of two; where it is the lesser of a number and a constant, that is noted.
    fn select(&mut self) -> Simple<()> {
        let (condition, other, first) = (self.pop()?, self.pop()?, self.pop()?);
        let value = self.b.ins().select(condition, first, other);
        let most = match (self.bound(first), self.bound(other)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => self.least_of(condition, first, other),
        };
        self.bounds.extend(most.map(|most| (value, most)));
        self.stack.push(value);
        Ok(())
    }

    /// The bound of `first < other ? first : other`.
    fn least_of(&self, condition: Value, first: Value, other: Value) -> Option<u64> {
        let dfg = &self.b.func.dfg;
        let defined = |value: Value| match dfg.value_def(dfg.resolve_aliases(value)) {
            ValueDef::Result(inst, 0) => Some(dfg.insts[inst]),
            _ => None,
        };
        let InstructionData::Unary { opcode: Opcode::Uextend, arg } = defined(condition)? else {
            return None;
        };
        let InstructionData::IntCompare { cond, args, .. } = defined(arg)? else { return None };
        let same = args.map(|v| dfg.resolve_aliases(v)) == [first, other].map(|v| dfg.resolve_aliases(v))
            || self.constant(args[1]).is_some_and(|n| Some(n) == self.constant(other))
                && dfg.resolve_aliases(args[0]) == dfg.resolve_aliases(first);
        let less = matches!(cond, IntCC::UnsignedLessThan | IntCC::UnsignedLessThanOrEqual);
        if same && less { self.bound(other) } else { None }
    }
}

fn comparison(operator: &Operator<'_>) -> Option<IntCC> {
    use Operator as O;
    Some(match operator {
        O::I32Eq | O::I64Eq => IntCC::Equal,
        O::I32Ne | O::I64Ne => IntCC::NotEqual,
        O::I32LtS | O::I64LtS => IntCC::SignedLessThan,
        O::I32LtU | O::I64LtU => IntCC::UnsignedLessThan,
        O::I32GtS | O::I64GtS => IntCC::SignedGreaterThan,
        O::I32GtU | O::I64GtU => IntCC::UnsignedGreaterThan,
        O::I32LeS | O::I64LeS => IntCC::SignedLessThanOrEqual,
        O::I32LeU | O::I64LeU => IntCC::UnsignedLessThanOrEqual,
        O::I32GeS | O::I64GeS => IntCC::SignedGreaterThanOrEqual,
        O::I32GeU | O::I64GeU => IntCC::UnsignedGreaterThanOrEqual,
        _ => return None,
    })
}
