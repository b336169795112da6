//! What of a program can be patched: every function's entry, every exit, every single instruction, counted by rung
//! and by the reason of the refusal.
//!
//! It plans what a session would plan, from the same reading of the file, each site as if it were the only one. A
//! function is one entry of the unwind table (in Go, of its own table) or one symbol, merged by address. Instructions
//! outside of any function (padding, linkage tables) are counted, but not planned: nobody can name them.

mod copies;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use trocar_patch::{Analysis, Claims, ExitKind, Image, Reason, Refusal, SitePlan};
use trocar_session::planner_image;
use trocar_symbols::Elf;

/// Sites of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All of them.
    pub total: u64,
    /// Those that can be patched, by rung.
    pub planned: BTreeMap<String, u64>,
    /// Those that cannot, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, plan: &Result<SitePlan, Refusal>) {
        self.total += 1;
        let (map, name) = match plan {
            Ok(plan) => (&mut self.planned, plan.rung.name()),
            Err(refusal) => (&mut self.refused, refusal.reason.name()),
        };
        *map.entry(name.to_owned()).or_default() += 1;
    }

    /// The share that can be patched, in percent.
    #[must_use]
    pub fn share(&self) -> f64 {
        100.0 * self.planned.values().sum::<u64>() as f64 / self.total.max(1) as f64
    }
}

/// What of one file can be patched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The build id of the file, in hexadecimal; empty if it has none.
    pub build_id: String,
    /// Functions, at their entries.
    pub entries: Tally,
    /// What leaves a function.
    pub exits: Tally,
    /// The exits by kind.
    pub exit_kinds: BTreeMap<String, u64>,
    /// Functions with an instruction of which it is not known whether it leaves.
    pub functions_with_unknown_exits: u64,
    /// Every instruction of every function.
    pub instructions: Tally,
    /// Instructions that no function contains: padding, linkage tables.
    pub outside: u64,
    /// Of the refused entries and instructions, how many at most a copy of the whole function would add (`copies.rs`).
    pub copies: [u64; 2],
}

/// A site: `entry`, `exit` or `instruction`, and its plan.
pub type Seen<'a> = &'a mut dyn FnMut(&'static str, &Result<SitePlan, Refusal>);

impl Coverage {
    /// Plans everything in an ELF file; `seen` is told each plan.
    ///
    /// # Errors
    /// It is no ELF file that can be probed.
    pub fn of(file: &[u8], seen: Seen<'_>) -> anyhow::Result<Self> {
        Self::with(file, seen, |_| ())
    }

    /// The same, for a host that knows, or does, more: `change` says so.
    ///
    /// # Errors
    /// As [`Coverage::of`].
    pub fn with(file: &[u8], seen: Seen<'_>, change: impl FnOnce(&mut Image)) -> anyhow::Result<Self> {
        let elf = Elf::parse(file.into())?;
        let mut coverage = Self { build_id: hex(elf.build_id().unwrap_or_default()), ..Self::default() };
        let mut image = planner_image(&elf);
        change(&mut image);
        let candidates = copies::candidates(&image);
        let analysis = Analysis::new(image);
        let add = |plan: &Result<SitePlan, Refusal>, at: u64| {
            let entered = plan.as_ref().is_err_and(|r| r.reason == Reason::BranchIntoWindow);
            let function = candidates.range(..=at).next_back();
            u64::from(entered && function.is_some_and(|(_, end)| at < *end))
        };
        let mut starts: Vec<u64> = analysis.image().functions.iter().map(|f| f.start).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut exits = BTreeMap::new();
        for start in starts {
            let plan = analysis.plan(start);
            coverage.entries.add(&plan);
            coverage.copies[0] += add(&plan, start);
            seen("entry", &plan);
            match analysis.exits(start) {
                Ok(found) => {
                    let unknown = found.iter().any(|e| e.kind == ExitKind::Unknown);
                    coverage.functions_with_unknown_exits += u64::from(unknown);
                    // A part may belong to several: each exit counts once.
                    exits.extend(found.into_iter().map(|e| (e.address, e)));
                }
                Err(refusal) => seen("exit", &Err(refusal)),
            }
        }
        for exit in exits.values() {
            *coverage.exit_kinds.entry(kind(exit.kind).to_owned()).or_default() += 1;
            let plan = analysis.plan_exit(exit, &Claims::new());
            coverage.exits.add(&plan);
            seen("exit", &plan);
        }
        let text = analysis.image().text.iter().flat_map(|t| t.vaddr..t.end());
        for at in text.filter(|a| analysis.is_instruction(*a)) {
            let plan = analysis.plan(at);
            if plan.as_ref().is_err_and(|r| r.reason == Reason::NoFunction) {
                coverage.outside += 1;
                continue;
            }
            coverage.instructions.add(&plan);
            coverage.copies[1] += add(&plan, at);
            seen("instruction", &plan);
        }
        Ok(coverage)
    }
}

fn kind(kind: ExitKind) -> &'static str {
    match kind {
        ExitKind::Return => "return",
        ExitKind::ReturnPop(_) => "return_pop",
        ExitKind::TailJump { conditional: false, target: Some(_) } => "tail_jump",
        ExitKind::TailJump { conditional: false, target: None } => "indirect_tail_jump",
        ExitKind::TailJump { conditional: true, .. } => "conditional_tail_jump",
        ExitKind::Unknown => "unknown",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables =
            [("entries", &self.entries), ("exits", &self.exits), ("instructions", &self.instructions)];
        for (name, tally) in tables {
            writeln!(f, "  {name:<22} {:>9} {:>8.2} %", tally.total, tally.share())?;
            let refused = tally.refused.iter().map(|(reason, n)| (format!("- {reason}"), n));
            let planned = tally.planned.iter().map(|(rung, n)| (format!("+ {rung}"), n));
            for (what, count) in planned.chain(refused) {
                let share = 100.0 * *count as f64 / tally.total.max(1) as f64;
                writeln!(f, "    {what:<26} {count:>9} {share:>6.2} %")?;
            }
        }
        let kinds: Vec<String> = self.exit_kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        writeln!(
            f,
            "  exits: {}; {} functions with unknown ones",
            kinds.join(", "),
            self.functions_with_unknown_exits
        )?;
        let [entries, instructions] = self.copies;
        writeln!(
            f,
            "  copies of whole functions would add at most {entries} entries, {instructions} instructions"
        )?;
        write!(f, "  {} instructions outside of functions", self.outside)
    }
}
