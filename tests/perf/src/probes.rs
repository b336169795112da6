//! The probes that are measured, as WAT; that of `trocar time` as `trocar-expr` makes it for the command.

use trocar_expr::{TIMED_FUNCTIONS, compile_time};
use trocar_session::RequestedPoint;

use crate::Trouble;

/// A probe to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A handler that does nothing.
    Empty,
    /// Adds one to a counter, under wasmtime.
    Counter,
    /// The same as native code.
    NativeCounter,
    /// Adds an argument to a histogram if it is over a constant, as native code.
    NativeHist,
    /// Adds one to a hash map under a key of eight bytes made from an argument: 64 keys.
    Hash,
    /// What `trocar time` puts in: each call of a function, from its entry to its exit, in a histogram.
    Time,
    /// Copies 64 bytes at the third argument.
    Read,
    /// Writes an event of 64 bytes with an argument in it.
    Event,
    /// Turns in a loop until nearly all of a hit's fuel is used: the most that it may do and not trap.
    Spins,
    /// The same with divisions, each of them waiting for the one before: much more time for the same fuel.
    Divides,
    /// Traps on every hit: quarantined at the third, so that its gate is closed.
    Traps,
}

impl Probe {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Counter | Self::NativeCounter => "counter",
            Self::NativeHist => "hist",
            Self::Hash => "hash",
            Self::Time => "time",
            Self::Read => "read",
            Self::Event => "event",
            Self::Spins => "spins",
            Self::Divides => "divides",
            Self::Traps => "traps",
        }
    }

    /// Whether it runs as native code; `None`: as the product decides.
    #[must_use]
    pub const fn is_native(self) -> Option<bool> {
        match self {
            Self::Time => None,
            _ => Some(matches!(self, Self::NativeCounter | Self::NativeHist)),
        }
    }

    /// Where it goes to be at this function or place.
    #[must_use]
    pub fn point(self, at: &str) -> RequestedPoint {
        let text = if self == Self::Time { format!("return:{at}") } else { at.into() };
        RequestedPoint { text, handler: None }
    }

    /// Functions that it can tell apart, if that matters to it.
    #[must_use]
    pub fn functions_max(self) -> Option<u32> {
        (self == Self::Time).then_some(TIMED_FUNCTIONS)
    }

    /// Its module.
    ///
    /// # Errors
    /// It cannot be made: a mistake here.
    pub fn wasm(self) -> Result<Vec<u8>, Trouble> {
        let text = match self {
            Self::Time => {
                let compiled = compile_time(TIMED_FUNCTIONS, None);
                return Ok(compiled.map_err(|e| format!("the probe {}: {e}", self.name()))?.wasm);
            }
            Self::Empty => EMPTY,
            Self::Counter | Self::NativeCounter => COUNTER,
            Self::NativeHist => HIST,
            Self::Hash => HASH,
            Self::Read => READ,
            Self::Event => EVENT,
            Self::Spins => SPINS,
            Self::Divides => DIVIDES,
            Self::Traps => TRAPS,
        };
        wat::parse_str(text).map_err(|e| format!("the probe {}: {e}", self.name()))
    }
}

const EMPTY: &str = r#"(module (func (export "on_hit")))"#;

const TRAPS: &str = r#"(module (func (export "on_hit") unreachable))"#;

const COUNTER: &str = r#"(module
  (import "trocar" "counter_add" (func $counter_add (param i32 i32 i64)))
  (func (export "on_hit") (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1)))
  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"counter\", \"maps\": [{\"name\": \"calls\", \"kind\": \"counter\"}]}"))"#;

const HIST: &str = r#"(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "hist_add" (func $hist_add (param i32 i32 i64)))
  (func (export "on_hit") (result i32)
    (if (i64.le_u (call $arg (i32.const 1)) (i64.const 0)) (then (return (i32.const 0))))
    (call $hist_add (i32.const 0) (i32.const 0) (call $arg (i32.const 1)))
    (i32.const 1))
  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"hist\", \"maps\": [{\"name\": \"sizes\", \"kind\": \"hist\"}]}"))"#;

const HASH: &str = r#"(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1 1)
  (func (export "on_hit")
    (i64.store (i32.const 0) (i64.and (call $arg (i32.const 1)) (i64.const 63)))
    (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1))))
  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"hash\", \"maps\": [{\"name\": \"calls\", \"kind\": \"hash\","
    " \"entries\": 1024, \"key\": [{\"name\": \"argument\", \"type\": \"u64\"}]}]}"))"#;

// A read that fails traps, so that only reads that copy are timed.
const READ: &str = r#"(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (memory (export "memory") 1 1)
  (func (export "on_hit")
    (if (call $read (call $arg (i32.const 2)) (i32.const 0) (i32.const 64)) (then unreachable))))"#;

const EVENT: &str = r#"(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1 1)
  (func (export "on_hit")
    (i64.store (i32.const 0) (call $arg (i32.const 1)))
    (call $emit (i32.const 0) (i32.const 0) (i32.const 64)))
  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"event\", \"events\": [{\"name\": \"call\", \"fields\": ["
    " {\"name\": \"argument\", \"type\": \"u64\"}, {\"name\": \"rest\", \"type\": \"str\", \"bytes\": 56}]}]}"))"#;

// Five units of fuel for each turn, of the ten thousand that a hit has.
const SPINS: &str = r#"(module
  (func (export "on_hit") (local $i i32)
    (local.set $i (i32.const 1990))
    (loop $turn
      (br_if $turn (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#;

// Eleven for each turn, whose time is that of a division of 64 bits that needs the result of the last one.
const DIVIDES: &str = r#"(module
  (func (export "on_hit") (local $i i32) (local $n i64)
    (local.set $i (i32.const 900))
    (local.set $n (i64.const -1))
    (loop $turn
      (local.set $n (i64.div_u (i64.const -3) (i64.or (local.get $n) (i64.const 3))))
      (br_if $turn (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#;
