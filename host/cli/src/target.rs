//! Which processes a command means: `-p` with numbers or names.

use clap::Args;
use trocar_target::{Failure, resolve_target};

use crate::later::LaterTargets;
use crate::trouble::usage;

/// Target options of a command that looks at processes.
#[derive(Args, Debug)]
pub(crate) struct Targets {
    /// Process id, several with commas, or a name
    #[arg(short = 'p', long = "pid", value_name = "PID", id = "pids", action = clap::ArgAction::Append)]
    words: Vec<String>,
    /// Take every process of that name
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    later: LaterTargets,
}

impl Targets {
    /// The processes, each once.
    ///
    /// # Errors
    /// No such process, or a name that several have.
    pub(crate) fn resolve(&self) -> Result<Vec<i32>, Failure> {
        self.later.refuse()?;
        let mut pids = Vec::new();
        for word in self.words.iter().flat_map(|words| words.split(',')) {
            let found = resolve_target(word)?;
            if found.len() > 1 && !self.all {
                let list: Vec<String> = found.iter().map(ToString::to_string).collect();
                return Err(usage(format!(
                    "{} processes are named {word}: {}",
                    found.len(),
                    list.join(", ")
                ))
                .hint(format!("name one with -p PID (see: trocar ps), or take all with: -p {word} --all")));
            }
            pids.extend(found);
        }
        let mut seen = std::collections::HashSet::new();
        pids.retain(|pid| seen.insert(*pid));
        Ok(pids)
    }
}
