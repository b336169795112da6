//! What must be known of a Go program to find its goroutines: where the runtime keeps its list of them, and where it
//! leaves those that it preempted between two instructions.
//!
//! Both are found by the names of functions in Go's own table, which a stripped program has too. That the functions do
//! what they did in the versions that were read is not to be seen from outside, so other versions are refused.

use std::ops::Range;

use crate::bytes::u8_at;
use crate::elf::Elf;

/// Minor versions of Go 1 whose runtime was read (Go's `src/runtime`: `preempt.go`, `preempt_amd64.s`, `proc.go`,
/// `runtime2.go`, `asm_amd64.s`).
const READ: Range<u32> = 18..28;
/// Head of the build information: magic, size of a pointer, flags; from byte 32 on the version, its length first
/// (Go's `src/debug/buildinfo`).
const MAGIC: &[u8] = b"\xff Go buildinf:";
const FLAGS: u64 = 15;
const INLINE: u8 = 2;
const VERSION: u64 = 32;

/// Where to look for goroutines, at link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoRuntime {
    /// The function that adds a goroutine to the list of all: it names the list.
    pub adds: Range<u64>,
    /// The function in which a goroutine waits that was preempted asynchronously.
    pub preempted: Vec<Range<u64>>,
}

impl Elf {
    /// What to know of a Go program's runtime to find its goroutines.
    ///
    /// # Errors
    /// Why that is not known, as people read it.
    pub fn go_runtime(&self) -> Result<GoRuntime, &'static str> {
        let table = self.go_table().ok_or("it has no table of functions of Go 1.18 or later")?;
        if !self.go_minor().is_some_and(|minor| READ.contains(&minor)) {
            return Err("the runtime of its version of Go is not known to this version of trocar");
        }
        let named = |name: &[u8]| {
            let found = table.functions.iter().filter(|f| table.name(self, f) == name);
            found.map(|f| f.start..f.end).collect::<Vec<_>>()
        };
        let preempted = named(b"runtime.asyncPreempt2");
        match (named(b"runtime.allgadd").as_slice(), preempted.is_empty()) {
            ([adds], false) => Ok(GoRuntime { adds: adds.clone(), preempted }),
            _ => Err("it does not have the runtime's functions"),
        }
    }

    /// The bytes of a part of the text.
    #[must_use]
    pub fn code(&self, range: &Range<u64>) -> &[u8] {
        if self.is_text(range.start) { self.range(range) } else { &[] }
    }

    /// The minor version of Go 1 that made it.
    fn go_minor(&self) -> Option<u32> {
        let info = self.at(self.section(b".go.buildinfo")?.address)?;
        if !info.starts_with(MAGIC) || u8_at(info, FLAGS)? & INLINE == 0 {
            return None;
        }
        let length = u8_at(info, VERSION)?;
        let start = usize::try_from(VERSION + 1).ok()?;
        let version = info.get(start..start + usize::from(length))?.strip_prefix(b"go1.")?;
        let digits = version.iter().take_while(|b| b.is_ascii_digit()).count();
        std::str::from_utf8(version.get(..digits)?).ok()?.parse().ok()
    }
}
