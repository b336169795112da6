//! The dearest way through a function, by its structure alone.
//!
//! Without a way back, WebAssembly's control flow only goes forward: to the end of a block around. So one walk over the
//! operators knows at each of them the most that any way to it has cost, and at the end of a block the most of all ways
//! that meet there. Every way is taken to be possible. Code that no way leads to costs nothing, as in wasmtime, which
//! does not compile it. A trap in between ends a way early and makes it no dearer.
//!
//! A way back is followed only where the code says how often (`counted`): then each further round costs at most what the
//! dearest way from the loop's beginning to the branch does.

use wasmparser::{FunctionBody, Operator};

use super::Unbounded;
use super::charges::{self, Last};
use super::counted::{Round, Watch};

/// The most that any way costs. Of two ways, the greater of each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub fuel: u64,
    pub system_calls: u32,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.saturating_add(other.fuel),
            system_calls: self.system_calls.saturating_add(other.system_calls),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.saturating_sub(other.fuel),
            system_calls: self.system_calls.saturating_sub(other.system_calls),
        }
    }

    fn times(self, n: u64) -> Self {
        Self {
            fuel: self.fuel.saturating_mul(n),
            system_calls: self.system_calls.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX)),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { fuel: self.fuel.max(other.fuel), system_calls: self.system_calls.max(other.system_calls) }
    }
}

/// The dearer of two ways, where either may not exist.
fn either(a: Option<Cost>, b: Option<Cost>) -> Option<Cost> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.or(b)),
        (a, b) => a.or(b),
    }
}

/// A loop that is open: branches to it go back.
#[derive(Debug)]
struct Loop {
    /// The ways to its beginning.
    begin: Option<Cost>,
    round: Round,
    /// Its one branch back was found.
    counted: bool,
}

/// A block that is open.
#[derive(Debug, Default)]
struct Block {
    again: Option<Loop>,
    /// The ways that have branched to its end.
    to_end: Option<Cost>,
    /// Of an `if` whose `else` has not come: the way that leaves it out.
    around: Option<Cost>,
}

/// The ways to the operator at hand.
#[derive(Debug)]
struct Ways {
    /// The most of all of them; `None` where no way leads.
    here: Option<Cost>,
    /// The function and the open blocks in it.
    blocks: Vec<Block>,
    /// The ways that a trap has ended.
    ended: Option<Cost>,
    watch: Watch,
}

impl Ways {
    /// All ways branch to the end of the block this many levels up.
    fn branch(&mut self, levels: u32) -> Result<(), Unbounded> {
        let index = self.blocks.len().checked_sub(1 + levels as usize);
        let block = index.and_then(|i| self.blocks.get_mut(i)).ok_or(Unbounded::Malformed)?;
        if self.here.is_some() && block.again.is_some() {
            return Err(Unbounded::Loop);
        }
        block.to_end = either(block.to_end, self.here);
        Ok(())
    }

    /// The same, if a condition holds. Back to a loop that counts, all its rounds are run, and all ways out of it may have
    /// been taken in the last one.
    fn branch_if(&mut self, levels: u32) -> Result<(), Unbounded> {
        let index = self.blocks.len().checked_sub(1 + levels as usize).ok_or(Unbounded::Malformed)?;
        let (_, from) = self.blocks.split_at_mut_checked(index).ok_or(Unbounded::Malformed)?;
        let (block, within) = from.split_first_mut().ok_or(Unbounded::Malformed)?;
        let (Some(again), Some(here)) = (&mut block.again, self.here) else { return self.branch(levels) };
        if again.counted || within.iter().any(|b| b.again.is_some()) {
            return Err(Unbounded::Loop);
        }
        again.counted = true;
        let rounds = self.watch.rounds(&again.round).ok_or(Unbounded::Loop)?;
        let further = here.minus(again.begin.unwrap_or_default()).times(rounds - 1);
        let longer = |way: &mut Option<Cost>| *way = way.map(|cost| cost.and(further));
        self.blocks.iter_mut().for_each(|block| longer(&mut block.to_end));
        longer(&mut self.ended);
        longer(&mut self.here);
        Ok(())
    }

    fn innermost(&mut self) -> Option<&mut Loop> {
        self.blocks.iter_mut().rev().find_map(|block| block.again.as_mut())
    }

    /// Tells the loop around, and what is watched, of an operator.
    fn note(&mut self, operator: &Operator<'_>) {
        if let (Operator::LocalSet { .. } | Operator::LocalTee { .. }, Some(innermost)) =
            (operator, self.innermost())
        {
            innermost.round.take(operator);
        }
        self.watch.take(operator);
    }

    fn add(&mut self, cost: Cost) {
        self.here = self.here.map(|here| here.and(cost));
    }

    fn take(&mut self, operator: &Operator<'_>) -> Result<(), Unbounded> {
        match operator {
            Operator::Block { .. } => self.blocks.push(Block::default()),
            Operator::Loop { .. } => {
                let again = Loop { begin: self.here, round: self.watch.enter(), counted: false };
                self.blocks.push(Block { again: Some(again), ..Block::default() });
            }
            Operator::If { .. } => self.blocks.push(Block { around: self.here, ..Block::default() }),
            Operator::Else => {
                let block = self.blocks.last_mut().ok_or(Unbounded::Malformed)?;
                block.to_end = either(block.to_end, self.here);
                self.here = block.around.take();
            }
            Operator::End => {
                let block = self.blocks.pop().ok_or(Unbounded::Malformed)?;
                self.here = either(self.here, either(block.to_end, block.around));
                if let (Some(ended), Some(outer)) = (block.again, self.innermost()) {
                    outer.round.add(ended.round);
                }
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth)?;
                self.here = None;
            }
            Operator::BrIf { relative_depth } => self.branch_if(*relative_depth)?,
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    self.branch(target.map_err(|_| Unbounded::Malformed)?)?;
                }
                self.branch(targets.default())?;
                self.here = None;
            }
            Operator::Return => {
                let function = self.blocks.first_mut().ok_or(Unbounded::Malformed)?;
                function.to_end = either(function.to_end, self.here);
                self.here = None;
            }
            Operator::Unreachable => {
                self.ended = either(self.ended, self.here);
                self.here = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The dearest way through a function. `call` knows what a call costs besides itself, given what lies on the stack.
pub(super) fn dearest(
    code: &FunctionBody<'_>,
    call: impl Fn(u32, &Last) -> Result<Cost, Unbounded>,
) -> Result<Cost, Unbounded> {
    let entry = Cost { fuel: charges::ENTRY, system_calls: 0 };
    let mut ways =
        Ways { here: Some(entry), blocks: vec![Block::default()], ended: None, watch: Watch::default() };
    let mut last = Last::default();
    for operator in code.get_operators_reader().map_err(|_| Unbounded::Malformed)? {
        let operator = operator.map_err(|_| Unbounded::Malformed)?;
        if ways.here.is_some() {
            let fuel = charges::operator(&operator, &last).ok_or(Unbounded::Length)?;
            ways.add(Cost { fuel, system_calls: 0 });
            match operator {
                Operator::Call { function_index } => ways.add(call(function_index, &last)?),
                Operator::CallIndirect { .. } => return Err(Unbounded::Indirect),
                _ => {}
            }
        }
        ways.take(&operator)?;
        ways.note(&operator);
        last.take(&operator);
    }
    either(ways.here, ways.ended).ok_or(Unbounded::Malformed)
}
