//! The nearest of some known names to a mistyped one, for error messages.

/// Longest name that is compared; the distance is quadratic in it.
const NAME_MAX: usize = 64;

/// The candidate with the least edit distance to `name`, if the distance is at most a third of the name's
/// length and at least one edit is allowed. The first of several equals wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_MAX {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|c| c.len() <= NAME_MAX)
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.chars().enumerate() {
        // `diagonal` is the cell up and left of the current one, `left` the cell just computed.
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(b.chars()) {
            let up = *cell;
            left = (diagonal + usize::from(ca != cb)).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("read_str", "read_str"), 0);
        assert_eq!(distance("read_srt", "read_str"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let names = ["arg", "counter_add", "read", "read_str"];
        assert_eq!(nearest("read_string", names), Some("read_str"));
        assert_eq!(nearest("conter_add", names), Some("counter_add"));
        assert_eq!(nearest("frobnicate", names), None);
    }
}
