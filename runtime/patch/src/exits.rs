//! Where a function is left: its returns and its tail jumps.
//!
//! A function is more than a range of addresses: to the part at its entry belong the parts that `analysis.rs`
//! has joined to it, and *cold parts*, which compilers put elsewhere. A cold part looks like a function of its
//! own (it has an unwind entry, and often a symbol), and a jump to its start looks like a tail call. It
//! belongs to the function when nothing else can come there: no call and no pointer names it, and every jump
//! to it is from the function. Of a local function with a single caller, who jumps to it, the same is true, and
//! its returns are then indeed the caller's.
//!
//! Straight code that runs into the next function (hand-written assembly does it) goes on there: that function's
//! exits are exits of this one too.
//!
//! What is no exit: a jump within the function, a switch (`indirect.rs`), a call that never comes back, a trap,
//! a system call that ends the thread. An unwinder leaves through none of these either: an activation that
//! never came out is for the host to count.
//!
//! What cannot be told is [`ExitKind::Unknown`], with its address, so that the host can say why it refuses.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use crate::analysis::Analysis;
use crate::indirect::{Indirect, Reachable};
use crate::instruction::is_nop;
use crate::refusal::{Reason, Refusal};
use crate::sweep::TextPart;
use crate::tables::walk;

/// How an instruction leaves its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitKind {
    /// `ret`, also `repz ret`.
    Return,
    /// `ret n`: the callee takes so many bytes of arguments off the stack.
    ReturnPop(u16),
    /// A jump to another function: there is no return value yet, and the other function's return ends both.
    TailJump {
        /// Only where its condition holds.
        conditional: bool,
        /// Where to, if the instruction says it.
        target: Option<u64>,
    },
    /// It may leave the function, or not: an indirect jump that is not proven to be either, straight code that
    /// runs out of the function, a far return.
    Unknown,
}

/// An instruction that leaves its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exit {
    /// Its address.
    pub address: u64,
    /// How.
    pub kind: ExitKind,
}

impl Analysis {
    /// All exits of the function whose entry is at `vaddr`, in ascending order, one for each address.
    ///
    /// # Errors
    /// A [`Refusal`]: no known function contains the address, or some part of it does not decode.
    pub fn exits(&self, vaddr: u64) -> Result<Vec<Exit>, Refusal> {
        let (index, _) = self.part_at(vaddr).filter(|(_, p)| p.function).ok_or_else(|| {
            Refusal::new(Reason::NoFunction, vaddr, "no known function contains the address")
        })?;
        let members = self.members(index);
        let mut exits = Vec::new();
        let reachable = Reachable::new(self, &members);
        for part in &members {
            self.exits_of(*part, &members, &reachable, &mut exits)?;
        }
        let second = self.sweep.second_exits.iter().filter(|at| self.part_in(**at, &members));
        exits.extend(second.map(|at| Exit { address: *at, kind: ExitKind::Unknown }));
        exits.sort_unstable();
        // Unknown is the last of the kinds: of two answers for one address it stays.
        exits.reverse();
        exits.dedup_by_key(|e| e.address);
        exits.reverse();
        Ok(exits)
    }

    /// The parts of the function of which this one is the entry.
    fn members(&self, entry: usize) -> BTreeSet<usize> {
        let mut members: BTreeSet<usize> = self.family(entry).map(|(index, _)| index).collect();
        // In Go every function may be called by address, and there are no cold parts.
        if self.image.go {
            return members;
        }
        let mut todo: Vec<usize> = members.iter().copied().collect();
        while let Some(part) = todo.pop() {
            let next = self.runs_into(part);
            for target in self.ways_out(part).into_iter().chain(next) {
                let Some((to, _)) = self.part_at(target).filter(|(_, p)| p.function) else { continue };
                if !members.contains(&to) && (next == Some(target) || self.is_cold(to, &members)) {
                    let family: Vec<usize> = self.family(to).map(|(index, _)| index).collect();
                    todo.extend(family.iter().filter(|f| !members.contains(*f)));
                    members.extend(family);
                }
            }
        }
        members
    }

    /// Targets outside of a part: of its jumps, and of its jump tables, whose cold cases may be elsewhere.
    fn ways_out(&self, part: usize) -> Vec<u64> {
        let mut targets: Vec<u64> = self.crossings(part).collect();
        let own = self.sweep.parts.get(part).map_or(0..0, |p| p.start..p.end);
        if self.sweep.parts.get(part).is_some_and(|p| p.indirect_jump) {
            for base in self.bases(part) {
                walk(&self.image, base, self.next_base(base), |target| {
                    if !own.contains(&target) {
                        targets.push(target);
                    }
                    true
                });
            }
        }
        targets
    }

