//! Tables and lines for people.
//!
//! On a live terminal counters and maps stand in a block at the bottom that is drawn again after each batch; elsewhere
//! each complete round of counters is a table of its own. Nothing is coloured unless told.

mod board;
mod grid;
mod line;
mod lines;
mod maps;
mod number;
mod screen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

use trocar_session::reply::{MapRows, Reply};
use trocar_target::Failure;

use crate::Sink;
use crate::clock::{self, Clock};

use board::Board;
pub use grid::{Align, Grid};
pub use line::{Line, Tone};
pub use lines::evidence as evidence_lines;
use screen::Screen;

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour the output.
    pub colour: bool,
    /// Standard output is a terminal: draw the counters in place.
    pub live: bool,
    /// Columns of that terminal.
    pub width: usize,
    /// Lines of that terminal.
    pub height: usize,
    /// Standard error is a terminal: show progress on it.
    pub progress: bool,
}

impl Style {
    /// For a file or a pipe: no colour, no redrawing, no progress.
    #[must_use]
    pub const fn plain() -> Self {
        Self { colour: false, live: false, width: usize::MAX, height: usize::MAX, progress: false }
    }
}

/// Writes tables and lines to `out`, failures and progress to `err`.
#[derive(Debug)]
pub struct TableSink<O, E> {
    screen: Screen<O, E>,
    board: Board,
    /// The last state of each map, shown in the block of a live terminal.
    maps: BTreeMap<(String, String), MapRows>,
    /// The block is not on the terminal as it should be.
    stale: bool,
    clock: Clock,
}

impl<O: Write, E: Write> TableSink<O, E> {
    /// A sink that writes data to `out` and what is for people only to `err`. Give it a buffered `out`.
    pub const fn new(out: O, err: E, style: Style) -> Self {
        let screen = Screen::new(out, err, style);
        Self { screen, board: Board::new(), maps: BTreeMap::new(), stale: false, clock: SystemTime::now }
    }

    /// Writes a table: for verbs that print one row per object.
    ///
    /// # Errors
    /// `out` does not take it.
    pub fn grid(&mut self, grid: Grid) -> io::Result<()> {
        self.stale = true;
        self.screen.print(&grid.lines())
    }

    /// Writes lines that stay; a live block is drawn again at the next flush.
    fn print(&mut self, lines: &[Line]) -> io::Result<()> {
        self.stale = true;
        self.screen.print(lines)
    }

    /// The counters, then the maps; of one session or of all.
    fn block(&mut self, only: Option<&str>) -> Vec<Line> {
        let mut lines = self.board.show(only, (self.clock)());
        for ((session, _), map) in &self.maps {
            if only.is_none_or(|only| only == session) {
                lines.extend(maps::lines(map));
            }
        }
        lines
    }

    /// Writes counters and maps for good, of one session or of all: it is over, and what comes next stands
    /// below them.
    fn settle(&mut self, only: Option<&str>) -> io::Result<()> {
        let show = self.screen.style.live || self.board.has_news(only);
        let lines = if show { self.block(only) } else { Vec::new() };
        self.maps.retain(|(session, _), _| only.is_some_and(|only| only != session));
        self.board.forget(only);
        self.print(&lines)
    }

    /// Shows the counters, in place or as a new table.
    fn show(&mut self) -> io::Result<()> {
        let lines = self.block(None);
        self.stale = false;
        if self.screen.style.live { self.screen.draw(lines) } else { self.screen.print(&lines) }
    }

    /// Name of the site, where there are several.
    fn site(&self, session: &str, site: u32) -> Option<String> {
        let (name, several) = self.board.site(session, site);
        several.then_some(name)
    }
}

impl<O: Write, E: Write> Sink for TableSink<O, E> {
    fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let now = (self.clock)();
        match reply {
            Reply::Attached(body) => {
                self.board.attach(body, now);
                self.print(&lines::attached(body))
            }
            Reply::Event(body) => {
                let site = self.site(&body.session, body.site);
                self.print(&[lines::event(body, &clock::time_of_day(now), site.as_deref())])
            }
            Reply::Log(body) => {
                let site = self.site(&body.session, body.site);
                self.print(&[lines::log(body, &clock::time_of_day(now), site.as_deref())])
            }
            Reply::Map(body) if self.screen.style.live => {
                self.maps.insert((body.session.clone(), body.name.clone()), body.clone());
                self.stale = true;
                Ok(())
            }
            Reply::Map(body) => self.print(&maps::lines(body)),
            Reply::Stats(body) => {
                self.stale = true;
                if self.board.update(body, now) { self.show() } else { Ok(()) }
            }
            Reply::State(body) => {
                self.board.change(body);
                self.print(&lines::state(body))
            }
            Reply::Armed(body) => {
                self.board.arm(body);
                self.print(&lines::armed(body))
            }
            Reply::Retired(body) => self.print(&[lines::retired(body)]),
            Reply::Receipt(body) => {
                self.settle(Some(&body.session))?;
                self.print(&lines::receipt(body))
            }
            Reply::Exited(body) => {
                self.settle(Some(&body.session))?;
                self.print(&[lines::exited(body)])
            }
        }
    }

    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        self.settle(None)?;
        self.screen.note(&lines::failure(failure))
    }

    fn progress(&mut self, text: &str) {
        if self.screen.style.progress {
            self.stale = true;
            // Progress that cannot be shown is no reason to stop.
            let _ = self.screen.note(&[Line::new().with(Tone::Faint, text)]);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.board.has_news(None) || (self.screen.style.live && self.stale) {
            self.show()?;
        }
        self.screen.out.flush()
    }
}
