//! `guests [FILE]`: writes the table of what each guest language costs to a file, or to stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    let note = |what: &str| eprintln!("guests: {what}");
    let done = trocar_perf::guests::table(&note).and_then(|text| match std::env::args_os().nth(1) {
        Some(path) => std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("guests: {trouble}");
            ExitCode::FAILURE
        }
    }
}
