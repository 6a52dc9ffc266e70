//! Numbers as people type and read them: `64K`, `500ms`; `12,345`, `1.23 ms`, `4.1 KiB`.
//!
//! Parsers take the whole text or refuse it with a line that says what is wanted; they are made for
//! clap's `value_parser`. K, M and G are powers of 1024 in a size and of 1000 in a count or a rate.

use std::time::Duration;

use crate::report::{Unit, count_as_f64};

/// A size in bytes: `20`, `64K`, `1.5M`, `2G`, also `64KiB`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let value = scaled(text, &SIZE_SUFFIXES).ok_or_else(|| {
        format!("`{text}` is not a size: give bytes, or K, M, G of 1024, such as 64K")
    })?;
    whole(value)
        .and_then(|value| usize::try_from(value).ok())
        .ok_or_else(|| format!("`{text}` is not a whole number of bytes that fits"))
}

/// A number of things: `20`, `10K`, `1.5M`, also `1,000,000` and `1_000_000`.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    let plain = text.replace([',', '_'], "");
    let value = scaled(&plain, &COUNT_SUFFIXES).ok_or_else(|| {
        format!("`{text}` is not a count: give a number, or K, M, G of 1000, such as 10K")
    })?;
    whole(value)
        .and_then(|value| usize::try_from(value).ok())
        .ok_or_else(|| format!("`{text}` is not a whole number that fits"))
}

/// Events per second, above 0: `50000`, `50K`, `0.5`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let plain = text.replace([',', '_'], "");
    let plain = plain.strip_suffix("/s").unwrap_or(&plain);
    scaled(plain, &COUNT_SUFFIXES).filter(|rate| *rate > 0.0).ok_or_else(|| {
        format!("`{text}` is not a rate: give events per second above 0, such as 50000 or 50K")
    })
}

/// A time: `100us`, `500ms`, `10s`, `2m`, `1h`; the unit must be there.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: give us, ms, s, m or h, such as 500ms or 10s");
    let seconds = scaled(text, &TIME_SUFFIXES).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A time as [`parse_duration`] takes it, or `none`.
pub(crate) fn parse_duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" { Ok(None) } else { parse_duration(text).map(Some) }
}

/// A value for a figure of this unit, in that unit: `5ms`, `64K`, `80%`; None if it is none.
///
/// A bare number is in `unit` itself.
pub(crate) fn parse_value(text: &str, unit: Unit) -> Option<f64> {
    let plain = text.replace([',', '_'], "");
    let bare = scaled(&plain, &[("", 1.0)]);
    match unit {
        Unit::PerSecond => scaled(plain.strip_suffix("/s").unwrap_or(&plain), &COUNT_SUFFIXES),
        Unit::Micros => bare.or_else(|| Some(scaled(&plain, &TIME_SUFFIXES)? * 1e6)),
        Unit::Bytes => scaled(&plain, &SIZE_SUFFIXES),
        Unit::Count => scaled(&plain, &COUNT_SUFFIXES),
        Unit::Ratio => scaled(&plain, &[("%", 0.01), ("", 1.0)]),
        Unit::Percent => scaled(&plain, &[("%", 1.0), ("", 1.0)]),
        Unit::Seconds => bare.or_else(|| scaled(&plain, &TIME_SUFFIXES)),
    }
}

/// A value in its unit, with the unit written out.
pub(crate) fn value(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match unit {
        Unit::PerSecond => rate(value),
        Unit::Micros => micros(value),
        Unit::Bytes => bytes(value),
        Unit::Count => number(value),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Percent => percent(value),
        Unit::Seconds => micros(value * 1e6),
    }
}

/// `12,345`; `3.14` and `0.031` below a hundred, where digits behind the point still say something.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 || magnitude >= 99.95 {
        return grouped(&format!("{value:.0}"));
    }
    format!("{value:.*}", decimals(magnitude))
}

/// `12,345/s`.
pub(crate) fn rate(per_second: f64) -> String {
    format!("{}/s", number(per_second))
}

