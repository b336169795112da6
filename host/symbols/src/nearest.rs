//! Names that the user may have meant: by edit distance (Levenshtein), without regard to case.
//!
//! Only for error messages, and bounded: names much longer or shorter are not compared.

/// Most names that are suggested.
const SUGGESTIONS: usize = 5;
/// Names longer than this are not compared.
const LONGEST: usize = 200;

/// Collects the names nearest to one.
#[derive(Debug)]
pub(crate) struct Nearest {
    wanted: Vec<char>,
    limit: usize,
    found: Vec<(usize, String)>,
}

impl Nearest {
    pub fn to(wanted: &str) -> Self {
        let wanted: Vec<char> = wanted.to_lowercase().chars().take(LONGEST).collect();
        // One error in three letters is still a slip; two letters are too few to be wrong in both.
        let limit = (wanted.len() / 3).clamp(1, 6);
        Self { wanted, limit, found: Vec::new() }
    }

    /// Whether a name of that many bytes can be near at all.
    pub fn may_be(&self, bytes: usize) -> bool {
        bytes <= LONGEST && bytes.abs_diff(self.wanted.len()) <= self.limit + self.wanted.len()
    }

    pub fn offer(&mut self, name: &str) {
        if !self.may_be(name.len()) {
            return;
        }
        let letters: Vec<char> = name.to_lowercase().chars().collect();
        let contained =
            self.wanted.len() >= 4 && letters.windows(self.wanted.len()).any(|w| w == self.wanted);
        let distance =
            if contained { Some(self.limit) } else { distance(&self.wanted, &letters, self.limit) };
        let Some(distance) = distance else { return };
        let entry = (distance, name.to_owned());
        let at = self.found.partition_point(|known| known < &entry);
        if at < SUGGESTIONS && self.found.get(at) != Some(&entry) {
            self.found.insert(at, entry);
            self.found.truncate(SUGGESTIONS);
        }
    }

    pub fn names(self) -> Vec<String> {
        self.found.into_iter().map(|(_, name)| name).collect()
    }
}

/// Edit distance up to `limit`; `None` if greater. Two neighbours that changed places are one slip.
fn distance(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    let swapped = |i: usize| {
        let (x, y) = (a.get(i..i + 2)?, b.get(i..i + 2)?);
        let same = a.get(..i) == b.get(..i) && a.get(i + 2..) == b.get(i + 2..);
        (same && x.first() == y.last() && x.last() == y.first()).then_some(1)
    };
    let first_difference = a.iter().zip(b).position(|(x, y)| x != y);
    first_difference.and_then(swapped).or_else(|| levenshtein(a, b, limit))
}

fn levenshtein(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        let mut least = left;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let value = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = value;
            left = value;
            least = least.min(value);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|d| *d <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(a: &str, b: &str) -> Option<usize> {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        distance(&chars(a), &chars(b), 3)
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(d("kitten", "sitting"), Some(3));
        assert_eq!(d("abc", "abc"), Some(0));
        assert_eq!(d("abc", ""), Some(3));
        assert_eq!(d("", "abc"), Some(3));
        assert_eq!(d("abcd", "dcba"), None);
    }

    #[test]
    fn the_nearest_come_first_and_five_at_most() {
        let mut nearest = Nearest::to("processcomand");
        for name in ["main", "processCommand", "processCommandX", "call", "rejectCommand", "xprocesscomandx"]
        {
            nearest.offer(name);
        }
        assert_eq!(nearest.names(), ["processCommand", "processCommandX", "xprocesscomandx"]);
        let mut nearest = Nearest::to("aaaaaa");
        (0..9).for_each(|n| nearest.offer(&format!("aaaaa{n}")));
        assert_eq!(nearest.names().len(), 5);
    }
}
