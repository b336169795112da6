//! The planner: one address in, the first provably safe way to patch it out, or a refusal.
//!
//! Rungs, in the order they are tried (DESIGN §4): a nop or a sled of nops; one instruction of five or more
//! bytes; a closed window of several. Ones that come later have their names here already. What makes a rung
//! safe is in `window.rs`; this file decides which applies.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::go::{self, GoSource, StackCheck};
use crate::instruction::{Flow, flow, is_nop};
use crate::refusal::{Reason, Refusal};
use crate::sweep::TextPart;
use crate::window;

/// How a site is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A nop of five or more bytes, or a sled of nops.
    Nop,
    /// One instruction of five or more bytes.
    OneInstruction,
    /// Several instructions that no branch enters.
    Window,
    /// Reserved: a two-byte jump into slack that holds the long one.
    ShortJump,
    /// Reserved: a `ret` or short tail with the padding that follows.
    Exit,
    /// Reserved: a relocated copy of a whole leaf function.
    Copy,
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
            Self::Copy => "copy",
        }
    }
}

/// When the hit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HitPosition {
    /// Before the window's instructions.
    Before,
    /// After them, on the path that falls through (Go's stack check).
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

/// A site that can be patched, in link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePlan {
    /// The address that was asked for.
    pub requested: u64,
    /// The address that is patched: after an `endbr64`, which stays first.
    pub site: u64,
    /// How.
    pub rung: Rung,
    /// The displaced instructions. Only the first five bytes are overwritten.
    pub window: Range<u64>,
    /// The bytes of the window.
    pub original: Vec<u8>,
    /// When the hit runs.
    pub position: HitPosition,
    /// What the host should know.
    pub notes: Notes,
    /// Proven: nothing below the stack pointer is live here, so that the red zone need not be skipped.
    pub red_zone_dead: bool,
    /// In Go, where the goroutine is found for the check of stack room.
    pub go: Option<GoSource>,
    /// The text around the site that is decoded from one start: the function, or a part of it.
    pub function: Range<u64>,
}

impl Analysis {
    /// Plans the site at a link-time address.
    ///
    /// # Errors
    /// A [`Refusal`] with its reason: nothing is assumed that is not proven.
    pub fn plan(&self, vaddr: u64) -> Result<SitePlan, Refusal> {
        let (index, part) = self.part_at(vaddr).ok_or_else(|| {
            Refusal::new(Reason::OutsideText, vaddr, "the address is not in the module's executable text")
        })?;
        self.check_address(part, vaddr)?;
        let site = self.skip_endbr(part, vaddr)?;
        let at_start = vaddr == part.start || site == part.start;
        if self.image.go {
            self.plan_go(index, part, vaddr, site)
        } else {
            self.plan_native(index, part, vaddr, site, at_start)
        }
    }

    /// Rungs 1 to 3 in code of any compiler but Go's.
    fn plan_native(
        &self,
        index: usize,
        part: &TextPart,
        vaddr: u64,
        site: u64,
        at_start: bool,
    ) -> Result<SitePlan, Refusal> {
        let list = window::instructions(self, part, site)?;
        window::closed(self, index, &list)?;
        let mut plan = self.site_plan(part, vaddr, &list)?;
        plan.red_zone_dead =
            at_start && !self.sweep.jumps.has(site) && window::entered_by_call_only(self, part);
        Ok(plan)
    }

    /// In Go: the stack check at an entry, else one instruction that cannot fault.
    fn plan_go(&self, index: usize, part: &TextPart, vaddr: u64, site: u64) -> Result<SitePlan, Refusal> {
        let bytes = self.text_at(part.start).and_then(|s| s.slice(part.start, part.end)).unwrap_or(&[]);
        let Some(check) = go::stack_check(bytes, part.start) else {
            let detail = "this Go function has no stack check, so that it is unknown how much stack is left";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        };
        let agreed = self.sweep.go_tls;
        if matches!(check.source, GoSource::Tls(offset) if agreed.is_some_and(|a| a != offset)) {
            let detail = "this function finds its goroutine elsewhere than the others";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        }
        if site == part.start {
            return self.plan_stack_check(index, part, vaddr, check);
        }
        if site < check.end || (check.tail > check.end && site >= check.tail) {
            let detail =
                "the stack check has not passed here; probe the function's entry, or an address after it";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        }
        let list = window::instructions(self, part, site)?;
        if list.len() > 1 {
            let detail = "a goroutine may be preempted between two instructions here; only one of five or more bytes will do";
            return Err(Refusal::new(Reason::TooShort, site, detail));
        }
        if let Some(why) = list.iter().find_map(|i| go::may_fault(i, check.source)) {
            let detail = format!("{why}; Go could not turn a fault in a trampoline into a panic");
            return Err(Refusal::new(Reason::Faulting, site, detail));
        }
        window::closed(self, index, &list)?;
        let mut plan = self.site_plan(part, vaddr, &list)?;
        plan.go = Some(check.source);
        plan.red_zone_dead = true;
        Ok(plan)
    }

