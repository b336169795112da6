//! The planner: one address in, the first provably safe way to patch it out, or a refusal.
//!
//! Rungs, in the order they are tried (DESIGN §4): a nop or a sled of nops; one instruction of five or more
//! bytes; a closed window of several; a return or jump with the dead padding behind it; a closed window that
//! begins before the site, with the hit inside; two bytes that jump to slack. What makes each safe is in
//! `window.rs` and `padding.rs`; this file decides which applies.
//!
//! If none does, the refusal is that of the plain window: it says what is in the way of five bytes.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::analysis::Analysis;
use crate::claims::Claims;
use crate::exits::{Exit, ExitKind};
use crate::faults;
use crate::go::GoSource;
use crate::instruction::{Flow, flow, is_nop};
use crate::refusal::{Reason, Refusal};
use crate::site_plan::{HitPosition, Notes, Overwrite, Rung, SitePlan};
use crate::sweep::TextPart;
use crate::window::{self, Straight};
use crate::{JUMP, SHORT_JUMP};

/// What is said of a site for which there is room, but not beside what is claimed.
const OVERLAPS: &str = "the code that it needs is taken by another site of this session, or by another tool; probe one of the two";

/// A site about to be planned: where it is, and what may not be touched for it.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The part of text that holds it, with its index.
    pub index: usize,
    pub part: &'a TextPart,
    /// What was asked for, and the instruction that is meant.
    pub requested: u64,
    pub site: u64,
    pub claims: &'a Claims,
}

impl Analysis {
    /// Plans the site at a link-time address, as if it were the only one.
    ///
    /// # Errors
    /// A [`Refusal`] with its reason: nothing is assumed that is not proven.
    pub fn plan(&self, vaddr: u64) -> Result<SitePlan, Refusal> {
        self.plan_beside(vaddr, &Claims::default())
    }

    /// Plans a site beside others: it touches nothing that is claimed. The caller claims it.
    ///
    /// # Errors
    /// A [`Refusal`] with its reason; `overlaps_site` where only the claims are in the way.
    pub fn plan_beside(&self, vaddr: u64, claims: &Claims) -> Result<SitePlan, Refusal> {
        let (index, part) = self.part_at(vaddr).ok_or_else(|| {
            Refusal::new(Reason::OutsideText, vaddr, "the address is not in the module's executable text")
        })?;
        self.check_address(part, vaddr)?;
        let site = self.skip_endbr(part, vaddr)?;
        let plan = |claims| {
            let wanted = Wanted { index, part, requested: vaddr, site, claims };
            if self.image.go { self.plan_go(wanted) } else { self.plan_native(wanted) }
        };
        let none = Claims::default();
        plan(claims).map_err(|refusal| match plan(&none) {
            Ok(_) => Refusal::new(Reason::OverlapsSite, site, OVERLAPS),
            Err(_) => refusal,
        })
    }

    /// Plans an exit: of a conditional jump only the way out is a hit.
    ///
    /// # Errors
    /// As [`Analysis::plan_beside`]; `unknown_exit` for an instruction of which it is not known whether it is one.
    pub fn plan_exit(&self, exit: &Exit, claims: &Claims) -> Result<SitePlan, Refusal> {
        let conditional = match exit.kind {
            ExitKind::Return | ExitKind::ReturnPop(_) => false,
            ExitKind::TailJump { conditional, .. } => conditional,
            ExitKind::Unknown => {
                let detail =
                    "this instruction may leave the function or stay in it; which of the two is not known";
                return Err(Refusal::new(Reason::UnknownExit, exit.address, detail));
            }
        };
        let mut plan = self.plan_beside(exit.address, claims)?;
        if conditional && matches!(plan.go, Some(GoSource::Unchecked(_))) {
            let detail = "a conditional exit without a stack check, which Go's compiler does not make";
            return Err(Refusal::new(Reason::StackUnknown, exit.address, detail));
        }
        plan.when_taken = conditional;
        Ok(plan)
    }

