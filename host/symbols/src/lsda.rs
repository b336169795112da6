//! Call sites: what may throw in a function, and its landing pads, where the unwinder enters it.
//!
//! ```text
//!  LSDA: │ lp start: encoding, [value] │ types: encoding, [offset] │ call sites: encoding, bytes │ entries … │
//!  entry: start, length, landing pad (zero: none), action
//! ```
//! Read as g++, clang, rustc and gnat write it (Itanium C++ ABI, "Exception Handling Tables", and GCC's
//! libgcc/unwind-pe.h). A table in another format gives wrong addresses, never fewer bounds: a wrong landing pad
//! only makes the planner refuse more.

use crate::bytes::Cursor;

const OMIT: u8 = 0xff;
const ABSOLUTE: u8 = 0x00;
const ULEB: u8 = 0x01;
const U16: u8 = 0x02;
const U32: u8 = 0x03;
const U64: u8 = 0x04;
const SLEB: u8 = 0x09;
const I16: u8 = 0x0a;
const I32: u8 = 0x0b;
const I64: u8 = 0x0c;

/// A call site of a table: what may throw, and where the unwinder then goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallSite {
    /// Start of the code, and its bytes.
    pub start: u64,
    pub length: u64,
    /// The landing pad, if there is one.
    pub pad: Option<u64>,
}

/// Calls `found` with the call sites of the function at `function`, at most `budget`, of which it takes what it reads.
/// `None` when the table is damaged or the budget is used up.
pub(crate) fn call_sites(
    lsda: &[u8],
    function: u64,
    budget: &mut usize,
    mut found: impl FnMut(CallSite),
) -> Option<()> {
    let mut cursor = Cursor::new(lsda);
    let start = match cursor.u8()? {
        OMIT => function,
        // Only absolute values occur in practice; a relative one would need the table's own address.
        encoding if encoding & 0x70 == 0 => value(&mut cursor, encoding)?,
        _ => return None,
    };
    if cursor.u8()? != OMIT {
        cursor.uleb()?;
    }
    let encoding = cursor.u8()?;
    let len = cursor.uleb()?;
    let end = cursor.position().checked_add(len).filter(|end| *end <= lsda.len() as u64)?;
    while cursor.position() < end {
        *budget = budget.checked_sub(1)?;
        let at = value(&mut cursor, encoding)?;
        let length = value(&mut cursor, encoding)?;
        let pad = value(&mut cursor, encoding)?;
        cursor.uleb()?;
        found(CallSite {
            start: function.wrapping_add(at),
            length,
            pad: (pad != 0).then(|| start.wrapping_add(pad)),
        });
    }
    Some(())
}

fn value(cursor: &mut Cursor<'_>, encoding: u8) -> Option<u64> {
    match encoding & 0x0f {
        ABSOLUTE | U64 | I64 => cursor.array().map(u64::from_le_bytes),
        ULEB => cursor.uleb(),
        SLEB => cursor.sleb(),
        U16 => cursor.array().map(|b| u64::from(u16::from_le_bytes(b))),
        U32 => cursor.array().map(|b| u64::from(u32::from_le_bytes(b))),
        I16 => cursor.array().map(|b| i64::from(i16::from_le_bytes(b)).cast_unsigned()),
        I32 => cursor.array().map(|b| i64::from(i32::from_le_bytes(b)).cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(table: &[u8]) -> Option<Vec<(u64, u64, Option<u64>)>> {
        let mut found = Vec::new();
        call_sites(table, 0x1000, &mut 100, |s| found.push((s.start, s.length, s.pad))).map(|()| found)
    }

    #[test]
    fn call_sites_are_read_with_a_pad_or_without() {
        // No start, no types; ULEB call sites: (0, 4, pad 0x20, 1), (4, 2, none, 0), (6, 1, pad 0x85, 0).
        let table = [OMIT, OMIT, ULEB, 13, 0, 4, 0x20, 1, 4, 2, 0, 0, 6, 1, 0x85, 0x01, 0];
        let all = vec![(0x1000, 4, Some(0x1020)), (0x1004, 2, None), (0x1006, 1, Some(0x1085))];
        assert_eq!(sites(&table), Some(all));
        for end in 0..table.len() {
            assert_eq!(sites(&table[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn the_budget_ends_a_long_table() {
        let mut table = vec![OMIT, OMIT, ULEB, 0x80 | 0x10, 0x03];
        table.extend([0, 1, 2, 0].repeat(100));
        assert_eq!(sites(&table).map(|p| p.len()), Some(100));
        assert_eq!(call_sites(&table, 0, &mut 99, |_| ()), None);
    }
}