    /// The window is exactly the stack check, and the hit comes after it.
    fn plan_stack_check(
        &self,
        index: usize,
        part: &TextPart,
        vaddr: u64,
        check: StackCheck,
    ) -> Result<SitePlan, Refusal> {
        let bytes = self.text_at(part.start).and_then(|s| s.slice(part.start, check.end)).unwrap_or(&[]);
        let list: Vec<Instruction> =
            Decoder::with_ip(64, bytes, part.start, DecoderOptions::NONE).into_iter().collect();
        window::closed(self, index, &list)?;
        let mut plan = self.site_plan(part, vaddr, &list)?;
        plan.position = HitPosition::After;
        plan.go = Some(check.source);
        plan.red_zone_dead = true;
        Ok(plan)
    }

    /// The address must be the start of an instruction in a function that decodes up to there.
    fn check_address(&self, part: &TextPart, vaddr: u64) -> Result<(), Refusal> {
        if !part.function {
            let detail = "no known function contains the address (is there a debug file for this module?)";
            return Err(Refusal::new(Reason::NoFunction, vaddr, detail));
        }
        if let Some(bad) = part.bad.filter(|bad| *bad <= vaddr) {
            let detail = format!("the function at {:#x} does not decode at {bad:#x}", part.start);
            return Err(Refusal::new(Reason::Undecodable, vaddr, detail));
        }
        if !self.is_instruction(vaddr) {
            let before = (1..15).filter_map(|n| vaddr.checked_sub(n)).find(|at| self.is_instruction(*at));
            let detail = match before {
                Some(at) => format!("the instruction that contains it starts at {at:#x}"),
                None => "no instruction starts at this address".to_owned(),
            };
            return Err(Refusal::new(Reason::MiddleOfInstruction, vaddr, detail));
        }
        Ok(())
    }

    /// `endbr64` stays first: the site is the instruction after it.
    fn skip_endbr(&self, part: &TextPart, vaddr: u64) -> Result<u64, Refusal> {
        let bytes = self.text_at(vaddr).and_then(|s| s.slice(vaddr, part.end)).unwrap_or(&[]);
        let first = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE).decode();
        if first.is_invalid() || first.mnemonic() != Mnemonic::Endbr64 {
            return Ok(vaddr);
        }
        if first.next_ip() >= part.end {
            return Err(Refusal::new(Reason::TooShort, vaddr, "nothing but an endbr64 is here"));
        }
        Ok(first.next_ip())
    }

    /// The plan for a window that is proven closed.
    fn site_plan(&self, part: &TextPart, requested: u64, list: &[Instruction]) -> Result<SitePlan, Refusal> {
        let undecodable = || Refusal::new(Reason::Undecodable, requested, "no instruction is here");
        let site = list.first().map(Instruction::ip).ok_or_else(undecodable)?;
        let end = list.last().map(Instruction::next_ip).ok_or_else(undecodable)?;
        if let Some((from, to, why)) = self.image.never.iter().find(|n| n.0 < end && site < n.1) {
            let detail = format!("{why} ({from:#x}..{to:#x})");
            return Err(Refusal::new(Reason::NeverPatch, site, detail));
        }
        let skipped = list.first().is_some_and(Instruction::is_jmp_short) && list.len() > 1;
        let rung = if list.iter().skip(usize::from(skipped)).all(is_nop) {
            Rung::Nop
        } else if list.len() == 1 {
            Rung::OneInstruction
        } else {
            Rung::Window
        };
        let notes = Notes {
            call: list.iter().any(|i| flow(i) == Ok(Flow::Call)),
            repeated_string: list
                .iter()
                .any(|i| i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix())),
        };
        let original = self.text_at(site).and_then(|s| s.slice(site, end)).ok_or_else(undecodable)?.to_vec();
        Ok(SitePlan {
            requested,
            site,
            rung,
            window: site..end,
            original,
            position: HitPosition::Before,
            notes,
            red_zone_dead: false,
            go: None,
            function: part.start..part.end,
        })
    }
}
