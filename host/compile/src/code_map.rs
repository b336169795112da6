//! From an address in compiled code back to the module: which function, and where in its bytes.
//!
//! What is sent to a target has no map of addresses, because nearly no probe ever needs it. When one trapped, the module
//! is compiled once more, with a map; that the code is the same, byte for byte, is checked and not assumed.

use std::ops::Range;

use object::{Object, ObjectSection, ObjectSymbol};
use wasmtime_environ::{FilePos, iterate_address_map, obj};

use crate::compiler;
use crate::precompile::{CompileError, Output};

/// A place in a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Index of the function; imported ones come first.
    pub function: u32,
    /// Offset of the instruction in the module's bytes, if it belongs to one.
    pub offset: Option<u32>,
}

/// The map of one module's code.
#[derive(Debug)]
pub struct CodeMap {
    functions: Vec<(Range<u32>, u32)>,
    positions: Vec<(u32, FilePos)>,
}

impl CodeMap {
    /// The map of `code`, which was compiled from `wasm`.
    ///
    /// # Errors
    /// The compiler's reason, or it made other code this time.
    pub fn of(wasm: &[u8], code: &[u8]) -> Result<Self, CompileError> {
        let again = compiler::run(wasm, Output::CodeAndMap)?;
        let unreadable = || CompileError::Refused("the compiled code cannot be read back".into());
        if text(&again).ok_or_else(unreadable)? != text(code).ok_or_else(unreadable)? {
            return Err(CompileError::Refused("compiled once more, the code is another".into()));
        }
        Self::read(&again).ok_or_else(unreadable)
    }

    fn read(code: &[u8]) -> Option<Self> {
        let file = object::File::parse(code).ok()?;
        let base = file.section_by_name(".text")?.address();
        let map = file.section_by_name(obj::ELF_WASMTIME_ADDRMAP)?.data().ok()?;
        let function = |symbol: object::Symbol<'_, '_>| {
            let number = symbol.name().ok()?.strip_prefix("wasm[0]::function[")?.split_once(']')?.0;
            let start = u32::try_from(symbol.address().checked_sub(base)?).ok()?;
            let end = start.checked_add(u32::try_from(symbol.size()).ok()?)?;
            Some((start..end, number.parse().ok()?))
        };
        let mut functions: Vec<_> = file.symbols().filter_map(function).collect();
        functions.sort_by_key(|(range, _)| range.start);
        Some(Self { functions, positions: iterate_address_map(map)?.collect() })
    }

    /// Where the call is that returns to this offset of the code; `None` outside the module's functions.
    #[must_use]
    pub fn caller(&self, return_address: u32) -> Option<Spot> {
        let at = return_address.checked_sub(1)?;
        let next = self.functions.partition_point(|(range, _)| range.start <= at);
        let (range, function) = self.functions.get(next.checked_sub(1)?)?;
        if !range.contains(&at) {
            return None;
        }
        let next = self.positions.partition_point(|(start, _)| *start <= at);
        let position = next.checked_sub(1).and_then(|i| self.positions.get(i));
        let position = position.filter(|(start, _)| range.contains(start));
        Some(Spot { function: *function, offset: position.and_then(|(_, position)| position.file_offset()) })
    }
}

/// The machine code of a precompiled module.
fn text(code: &[u8]) -> Option<&[u8]> {
    object::File::parse(code).ok()?.section_by_name(".text")?.data().ok()
}