    /// All rungs, in code of any compiler but Go's.
    fn plan_native(&self, wanted: Wanted<'_>) -> Result<SitePlan, Refusal> {
        let Wanted { part, requested, site, .. } = wanted;
        let plain = match self.plan_from(wanted, site) {
            Ok(mut plan) => {
                let at_start = requested == part.start || site == part.start;
                plan.red_zone_dead =
                    at_start && !self.sweep.jumps.has(site) && window::entered_by_call_only(self, part);
                return Ok(plan);
            }
            Err(refusal) => refusal,
        };
        self.plan_earlier(wanted).or_else(|| self.plan_short(wanted)).ok_or(plain)
    }

    /// Five bytes from `start` on, which is the site or lies before it; over dead padding if need be.
    pub(crate) fn plan_from(&self, wanted: Wanted<'_>, start: u64) -> Result<SitePlan, Refusal> {
        let jump = JUMP as u64;
        let code = window::straight(self, wanted.part, start, jump.max(wanted.site - start + 1))?;
        let bytes = start..start.saturating_add(jump);
        self.room(&code, &bytes)?;
        self.proven(wanted, &code.list, bytes, None)
    }

    /// A window that begins some instructions before the site and contains it. Only from its start can
    /// control come to the site, so that a hit inside the copy happens exactly when one at the site would.
    pub(crate) fn plan_earlier(&self, wanted: Wanted<'_>) -> Option<SitePlan> {
        let Wanted { part, site, .. } = wanted;
        let mut start = site;
        while site - start < JUMP as u64 {
            // An instruction that ends where the next one starts, and goes on there.
            let before = (1..=15)
                .filter_map(|n| start.checked_sub(n).filter(|at| *at >= part.start))
                .find(|at| self.is_instruction(*at))?;
            let previous = self.decode(part, before)?;
            if previous.next_ip() != start || !matches!(flow(&previous), Ok(Flow::Next | Flow::Conditional)) {
                return None;
            }
            start = before;
            if let Ok(plan) = self.plan_from(wanted, start) {
                return Some(plan);
            }
        }
        None
    }

    /// Two bytes at the site, which jump to slack.
    fn plan_short(&self, wanted: Wanted<'_>) -> Option<SitePlan> {
        let Wanted { part, site, claims, .. } = wanted;
        let short = SHORT_JUMP as u64;
        let code = window::straight(self, part, site, short).ok()?;
        let bytes = site..site.saturating_add(short);
        self.room(&code, &bytes).ok()?;
        let own = site..code.range().end.max(bytes.end);
        let slack = self.slack(bytes.end, &own, claims)?;
        self.proven(wanted, &code.list, bytes, Some(slack)).ok()
    }

    /// That the bytes to be written are the window's, or dead padding behind it.
    fn room(&self, code: &Straight, bytes: &Range<u64>) -> Result<(), Refusal> {
        let end = code.range().end;
        if end >= bytes.end || (code.leaves && self.dead_after(end) >= bytes.end) {
            return Ok(());
        }
        let length = end - bytes.start;
        let detail = format!(
            "a jump or return ends the straight code {length} bytes on, and what follows is in use; a jump takes {JUMP}"
        );
        Err(Refusal::new(Reason::TooShort, bytes.start, detail))
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
        let Some(first) = self.decode(part, vaddr).filter(|i| i.mnemonic() == Mnemonic::Endbr64) else {
            return Ok(vaddr);
        };
        if first.next_ip() >= part.end {
            return Err(Refusal::new(Reason::TooShort, vaddr, "nothing but an endbr64 is here"));
        }
        Ok(first.next_ip())
    }

