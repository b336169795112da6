//! The planner for Go: what `plan.rs` does, where a goroutine's stack is small and preemption is asynchronous.
//!
//! At an entry the window is the stack check (`go.rs`). Elsewhere a window may have several instructions, none of which
//! may fault, if the host promises to look for goroutines that were preempted between two of them
//! ([`crate::Image::goroutines_searched`]); else exactly one is displaced, together with padding if it is a return.
//!
//! Once the site is written nobody comes to be between them, and nothing of ours is where the runtime would see it:
//! - it preempts a goroutine only where its own tables say that it may, and a trampoline is in no table
//!   (`isAsyncSafePoint`); nor does it move an address back to the start of a sequence on this processor, except to a
//!   function's entry;
//! - at the site itself it may: there is the jump, then as now the first instruction of the window;
//! - a profiler's signal in a trampoline is counted as external code (`sigprof`);
//! - it walks and copies the stack of a goroutine that waits, at calls, and a displaced call leaves the address behind
//!   itself in the text; a recovered panic goes on at an address that the host names (`deferreturn`);
//! - what it reads of code are jumps behind the calls of `morestack`, where nothing is patched.
//!
//! There are no short jumps. A thread that is interrupted at the long jump in slack is at an address for which the
//! runtime finds the function before the padding, whose tables end before it: it would end the program ("invalid
//! runtime symbol table", `runtime/symtab.go`, `pcvalue`). In a nop that is run through, the goroutine could be
//! preempted right there, and would come back to it after a detach.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use crate::analysis::Analysis;
use crate::go::{self, GoSource, StackCheck};
use crate::plan::Wanted;
use crate::refusal::{Reason, Refusal};
use crate::site_plan::{HitPosition, SitePlan};
use crate::sweep::TextPart;

impl Analysis {
    /// In Go: the stack check at an entry, else what cannot fault.
    pub(crate) fn plan_go(&self, wanted: Wanted<'_>) -> Result<SitePlan, Refusal> {
        let Wanted { part, site, .. } = wanted;
        let bytes = self.text_at(part.start).and_then(|s| s.slice(part.start, part.end)).unwrap_or(&[]);
        let Some(check) = go::stack_check(bytes, part.start) else {
            return self.plan_unchecked(wanted, bytes);
        };
        let agreed = self.sweep.go_tls;
        if matches!(check.source, GoSource::Tls(offset) if agreed.is_some_and(|a| a != offset)) {
            let detail = "this function finds its goroutine elsewhere than the others";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        }
        if site == part.start {
            return self.plan_stack_check(wanted, check);
        }
        if site < check.end || (check.tail > check.end && site >= check.tail) {
            let detail =
                "the stack check has not passed here; probe the function's entry, or an address after it";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        }
        self.plan_after(wanted, check.source, check.end)
    }

    /// A function without a stack check, where a hit finds out by itself how much stack is left (`go.rs`).
    fn plan_unchecked(&self, wanted: Wanted<'_>, bytes: &[u8]) -> Result<SitePlan, Refusal> {
        let Wanted { part, site, .. } = wanted;
        let refuse = |why: &str| {
            let detail = format!(
                "this Go function has no stack check, so that it is unknown how much stack is left, and {why}"
            );
            Err(Refusal::new(Reason::StackUnknown, site, detail))
        };
        // The search also says that somebody has read this version of Go.
        if !self.image.goroutines_searched {
            return refuse("this version of Go is not known well enough to find out");
        }
        if self.image.compiled.binary_search(&part.start).is_err() || part.joined || part.bad.is_some() {
            return refuse("its registers are not those of Go's compiler");
        }
        let Some(uses) = go::uses(bytes, part.start).filter(|u| !u.other_goroutine) else {
            return refuse("assembly calls it, so that its goroutine is not in r14 when it begins");
        };
        if uses.unknown.iter().any(|r| r.contains(&site)) {
            return refuse(
                "behind this call its goroutine is not in r14 yet; probe an instruction after that",
            );
        }
        if uses.scratch && !self.between_functions(part, site) {
            return refuse("it uses r12 or r13, in which a hit would find out; probe its entry or its exits");
        }
        let Some(offset) = self.sweep.go_tls else {
            return refuse("its code does not say where a thread has its goroutine");
        };
        self.plan_after(wanted, GoSource::Unchecked(offset), part.start)
    }