/// `850 ns`, `12.3 us`, `1.23 ms`, `2.50 s`; from two minutes on `2 m 05 s`.
pub(crate) fn micros(micros: f64) -> String {
    let magnitude = micros.abs();
    if magnitude >= 120e6 {
        let seconds = (micros / 1e6).round();
        return format!("{:.0} m {:02.0} s", (seconds / 60.0).floor(), seconds % 60.0);
    }
    // Thresholds lie where three digits would round up into the next unit.
    let (scaled, unit) = match magnitude {
        0.0 => return "0 us".to_owned(),
        _ if magnitude < 0.9995 => (micros * 1e3, "ns"),
        _ if magnitude < 999.5 => (micros, "us"),
        _ if magnitude < 999_500.0 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    format!("{} {unit}", three_digits(scaled))
}

/// `512 B`, `4.1 KiB`, `12 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled.abs() >= 1023.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    // Tenths of a byte are real in an average, and the first to show a regression.
    let is_long = unit > 0 && scaled.abs() >= 99.95;
    let decimals = if scaled.fract() == 0.0 || is_long { 0 } else { 1 };
    format!("{scaled:.decimals$} {}", UNITS[unit])
}

/// `97 %`, `3.2 %`.
pub(crate) fn percent(percent: f64) -> String {
    if percent.fract() == 0.0 || percent.abs() >= 9.95 {
        return format!("{percent:.0} %");
    }
    format!("{percent:.1} %")
}

/// A time as a flag would have it: `500ms`, `10s`, `2m`.
pub(crate) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (suffix, factor) in
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)]
    {
        if micros >= factor && micros.is_multiple_of(factor) {
            return format!("{}{suffix}", micros / factor);
        }
    }
    format!("{micros}us")
}

/// `12,345` of an integer.
pub(crate) fn count(count: u64) -> String {
    grouped(&count.to_string())
}

const SIZE_SUFFIXES: [(&str, f64); 11] = [
    ("KIB", KIBI),
    ("MIB", KIBI * KIBI),
    ("GIB", KIBI * KIBI * KIBI),
    ("KB", KIBI),
    ("MB", KIBI * KIBI),
    ("GB", KIBI * KIBI * KIBI),
    ("K", KIBI),
    ("M", KIBI * KIBI),
    ("G", KIBI * KIBI * KIBI),
    ("B", 1.0),
    ("", 1.0),
];
const COUNT_SUFFIXES: [(&str, f64); 4] = [("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)];
/// Longest first: `ms` also ends in `s`.
const TIME_SUFFIXES: [(&str, f64); 6] =
    [("US", 1e-6), ("MS", 1e-3), ("NS", 1e-9), ("S", 1.0), ("M", 60.0), ("H", 3600.0)];
const KIBI: f64 = 1024.0;

/// The number in front of the first suffix that fits, times its factor. Letters of either case.
fn scaled(text: &str, suffixes: &[(&str, f64)]) -> Option<f64> {
    let upper = text.trim().to_ascii_uppercase();
    let (digits, factor) =
        suffixes.iter().find_map(|(suffix, factor)| Some((upper.strip_suffix(suffix)?, factor)))?;
    let digits = digits.trim_end();
    // The parser of f64 also takes `inf`, `nan`, `1e9`, `+1` and a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Some(digits.parse::<f64>().ok()? * factor)
}

/// The same number as an integer, if it is one.
fn whole(value: f64) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() != 0.0 || !(0.0..=EXACT_MAX).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number between 0 and 2^53, as checked above"
    )]
    let integer = value as u64;
    debug_assert!(count_as_f64(integer) == value);
    Some(integer)
}

/// Three significant digits for numbers below 1000.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        _ if magnitude >= 99.95 => 0,
        _ if magnitude >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Digits behind the point that leave three significant ones.
fn decimals(magnitude: f64) -> usize {
    match magnitude {
        _ if magnitude >= 9.995 => 1,
        _ if magnitude >= 0.9995 => 2,
        _ if magnitude >= 0.09995 => 3,
        _ => 4,
    }
}

