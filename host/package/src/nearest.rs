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
        .map(|c| (strsim::damerau_levenshtein(name, c), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let names = ["arg", "counter_add", "read", "read_str"];
        assert_eq!(nearest("read_string", names), Some("read_str"));
        assert_eq!(nearest("conter_add", names), Some("counter_add"));
        assert_eq!(nearest("frobnicate", names), None);
        assert_eq!(
            nearest("cuont", ["load", "count"]),
            Some("count"),
            "two letters that changed places are one slip"
        );
    }
}
