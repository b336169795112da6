//! Numbers as people read them: durations, rates, sizes, and bars of blocks.

/// Blocks that fill one to eight eighths of a column.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// A duration with three digits that count: `850 ns`, `12.3 µs`, `310 ms`, `1.25 s`, `2m 5s`, `1h 0m`.
pub(super) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", three(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three(ns as f64 / 1e6)),
        1_000_000_000..60_000_000_000 => format!("{} s", three(ns as f64 / 1e9)),
        _ => clock(ns / 1_000_000_000),
    }
}

/// A time of seconds and more: `45s`, `59m 58s`, `1h 0m`.
pub(super) fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A number with three digits that count, or all digits before the point.
pub(super) fn three(n: f64) -> String {
    // Compared with what rounding makes of it, so that 9.996 is 10.0 and not 10.00.
    if n.abs() < 9.995 {
        format!("{n:.2}")
    } else if n.abs() < 99.95 {
        format!("{n:.1}")
    } else {
        format!("{n:.0}")
    }
}

/// A size in bytes: `64 KiB`, `1.06 MiB`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 if n.is_multiple_of(1_024) => format!("{} KiB", n / 1_024),
        1_024..1_048_576 => format!("{} KiB", three(n as f64 / 1_024.0)),
        _ if n.is_multiple_of(1_048_576) => format!("{} MiB", n / 1_048_576),
        _ => format!("{} MiB", three(n as f64 / 1_048_576.0)),
    }
}

/// `1 site`, `2 sites`.
pub(super) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A bar of at most `columns` columns for `n` of `most`. More than nothing is at least an eighth of a
/// column.
pub(super) fn bar(n: u64, most: u64, columns: u32) -> String {
    let most = most.max(1);
    let eighths = u128::from(n.min(most)) * u128::from(columns) * 8 / u128::from(most);
    // At most columns * 8, because n is cut to `most`.
    let eighths = usize::try_from(eighths).unwrap_or(0).max(usize::from(n > 0));
    let mut out: String = std::iter::repeat_n('█', eighths / 8).collect();
    if let Some(part) = (eighths % 8).checked_sub(1).and_then(|i| EIGHTHS.get(i)) {
        out.push(*part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_that_count() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_996, "10.0 µs"),
            (12_345, "12.3 µs"),
            (310_000, "310 µs"),
            (1_250_000, "1.25 ms"),
            (59_900_000_000, "59.9 s"),
            (125_000_000_000, "2m 5s"),
            (3_600_000_000_000, "1h 0m"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn sizes_are_in_binary_units() {
        for (n, text) in [
            (1023, "1023 B"),
            (65_536, "64 KiB"),
            (1_114_112, "1.06 MiB"),
            (1 << 21, "2 MiB"),
            (1_536, "1.50 KiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_bar_grows_by_eighths_and_is_never_empty_for_something() {
        assert_eq!(bar(0, 10, 4), "");
        assert_eq!(bar(1, 1_000_000, 4), "▏");
        assert_eq!(bar(5, 10, 3), "█▌");
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(u64::MAX, u64::MAX, 4), "████");
        assert_eq!(bar(7, 0, 2), "██");
    }
}
