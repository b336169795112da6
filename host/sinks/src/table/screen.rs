//! Two streams that may be one terminal: lines that stay, and a block below them that is drawn again and again.
//!
//! ```text
//!   12:00:00.000 4242 large_command argc=5      lines that stay; they scroll away
//!   12:00:00.120 4243 large_command argc=9
//!   SITE            STATE  HITS  …              the block: `drawn` lines, the cursor stands below it
//!   redis:command   armed  1234  …
//! ```
//! The block is erased before anything else is written and cut to the terminal's size, because a line that
//! wraps or scrolls away cannot be erased. (CSI sequences: ECMA-48, CPL "previous line" and ED "erase".)

use std::io::{self, Write};

use super::Style;
use super::line::{Line, Tone};

#[derive(Debug)]
pub(super) struct Screen<O, E> {
    pub(super) out: O,
    pub(super) err: E,
    pub(super) style: Style,
    /// Lines of the block on the terminal.
    drawn: usize,
}

impl<O: Write, E: Write> Screen<O, E> {
    pub(super) const fn new(out: O, err: E, style: Style) -> Self {
        Self { out, err, style, drawn: 0 }
    }

    /// Writes lines that stay.
    pub(super) fn print(&mut self, lines: &[Line]) -> io::Result<()> {
        let text = self.erase() + &self.render(lines);
        self.out.write_all(text.as_bytes())
    }

    /// Draws the block in place of the one before. Only on a live terminal.
    pub(super) fn draw(&mut self, mut lines: Vec<Line>) -> io::Result<()> {
        let most = self.style.height.saturating_sub(1).max(1);
        if lines.len() > most {
            let hidden = lines.len() - most + 1;
            lines.truncate(most - 1);
            lines.push(Line::new().with(Tone::Faint, &format!("… {hidden} more lines")));
        }
        for line in &mut lines {
            line.cut(self.style.width);
        }
        let text = self.erase() + &self.render(&lines);
        self.drawn = lines.len();
        self.out.write_all(text.as_bytes())
    }

    /// Writes lines to the other stream.
    pub(super) fn note(&mut self, lines: &[Line]) -> io::Result<()> {
        let erase = self.erase();
        self.out.write_all(erase.as_bytes())?;
        self.out.flush()?;
        let text = self.render(lines);
        self.err.write_all(text.as_bytes())?;
        self.err.flush()
    }

    fn render(&self, lines: &[Line]) -> String {
        lines.iter().map(|line| line.render(self.style.colour)).collect()
    }

    /// What erases the block.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            n => format!("\x1b[{n}F\x1b[J"),
        }
    }
}
