//! Probes that nobody wrote: modules of wasm-smith, and valid ones with damage. The same for the same number.

use std::fmt::Write as _;

use arbitrary::Unstructured;
use trocar_abi::import::{IMPORTS, MODULE, Ty};
use wasm_smith::{Config, Module};
use wasmparser::{Operator, Parser, Payload};

/// Bytes of randomness for one module of wasm-smith.
const SEED_BYTES: usize = 2048;

/// xorshift64*: the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Numbers that follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, or zero.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() >> 1).unwrap() % bound.max(1)
    }

    /// A byte; every second one is an extreme.
    pub fn byte(&mut self) -> u8 {
        let [extreme, any, ..] = self.draw().to_le_bytes();
        match extreme % 8 {
            0 => 0,
            1 => 0xff,
            2 => 0x7f,
            3 => 0x80,
            _ => any,
        }
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}

/// A module of wasm-smith that follows from these bytes: with host calls as imports, memory and handler as exports.
///
/// # Errors
/// The bytes do not suffice.
pub fn smith(bytes: &[u8]) -> arbitrary::Result<Vec<u8>> {
    let mut config = Config {
        available_imports: Some(wat::parse_str(imports()).unwrap()),
        exports: Some(
            wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "on_hit")))"#).unwrap(),
        ),
        // The exported one comes on top.
        max_memories: 0,
        max_memory32_bytes: 2 << 20,
        min_funcs: 1,
        max_tables: 1,
        max_table_elements: 2000,
        ..Config::default()
    };
    config.compact_imports_enabled = false;
    config.gc_enabled = false;
    config.reference_types_enabled = false;
    config.simd_enabled = false;
    config.relaxed_simd_enabled = false;
    config.exceptions_enabled = false;
    config.tail_call_enabled = false;
    config.threads_enabled = false;
    config.memory64_enabled = false;
    config.custom_page_sizes_enabled = false;
    config.wide_arithmetic_enabled = false;
    let module = Module::new(config, &mut Unstructured::new(bytes))?;
    Ok(module.to_bytes())
}

/// Every host call as an import.
fn imports() -> String {
    let name = |ty: &Ty| if *ty == Ty::I32 { "i32" } else { "i64" };
    let mut text = String::from("(module");
    for import in IMPORTS {
        let params: Vec<&str> = import.params.iter().map(name).collect();
        let result = import.result.as_ref().map_or(String::new(), |ty| format!("(result {})", name(ty)));
        let _ = write!(
            text,
            r#"(import "{MODULE}" "{}" (func (param {}) {result}))"#,
            import.name,
            params.join(" ")
        );
    }
    text + ")"
}

/// Probe number `number` of an endless row: generated, valid with changed instructions, or just damaged.
#[must_use]
pub fn probe(number: u64, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut numbers = Numbers::new(number);
    let from = valid.get(numbers.below(valid.len())).cloned().unwrap_or_default();
    match number % 4 {
        0 | 1 => smith(&numbers.bytes(SEED_BYTES)).unwrap_or(from),
        2 => changed(from, &mut numbers),
        _ => damaged(from, &mut numbers),
    }
}

/// The bytes with some of them changed, inserted, removed, or the end cut off.
#[must_use]
pub fn damaged(mut bytes: Vec<u8>, numbers: &mut Numbers) -> Vec<u8> {
    for _ in 0..1 + numbers.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = numbers.below(bytes.len());
        match numbers.below(8) {
            0 => bytes.insert(at, numbers.byte()),
            1 => drop(bytes.remove(at)),
            2 if numbers.below(8) == 0 => bytes.truncate(at),
            3 => {
                let byte = bytes.get(at).copied().unwrap_or_default() ^ 1 << numbers.below(8);
                put(&mut bytes, at, byte);
            }
            _ => put(&mut bytes, at, numbers.byte()),
        }
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = bytes.get_mut(at) {
        *place = byte;
    }
}

/// A valid module in which operations became others of the same type, and constants other constants: still valid.
#[must_use]
pub fn changed(mut module: Vec<u8>, numbers: &mut Numbers) -> Vec<u8> {
    let places = places(&module).unwrap_or_default();
    for _ in 0..1 + numbers.below(8) {
        let Some(&(at, kind)) = places.get(numbers.below(places.len())) else { break };
        let within =
            |numbers: &mut Numbers, first: u8, n: usize| first + u8::try_from(numbers.below(n)).unwrap();
        match kind {
            Place::Binary32 => put(&mut module, at, within(numbers, 0x6a, 15)),
            Place::Binary64 => put(&mut module, at, within(numbers, 0x7c, 15)),
            Place::Compare32 => put(&mut module, at, within(numbers, 0x46, 10)),
            Place::Constant(len) => {
                // The same length: all bytes but the last go on.
                for i in 1..len {
                    put(&mut module, at + i, numbers.byte() | 0x80);
                }
                put(&mut module, at + len, numbers.byte() & 0x7f);
            }
        }
    }
    module
}

#[derive(Clone, Copy)]
enum Place {
    Binary32,
    Binary64,
    Compare32,
    /// Bytes of the constant, which stand behind the operator.
    Constant(usize),
}

/// Operators that can be changed, with where they are.
fn places(module: &[u8]) -> Option<Vec<(usize, Place)>> {
    let mut places = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CodeSectionEntry(body) = payload.ok()? else { continue };
        let mut operators = body.get_operators_reader().ok()?;
        while !operators.eof() {
            let at = operators.original_position();
            let operator = operators.read().ok()?;
            let code = *module.get(at)?;
            let len = operators.original_position() - at - 1;
            match (operator, code) {
                // Five and ten bytes are full: their last one cannot be any.
                (Operator::I32Const { .. }, _) if len < 5 => places.push((at, Place::Constant(len))),
                (Operator::I64Const { .. }, _) if len < 10 => places.push((at, Place::Constant(len))),
                (_, 0x6a..=0x78) => places.push((at, Place::Binary32)),
                (_, 0x7c..=0x8a) => places.push((at, Place::Binary64)),
                (_, 0x46..=0x4f) => places.push((at, Place::Compare32)),
                _ => {}
            }
        }
    }
    Some(places)
}