    /// The instruction at an address of a part.
    pub(crate) fn decode(&self, part: &TextPart, vaddr: u64) -> Option<Instruction> {
        let bytes = self.text_at(vaddr)?.slice(vaddr, part.end)?;
        let first = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE).decode();
        (!first.is_invalid()).then_some(first)
    }

    /// That a range may be touched at all.
    pub(crate) fn allowed(&self, range: &Range<u64>) -> Result<(), Refusal> {
        match self.image.never.iter().find(|n| n.0 < range.end && range.start < n.1) {
            Some((from, to, why)) => {
                Err(Refusal::new(Reason::NeverPatch, range.start, format!("{why} ({from:#x}..{to:#x})")))
            }
            None => Ok(()),
        }
    }

    /// The plan for a window, once it is proven closed, allowed and free. `bytes` are those written at its
    /// start.
    pub(crate) fn proven(
        &self,
        wanted: Wanted<'_>,
        list: &[Instruction],
        bytes: Range<u64>,
        slack: Option<Range<u64>>,
    ) -> Result<SitePlan, Refusal> {
        let Wanted { index, part, requested, site, claims } = wanted;
        let undecodable = || Refusal::new(Reason::Undecodable, requested, "no instruction is here");
        if self.image.throws_faults && !self.image.go {
            certain(list)?;
        }
        // Up to the site, also where that is more than is written: whoever arrived there would miss the hit.
        window::closed(self, index, list, &(bytes.start..bytes.end.max(site + 1)))?;
        let before = list.iter().position(|i| i.ip() == site).ok_or_else(undecodable)?;
        let window = bytes.start..list.last().map(Instruction::next_ip).ok_or_else(undecodable)?;
        let old = |r: &Range<u64>| self.text_at(r.start).and_then(|s| s.slice(r.start, r.end));
        let overwrite = |r: &Range<u64>| {
            let original = old(r).ok_or_else(undecodable)?.to_vec();
            let front = self
                .text_at(r.start)
                .map_or(r.start, |s| s.vaddr.max(r.start.saturating_sub(Overwrite::BEFORE)));
            let before = old(&(front..r.start)).unwrap_or(&[]).to_vec();
            Ok::<_, Refusal>(Overwrite { start: r.start, original, before })
        };
        let mut plan = SitePlan {
            requested,
            site,
            rung: rung(list, before, &bytes, slack.is_some()),
            original: old(&window).ok_or_else(undecodable)?.to_vec(),
            window,
            writes: slack.iter().chain([&bytes]).map(overwrite).collect::<Result<_, _>>()?,
            position: match u8::try_from(before) {
                Ok(0) => HitPosition::Before,
                Ok(n) => HitPosition::Inside(n),
                Err(_) => return Err(undecodable()),
            },
            when_taken: false,
            notes: Notes::default(),
            red_zone_dead: false,
            go: None,
            function: part.start..part.end,
        };
        plan.notes.call = list.iter().any(|i| flow(i) == Ok(Flow::Call));
        let repeated =
            |i: &Instruction| i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix());
        plan.notes.repeated_string = list.iter().any(repeated);
        for range in plan.touched() {
            self.allowed(&range)?;
            if claims.overlap(&range).is_some() {
                return Err(Refusal::new(Reason::OverlapsSite, site, OVERLAPS));
            }
        }
        Ok(plan)
    }
}

/// That no instruction of a window may fault: nobody could unwind from its copy.
fn certain(list: &[Instruction]) -> Result<(), Refusal> {
    let Some((i, why)) = list.iter().find_map(|i| Some((i, faults::may_fault(i)?))) else { return Ok(()) };
    let detail = format!(
        "{why}, and this program turns faults into exceptions, which cannot be thrown from a trampoline"
    );
    Err(Refusal::new(Reason::Faulting, i.ip(), detail))
}

/// The rung of a window whose first `bytes` are written.
fn rung(list: &[Instruction], before: usize, bytes: &Range<u64>, slack: bool) -> Rung {
    let leaves = |i: &Instruction| flow(i) == Ok(Flow::Leaves);
    let skipped = list.first().is_some_and(Instruction::is_jmp_short) && list.len() > 1;
    if slack {
        Rung::ShortJump
    } else if list.last().is_some_and(|i| i.next_ip() < bytes.end) {
        Rung::Exit
    } else if before != 0 {
        if list.get(before).is_some_and(leaves) { Rung::Exit } else { Rung::Window }
    } else if list.iter().skip(usize::from(skipped)).all(is_nop) {
        Rung::Nop
    } else if list.len() == 1 {
        Rung::OneInstruction
    } else {
        Rung::Window
    }
}
