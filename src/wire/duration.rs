//! Durations as people write and read them, the same in job files, configuration and flags.
//!
//! ```text
//! 90        90.5          seconds
//! 90s  1h30m  500ms  2d   digits with ms, s, m, h or d, combined from the largest to the smallest
//! ```
//!
//! The resolution is a millisecond, as on disk; what is finer is rounded up, so that nothing that was asked for
//! becomes zero.

use super::nearest::quote;
use std::fmt::Write as _;
use std::time::Duration;

/// The longest duration that is taken, in seconds: ten years of 365 days.
pub const DURATION_S_MAX: u64 = 10 * 365 * 86_400;

/// Unit names with their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration from a flag or from the text of a configuration.
///
/// # Errors
/// A sentence for people that quotes the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err(format!("{} is negative: a duration is 0 or more", quote(text)));
    }
    let ms = if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        plain_ms(text)?
    } else {
        combined_ms(text)?
    };
    bounded(ms, text)
}

/// Reads a duration from the raw text of a JSON value: a number of seconds, or a string as [`parse`] takes it.
///
/// # Errors
/// A sentence for people that quotes the text.
pub fn from_json(raw: &str) -> Result<Duration, String> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(raw).map_err(|_| malformed(raw.trim_matches('"')))?;
            parse(&text)
        }
        Some(b'0'..=b'9') if raw.contains(['e', 'E']) => {
            let seconds: f64 = serde_json::from_str(raw).map_err(|_| too_long(raw))?;
            let whole = Duration::try_from_secs_f64(seconds).map_err(|_| too_long(raw))?;
            bounded(u64::try_from(whole.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX), raw)
        }
        Some(b'0'..=b'9' | b'-') => parse(raw),
        Some(_) | None => Err(format!(
            "{} is not a duration: give a number of seconds or a text such as \"1h30m\"",
            quote(raw.trim_matches('"'))
        )),
    }
}

/// A duration for people, with its two largest units: `1h12m`, `1m30s`, `1.5s`, `300ms`. What is smaller is cut
/// off.
#[must_use]
pub fn render(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    match ms {
        0 if span.is_zero() => "0s".to_owned(),
        0 => "<1ms".to_owned(),
        1..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms % 1_000 < 100 => format!("{}s", ms / 1_000),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000.. => two_units(ms),
    }
}

/// A duration as a JSON number of seconds, to the millisecond: `90`, `0.5`.
#[must_use]
pub fn seconds_json(span: Duration) -> String {
    let mut text = span.as_secs().to_string();
    let ms = span.subsec_millis();
    if ms > 0 {
        write!(text, ".{ms:03}").expect("a String takes every write");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

/// The milliseconds in `digits` or `digits.digits`, rounded up.
fn plain_ms(text: &str) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(malformed(text));
    }
    let seconds: u64 = whole.parse().map_err(|_| too_long(text))?;
    let mut ms = 0;
    for place in 0..3 {
        ms = ms * 10 + u64::from(fraction.as_bytes().get(place).map_or(0, |digit| digit - b'0'));
    }
    let is_finer = fraction.bytes().skip(3).any(|digit| digit != b'0');
    seconds
        .checked_mul(1_000)
        .and_then(|whole| whole.checked_add(ms + u64::from(is_finer)))
        .ok_or(too_long(text))
}

/// The milliseconds in digits with units.
fn combined_ms(text: &str) -> Result<u64, String> {
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        rest = &rest[digits + letters..];
        if number.is_empty() || unit.is_empty() {
            return Err(malformed(text));
        }
        // The iterator goes on from the unit before: so units can neither repeat nor grow.
        let Some((_, unit_ms)) = units.find(|(name, _)| *name == unit) else {
            return Err(malformed(text));
        };
        let number: u64 = number.parse().map_err(|_| too_long(text))?;
        total = number
            .checked_mul(*unit_ms)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(|| too_long(text))?;
    }
    Ok(total)
}

fn bounded(ms: u64, text: &str) -> Result<Duration, String> {
    if ms > DURATION_S_MAX * 1_000 {
        return Err(too_long(text));
    }
    Ok(Duration::from_millis(ms))
}

fn two_units(ms: u64) -> String {
    for pair in UNITS.windows(2) {
        let ((large, large_ms), (small, small_ms)) = (pair[0], pair[1]);
        if ms >= large_ms {
            let (many, few) = (ms / large_ms, ms % large_ms / small_ms);
            return if few == 0 { format!("{many}{large}") } else { format!("{many}{large}{few}{small}") };
        }
    }
    format!("{ms}ms")
}

