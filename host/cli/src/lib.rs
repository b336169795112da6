//! The command line: words in, a command of `cmd` run, an exit status out.
//!
//! A command is a file of `cmd`; the doc of its arguments is its manual page. This crate decides how people and
//! scripts are spoken to (tables, JSON lines, exit statuses, messages); what happens to a target is decided in
//! `trocar-session`. It owns no unsafe code and starts no thread.
#![forbid(unsafe_code)]

mod bundled;
mod cli;
mod cmd;
mod guest;
mod interrupt;
mod later;
mod live;
mod out;
mod probe;
pub mod quantity;
mod replay;
mod start;
mod target;
mod templates;
mod trouble;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::out::Out;
use crate::trouble::Trouble;

/// Runs the command that the words of this process name.
///
/// A panic anywhere is a bug of ours: it says how to report it and ends with status 1. Sessions are dropped on the
/// way, and a target whose host is gone closes its own gates.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(status) = trocar_compile::become_compiler() {
        return ExitCode::from(status);
    }
    panic::set_hook(Box::new(report));
    let status = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(1);
    ExitCode::from(status)
}

fn run() -> u8 {
    if let Some(status) = start::become_command() {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure. Nothing can be done about a stream that does not take the text.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { 0 } else { 2 };
        }
    };
    let mut out = Out::new(cli.output);
    let result =
        cli.command.run(&mut out).and_then(|status| out.flush().map(|()| status).map_err(Trouble::from));
    match result {
        Ok(status) => status,
        Err(trouble) => trouble.tell(&mut out),
    }
}

/// What a panic says.
fn report(info: &panic::PanicHookInfo<'_>) {
    let words: Vec<String> =
        std::env::args_os().map(|w| w.to_string_lossy().escape_debug().to_string()).collect();
    let backtrace = std::backtrace::Backtrace::capture();
    eprintln!("error: a bug in trocar {}: {info}", env!("CARGO_PKG_VERSION"));
    eprintln!("  command: {}", words.join(" "));
    eprintln!("  kernel: {}", trocar_target::kernel_release());
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
    eprintln!(
        "  The target runs on: its probes are off. Please report this with the lines above, and with what"
    );
    eprintln!("  RUST_BACKTRACE=1 adds to them, to whoever gave you this trocar.");
}
