//! What was run, and what was not and why.

use std::collections::BTreeMap;
use std::fmt;

/// Counts over many scripts.
#[derive(Debug, Default)]
pub struct Tally {
    /// Directives that were run in both worlds and compared.
    pub run: usize,
    /// Directives that were not, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Where the worlds differ, or where both differ from the script.
    pub differences: Vec<String>,
}

impl Tally {
    /// One directive more that is not run.
    pub fn skip(&mut self, why: &str) {
        *self.skipped.entry(why.to_owned()).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} directives run and compared, {} skipped:",
            self.run,
            self.skipped.values().sum::<usize>()
        )?;
        for (why, n) in &self.skipped {
            writeln!(f, "{n:8}  {why}")?;
        }
        Ok(())
    }
}
