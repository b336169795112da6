//! A table with aligned columns.
//!
//! Two blanks between columns, no rules: what people read, they can also cut with awk.

use super::line::{Line, Tone};

/// Side on which a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under headings.
#[derive(Clone, Debug)]
pub struct Grid {
    columns: Vec<(Line, Align)>,
    rows: Vec<Vec<Line>>,
}

impl Grid {
    /// An empty table with these columns. Headings are escaped like everything else.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| (Line::new().with(Tone::Faint, name), *align));
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the columns stand after them, unaligned; missing ones are empty.
    pub fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The heading and the rows as lines.
    #[must_use]
    pub fn lines(self) -> Vec<Line> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let aligns: Vec<Align> = self.columns.iter().map(|(_, align)| *align).collect();
        let heading = self.columns.into_iter().map(|(name, _)| name).collect();
        std::iter::once(heading).chain(self.rows).map(|cells| aligned(cells, &widths, &aligns)).collect()
    }
}

/// One row with its cells in their columns.
fn aligned(cells: Vec<Line>, widths: &[usize], aligns: &[Align]) -> Line {
    let mut line = Line::new();
    let mut start = 0;
    for (i, cell) in cells.into_iter().enumerate() {
        line.pad_to(start);
        let width = widths.get(i).copied().unwrap_or(0);
        if aligns.get(i) == Some(&Align::Right) {
            line.pad_to(start + width.saturating_sub(cell.width()));
        }
        line.append(cell);
        start += width + 2;
    }
    line
}
