//! The probe behind `log`: puts a line together in its memory and hands it to the host.
//!
//! Every part of the template has a known greatest length, so that the line is bounded before the probe
//! exists and no part of it checks for room.

use trocar_abi::record::PAYLOAD_MAX;
use trocar_package::Manifest;
use wasm_encoder::{BlockType, Instruction as I, ValType};

use crate::ast::{Expr, Kind, Node, Type};
use crate::count::{close_condition, open_condition};
use crate::emit::{Body, FAILURES, Memory, mem};
use crate::error::ExprError;
use crate::helpers::Helper;
use crate::module::{self, Compiled};
use crate::template::{Piece, Template};
use crate::texts::To;

/// Level of the lines: info.
const LEVEL: u32 = 2;
/// Most characters of a number: the sign or `0x`, and up to 20 digits.
const DECIMAL_MAX: u32 = 20;
const HEX_MAX: u32 = 18;

/// A probe that logs a line at every hit for which the condition holds.
///
/// # Errors
/// The condition is no number, or a line could be longer than a record.
pub fn compile_log(template: &Template, condition: Option<&Expr>) -> Result<Compiled, ExprError> {
    let longest: u32 = template.pieces.iter().map(most).fold(0, u32::saturating_add);
    if longest > PAYLOAD_MAX {
        let message = format!(
            "a line could have {longest} bytes, a record has at most {PAYLOAD_MAX}; give texts shorter lengths"
        );
        return Err(ExprError::new(&template.source, 0..template.source.len(), message));
    }
    let mut memory = Memory::new();
    let mut body = Body::new();
    let mut manifest = Manifest::default_for("log");
    manifest.description = "logs a line at each hit".into();

    let outer = open_condition(&mut body, condition, &mut memory)?;
    let line = memory.room(longest.max(1));
    let end = body.address_local();
    body.i32(line);
    body.put(I::LocalSet(end));
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => copy(&mut body, text, end, &mut memory),
            Piece::Value { expr, hex } => value(&mut body, expr, *hex, end, &mut memory),
        }
    }
    body.i32(LEVEL);
    body.i32(line);
    body.put(I::LocalGet(end));
    body.i32(line);
    body.put(I::I32Sub);
    body.host("log");
    close_condition(&mut body, outer);
    module::build(body, &memory, manifest, &template.source)
}

/// Most bytes that a piece adds to the line.
fn most(piece: &Piece) -> u32 {
    let bytes = match piece {
        Piece::Text(text) => return u32::try_from(text.len()).unwrap_or(u32::MAX),
        Piece::Value { expr, hex } => match (&expr.root.kind, expr.ty()) {
            (Kind::Str(_, length), _) => length.most(),
            (Kind::Buf(_, length), _) => length.most() * 2,
            (Kind::Text(bytes), _) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            (_, Type::Int { .. }) if *hex => HEX_MAX,
            _ => DECIMAL_MAX,
        },
    };
    FAILURES.iter().filter_map(|f| u32::try_from(f.len()).ok()).fold(bytes, u32::max)
}

fn copy(body: &mut Body, text: &str, end: u32, memory: &mut Memory) {
    let (at, len) = memory.constant(text.as_bytes());
    body.i32(at);
    body.i32(len);
    body.put(I::LocalGet(end));
    body.call(Helper::Copy, len);
    body.put(I::LocalSet(end));
}

/// Adds a value to the line, or the name of the failure. `end` moves only when the value is complete.
fn value(body: &mut Body, expr: &Expr, hex: bool, end: u32, memory: &mut Memory) {
    body.put(I::Block(BlockType::Empty));
    let outer = body.open_failure();
    match expr.ty() {
        Type::Int { unsigned } => number(body, &expr.root, hex, unsigned, end, memory),
        Type::Str if matches!(expr.root.kind, Kind::Str(..)) => {
            // Read straight into the line: its greatest length was counted in.
            let text = body.text(&expr.root, To::Local(end), memory);
            body.put(I::LocalGet(end));
            body.put(I::LocalGet(text.len));
            body.put(I::I32Add);
            body.put(I::LocalSet(end));
        }
        Type::Str | Type::Buf => {
            let text = body.text(&expr.root, To::Own, memory);
            body.address(text.at);
            body.put(I::LocalGet(text.len));
            body.put(I::LocalGet(end));
            body.call(if expr.ty() == Type::Buf { Helper::Hex } else { Helper::Copy }, text.most);
            body.put(I::LocalSet(end));
        }
    }
    body.put(I::Br(1));
    body.close_failure(outer);
    if expr.can_fail() {
        let (unreadable, first) = memory.constant(FAILURES[0].as_bytes());
        let (undefined, second) = memory.constant(FAILURES[1].as_bytes());
        body.either(undefined, unreadable);
        body.either(second, first);
        body.put(I::LocalGet(end));
        body.call(Helper::Copy, first.max(second));
        body.put(I::LocalSet(end));
    }
    body.put(I::End);
}

fn number(body: &mut Body, node: &Node, hex: bool, unsigned: bool, end: u32, memory: &mut Memory) {
    let n = body.local(ValType::I64);
    body.number(node, memory);
    body.put(I::LocalSet(n));
    if hex {
        // "0x", little endian.
        body.put(I::LocalGet(end));
        body.put(I::I32Const(i32::from(u16::from_le_bytes(*b"0x"))));
        body.put(I::I32Store16(mem(0)));
    } else if !unsigned {
        body.put(I::LocalGet(n));
        body.put(I::I64Const(0));
        body.put(I::I64LtS);
        body.put(I::If(BlockType::Empty));
        body.put(I::LocalGet(end));
        body.put(I::I32Const(i32::from(b'-')));
        body.put(I::I32Store8(mem(0)));
        body.put(I::LocalGet(end));
        body.put(I::I32Const(1));
        body.put(I::I32Add);
        body.put(I::LocalSet(end));
        // The least number stays as it is, and its bits are its magnitude.
        body.put(I::I64Const(0));
        body.put(I::LocalGet(n));
        body.put(I::I64Sub);
        body.put(I::LocalSet(n));
        body.put(I::End);
    }
    body.put(I::LocalGet(n));
    body.put(I::I64Const(if hex { 16 } else { 10 }));
    body.put(I::LocalGet(end));
    if hex {
        body.put(I::I32Const(2));
        body.put(I::I32Add);
    }
    body.call(Helper::Number, DECIMAL_MAX);
    body.put(I::LocalSet(end));
}
