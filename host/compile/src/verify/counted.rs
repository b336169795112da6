//! Loops that count: how often one runs, where its code says so itself.
//!
//! One form is understood, the one that compilers make of `for` with a constant range. A variable gets a constant before
//! the loop; in the loop it is set at one place, right before the only branch back, which depends on nothing else:
//!
//! ```text
//! i32.const C  local.set i   loop … local.get i  i32.const S  i32.add  local.tee i  i32.const N  i32.ne  br_if loop
//! ```
//! So at the branch it is C + S, C + 2S and so on, and the rounds are counted by doing just that. Any other loop has no
//! bound.

use std::collections::BTreeMap;

use wasmparser::Operator;

/// Most rounds that are counted.
const ROUNDS_MAX: u64 = 100_000;
/// Operators of the longest form before the branch.
const FORM: usize = 6;

/// An operator of the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    Get(u32),
    Tee(u32),
    Constant(u32),
    Add,
    /// The loop goes on while this holds of the variable and the constant.
    While(Condition),
    #[default]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ne,
    LtU,
    LtS,
    GtU,
    GtS,
}

impl Condition {
    const fn holds(self, a: u32, b: u32) -> bool {
        let (signed_a, signed_b) = (a.cast_signed(), b.cast_signed());
        match self {
            Self::Ne => a != b,
            Self::LtU => a < b,
            Self::LtS => signed_a < signed_b,
            Self::GtU => a > b,
            Self::GtS => signed_a > signed_b,
        }
    }
}

/// What is known where the walk is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Variables that hold a constant on every way to here.
    known: BTreeMap<u32, u32>,
    /// The last operators, the latest at the end.
    recent: [Step; FORM],
}

/// What is known of a loop that is open.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The constants before its first round.
    known: BTreeMap<u32, u32>,
    /// How many places in it set a variable.
    sets: BTreeMap<u32, u64>,
}

impl Round {
    /// An operator of this loop, and of none within it.
    pub(super) fn take(&mut self, operator: &Operator<'_>) {
        if let Operator::LocalSet { local_index } | Operator::LocalTee { local_index } = operator {
            *self.sets.entry(*local_index).or_default() += 1;
        }
    }

    /// A loop within this one has ended.
    pub(super) fn add(&mut self, inner: Self) {
        for (local, times) in inner.sets {
            *self.sets.entry(local).or_default() += times;
        }
    }
}

impl Watch {
    /// Goes on after this operator.
    pub(super) fn take(&mut self, operator: &Operator<'_>) {
        let step = match operator {
            Operator::LocalGet { local_index } => Step::Get(*local_index),
            Operator::LocalTee { local_index } => Step::Tee(*local_index),
            Operator::I32Const { value } => Step::Constant(value.cast_unsigned()),
            Operator::I32Add => Step::Add,
            Operator::I32Ne => Step::While(Condition::Ne),
            Operator::I32LtU => Step::While(Condition::LtU),
            Operator::I32LtS => Step::While(Condition::LtS),
            Operator::I32GtU => Step::While(Condition::GtU),
            Operator::I32GtS => Step::While(Condition::GtS),
            _ => Step::Other,
        };
        match operator {
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                match self.recent.last() {
                    Some(Step::Constant(value)) => drop(self.known.insert(*local_index, *value)),
                    _ => drop(self.known.remove(local_index)),
                }
            }
            // Other ways meet this one, or it is another one.
            Operator::Else | Operator::End => self.known.clear(),
            _ => {}
        }
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = step;
        }
    }

    /// A loop begins here. In it nothing is known yet: another round may have changed it.
    pub(super) fn enter(&mut self) -> Round {
        Round { known: std::mem::take(&mut self.known), sets: BTreeMap::new() }
    }

    /// How often the innermost loop runs whose branch back, if something is not zero, is the next operator.
    pub(super) fn rounds(&self, round: &Round) -> Option<u64> {
        let (local, step, condition, end) = match self.recent {
            [
                Step::Get(from),
                Step::Constant(step),
                Step::Add,
                Step::Tee(to),
                Step::Constant(end),
                Step::While(c),
            ] if from == to => (to, step, c, end),
            [_, _, Step::Get(from), Step::Constant(step), Step::Add, Step::Tee(to)] if from == to => {
                (to, step, Condition::Ne, 0)
            }
            _ => return None,
        };
        if round.sets.get(&local) != Some(&1) {
            return None;
        }
        let mut value = *round.known.get(&local)?;
        for rounds in 1..=ROUNDS_MAX {
            value = value.wrapping_add(step);
            if !condition.holds(value, end) {
                return Some(rounds);
            }
        }
        None
    }
}
