//! `trocar ps`: what can be probed, and why the rest cannot.

use clap::Args;
use serde::Serialize;
use trocar_sinks::{Align, Grid, Line, Tone};
use trocar_target::{ProcessSummary, list_processes};

use crate::out::Out;
use crate::trouble::Outcome;

const EXAMPLES: &str = "\
Examples:
  trocar ps                                        everything that runs, and what forbids to probe it
  trocar ps redis                                  only processes whose name or command line holds `redis`
  trocar ps -o json | grep '\"can_probe\":true'";

/// Lists the processes that can be probed, and why the others cannot.
///
/// Nothing is tried: permission is read from what the system says. The hint behind a process that cannot be probed is
/// in the JSON objects.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ps {
    /// Only processes whose name or command line holds this text
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// List threads of the kernel too
    #[arg(long)]
    all: bool,
}

/// A process as an object.
#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    name: &'a str,
    user: &'a str,
    command: &'a str,
    can_probe: bool,
    code: Option<&'static str>,
    why: Option<&'a str>,
    hint: Option<&'a str>,
}

impl Ps {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let listed = |p: &&ProcessSummary| {
            let holds = |text: &String| p.name.contains(text.as_str()) || p.command.contains(text.as_str());
            (self.all || !p.kernel_thread) && self.filter.as_ref().is_none_or(holds)
        };
        let mut grid = Grid::new(&[
            ("PID", Align::Right),
            ("USER", Align::Left),
            ("NAME", Align::Left),
            ("PROBE", Align::Left),
            ("COMMAND, OR WHY NOT", Align::Left),
        ]);
        for process in list_processes()?.iter().filter(listed) {
            let obstacle = process.obstacle.as_ref();
            out.row(
                "process",
                &Row {
                    pid: process.pid,
                    name: &process.name,
                    user: &process.user,
                    command: &process.command,
                    can_probe: obstacle.is_none(),
                    code: obstacle.map(|f| f.kind.code()),
                    why: obstacle.map(|f| f.message.as_str()),
                    hint: obstacle.and_then(|f| f.hint.as_deref()),
                },
            )?;
            let cell = |tone, text: &str| Line::new().with(tone, text);
            let (can, about) = match obstacle {
                None => (cell(Tone::Good, "yes"), cell(Tone::Plain, &process.command)),
                Some(failure) => (cell(Tone::Warning, "no"), cell(Tone::Faint, &failure.message)),
            };
            let pid = process.pid.to_string();
            let name = cell(Tone::Strong, &process.name);
            grid.row(vec![cell(Tone::Plain, &pid), cell(Tone::Plain, &process.user), name, can, about]);
        }
        out.grid(grid)?;
        Ok(0)
    }
}
