//! The time of day as text, in UTC, from the system's clock. No time zones, no leap seconds, no date crate.

use std::time::{Duration, SystemTime};

/// Where the time comes from; tests bring their own.
pub(crate) type Clock = fn() -> SystemTime;

/// Nanosecond of the day, and the day since 1970-01-01. A clock before 1970 counts as 1970.
fn parts(time: SystemTime) -> (u64, u64, u32) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    (since.as_secs() / 86_400, since.as_secs() % 86_400, since.subsec_nanos())
}

/// RFC 3339 with nanoseconds: `2026-11-22T10:17:00.000000000Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let (day, second, nanos) = parts(time);
    let (year, month, day) = civil(day);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z")
}

/// Time of day with milliseconds: `10:17:00.000`.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let (_, second, nanos) = parts(time);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{h:02}:{m:02}:{s:02}.{:03}", nanos / 1_000_000)
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Method: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`. Years are
/// counted from March, so that the leap day is the last of the year; an era is 400 years.
const fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64, nanos: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(secs, nanos)
    }

    #[test]
    fn known_instants_are_written_as_date_writes_them() {
        for (secs, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199, 0, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(at(secs, nanos)), text);
        }
        assert_eq!(time_of_day(at(86_399, 987_654_321)), "23:59:59.987");
    }

    #[test]
    fn days_follow_each_other_for_eight_centuries() {
        let length = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for day in 0..292_194 {
            assert_eq!(civil(day), expected, "day {day}");
            let (year, month, of_month) = expected;
            expected = if of_month < length(year, month) {
                (year, month, of_month + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }

    #[test]
    fn a_clock_before_1970_counts_as_1970() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000000000Z");
    }
}