/// A comma before each third digit from the right.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    text.push_str(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_takes_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("20", 20), ("64K", 65_536), ("64k", 65_536), ("1.5M", 1_572_864)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("4KiB"), Ok(4096));
    }

    #[test]
    fn size_that_is_none_is_refused_with_an_example() {
        for text in ["", "K", "-1", "1e3", "inf", "64X", "1.2.3", "0.3", "99999999999G"] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(parse_size("64X").unwrap_err().contains("such as 64K"));
    }

    #[test]
    fn count_takes_powers_of_1000_and_group_marks() {
        for (text, count) in
            [("1K", 1000), ("1M", 1_000_000), ("1,000,000", 1_000_000), ("1_000", 1000)]
        {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        assert!(parse_count("1.5").is_err());
        assert!(parse_count("many").is_err());
    }

    #[test]
    fn rate_is_above_zero() {
        assert_eq!(parse_rate("50K"), Ok(50_000.0));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!(parse_rate("100/s"), Ok(100.0));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("-1").is_err());
    }

    #[test]
    fn duration_needs_its_unit() {
        for (text, duration) in [
            ("100us", Duration::from_micros(100)),
            ("500ms", Duration::from_millis(500)),
            ("10s", Duration::from_secs(10)),
            ("1.5s", Duration::from_millis(1500)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3600)),
        ] {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for text in ["10", "", "s", "ten s", "-1s", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration_or_none("none"), Ok(None));
        assert_eq!(parse_duration_or_none("1s"), Ok(Some(Duration::from_secs(1))));
    }

    #[test]
    fn value_is_read_in_the_unit_of_its_figure() {
        for (text, unit, value) in [
            ("5ms", Unit::Micros, Some(5000.0)),
            ("3", Unit::Micros, Some(3.0)),
            ("50K", Unit::PerSecond, Some(50_000.0)),
            ("100/s", Unit::PerSecond, Some(100.0)),
            ("4K", Unit::Bytes, Some(4096.0)),
            ("4K", Unit::Count, Some(4000.0)),
            ("80%", Unit::Percent, Some(80.0)),
            ("110%", Unit::Ratio, Some(1.1)),
            ("2m", Unit::Seconds, Some(120.0)),
            ("5ms", Unit::Count, None),
            ("80%", Unit::Micros, None),
            ("", Unit::Count, None),
        ] {
            assert_eq!(parse_value(text, unit), value, "{text} as {unit:?}");
        }
    }

    #[test]
    fn numbers_are_grouped_and_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (12_345.4, "12,345"),
            (1_000_000.0, "1,000,000"),
            (99.97, "100"),
            (12.34, "12.3"),
            (3.14049, "3.14"),
            (0.5, "0.500"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn times_change_unit_where_they_would_round_into_it() {
        for (value, text) in [
            (0.0, "0 us"),
            (0.85, "850 ns"),
            (1.0, "1.00 us"),
            (12.34, "12.3 us"),
            (999.4, "999 us"),
            (999.9, "1.00 ms"),
            (1234.0, "1.23 ms"),
            (999_900.0, "1.00 s"),
            (2_500_000.0, "2.50 s"),
            (125_000_000.0, "2 m 05 s"),
        ] {
            assert_eq!(micros(value), text);
        }
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_they_fill() {
        for (value, text) in [
            (0.0, "0 B"),
            (512.0, "512 B"),
            (1023.9, "1.0 KiB"),
            (126.46, "126.5 B"),
            (4198.0, "4.1 KiB"),
            (12.0 * 1024.0 * 1024.0, "12 MiB"),
            (512_000.0, "500 KiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn value_names_its_unit_and_shows_a_dash_for_none() {
        assert_eq!(value(50_000.0, Unit::PerSecond), "50,000/s");
        assert_eq!(value(1.5, Unit::Seconds), "1.50 s");
        assert_eq!(value(97.2, Unit::Percent), "97 %");
        assert_eq!(value(3.25, Unit::Percent), "3.2 %");
        assert_eq!(value(1.0, Unit::Ratio), "1.000");
        assert_eq!(value(f64::NAN, Unit::Count), "-");
    }

    #[test]
    fn durations_are_shown_as_flags_take_them() {
        for text in ["250us", "500ms", "1500ms", "10s", "90s", "2m", "1h"] {
            assert_eq!(duration(parse_duration(text).unwrap()), text);
        }
    }
}
