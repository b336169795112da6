//! Why a site is not patched: a stable reason, the address, and a sentence.
//!
//! A refusal is an answer, not an error of ours: it goes to the user as it is. This file also knows the
//! marks that other tools leave in text.

use std::fmt;

/// The reasons, each with a stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The address is not in the module's executable text.
    OutsideText,
    /// The address is not the start of an instruction.
    MiddleOfInstruction,
    /// No known function contains the address, so that what surrounds it cannot be proven.
    NoFunction,
    /// The function, or the straight code at the site, ends before five bytes, and no shorter way is proven.
    TooShort,
    /// A direct branch or call goes to an address inside the bytes to be overwritten.
    BranchIntoWindow,
    /// A code pointer (relocation, table, symbol, landing pad) goes there.
    CodePointerIntoWindow,
    /// A jump table may go there.
    JumpTableIntoWindow,
    /// The bytes are no instruction we know, here or earlier in the function.
    Undecodable,
    /// The host named the range as never to be touched.
    NeverPatch,
    /// Another tool has patched the site.
    AlreadyPatched,
    /// An instruction of the window does not mean the same elsewhere.
    NotRelocatable,
    /// Another site of the same session touches these bytes.
    OverlapsSite,
    /// Whether the instruction leaves its function is not known.
    UnknownExit,
    /// A fault of a displaced instruction could not be turned into an exception; in Go, into a panic.
    Faulting,
    /// Go: how much stack is left here cannot be known.
    StackUnknown,
    /// No trampoline memory within reach of a 32-bit displacement.
    Far,
}

impl Reason {
    /// All reasons, in the order of the rungs that raise them.
    pub const ALL: [Self; 16] = [
        Self::OutsideText,
        Self::MiddleOfInstruction,
        Self::NoFunction,
        Self::TooShort,
        Self::BranchIntoWindow,
        Self::CodePointerIntoWindow,
        Self::JumpTableIntoWindow,
        Self::Undecodable,
        Self::NeverPatch,
        Self::AlreadyPatched,
        Self::NotRelocatable,
        Self::OverlapsSite,
        Self::UnknownExit,
        Self::Faulting,
        Self::StackUnknown,
        Self::Far,
    ];

    /// The name in reports; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutsideText => "outside_text",
            Self::MiddleOfInstruction => "middle_of_instruction",
            Self::NoFunction => "no_function",
            Self::TooShort => "too_short",
            Self::BranchIntoWindow => "branch_into_window",
            Self::CodePointerIntoWindow => "code_pointer_into_window",
            Self::JumpTableIntoWindow => "jump_table_into_window",
            Self::Undecodable => "undecodable",
            Self::NeverPatch => "never_patch",
            Self::AlreadyPatched => "already_patched",
            Self::NotRelocatable => "not_relocatable",
            Self::OverlapsSite => "overlaps_site",
            Self::UnknownExit => "unknown_exit",
            Self::Faulting => "faulting",
            Self::StackUnknown => "stack_unknown",
            Self::Far => "far",
        }
    }
}

/// A site that is not patched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Where: a link-time address from `plan`, an address in the process from `emit`.
    pub address: u64,
    /// One sentence without a final period, for people.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, address: u64, detail: impl Into<String>) -> Self {
        Self { reason, address, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}: {}", self.reason.name(), self.address, self.detail)
    }
}

impl std::error::Error for Refusal {}

/// Compares a site's bytes in the file with those in memory. Any difference is somebody else's patch.
///
/// `address` is only reported. Both slices start at the site; what is compared is the shorter length, and
/// an empty slice is a refusal too, because then nothing is known.
#[must_use]
pub fn foreign_patch(address: u64, file: &[u8], live: &[u8]) -> Option<Refusal> {
    let length = file.len().min(live.len());
    let (Some(file), Some(live)) = (file.get(..length), live.get(..length)) else { return None };
    let refuse = |detail: String| Some(Refusal::new(Reason::AlreadyPatched, address, detail));
    if length == 0 {
        return refuse("the bytes in memory could not be compared with the file".to_owned());
    }
    let at = file.iter().zip(live).position(|(f, l)| f != l)?;
    match (at, live) {
        (_, [0xcc, ..]) => {
            refuse("a breakpoint (int3) of another tool is here: a debugger or a kernel uprobe".to_owned())
        }
        (_, [0xe9, ..]) => {
            refuse("a jump is here that the file does not have: another tool's patch".to_owned())
        }
        (_, [0xe8, ..]) => {
            refuse("a call is here that the file does not have: another tool's patch".to_owned())
        }
        (at, _) => refuse(format!("byte {at} differs from the file: another tool's patch, or changed text")),
    }
}

/// Whether a patch that begins in front of a place reaches into it. Both slices end at the place: what the file has there,
/// and what is in memory. A patch may agree with the file in the bytes that reach in, so these tell nothing.
///
/// Jumps and breakpoints are known by their first byte and end where they end; any other difference is taken to reach in,
/// save where it can be the tail of a jump that began before the slices.
#[must_use]
pub fn reaches_in(file: &[u8], live: &[u8]) -> bool {
    /// Bytes of the longest jump, without its first.
    const TAIL: usize = 13;
    let whole = file.len() as u64 == crate::Overwrite::BEFORE;
    let mut differs = file.iter().zip(live).map(|(f, l)| (f != l).then_some(*l)).enumerate();
    let mut covered = 0;
    file.len() != live.len()
        || differs.any(|(at, different)| {
            let Some(first) = different.filter(|_| at >= covered) else { return false };
            let length = match first {
                0xe9 | 0xe8 => 5,
                0xeb => 2,
                0xcc => 1,
                0xff => 14,
                _ if whole && at < TAIL => return false,
                _ => return true,
            };
            covered = at + length;
            covered > file.len()
        })
}
