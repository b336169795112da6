//! What planning a site gives: how it is patched, what is displaced, which bytes are written.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::go::GoSource;

/// How a site is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A nop of five or more bytes, or a sled of nops.
    Nop,
    /// One instruction of five or more bytes.
    OneInstruction,
    /// Several instructions that no branch enters.
    Window,
    /// A two-byte jump into slack that holds the long one.
    ShortJump,
    /// A `ret` or short tail, with the padding that follows or the straight code before it.
    Exit,
}

impl Rung {
    /// The name in reports; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::OneInstruction => "one_instruction",
            Self::Window => "window",
            Self::ShortJump => "short_jump",
            Self::Exit => "exit",
        }
    }
}

/// When the hit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HitPosition {
    /// Before the window's instructions.
    Before,
    /// After so many of them: the window begins before the site.
    Inside(u8),
    /// After all of them, on the path that falls through (Go's stack check).
    After,
}

/// What the host should know of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// A call is displaced: the return address is put on the stack by hand, which a shadow stack forbids.
    pub call: bool,
    /// A repeated string instruction is displaced: a thread may be interrupted inside it for long.
    pub repeated_string: bool,
}

/// Bytes that a site overwrites, in link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// The first of them.
    pub start: u64,
    /// What the file has there. Slack of more than five bytes is a nop that is run through, and becomes a jump over
    /// itself with the long jump behind it.
    pub original: Vec<u8>,
    /// What the file has in front of them, at most [`Self::BEFORE`] bytes: another patch may begin there and reach in.
    pub before: Vec<u8>,
}

impl Overwrite {
    /// Bytes in front that are looked at: one more than the longest patch that is known (an absolute jump, 14 bytes)
    /// needs to reach in.
    pub const BEFORE: u64 = 16;

    /// Where they are.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.original.len() as u64)
    }
}

/// A site that can be patched, in link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePlan {
    /// The address that was asked for.
    pub requested: u64,
    /// The instruction before which the hit runs: after an `endbr64`, which stays first.
    pub site: u64,
    /// How.
    pub rung: Rung,
    /// The displaced instructions. It begins at the site, or before it ([`HitPosition::Inside`]).
    pub window: Range<u64>,
    /// The bytes of the window.
    pub original: Vec<u8>,
    /// The bytes that are written, in the order of writing: slack first, the window's start last.
    pub writes: Vec<Overwrite>,
    /// When the hit runs.
    pub position: HitPosition,
    /// The site is a conditional jump, and the hit runs only where it is taken: the exit through it.
    pub when_taken: bool,
    /// What the host should know.
    pub notes: Notes,
    /// Proven: nothing below the stack pointer is live here, so that the red zone need not be skipped.
    pub red_zone_dead: bool,
    /// In Go, where the goroutine is found for the check of stack room.
    pub go: Option<GoSource>,
    /// The text around the site that is decoded from one start: the function, or a part of it.
    pub function: Range<u64>,
}

impl SitePlan {
    /// Every range that the site touches: the slack, if it has any, and the window with what is written
    /// behind it. No other site may touch these.
    #[must_use]
    pub fn touched(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = self.writes.iter().map(Overwrite::range).collect();
        if let Some(last) = all.last_mut() {
            *last = last.start.min(self.window.start)..last.end.max(self.window.end);
        }
        all
    }

    /// The slack that holds the long jump, where a short one leads to it.
    #[must_use]
    pub fn slack(&self) -> Option<Range<u64>> {
        self.writes.first().filter(|_| self.writes.len() > 1).map(Overwrite::range)
    }
}
