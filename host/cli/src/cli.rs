//! The words of the command line: the verbs of this version, and what is common to all of them.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cmd;
use crate::later;
use crate::out::{Format, Out};
use crate::trouble::Outcome;

/// Sandboxed WebAssembly probes in live processes: no restart, no rebuild, and nothing a probe does can crash, corrupt
/// or stall the process.
#[derive(Debug, Parser)]
#[command(name = "trocar", bin_name = "trocar", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// How output is written [default: table on a terminal, else json]
    #[arg(short = 'o', long = "output", value_enum, global = true, hide_default_value = true)]
    pub(crate) output: Option<Format>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  trocar ps                                         what can be probed
  trocar points -p redis-server 'process*'          where
  trocar count -p redis-server processCommand       how often
  trocar time -p redis-server processCommand        how long
  trocar load redis-commands -p redis-server        a probe at work
  trocar demo                                       all of it, on a server that comes along

Exit status:
  0 done     1 a bug of trocar     2 wrong words     4 nothing could be patched
  5 no such process, or it ended   7 not permitted   8 bad probe, or it was quarantined";

/// The verbs of this version.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ps(cmd::ps::Ps),
    Points(cmd::points::Points),
    Count(cmd::count::Count),
    Time(cmd::time::Time),
    Load(cmd::load::Load),
    Off(cmd::off::Off),
    Check(cmd::check::Check),
    New(cmd::new::New),
    Build(cmd::build::Build),
    Pack(cmd::pack::Pack),
    Test(cmd::test::Test),
    Probes(cmd::probes::Probes),
    Demo(cmd::demo::Demo),
    Doctor(cmd::doctor::Doctor),
    Completions(cmd::completions::Completions),
    /// A verb of another version, or of none.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl Command {
    /// Runs it and gives the exit status.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        match self {
            Self::Ps(command) => command.run(out),
            Self::Points(command) => command.run(out),
            Self::Count(command) => command.run(out),
            Self::Time(command) => command.run(out),
            Self::Load(command) => command.run(out),
            Self::Off(command) => command.run(out),
            Self::Check(command) => command.run(out),
            Self::New(command) => command.run(out),
            Self::Build(command) => command.run(out),
            Self::Pack(command) => command.run(out),
            Self::Test(command) => command.run(out),
            Self::Probes(command) => command.run(out),
            Self::Demo(command) => command.run(out),
            Self::Doctor(command) => command.run(out),
            Self::Completions(command) => command.run(out),
            Self::Other(words) => other(&words),
        }
    }
}

fn other(words: &[OsString]) -> Outcome {
    let word = words.first().map(|w| w.to_string_lossy()).unwrap_or_default();
    if let Some(failure) = later::verb(&word) {
        return Err(failure.into());
    }
    let cli = Cli::command();
    let verbs = cli.get_subcommands().map(clap::Command::get_name);
    let near = trocar_package::nearest(&word, verbs)
        .map_or_else(String::new, |verb| format!("; did you mean `{verb}`?"));
    let word = word.escape_debug();
    // As clap tells it, with the usage below; it cannot be told by clap itself, which took the word for a verb.
    let error =
        Cli::command().error(ErrorKind::InvalidSubcommand, format!("there is no verb `{word}`{near}"));
    let _ = error.print();
    Ok(2)
}
