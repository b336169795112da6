//! Durations and sizes, as people write them.

use std::time::Duration;

use trocar_cli::quantity::{duration, percent, rate, sample, size};

#[test]
fn durations_have_units_and_add_up() {
    for (text, nanoseconds) in [
        ("1ns", 1),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("500ms", 500_000_000),
        ("1.5s", 1_500_000_000),
        ("0.25ms", 250_000),
        ("10m", 600_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("2d", 172_800_000_000_000),
        (" 5s ", 5_000_000_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
    }
}

#[test]
fn what_is_no_duration_is_refused_with_examples() {
    for text in
        ["", "10", "s", "5 s", "1x", "-1s", "1..5s", ".5s", "5.s", "1h 30m", "999999999999d", "1e3s", "٣s"]
    {
        let error = duration(text).unwrap_err();
        assert!(error.contains("1h30m"), "{text}: {error}");
    }
    assert!(duration("0s").unwrap_err().contains("more than nothing"));
}

#[test]
fn sizes_are_in_binary_units() {
    for (text, bytes) in [
        ("65536", 65_536),
        ("0", 0),
        ("64K", 65_536),
        ("64KiB", 65_536),
        ("1.5M", 1_572_864),
        ("2MiB", 2_097_152),
        ("1G", 1 << 30),
        ("12B", 12),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_examples() {
    for text in ["", "K", "1KB", "1 K", "-1", "1.K", "1K1K", "99999999999G", "0x10", "1.2.3K"] {
        let error = size(text).unwrap_err();
        assert!(error.contains("64K"), "{text}: {error}");
    }
}

#[test]
fn rates_parts_and_shares_are_written_as_they_are_said() {
    assert_eq!([rate("100/s"), rate(" 1/s ")], [Ok(100), Ok(1)]);
    assert_eq!([sample("1/100"), sample("1/1")], [Ok(100), Ok(1)]);
    assert_eq!([percent("5"), percent("2.5%"), percent("250 %")], [Ok(0.05), Ok(0.025), Ok(2.5)]);
    for text in ["", "100", "100/m", "0/s", "-1/s", "/s", "1.5/s", "99999999999/s"] {
        assert!(rate(text).unwrap_err().contains("100/s"), "{text}");
    }
    for text in ["", "10", "2/10", "1/0", "1/", "1/x", "0.1"] {
        assert!(sample(text).unwrap_err().contains("1/100"), "{text}");
    }
    for text in ["", "0", "-5", "%", "x", "NaN", "inf", "1e9"] {
        assert!(percent(text).unwrap_err().contains("5 %"), "{text}");
    }
}
