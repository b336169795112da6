//! The probe behind `time`: how long calls of functions take, and how many could not be timed.
//!
//! ```text
//! map 0  "latency_ns"   a histogram for each function, in nanoseconds
//! map 1  "untimed"      counter for each function: calls whose beginning was not seen
//! ```
//! Its handler runs at exits, and answers 0 where a condition does not hold: then the call is not in the histogram.

use trocar_package::{Manifest, Map, MapType};
use wasm_encoder::{BlockType, Instruction as I, ValType};

use crate::ast::Expr;
use crate::count::{close_condition, open_condition};
use crate::emit::{Body, Memory};
use crate::error::ExprError;
use crate::module::{self, Compiled};

/// Functions that one command times at most.
pub const TIMED_FUNCTIONS: u32 = 64;

/// Buckets are at most 1/16 wide.
const PRECISION: u32 = 4;

/// A probe that times calls of at most `functions` functions.
///
/// # Errors
/// The condition is no number.
pub fn compile_time(functions: u32, condition: Option<&Expr>) -> Result<Compiled, ExprError> {
    let mut memory = Memory::new();
    let mut body = Body::new();
    let mut manifest = Manifest::default_for("time");
    manifest.description = "times calls".into();
    let map = |name: &str, kind, precision| Map {
        name: name.into(),
        kind,
        entries: functions.max(1),
        key: Vec::new(),
        labels: Vec::new(),
        precision,
    };
    manifest.maps = vec![map("latency_ns", MapType::Hist, PRECISION), map("untimed", MapType::Counter, 0)];

    let outer = open_condition(&mut body, condition, &mut memory)?;
    let span = body.local(ValType::I64);
    body.host("span_ns");
    body.put(I::LocalTee(span));
    body.put(I::I64Const(0));
    body.put(I::I64LtS);
    body.put(I::If(BlockType::Empty));
    body.i32(1);
    body.host("function");
    body.put(I::I64Const(1));
    body.host("counter_add");
    body.put(I::Else);
    body.i32(0);
    body.host("function");
    body.put(I::LocalGet(span));
    body.host("hist_add");
    body.put(I::End);
    close_condition(&mut body, outer);
    module::build(body, &memory, manifest, condition.map_or("", Expr::text))
}
