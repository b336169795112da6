//! The few functions with loops that generated modules share. Every loop is bounded by its arguments, which
//! are bounded by constants of the language: 20 digits, 256 bytes of a text, 4 KiB of a template.

use wasm_encoder::{BlockType, Function, Instruction as I, ValType};

use crate::emit::{DIGITS_END, mem};

/// A helper function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Helper {
    /// (value i64, base i64, to i32) -> i32: the digits of an unsigned number; the address after them.
    Number,
    /// (from i32, len i32, to i32) -> i32: copies bytes; the address after them.
    Copy,
    /// (from i32, len i32, to i32) -> i32: bytes as two hexadecimal digits each; the address after them.
    Hex,
    /// (a i32, len i32, b i32, len i32) -> i32: whether two texts are equal.
    Same,
}

impl Helper {
    /// Parameters; the result is one `i32`.
    pub const fn params(self) -> &'static [ValType] {
        match self {
            Self::Number => &[ValType::I64, ValType::I64, ValType::I32],
            Self::Copy | Self::Hex => &[ValType::I32, ValType::I32, ValType::I32],
            Self::Same => &[ValType::I32, ValType::I32, ValType::I32, ValType::I32],
        }
    }

    /// Upper bound of the fuel of one call that handles this many bytes (digits of a number): its
    /// instructions outside loops, and those of its loops for each byte. A test counts them.
    pub fn fuel(self, bytes: u32) -> u64 {
        let (fixed, each) = match self {
            Self::Number => (8, 42),
            Self::Copy => (8, 20),
            Self::Hex => (8, 46),
            Self::Same => (12, 24),
        };
        fixed + each * u64::from(bytes)
    }

    fn code(self) -> Code {
        match self {
            Self::Number => number(),
            Self::Copy => copy(),
            Self::Hex => hex(),
            Self::Same => same(),
        }
    }

    /// The code.
    pub fn function(self) -> Function {
        let (locals, code) = self.code();
        let mut f = Function::new(locals);
        for i in code {
            f.instruction(&i);
        }
        f
    }
}