fn malformed(text: &str) -> String {
    format!("{} is not a duration: give seconds, or digits with d, h, m, s, ms, as in \"1h30m\"", quote(text))
}

fn too_long(text: &str) -> String {
    format!("{} is too long: a duration is at most {}d", quote(text), DURATION_S_MAX / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_ms(text: &str, ms: u64) {
        assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
    }

    #[test]
    fn digits_with_units_add_up() {
        assert_ms("90s", 90_000);
        assert_ms("1h30m", 5_400_000);
        assert_ms("500ms", 500);
        assert_ms("1s500ms", 1_500);
        assert_ms("2d3h4m5s6ms", 2 * 86_400_000 + 3 * 3_600_000 + 4 * 60_000 + 5_006);
        assert_ms("0s", 0);
        assert_ms("007m", 420_000);
    }

    #[test]
    fn plain_numbers_are_seconds_and_may_have_fractions() {
        assert_ms("90", 90_000);
        assert_ms("1.5", 1_500);
        assert_ms("0.25", 250);
        assert_ms("1.001", 1_001);
        assert_ms("315000000.001", 315_000_000_001);
    }

    #[test]
    fn what_is_finer_than_a_millisecond_is_rounded_up() {
        assert_ms("0.0001", 1);
        assert_ms("1.0010000", 1_001);
        assert_ms("1.0010001", 1_002);
        assert_eq!(from_json("1e-9"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn anything_else_is_refused_and_quoted() {
        for bad in [
            "", " ", "s", "5x", "1h 30m", " 5s", "5s ", "30m1h", "5m5m", "1.5s", "1h30", "+5", "5.", ".5",
            ".", "1..2", "1e3", "inf", "NaN", "٣s", "5µs", "1H", "ms5", "0x10",
        ] {
            let error = parse(bad).expect_err(bad);
            assert!(error.contains("is not a duration"), "{error}");
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn negative_durations_are_refused_as_such() {
        for bad in ["-1", "-5s", "-0"] {
            assert!(parse(bad).expect_err(bad).contains("is negative"));
            assert!(from_json(bad).expect_err(bad).contains("is negative"));
        }
    }

    #[test]
    fn ten_years_are_the_limit() {
        assert_eq!(parse("3650d"), Ok(Duration::from_secs(DURATION_S_MAX)));
        for long in [
            "3650d1ms",
            "315360000.001",
            "99999999999999999999",
            "99999999999999999999d",
            "18446744073709551615",
        ] {
            let error = parse(long).expect_err(long);
            assert!(error.contains("at most 3650d"), "{error}");
        }
        assert!(from_json("1e99").is_err());
        assert!(from_json("1e999").is_err());
    }

    #[test]
    fn json_numbers_and_strings_are_read() {
        assert_eq!(from_json("90"), Ok(Duration::from_secs(90)));
        assert_eq!(from_json("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(from_json("1.5e2"), Ok(Duration::from_secs(150)));
        assert_eq!(from_json(r#""1h30m""#), Ok(Duration::from_secs(5_400)));
        assert_eq!(from_json(r#""\u0031s""#), Ok(Duration::from_secs(1)));
        for bad in ["null", "true", "[1]", "{}", "", r#""\ud800""#, r#""""#] {
            assert!(from_json(bad).expect_err(bad).contains("is not a duration"));
        }
    }

    #[test]
    fn people_read_two_units() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (300, "300ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_099, "1s"),
            (1_500, "1.5s"),
            (59_999, "59.9s"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
            (3_659_000, "1h"),
            (4_320_000, "1h12m"),
            (90_000_000, "1d1h"),
            (DURATION_S_MAX * 1_000, "3650d"),
        ] {
            assert_eq!(render(Duration::from_millis(ms)), text);
        }
        assert_eq!(render(Duration::from_micros(5)), "<1ms");
    }

    #[test]
    fn json_seconds_are_read_back_the_same() {
        for (ms, text) in
            [(0, "0"), (90_000, "90"), (500, "0.5"), (1_001, "1.001"), (10, "0.01"), (100_000, "100")]
        {
            let span = Duration::from_millis(ms);
            assert_eq!(seconds_json(span), text);
            assert_eq!(from_json(text), Ok(span));
        }
    }

    #[test]
    fn long_texts_are_cut_in_the_message() {
        assert!(parse(&"x".repeat(100_000)).expect_err("no duration").len() < 200);
    }
}
