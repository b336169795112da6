//! What the host knows of one ELF module, in the module's own link-time addresses.
//!
//! Everything in here may come from a hostile file: lookups are bounded and never panic. Nothing in here
//! knows where the module is loaded.

use std::sync::Arc;

/// Bytes at a link-time address.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Address of the first byte.
    pub vaddr: u64,
    /// The bytes, as in the file.
    pub bytes: Arc<[u8]>,
}

impl Segment {
    /// Address after the last byte (saturating: a segment at the end of the address space is cut).
    #[must_use]
    pub fn end(&self) -> u64 {
        self.vaddr.saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    /// The bytes from `vaddr` to the end of the segment; `None` outside.
    #[must_use]
    pub fn from(&self, vaddr: u64) -> Option<&[u8]> {
        let offset = usize::try_from(vaddr.checked_sub(self.vaddr)?).ok()?;
        self.bytes.get(offset..).filter(|rest| !rest.is_empty())
    }

    /// The bytes of `start..end`; `None` unless all are in the segment.
    #[must_use]
    pub fn slice(&self, start: u64, end: u64) -> Option<&[u8]> {
        let from = usize::try_from(start.checked_sub(self.vaddr)?).ok()?;
        let to = usize::try_from(end.checked_sub(self.vaddr)?).ok()?;
        self.bytes.get(from..to)
    }
}

/// A function, or a part of one (`.cold` parts have ranges of their own).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionRange {
    /// First instruction.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
}

/// One ELF module. All addresses are link-time virtual addresses.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Executable ranges, as sections where the file has them: bytes that are not code cost precision.
    pub text: Vec<Segment>,
    /// All other loaded file contents: `.rodata`, `.data.rel.ro`, `.data`, `.init_array`, the GOT.
    pub data: Vec<Segment>,
    /// Functions from every source there is (unwind tables, symbols, Go's tables). May overlap and repeat;
    /// a function that is missing is one in which nothing will be patched.
    pub functions: Vec<FunctionRange>,
    /// Addresses where control is known to arrive from outside: symbols, the entry point, addends of
    /// relocations, landing pads, init arrays.
    pub entries: Vec<u64>,
    /// Of the entries, those at which a call may arrive that no instruction of the module names: global symbols,
    /// pointers that relocations make, the program's entry. The symbol and the unwind entry of a cold part are
    /// not among them.
    pub called: Vec<u64>,
    /// Ranges that are never to be touched, with the reason as people read it: restartable sequences with
    /// the four bytes before their abort address, cancellation points, signal return.
    pub never: Vec<(u64, u64, &'static str)>,
    /// A fault may become an exception, by the address of the instruction that faulted: what is displaced must not fault.
    /// True of all modules of a process if it is true of one: the exception may come out of any of them. Go has a rule of
    /// its own.
    pub throws_faults: bool,
    /// The text was made by the Go toolchain.
    pub go: bool,
    /// Starts of the functions that Go's compiler made, in ascending order: not those of its assembler, whose registers
    /// nobody knows.
    pub compiled: Vec<u64>,
    /// In Go: before it writes, the host looks for goroutines that were preempted inside a window, on a thread or not.
    /// Without that promise a window has one instruction there.
    pub goroutines_searched: bool,
    /// Why it cannot, as people read it; empty where it can, and where nobody asked.
    pub unsearched: &'static str,
    /// Position independent: addresses in data are found by relocations, never as 32-bit words.
    pub pie: bool,
}

/// The little-endian word of four bytes at `offset`.
pub fn word32(bytes: &[u8], offset: usize) -> Option<u32> {
    let b = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(b.try_into().ok()?))
}

/// The segment that holds `vaddr`, of segments sorted by address.
pub fn find(segments: &[Segment], vaddr: u64) -> Option<&Segment> {
    let after = segments.partition_point(|s| s.vaddr <= vaddr);
    segments.get(after.checked_sub(1)?).filter(|s| vaddr < s.end())
}
