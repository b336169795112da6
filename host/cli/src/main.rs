//! The `trocar` command. All of it is in the library beside, so that tests can call its parts.

use std::process::ExitCode;

fn main() -> ExitCode {
    trocar_cli::main()
}