    /// Whether the part's function can only be entered by jumps from `members`.
    fn is_cold(&self, part: usize, members: &BTreeSet<usize>) -> bool {
        let family: BTreeSet<usize> = self.family(part).map(|(index, _)| index).collect();
        family.iter().all(|index| {
            let Some(p) = self.sweep.parts.get(*index) else { return false };
            let named = self.pointers.has(p.start) || self.sweep.taken.has(p.start);
            let called = self.called.has(p.start) || self.sweep.calls.first(p.start..p.end).is_some();
            let from = |a: usize| members.contains(&a) || family.contains(&a);
            p.function && !named && !called && self.arrivals(*index).all(from)
        })
    }

    /// Whether an address is in one of these parts.
    pub(crate) fn part_in(&self, vaddr: u64, members: &BTreeSet<usize>) -> bool {
        self.part_at(vaddr).is_some_and(|(index, _)| members.contains(&index))
    }

    /// The exits in one part.
    fn exits_of(
        &self,
        index: usize,
        members: &BTreeSet<usize>,
        reachable: &Reachable,
        exits: &mut Vec<Exit>,
    ) -> Result<(), Refusal> {
        let Some(part) = self.sweep.parts.get(index) else { return Ok(()) };
        if let Some(bad) = part.bad {
            let detail = format!("the function at {:#x} does not decode at {bad:#x}", part.start);
            return Err(Refusal::new(Reason::Undecodable, bad, detail));
        }
        let code = self.code_of(part);
        for (n, i) in code.iter().enumerate() {
            let kind = match i.flow_control() {
                FlowControl::Return => match i.code() {
                    Code::Retnq => ExitKind::Return,
                    Code::Retnq_imm16 => ExitKind::ReturnPop(i.immediate16()),
                    _ => ExitKind::Unknown,
                },
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                    let conditional = i.flow_control() == FlowControl::ConditionalBranch;
                    let target = i.near_branch_target();
                    match i.code() {
                        _ if self.part_in(target, members) => continue,
                        Code::Jmp_rel16 | Code::Jmp_ptr1616 | Code::Jmp_ptr1632 => ExitKind::Unknown,
                        _ => ExitKind::TailJump { conditional, target: Some(target) },
                    }
                }
                FlowControl::IndirectBranch => {
                    match self.indirect(code.get(..=n).unwrap_or(&[]), reachable) {
                        Indirect::Switch => continue,
                        Indirect::Tail => ExitKind::TailJump { conditional: false, target: None },
                        Indirect::Unknown => ExitKind::Unknown,
                    }
                }
                FlowControl::Next
                | FlowControl::Call
                | FlowControl::IndirectCall
                | FlowControl::Interrupt
                | FlowControl::XbeginXabortXend
                | FlowControl::Exception => continue,
            };
            exits.push(Exit { address: i.ip(), kind });
        }
        let next_is_ours = self.runs_into(index).is_some_and(|at| self.part_in(at, members));
        if let Some(address) = runs_out(&code).filter(|_| !next_is_ours) {
            exits.push(Exit { address, kind: ExitKind::Unknown });
        }
        Ok(())
    }

    fn code_of(&self, part: &TextPart) -> Vec<Instruction> {
        let bytes = self.text_at(part.start).and_then(|s| s.slice(part.start, part.end)).unwrap_or(&[]);
        Decoder::with_ip(64, bytes, part.start, DecoderOptions::NONE).into_iter().collect()
    }

    /// The start of the function into which straight code runs out of a part, over nothing but nops.
    fn runs_into(&self, index: usize) -> Option<u64> {
        let part = self.sweep.parts.get(index)?;
        runs_out(&self.code_of(part))?;
        let (_, next) = self.part_at(part.end)?;
        if next.function {
            return Some(part.end);
        }
        let only_nops = self.code_of(next).iter().all(is_nop);
        self.part_at(next.end).filter(|(_, p)| only_nops && p.function).map(|(_, p)| p.start)
    }
}

/// The last instruction of a part, if straight code goes on from it into what follows. A call there is one that
/// never comes back: a compiler ends no function with another.
fn runs_out(code: &[Instruction]) -> Option<u64> {
    let last = code.iter().rev().find(|i| !is_nop(i) && i.mnemonic() != Mnemonic::Int3)?;
    let goes_on = match last.flow_control() {
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
            last.mnemonic() != Mnemonic::Hlt
        }
        FlowControl::Call
        | FlowControl::IndirectCall
        | FlowControl::Return
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Interrupt
        | FlowControl::Exception => false,
    };
    goes_on.then(|| last.ip())
}