    /// Whether the site is where control comes from or goes to another function, and only that.
    fn between_functions(&self, part: &TextPart, site: u64) -> bool {
        if site == part.start {
            return !self.sweep.jumps.has(site);
        }
        let Some(i) = self.decode(part, site).filter(|i| !go::names_scratch(i)) else { return false };
        let away = |target: u64| target < part.start || target >= part.end;
        match i.flow_control() {
            FlowControl::Return => true,
            FlowControl::UnconditionalBranch => away(i.near_branch_target()),
            _ => false,
        }
    }

    /// A site at or after `from`, up to which the room must be known.
    fn plan_after(&self, wanted: Wanted<'_>, source: GoSource, from: u64) -> Result<SitePlan, Refusal> {
        let Wanted { part, site, .. } = wanted;
        if self.before(part, site).is_some_and(|i| go::reaches_below(&i)) {
            let detail = "what is below the stack pointer is in use here, and a hit would write there; probe the instruction after the call";
            return Err(Refusal::new(Reason::StackUnknown, site, detail));
        }
        let first = self.decode(part, site);
        let may_fault = |i: Instruction| go::may_fault(&i, source);
        if let Some(why) = first.and_then(may_fault) {
            let detail = format!("{why}; Go could not turn a fault in a trampoline into a panic");
            return Err(Refusal::new(Reason::Faulting, site, detail));
        }
        let fits = |plan: &SitePlan| {
            if first.is_some_and(|i| plan.window == (site..i.next_ip())) {
                return true;
            }
            let mut code =
                Decoder::with_ip(64, &plan.original, plan.window.start, DecoderOptions::NONE).into_iter();
            self.image.goroutines_searched && code.all(|i| may_fault(i).is_none())
        };
        let mut plan = match self.plan_from(wanted, site) {
            Ok(plan) if fits(&plan) => plan,
            plain => match (self.plan_earlier(wanted).filter(|p| p.window.start >= from), plain) {
                (Some(plan), _) if fits(&plan) => plan,
                // There is a way, if it were not for what Go does meanwhile.
                (Some(_), _) | (None, Ok(_)) => return Err(self.only_alone(site)),
                (None, Err(refusal)) => return Err(refusal),
            },
        };
        plan.go = Some(source);
        plan.red_zone_dead = true;
        Ok(plan)
    }

    /// The window is exactly the stack check, and the hit comes after it.
    fn plan_stack_check(&self, wanted: Wanted<'_>, check: StackCheck) -> Result<SitePlan, Refusal> {
        let part = wanted.part;
        let bytes = self.text_at(part.start).and_then(|s| s.slice(part.start, check.end)).unwrap_or(&[]);
        let list: Vec<Instruction> =
            Decoder::with_ip(64, bytes, part.start, DecoderOptions::NONE).into_iter().collect();
        let jump = crate::JUMP as u64;
        let mut plan = self.proven(wanted, &list, part.start..part.start.saturating_add(jump), None)?;
        plan.position = HitPosition::After;
        plan.go = Some(check.source);
        plan.red_zone_dead = true;
        Ok(plan)
    }

    /// The instruction that ends at the site.
    fn before(&self, part: &TextPart, site: u64) -> Option<Instruction> {
        let ends = (1..=15).filter_map(|n| site.checked_sub(n).filter(|at| *at >= part.start));
        ends.filter(|at| self.is_instruction(*at))
            .find_map(|at| self.decode(part, at).filter(|i| i.next_ip() == site))
    }

    /// Why a window of several instructions will not do here.
    fn only_alone(&self, site: u64) -> Refusal {
        if self.image.goroutines_searched {
            let detail =
                "an instruction beside it may fault; Go could not turn a fault in a trampoline into a panic";
            return Refusal::new(Reason::Faulting, site, detail);
        }
        let what = "a goroutine may be preempted between two instructions here; only one of five or more bytes will do";
        let detail = match self.image.unsearched {
            "" => what.to_owned(),
            why => format!("{what}, because goroutines cannot be searched: {why}"),
        };
        Refusal::new(Reason::TooShort, site, detail)
    }
}
