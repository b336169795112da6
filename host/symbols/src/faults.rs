//! Whether a module's code turns faults into exceptions: by the address of the instruction that faulted, the unwinder
//! finds the function's tables, as if that instruction were a call.
//!
//! Nothing in a file says so outright. Two things tell:
//! - The table of call sites lists instructions that may throw. Where only calls may, each entry has a call in it; the
//!   compiler of a language whose loads and divisions throw lists these too (GCC's except.cc, `-fnon-call-exceptions`;
//!   LLVM's EHStreamer.cpp never lists what has no call).
//! - The personality routine of a language in which they always do, by its name.
//!
//! A module that has no such entry may still be one of them, if calls stand beside all that may fault.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use memchr::memmem;

use crate::elf::Elf;

/// What the names of personality routines end with.
const PERSONALITY: &[u8] = b"_personality_v0\0";
/// What those begin with, of the languages whose faults are exceptions: Ada, D, Go as GCC compiles it, Java as GCC did.
const LANGUAGES: [&[u8]; 4] = [b"__gnat", b"__gdc", b"__gccgo", b"__gcj"];
/// The personality routine of D as LLVM compiles it.
const D: &[u8] = b"\0_d_eh_personality\0";

impl Elf {
    /// Whether faults of this module's code become exceptions, as far as the file tells. Reads the unwind tables if
    /// there may be call sites.
    #[must_use]
    pub fn throws_faults(&self) -> bool {
        self.string_tables().any(names_such_a_language)
            || (self.may_have_call_sites() && self.frames().throws_faults)
    }

    /// Where sections have names, call sites are in one of their own.
    fn may_have_call_sites(&self) -> bool {
        let named = |name: &[u8]| self.section(name).is_some();
        !named(b".eh_frame") || named(b".gcc_except_table")
    }
}

fn names_such_a_language(strings: &[u8]) -> bool {
    let before = |at: usize| strings.get(..at).unwrap_or_default();
    memmem::find_iter(strings, PERSONALITY).any(|at| LANGUAGES.iter().any(|l| before(at).ends_with(l)))
        || memmem::find(strings, D).is_some()
}

/// Whether there is no call in this code. What does not decode may be one.
pub(crate) fn has_no_call(code: &[u8], start: u64, function: &Range<u64>) -> bool {
    // Most begin with one.
    const CALL: u8 = 0xe8;
    if code.is_empty() || code.first() == Some(&CALL) {
        return false;
    }
    Decoder::with_ip(64, code, start, DecoderOptions::NONE).into_iter().all(|i| match i.flow_control() {
        FlowControl::Next => !i.is_invalid(),
        FlowControl::ConditionalBranch => function.contains(&i.near_branch_target()),
        _ => false,
    })
}
