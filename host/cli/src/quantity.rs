//! Durations and sizes as people write them.
//!
//! Units are always written: whether `--for 10` means seconds or hits should not be a matter of memory.

use std::time::Duration;

/// Units of time in nanoseconds.
const TIMES: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of size in bytes.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
];

/// Reads a duration: `500ms`, `1.5s`, `10m`, `1h30m`; at most 292 years.
///
/// # Errors
/// What is wrong with it, for a message that begins with the option's name.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{:?} is no duration: write 500ms, 10s, 5m or 1h30m", text.escape_debug().to_string());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, unit, after) = part(rest).ok_or_else(wrong)?;
        let factor = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let nanoseconds = scaled(number, factor).ok_or_else(wrong)?;
        total = total.checked_add(nanoseconds).ok_or_else(wrong)?;
        rest = after;
    }
    if total == 0 { Err("it must be more than nothing".into()) } else { Ok(Duration::from_nanos(total)) }
}

/// Reads a size in bytes: `65536`, `64K`, `64KiB`, `1.5M`.
///
/// # Errors
/// What is wrong with it, for a message that begins with the option's name.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{:?} is no size: write 65536, 64K or 2MiB", text.escape_debug().to_string());
    let (number, unit, after) = part(text.trim()).ok_or_else(wrong)?;
    let factor = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    if after.is_empty() { scaled(number, factor).ok_or_else(wrong) } else { Err(wrong()) }
}

/// Reads a number a second: `100/s`.
///
/// # Errors
/// What is wrong with it, for a message that begins with the option's name.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_suffix("/s").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    number.ok_or_else(|| format!("{:?} is no rate: write 100/s", text.escape_debug().to_string()))
}

/// Reads one in so many: `1/100`.
///
/// # Errors
/// What is wrong with it, for a message that begins with the option's name.
pub fn sample(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    number.ok_or_else(|| format!("{:?} is no part: write 1/100", text.escape_debug().to_string()))
}

/// Reads a share in per cent: `5`, `2.5` or `5%`; over a hundred for several cores.
///
/// # Errors
/// What is wrong with it, for a message that begins with the option's name.
pub fn percent(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let number = trimmed.strip_suffix('%').unwrap_or(trimmed).trim_end().parse::<f64>().ok();
    number.filter(|n| *n > 0.0 && *n <= 100_000.0).map(|n| n / 100.0).ok_or_else(|| {
        format!("{:?} is no share: write 5 for 5 % of a core", text.escape_debug().to_string())
    })
}

/// Splits a number and the letters behind it off: `1h30m` is `1`, `h` and `30m`.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let letters = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(letters)?;
    let end = rest.find(is_number).unwrap_or(rest.len());
    let (unit, after) = rest.split_at_checked(end)?;
    (!number.is_empty()).then_some((number, unit, after))
}

/// A decimal number times a factor, exactly; `None` for what is no number, too large, or no whole result.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let unit = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    let parts = u64::try_from(parts / u128::from(unit)).ok()?;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(parts)
}
