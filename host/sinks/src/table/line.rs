//! A line of text for people: pieces with a tone each, cut to a width, coloured or not.
//!
//! All text enters a line through `push`, which escapes it: INVARIANT (harmless text) is kept here, once.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::escape;

/// What a piece of text says by its colour; without colour nothing is lost, only less quick to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// A heading or a name.
    Strong,
    /// Less important.
    Faint,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Something failed.
    Bad,
    /// A bar.
    Bar,
}

impl Tone {
    /// The terminal's code for it (ECMA-48, SGR).
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Bar => "\x1b[36m",
        }
    }
}

/// One line. Its text is harmless whatever was pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// The line with a piece more, escaped.
    #[must_use]
    pub fn with(mut self, tone: Tone, text: &str) -> Self {
        self.push(tone, text);
        self
    }

    /// Adds a piece, escaped.
    pub fn push(&mut self, tone: Tone, text: &str) {
        self.pieces.push((tone, escape(text).into_owned()));
    }

    /// Adds text of the target in quotes; quotes inside are escaped, so that it cannot pretend to be two values.
    pub fn push_quoted(&mut self, tone: Tone, text: &str) {
        let inside = escape(text).replace('"', "\\\"");
        self.pieces.push((tone, format!("\"{inside}\"")));
    }

    /// Adds all pieces of another line.
    pub fn append(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
    }

    /// Columns on a terminal.
    #[must_use]
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// Adds blanks up to this column.
    pub(crate) fn pad_to(&mut self, column: usize) {
        let missing = column.saturating_sub(self.width());
        if missing > 0 {
            self.pieces.push((Tone::Plain, " ".repeat(missing)));
        }
    }

    /// Cuts the line to `width` columns; the last one shows `…` if something was cut.
    pub(crate) fn cut(&mut self, width: usize) {
        if self.width() <= width {
            return;
        }
        let mut left = width.saturating_sub(1);
        let mut kept = Vec::new();
        'pieces: for (tone, text) in &self.pieces {
            let mut part = String::new();
            for c in text.chars() {
                let columns = c.width().unwrap_or(0);
                if columns > left {
                    kept.push((*tone, part));
                    break 'pieces;
                }
                left -= columns;
                part.push(c);
            }
            kept.push((*tone, part));
        }
        if width > 0 {
            kept.push((Tone::Faint, "…".to_owned()));
        }
        self.pieces = kept;
    }

    /// The text, with a newline, without blanks at its end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        let end = self.pieces.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (i, (tone, text)) in self.pieces.iter().enumerate().take(end.map_or(0, |end| end + 1)) {
            let text = if Some(i) == end { text.trim_end() } else { text };
            let code = if colour { tone.code() } else { "" };
            out.push_str(code);
            out.push_str(text);
            out.push_str(if code.is_empty() { "" } else { "\x1b[0m" });
        }
        out.push('\n');
        out
    }
}
