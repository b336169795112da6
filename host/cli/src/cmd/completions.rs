//! `trocar completions`: a script for the user's shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::out::Out;
use crate::trouble::{Broken, Outcome};

const EXAMPLES: &str = "\
Examples:
  trocar completions bash > ~/.local/share/bash-completion/completions/trocar
  trocar completions zsh > ~/.zfunc/_trocar
  trocar completions fish > ~/.config/fish/completions/trocar.fish";

/// Prints a script with which a shell completes the words of trocar.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Runs it.
    pub(crate) fn run(self, _: &mut Out) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "trocar", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(Broken)?;
        Ok(0)
    }
}
