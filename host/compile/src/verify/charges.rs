//! What fuel one operator takes: wasmtime's price, and what a host call charges for the work that it causes.
//!
//! The price of a host call is in the ABI's table; here is only what it charges by the byte, and for how many bytes.
//! Tests compare all of it with what hits really use.

use trocar_abi::import::Import;
use trocar_abi::map::KEY_MAX;
use trocar_abi::record::PAYLOAD_MAX;
use wasmparser::Operator;

/// Fuel for entering a function.
pub(super) const ENTRY: u64 = 1;

/// Fuel of an operator by itself (`wasmtime-environ`, `default_operator_cost`), and one for each byte or element that it
/// moves; `None` if only its operand says how many those are.
pub(super) fn operator(operator: &Operator<'_>, last: &Last) -> Option<u64> {
    Some(match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Unreachable
        | Operator::Return
        | Operator::Else
        | Operator::End => 0,
        Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryInit { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. } => 1 + u64::from(last.top.length()?),
        _ => 1,
    })
}

/// Fuel that a host call charges: the table's, and for its length where that is a constant, else for what it takes at
/// most; `None` where only the size of memory limits it.
pub(super) fn host_call(call: &Import, last: &Last) -> Option<u64> {
    let (length, most) = match call.name {
        "emit" | "log" => (last.top, Some(PAYLOAD_MAX)),
        "hash_get" => (last.top, Some(KEY_MAX)),
        // The length is below the value that is added or set.
        "hash_add" | "hash_set" if last.top != Pushed::Unknown => (last.below, Some(KEY_MAX)),
        "hash_add" | "hash_set" => (Pushed::Unknown, Some(KEY_MAX)),
        "param_str" | "read" | "read_str" | "random_get" => (last.top, None),
        // By how many pieces, and how long they are.
        "fd_write" | "poll_oneoff" => return None,
        _ => return Some(call.worst_price(0)),
    };
    let bytes = length.length().or(most)?;
    Some(call.worst_price(bytes))
}

/// The constants that the last operators left on top of the stack: the topmost, and the one below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    top: Pushed,
    below: Pushed,
}

/// What an operator put on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pushed {
    /// A constant of 32 bits.
    Length(u32),
    /// One other value, and it took none.
    Value,
    /// Not known.
    #[default]
    Unknown,
}

impl Pushed {
    const fn length(self) -> Option<u32> {
        match self {
            Self::Length(n) => Some(n),
            Self::Value | Self::Unknown => None,
        }
    }
}

impl Last {
    /// Goes on after this operator.
    pub(super) fn take(&mut self, operator: &Operator<'_>) {
        let pushed = match operator {
            // It leaves the stack as it is.
            Operator::LocalTee { .. } => return,
            Operator::I32Const { value } => Pushed::Length(value.cast_unsigned()),
            Operator::I64Const { .. } | Operator::LocalGet { .. } | Operator::GlobalGet { .. } => {
                Pushed::Value
            }
            _ => Pushed::Unknown,
        };
        *self =
            Self { top: pushed, below: if pushed == Pushed::Unknown { Pushed::Unknown } else { self.top } };
    }
}
