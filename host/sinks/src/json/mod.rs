//! JSON lines: one object per line, `kind` and `ts` first, as the command line's contract has it.
//!
//! Lines are written whole; progress goes to the other stream. It does not decide what is said.

mod formatter;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use trocar_session::reply::Reply;
use trocar_target::Failure;

use crate::clock::{self, Clock};
use crate::{Sink, escape};

use formatter::Harmless;

/// Writes JSON lines to `out`.
#[derive(Debug)]
pub struct JsonSink<O, E> {
    out: O,
    err: E,
    progress: bool,
    clock: Clock,
}

impl<O: Write, E: Write> JsonSink<O, E> {
    /// A sink that writes data to `out` and, if `progress`, progress to `err`. Give it a buffered `out`.
    pub const fn new(out: O, err: E, progress: bool) -> Self {
        Self { out, err, progress, clock: SystemTime::now }
    }

    /// Writes any object as a line of this kind: for verbs that print one object per row.
    ///
    /// # Errors
    /// `out` does not take it, or `row` is no object.
    pub fn row(&mut self, kind: &str, row: &impl Serialize) -> io::Result<()> {
        let line = Object { kind, ts: clock::rfc3339((self.clock)()), rest: row };
        let mut bytes = Vec::with_capacity(256);
        line.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Harmless))?;
        bytes.push(b'\n');
        self.out.write_all(&bytes)
    }
}

/// An object with its kind and time in front.
#[derive(Serialize)]
struct Object<'a, T> {
    kind: &'a str,
    ts: String,
    #[serde(flatten)]
    rest: &'a T,
}

/// A failure as an object.
#[derive(Serialize)]
struct Error<'a> {
    code: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<O: Write, E: Write> Sink for JsonSink<O, E> {
    fn write(&mut self, reply: &Reply) -> io::Result<()> {
        match reply {
            Reply::Attached(body) => self.row("attached", body),
            Reply::Event(body) => self.row("event", body),
            Reply::Log(body) => self.row("log", body),
            Reply::Map(body) => self.row("map", body),
            Reply::Stats(body) => self.row("stats", body),
            Reply::State(body) => self.row("state", body),
            Reply::Armed(body) => self.row("armed", body),
            Reply::Retired(body) => self.row("retired", body),
            Reply::Receipt(body) => self.row("receipt", body),
            Reply::Exited(body) => self.row("exited", body),
        }
    }

    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        let hint = failure.hint.as_deref();
        self.row("error", &Error { code: failure.kind.code(), message: &failure.message, hint })?;
        self.out.flush()
    }

    fn progress(&mut self, text: &str) {
        if self.progress {
            // Progress that cannot be shown is no reason to stop.
            let _ = writeln!(self.err, "{}", escape(text));
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
