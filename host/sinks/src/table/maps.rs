//! Maps for people: counters and hash tables by value with a bar, log2 histograms as drawn ranges.

use trocar_abi::map::{hist_bucket, hist_range};
use trocar_session::reply::{MapRows, Row, Value};

use super::grid::{Align, Grid};
use super::line::{Line, Tone};
use super::number::{bar, count};

/// Most rows of a table that are shown; JSON has them all.
const ROWS: usize = 40;
/// Columns of the longest bar.
const BAR: u32 = 30;
/// Widest key column; a longer key is cut.
const KEY_WIDTH: usize = 60;

/// A map as lines, its heading first.
pub(super) fn lines(map: &MapRows) -> Vec<Line> {
    let mut out = Vec::new();
    let keyed: Vec<_> = map.rows.iter().filter_map(keyed).collect();
    if !keyed.is_empty() || map.map_type != "hist" {
        out.extend(table(map, keyed));
    }
    let mut entries: Vec<Option<u32>> = map.rows.iter().filter_map(|row| bucket(row).map(|b| b.0)).collect();
    entries.sort_unstable();
    entries.dedup();
    for entry in &entries {
        out.extend(histogram(map, *entry));
    }
    if out.is_empty() {
        out.push(heading(map, "", "no values"));
    }
    if map.dropped > 0 {
        let text = format!("{} updates found no slot: the table is full, raise its entries", map.dropped);
        out.push(Line::new().with(Tone::Warning, &text));
    }
    out
}

type Key = Vec<(String, Value)>;

fn keyed(row: &Row) -> Option<(&Key, i64)> {
    match row {
        Row::Keyed { key, value } => Some((key, *value)),
        Row::Bucket { .. } => None,
    }
}

fn bucket(row: &Row) -> Option<(Option<u32>, u64, u64, u64)> {
    match row {
        Row::Bucket { entry, lo, hi, count, .. } => Some((*entry, *lo, *hi, *count)),
        Row::Keyed { .. } => None,
    }
}

/// `name (kind, what)`, with the entry behind the name.
fn heading(map: &MapRows, entry: &str, what: &str) -> Line {
    let rest = format!("{entry} ({}, {what})", map.map_type);
    Line::new().with(Tone::Strong, &map.name).with(Tone::Faint, &rest)
}

/// Rows by value, greatest first.
fn table(map: &MapRows, mut rows: Vec<(&Key, i64)>) -> Vec<Line> {
    // Stable: equal values stay in the order of their keys.
    rows.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    let sum = |rows: &[(&Key, i64)]| rows.iter().map(|(_, value)| i128::from(*value)).sum::<i128>();
    let mut out = vec![heading(map, "", &format!("{}, sum {}", count(rows.len(), "row"), sum(&rows)))];
    let Some((first, most)) = rows.first().copied() else { return out };
    let names: Vec<String> = first.iter().map(|(name, _)| name.to_uppercase()).collect();
    let mut columns: Vec<(&str, Align)> = names.iter().map(|name| (name.as_str(), Align::Left)).collect();
    columns.push(("VALUE", Align::Right));
    let mut grid = Grid::new(&columns);
    let (shown, rest) = rows.split_at(rows.len().min(ROWS));
    for (key, value) in shown {
        let mut cells: Vec<Line> = key.iter().map(|(_, part)| cut(plain(part))).collect();
        cells.resize(names.len(), Line::new());
        cells.push(Line::new().with(Tone::Plain, &value.to_string()));
        let length = |n: i64| u64::try_from(n).unwrap_or(0);
        cells.push(Line::new().with(Tone::Bar, &bar(length(*value), length(most), BAR)));
        grid.row(cells);
    }
    out.extend(grid.lines());
    if !rest.is_empty() {
        let text = format!("{} more, sum {} (all of them with -o json)", count(rest.len(), "row"), sum(rest));
        out.push(Line::new().with(Tone::Faint, &text));
    }
    out
}

/// One histogram, from its lowest bucket to its highest, the empty ones between included.
fn histogram(map: &MapRows, entry: Option<u32>) -> Vec<Line> {
    let mut buckets: Vec<(u64, u64, u64)> = map
        .rows
        .iter()
        .filter_map(bucket)
        .filter(|b| b.0 == entry)
        .map(|(_, lo, hi, n)| (lo, hi, n))
        .collect();
    buckets.sort_unstable();
    let fine = buckets.clone();
    // Shown by powers of two, however fine they are counted.
    let within = |lo: u64, hi: u64| hist_bucket(lo, 0) == hist_bucket(hi, 0);
    let log2 = buckets.iter().all(|(lo, hi, _)| within(*lo, *hi));
    if let (true, Some((low, _, _)), Some((high, _, _))) = (log2, buckets.first(), buckets.last()) {
        buckets = (hist_bucket(*low, 0)..=hist_bucket(*high, 0))
            .map(|index| {
                let (lo, hi) = hist_range(index, 0);
                let inside = buckets.iter().filter(|b| (lo..=hi).contains(&b.0));
                (lo, hi, inside.fold(0u64, |sum, b| sum.saturating_add(b.2)))
            })
            .collect();
    }
    let total = buckets.iter().map(|b| u128::from(b.2)).sum::<u128>();
    let most = buckets.iter().map(|b| b.2).max().unwrap_or(0);
    let name = map.rows.iter().find_map(|row| match row {
        Row::Bucket { entry: of, name, .. } if *of == entry => name.clone(),
        _ => None,
    });
    let entry = match (name, entry) {
        (Some(name), _) => format!("[{name}]"),
        (None, Some(entry)) => format!("[{entry}]"),
        (None, None) => String::new(),
    };
    let mut out = vec![heading(map, &entry, &format!("{total} value{}", if total == 1 { "" } else { "s" }))];
    let mut grid = Grid::new(&[("FROM", Align::Right), ("TO", Align::Right), ("COUNT", Align::Right)]);
    for (lo, hi, n) in &buckets {
        let mut cells: Vec<Line> = [lo, hi, n].map(|n| Line::new().with(Tone::Plain, &n.to_string())).into();
        cells.push(Line::new().with(Tone::Bar, &bar(*n, most, BAR)));
        grid.row(cells);
    }
    out.extend(grid.lines());
    let at_most = |share: u128| {
        let wanted = (total * share).div_ceil(1000);
        let mut seen = 0u128;
        fine.iter().find_map(|(_, hi, n)| {
            seen += u128::from(*n);
            (seen >= wanted).then_some(*hi)
        })
    };
    if let (Some(half), Some(p90), Some(p99), Some(p999), Some(all)) =
        (at_most(500), at_most(900), at_most(990), at_most(999), at_most(1000))
    {
        let text = format!(
            "half are at most {half}, 90 % at most {p90}, 99 % at most {p99}, 99.9 % at most {p999}, all at most {all}"
        );
        out.push(Line::new().with(Tone::Faint, &text));
    }
    out
}

/// A value as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Text(text) => text.clone(),
    }
}

/// A key's cell, cut to its width; an empty text is shown as such.
fn cut(text: String) -> Line {
    let mut line = match text.is_empty() {
        true => Line::new().with(Tone::Faint, "(empty)"),
        false => Line::new().with(Tone::Plain, &text),
    };
    line.cut(KEY_WIDTH);
    line
}
