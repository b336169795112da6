//! Texts and buffers: where they go, and how they are compared.

use wasm_encoder::{Instruction as I, ValType};

use crate::ast::{BYTES_MAX, Kind, Length, Node};
use crate::emit::{Body, Memory, UNREADABLE, mem};
use crate::helpers::Helper;

/// Where a text is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// Room of its own.
    Own,
    /// The address in this local; the bytes there belong to the caller.
    Local(u32),
}

/// Where a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// At a fixed address.
    Fixed(u32),
    /// At the address in this local.
    Local(u32),
}

/// A text in the probe's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    pub at: At,
    /// Local with its number of bytes.
    pub len: u32,
    /// Most bytes it can have.
    pub most: u32,
}

impl Body {
    /// Puts the value of a text or buffer into memory. Leaves nothing on the stack.
    pub fn text(&mut self, node: &Node, to: To, memory: &mut Memory) -> Text {
        let len = self.local(ValType::I32);
        match &node.kind {
            Kind::Str(address, length) | Kind::Buf(address, length) => {
                let most = length.most();
                let at = match to {
                    To::Own => At::Fixed(memory.room(most)),
                    To::Local(local) => At::Local(local),
                };
                self.number(address, memory);
                self.address(at);
                self.length(length, len, memory);
                if matches!(node.kind, Kind::Str(..)) {
                    self.host("read_str");
                    self.put(I::LocalTee(len));
                    self.put(I::I32Const(0));
                    self.put(I::I32LtS);
                } else {
                    // The length stays in its local: `read` answers 0 when all of it was readable.
                    self.host("read");
                }
                self.fail_if(UNREADABLE);
                Text { at, len, most }
            }
            Kind::Text(bytes) => {
                let (at, most) = memory.constant(bytes);
                self.i32(most);
                self.put(I::LocalSet(len));
                Text { at: At::Fixed(at), len, most }
            }
            // The parser lets no number come where a text is needed; a new local is zero, so this is empty.
            _ => Text { at: At::Fixed(0), len, most: 0 },
        }
    }

    /// The address of a text onto the stack.
    pub fn address(&mut self, at: At) {
        match at {
            At::Fixed(address) => self.i32(address),
            At::Local(local) => self.put(I::LocalGet(local)),
        }
    }

    /// A length onto the stack and into a local, held within 0 to [`BYTES_MAX`].
    fn length(&mut self, length: &Length, len: u32, memory: &mut Memory) {
        match length {
            Length::Fixed(n) => self.i32(*n),
            Length::Computed(node) => {
                let n = self.local(ValType::I64);
                self.number(node, memory);
                self.put(I::LocalSet(n));
                if !node.is_unsigned() {
                    // n = n < 0 ? 0 : n
                    self.put(I::I64Const(0));
                    self.put(I::LocalGet(n));
                    self.put(I::LocalGet(n));
                    self.put(I::I64Const(0));
                    self.put(I::I64LtS);
                    self.put(I::Select);
                    self.put(I::LocalSet(n));
                }
                self.put(I::I64Const(BYTES_MAX.into()));
                self.put(I::LocalGet(n));
                self.put(I::LocalGet(n));
                self.put(I::I64Const(BYTES_MAX.into()));
                self.put(I::I64GtU);
                self.put(I::Select);
                self.put(I::I32WrapI64);
            }
        }
        self.put(I::LocalTee(len));
    }

    /// 1 or 0 onto the stack, whether two texts are equal, or not equal.
    pub fn compare_texts(&mut self, unequal: bool, a: &Node, b: &Node, memory: &mut Memory) {
        match (&a.kind, &b.kind) {
            (Kind::Text(constant), _) => self.compare_constant(b, constant, memory),
            (_, Kind::Text(constant)) => self.compare_constant(a, constant, memory),
            _ => {
                let a = self.text(a, To::Own, memory);
                let b = self.text(b, To::Own, memory);
                for text in [a, b] {
                    self.address(text.at);
                    self.put(I::LocalGet(text.len));
                }
                self.call(Helper::Same, a.most.min(b.most));
            }
        }
        if unequal {
            self.put(I::I32Eqz);
        }
        self.put(I::I64ExtendI32U);
    }

    /// Whether a text equals a constant: its length and then its bytes in pieces of 8, 4, 2 and 1, without a
    /// loop. Bytes behind the text's end are compared too, which is harmless: they are in its room.
    fn compare_constant(&mut self, node: &Node, constant: &[u8], memory: &mut Memory) {
        let text = self.text(node, To::Own, memory);
        self.put(I::LocalGet(text.len));
        self.put(I::I32Const(i32::try_from(constant.len()).unwrap_or(i32::MAX)));
        self.put(I::I32Eq);
        let mut rest = constant;
        let mut offset = 0u32;
        while !rest.is_empty() {
            let size = [8u32, 4, 2, 1].into_iter().find(|s| *s as usize <= rest.len()).unwrap_or(1);
            let (piece, after) = rest.split_at_checked(size as usize).unwrap_or((rest, &[]));
            rest = after;
            let mut bytes = [0u8; 8];
            for (to, from) in bytes.iter_mut().zip(piece) {
                *to = *from;
            }
            self.address(text.at);
            let at = mem(offset);
            self.put(match size {
                8 => I::I64Load(at),
                4 => I::I64Load32U(at),
                2 => I::I64Load16U(at),
                _ => I::I64Load8U(at),
            });
            self.put(I::I64Const(i64::from_le_bytes(bytes)));
            self.put(I::I64Eq);
            self.put(I::I32And);
            offset += size;
        }
    }
}