type Code = (Vec<(u32, ValType)>, Vec<I<'static>>);

/// `*(u8*)local`
fn byte_at(local: u32) -> [I<'static>; 2] {
    [I::LocalGet(local), I::I32Load8U(mem(0))]
}

/// `local += by`
fn add(local: u32, by: i32) -> [I<'static>; 4] {
    [I::LocalGet(local), I::I32Const(by), I::I32Add, I::LocalSet(local)]
}

/// The character of the digit in a local, onto the stack.
fn digit_of(local: u32) -> [I<'static>; 8] {
    [
        I::I32Const(i32::from(b'0')),
        I::I32Const(i32::from(b'a') - 10),
        I::LocalGet(local),
        I::I32Const(10),
        I::I32LtU,
        I::Select,
        I::LocalGet(local),
        I::I32Add,
    ]
}

fn number() -> Code {
    const VALUE: u32 = 0;
    const BASE: u32 = 1;
    const TO: u32 = 2;
    const P: u32 = 3;
    const D: u32 = 4;
    let mut c = vec![I::I32Const(DIGITS_END.cast_signed()), I::LocalSet(P), I::Loop(BlockType::Empty)];
    c.extend(add(P, -1));
    c.extend([
        I::LocalGet(P),
        I::LocalGet(VALUE),
        I::LocalGet(BASE),
        I::I64RemU,
        I::I32WrapI64,
        I::LocalSet(D),
    ]);
    c.extend(digit_of(D));
    c.extend([
        I::I32Store8(mem(0)),
        I::LocalGet(VALUE),
        I::LocalGet(BASE),
        I::I64DivU,
        I::LocalTee(VALUE),
        I::I64Eqz,
        I::I32Eqz,
        I::BrIf(0),
        I::End,
        I::Loop(BlockType::Empty),
        I::LocalGet(TO),
    ]);
    c.extend(byte_at(P));
    c.push(I::I32Store8(mem(0)));
    c.extend(add(TO, 1));
    c.extend(add(P, 1));
    c.extend([
        I::LocalGet(P),
        I::I32Const(DIGITS_END.cast_signed()),
        I::I32LtU,
        I::BrIf(0),
        I::End,
        I::LocalGet(TO),
        I::End,
    ]);
    (vec![(2, ValType::I32)], c)
}

fn copy() -> Code {
    const FROM: u32 = 0;
    const LEN: u32 = 1;
    const TO: u32 = 2;
    let mut c = vec![I::Block(BlockType::Empty), I::Loop(BlockType::Empty)];
    c.extend([I::LocalGet(LEN), I::I32Eqz, I::BrIf(1), I::LocalGet(TO)]);
    c.extend(byte_at(FROM));
    c.push(I::I32Store8(mem(0)));
    c.extend(add(FROM, 1));
    c.extend(add(TO, 1));
    c.extend(add(LEN, -1));
    c.extend([I::Br(0), I::End, I::End, I::LocalGet(TO), I::End]);
    (vec![], c)
}

fn hex() -> Code {
    const FROM: u32 = 0;
    const LEN: u32 = 1;
    const TO: u32 = 2;
    const D: u32 = 3;
    let mut c = vec![I::Block(BlockType::Empty), I::Loop(BlockType::Empty)];
    c.extend([I::LocalGet(LEN), I::I32Eqz, I::BrIf(1)]);
    // The high digit, then the low one.
    c.extend(byte_at(FROM));
    c.extend([I::I32Const(4), I::I32ShrU, I::LocalSet(D), I::LocalGet(TO)]);
    c.extend(digit_of(D));
    c.push(I::I32Store8(mem(0)));
    c.extend(byte_at(FROM));
    c.extend([I::I32Const(15), I::I32And, I::LocalSet(D), I::LocalGet(TO)]);
    c.extend(digit_of(D));
    c.push(I::I32Store8(mem(1)));
    c.extend(add(FROM, 1));
    c.extend(add(TO, 2));
    c.extend(add(LEN, -1));
    c.extend([I::Br(0), I::End, I::End, I::LocalGet(TO), I::End]);
    (vec![(1, ValType::I32)], c)
}

fn same() -> Code {
    const A: u32 = 0;
    const LEN_A: u32 = 1;
    const B: u32 = 2;
    const LEN_B: u32 = 3;
    let mut c = vec![
        I::LocalGet(LEN_A),
        I::LocalGet(LEN_B),
        I::I32Ne,
        I::If(BlockType::Empty),
        I::I32Const(0),
        I::Return,
        I::End,
        I::Block(BlockType::Empty),
        I::Loop(BlockType::Empty),
    ];
    c.extend([I::LocalGet(LEN_A), I::I32Eqz, I::BrIf(1)]);
    c.extend(byte_at(A));
    c.extend(byte_at(B));
    c.extend([I::I32Ne, I::If(BlockType::Empty), I::I32Const(0), I::Return, I::End]);
    c.extend(add(A, 1));
    c.extend(add(B, 1));
    c.extend(add(LEN_A, -1));
    c.extend([I::Br(0), I::End, I::End, I::I32Const(1), I::End]);
    (vec![], c)
}

#[cfg(test)]
mod tests {
    use super::{Helper, I};

    /// Instructions that cost fuel, outside and inside of loops.
    fn costs(helper: Helper) -> (u64, u64) {
        let (mut outside, mut inside, mut depth) = (0, 0, 0);
        let mut loop_depth = None;
        for i in helper.code().1 {
            match i {
                I::Loop(_) => {
                    depth += 1;
                    loop_depth = loop_depth.or(Some(depth));
                }
                I::Block(_) => depth += 1,
                I::End => {
                    loop_depth = loop_depth.filter(|d| *d != depth);
                    depth -= 1;
                }
                I::Return => {}
                _ => {
                    depth += i32::from(matches!(i, I::If(_)));
                    *(if loop_depth.is_some() { &mut inside } else { &mut outside }) += 1;
                }
            }
        }
        (outside, inside)
    }

    #[test]
    fn fuel_is_bounded_by_the_instructions() {
        for helper in [Helper::Number, Helper::Copy, Helper::Hex, Helper::Same] {
            let (outside, inside) = costs(helper);
            // One for entering the function, three for the test that ends the loop.
            assert!(outside + 4 <= helper.fuel(0), "{helper:?}: {outside}");
            assert!(inside <= helper.fuel(1) - helper.fuel(0), "{helper:?}: {inside}");
        }
    }
}
