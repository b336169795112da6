//! The probe behind `count`: counts hits, all of them or those for which a condition holds, together or by key.
//!
//! ```text
//! map 0  "count"        counter of one entry, or a hash map keyed by the expression
//! map 1  "failed"       counter of two entries, "<unreadable>" and "<undefined>": hits whose integer key
//!                       could not be computed; only where that can happen
//! ```
//! A text key that could not be computed is counted in map 0 under the key `<unreadable>` or `<undefined>`.

use trocar_package::{Field, FieldType, Manifest, Map, MapType};
use wasm_encoder::{BlockType, Instruction as I, ValType};

use crate::ast::{BYTES_MAX, Expr, Kind, STR_DEFAULT, Type};
use crate::emit::{Body, FAILURES, Memory, NUMBER, WHY, mem};
use crate::error::ExprError;
use crate::module::{self, Compiled};
use crate::texts::{Text, To};

/// Entries of the hash map of keys.
const KEYS: u32 = 4096;
/// Longest name of a key field in bytes.
const FIELD_NAME_MAX: usize = 96;

/// A probe that counts.
///
/// Its handler answers 0 where `condition` does not hold or cannot be computed, else 1. Without `by` map 0 is
/// a counter of one entry; with it a hash map with one key field, named after the expression: `i64` (or
/// `u64`) for numbers, `str` of 64 bytes for text (as many as asked for with `str(p, n)` above that).
///
/// # Errors
/// The condition is no number, or the key is a buffer.
pub fn compile_count(by: Option<&Expr>, condition: Option<&Expr>) -> Result<Compiled, ExprError> {
    let mut memory = Memory::new();
    let mut body = Body::new();
    let mut manifest = Manifest::default_for("count");
    manifest.description = "counts hits".into();

    let outer = open_condition(&mut body, condition, &mut memory)?;
    match by {
        None => {
            manifest.maps.push(counter("count", &[]));
            add_to_counter(&mut body, 0, |b| b.i32(0));
        }
        Some(by) => count_by(by, &mut body, &mut memory, &mut manifest)?,
    }
    close_condition(&mut body, outer);
    let text = by.or(condition).map_or("", Expr::text);
    module::build(body, &memory, manifest, text)
}

/// Opens the block that a condition which does not hold leaves, and evaluates it.
pub(crate) fn open_condition(
    body: &mut Body,
    condition: Option<&Expr>,
    memory: &mut Memory,
) -> Result<u32, ExprError> {
    let outer = body.open_failure();
    if let Some(condition) = condition {
        if !matches!(condition.ty(), Type::Int { .. }) {
            let message = "a condition is a number; compare the text with something";
            return Err(ExprError::new(&condition.source, condition.root.span.clone(), message));
        }
        body.number(&condition.root, memory);
        body.put(I::I64Eqz);
        body.put(I::BrIf(0));
    }
    Ok(outer)
}

/// Answers 1 at the end of what the condition guards, and 0 after it.
pub(crate) fn close_condition(body: &mut Body, outer: u32) {
    body.put(I::I32Const(1));
    body.put(I::Return);
    body.close_failure(outer);
    body.put(I::I32Const(0));
}

fn count_by(
    by: &Expr,
    body: &mut Body,
    memory: &mut Memory,
    manifest: &mut Manifest,
) -> Result<(), ExprError> {
    let name = field_name(by);
    if let Kind::Text(_) = by.root.kind {
        return Err(ExprError::new(&by.source, by.root.span.clone(), "this key is the same at every hit"));
    }
    // block $counted  block $failed  … br $counted  end $failed  … end $counted
    body.put(I::Block(BlockType::Empty));
    let outer = body.open_failure();
    let field = match by.ty() {
        Type::Int { unsigned } => {
            body.i32(NUMBER);
            body.number(&by.root, memory);
            body.put(I::I64Store(mem(0)));
            add_to_hash(body, |b| {
                b.i32(NUMBER);
                b.i32(8);
            });
            Field::new(name, if unsigned { FieldType::U64 } else { FieldType::I64 })
        }
        Type::Str => {
            let Text { at, len, most } = body.text(&by.root, To::Own, memory);
            add_to_hash(body, |b| {
                b.address(at);
                b.put(I::LocalGet(len));
            });
            Field::text(name, most.clamp(STR_DEFAULT, BYTES_MAX))
        }
        Type::Buf => {
            let message = "a buffer is no key; use str(p, n), or a number such as *(u64*)(p)";
            return Err(ExprError::new(&by.source, by.root.span.clone(), message));
        }
    };
    body.put(I::Br(1));
    body.close_failure(outer);
    if by.ty() == Type::Str {
        // Both names lie side by side; `WHY` picks one.
        let (unreadable, first) = memory.constant(FAILURES[0].as_bytes());
        let (undefined, second) = memory.constant(FAILURES[1].as_bytes());
        add_to_hash(body, |b| {
            b.either(undefined, unreadable);
            b.either(second, first);
        });
    } else if by.can_fail() {
        add_to_counter(body, 1, |b| b.put(I::LocalGet(WHY)));
    }
    body.put(I::End);

    manifest.maps.push(Map {
        name: "count".into(),
        kind: MapType::Hash,
        entries: KEYS,
        key: vec![field],
        labels: Vec::new(),
        precision: 0,
    });
    if by.ty() != Type::Str && by.can_fail() {
        manifest.maps.push(counter("failed", &FAILURES));
    }
    Ok(())
}

fn counter(name: &str, labels: &[&str]) -> Map {
    Map {
        name: name.into(),
        kind: MapType::Counter,
        entries: u32::try_from(labels.len().max(1)).unwrap_or(1),
        key: Vec::new(),
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        precision: 0,
    }
}

fn add_to_counter(body: &mut Body, map: u32, entry: impl FnOnce(&mut Body)) {
    body.i32(map);
    entry(body);
    body.put(I::I64Const(1));
    body.host("counter_add");
}

/// Adds 1 to the entry of map 0 whose key `key` leaves on the stack as address and length. A full table is
/// counted in the table's head by the host call itself, so the answer is not needed here.
fn add_to_hash(body: &mut Body, key: impl FnOnce(&mut Body)) {
    body.i32(0);
    key(body);
    body.put(I::I64Const(1));
    body.host("hash_add");
    body.put(I::Drop);
}

impl Body {
    /// One of two numbers onto the stack: the first if the failure was [`crate::emit::UNDEFINED`].
    pub(crate) fn either(&mut self, undefined: u32, unreadable: u32) {
        self.i32(undefined);
        self.i32(unreadable);
        self.put(I::LocalGet(WHY));
        self.put(I::Select);
    }

    /// A new local for an address.
    pub(crate) fn address_local(&mut self) -> u32 {
        self.local(ValType::I32)
    }
}

/// The expression's text as the name of a field: printable, and shortened if need be.
fn field_name(by: &Expr) -> String {
    let mut name = String::new();
    for c in by.text().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if name.len() + c.len_utf8() > FIELD_NAME_MAX {
            name.push('…');
            break;
        }
        name.push(c);
    }
    name
}
