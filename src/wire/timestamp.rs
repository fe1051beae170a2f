//! Points of the wall clock as text: RFC 3339 for programs, relative for people.

use crate::model::Wall;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use std::time::Duration;

/// RFC 3339 in UTC with milliseconds, as in `2026-01-31T09:30:00.123Z`. Times after the year 9999 are shown as its
/// end.
#[must_use]
pub fn render(at: Wall) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    let timestamp = i64::try_from(at.0)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX);
    PRINTER.timestamp_to_string(&timestamp)
}

/// Reads an RFC 3339 time with any offset; what is finer than a millisecond is cut off. `None`: it is not one, or
/// lies before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<Wall> {
    let timestamp: Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_millisecond()).ok().map(Wall)
}

/// How long ago something was, for people, in its largest unit: `3m ago`.
#[must_use]
pub fn ago(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0 => "just now".to_owned(),
        1..60 => format!("{s}s ago"),
        60..3_600 => format!("{}m ago", s / 60),
        3_600..86_400 => format!("{}h ago", s / 3_600),
        86_400.. => format!("{}d ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rendered_in_utc_with_milliseconds() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_769_851_800_123, "2026-01-31T09:30:00.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(render(Wall(ms)), text);
            assert_eq!(parse(text), Some(Wall(ms)));
        }
    }

    #[test]
    fn far_times_stay_printable() {
        assert!(render(Wall(u64::MAX)).starts_with("9999-12-30"), "{}", render(Wall(u64::MAX)));
    }

    #[test]
    fn offsets_are_understood() {
        assert_eq!(parse("2026-01-31T10:30:00.123+01:00"), Some(Wall(1_769_851_800_123)));
        assert_eq!(parse("2026-01-31T09:30:00.123999Z"), Some(Wall(1_769_851_800_123)));
    }

    #[test]
    fn other_texts_are_no_times() {
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-31T09:30:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn people_read_one_unit() {
        for (s, text) in
            [(0, "just now"), (59, "59s ago"), (60, "1m ago"), (7_300, "2h ago"), (200_000, "2d ago")]
        {
            assert_eq!(ago(Duration::from_secs(s)), text);
        }
    }
}
