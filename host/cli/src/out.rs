//! Where a command's output goes: tables for people or JSON lines for programs, chosen once.
//!
//! Data goes to standard output, everything that is for people only to standard error. A failure is told to people in
//! either case; with JSON it is an `error` object besides, unless the words of the command are wrong: then there is
//! no data at all.

use std::io::{BufWriter, IsTerminal, Stderr, Stdout, Write, stderr, stdout};

use serde::Serialize;
use trocar_session::reply::Reply;
use trocar_sinks::{Grid, JsonSink, Line, Sink, Style, TableSink, Tone};
use trocar_target::{Failure, FailureKind};

use crate::trouble::Broken;

/// How output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables for people; the default on a terminal.
    Table,
    /// One JSON object per line; the default elsewhere.
    Json,
}

/// The output of one command.
#[derive(Debug)]
pub(crate) struct Out {
    sink: Kind,
    style: Style,
}

#[derive(Debug)]
enum Kind {
    Table(TableSink<BufWriter<Stdout>, Stderr>),
    Json(JsonSink<BufWriter<Stdout>, Stderr>),
}

impl Out {
    /// The output in this format, or in the one that suits standard output.
    pub(crate) fn new(format: Option<Format>) -> Self {
        let terminal = stdout().is_terminal();
        let format = format.unwrap_or(if terminal { Format::Table } else { Format::Json });
        let style = style(terminal);
        let data = BufWriter::new(stdout());
        let sink = match format {
            Format::Table => Kind::Table(TableSink::new(data, stderr(), style)),
            Format::Json => Kind::Json(JsonSink::new(data, stderr(), style.progress)),
        };
        Self { sink, style }
    }

    /// Whether objects are wanted and not tables.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.sink, Kind::Json(_))
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match &mut self.sink {
            Kind::Table(sink) => sink,
            Kind::Json(sink) => sink,
        }
    }

    /// Writes what a session says.
    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), Broken> {
        self.sink().write(reply).map_err(Broken)
    }

    /// Writes an object of this kind; for tables nothing.
    pub(crate) fn row(&mut self, kind: &str, row: &impl Serialize) -> Result<(), Broken> {
        match &mut self.sink {
            Kind::Json(sink) => sink.row(kind, row).map_err(Broken),
            Kind::Table(_) => Ok(()),
        }
    }

    /// Writes a table; for JSON nothing.
    pub(crate) fn grid(&mut self, grid: Grid) -> Result<(), Broken> {
        match &mut self.sink {
            Kind::Table(sink) => sink.grid(grid).map_err(Broken),
            Kind::Json(_) => Ok(()),
        }
    }

    /// Writes a line; for JSON nothing.
    pub(crate) fn line(&mut self, line: &Line) -> Result<(), Broken> {
        if self.is_json() {
            return Ok(());
        }
        self.flush()?;
        stdout().write_all(line.render(self.style.colour).as_bytes()).map_err(Broken)
    }

    /// Writes a plain line; for JSON nothing.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Broken> {
        self.line(&Line::new().with(Tone::Plain, text))
    }

    /// Says on standard error how far long work has come, if a person is there.
    pub(crate) fn progress(&mut self, text: &str) {
        self.sink().progress(text);
    }

    /// Says on standard error something that a person should know and a program need not.
    pub(crate) fn note(&mut self, text: &str) {
        let line = Line::new().with(Tone::Faint, text);
        // A note that cannot be shown is no reason to stop.
        let _ = stderr().write_all(line.render(self.style.progress && self.style.colour).as_bytes());
    }

    /// Says why the command failed, and the next step.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        let told = match &mut self.sink {
            Kind::Table(sink) => sink.fail(failure),
            Kind::Json(sink) => {
                let mut people = TableSink::new(std::io::sink(), stderr(), Style::plain());
                let told = people.fail(failure);
                if failure.kind == FailureKind::Usage { told } else { sink.fail(failure).and(told) }
            }
        };
        // The exit status says that it failed, even if nobody can be told why.
        let _ = told.and_then(|()| self.sink().flush());
    }

    /// Everything written so far becomes visible.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        self.sink().flush().map_err(Broken)
    }
}

fn style(terminal: bool) -> Style {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let smart = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    let size = rustix::termios::tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Style {
        colour: terminal && smart && !set("NO_COLOR"),
        live: terminal && smart,
        width: size.map_or(80, |size| usize::from(size.ws_col)),
        height: size.map_or(24, |size| usize::from(size.ws_row)),
        progress: stderr().is_terminal(),
    }
}
