//! Where output goes: tables for people, JSON lines for programs.
//!
//! A sink takes replies one after another and writes each to standard output; hints and progress go to
//! standard error. Relies on `trocar-session` for what a reply is. It does not know sessions, targets or
//! the terminal: whether there is one, its size and its colours are told by the caller.
//!
//! INVARIANT (harmless text). Names, keys, messages and events come from the target. No control character,
//! escape sequence or invisible direction mark of theirs reaches an output: tables show them escaped,
//! JSON holds them as `\u` escapes.
#![forbid(unsafe_code)]

use std::io;

use trocar_session::reply::Reply;
use trocar_target::Failure;

mod clock;
mod escape;
mod json;
#[cfg(test)]
mod replies;
mod table;

pub use escape::escape;
pub use json::JsonSink;
pub use table::{Align, Grid, Line, Style, TableSink, Tone, evidence_lines};

/// A place where output goes.
pub trait Sink {
    /// Writes a reply.
    ///
    /// # Errors
    /// Standard output does not take it; `BrokenPipe` when the reader has gone, which ends a command quietly.
    fn write(&mut self, reply: &Reply) -> io::Result<()>;

    /// Writes why the command failed, and the next step.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    fn fail(&mut self, failure: &Failure) -> io::Result<()>;

    /// Shows how far long work has come, if progress is wanted. Failing to is not worth an error.
    fn progress(&mut self, text: &str);

    /// Everything written so far becomes visible: call it after each batch of replies.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    fn flush(&mut self) -> io::Result<()>;
}
