//! Text for people: what a terminal may be shown, numbers, times, counts.

use pushpull::model::State;
use pushpull::wire::control::CountsJson;
use pushpull::wire::timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most characters of a text that a table cell shows; longer ones are cut.
pub const CELL_CHARS_MAX: usize = 300;

/// `text` with what a terminal would obey, or a reader misread, written as an escape.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns_text =
            matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let breaks_line = matches!(letter, '\u{2028}' | '\u{2029}');
        if letter.is_control() || turns_text || breaks_line {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// The same on one line, cut to what a cell shows.
pub fn cell(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", plain(&text[..end])),
        None => plain(text),
    }
}

/// A number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 job`, `2 jobs`.
pub fn jobs(number: u64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "job" } else { "jobs" })
}

/// How long ago an RFC 3339 time was; the text itself if it is none.
pub fn ago(at: &str, now: SystemTime) -> String {
    let Some(at_ms) = timestamp::parse(at) else {
        return plain(at);
    };
    let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let span = u64::try_from(now_ms).unwrap_or(u64::MAX).saturating_sub(at_ms.0);
    timestamp::ago(Duration::from_millis(span))
}

/// From one RFC 3339 time to another.
pub fn between(start: &str, end: &str) -> Option<Duration> {
    Some(timestamp::parse(end)?.since(timestamp::parse(start)?))
}

/// Seconds of a reply, which might be anything, as a span.
pub fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// How many stand in a state.
pub fn count(counts: &CountsJson, state: State) -> u64 {
    match state {
        State::Queued => counts.queued,
        State::Delayed => counts.delayed,
        State::Blocked => counts.blocked,
        State::Running => counts.running,
        State::Succeeded => counts.succeeded,
        State::Failed => counts.failed,
        State::Cancelled => counts.cancelled,
    }
}

/// `2 running, 288 succeeded`: the states in which there are jobs.
pub fn counts(counts: &CountsJson) -> String {
    let present: Vec<String> = State::ALL
        .into_iter()
        .filter(|state| count(counts, *state) > 0)
        .map(|state| format!("{} {state}", grouped(count(counts, state))))
        .collect();
    if present.is_empty() { "0 jobs".to_owned() } else { present.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{9b}d\u{202e}e ü"), r"a\u{1b}[31mb\nc\u{9b}d\u{202e}e ü");
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        let long = "ü".repeat(CELL_CHARS_MAX);
        assert_eq!(cell(&long), long);
        assert_eq!(cell(&format!("{long}x")), format!("{long}…"));
    }

    #[test]
    fn thousands_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn times_are_relative_and_never_in_the_future() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(ago("1970-01-12T13:45:40Z", now), "1m ago");
        assert_eq!(ago("1999-01-01T00:00:00Z", now), "just now");
        assert_eq!(ago("\u{7}", now), r"\u{7}");
    }

    #[test]
    fn only_states_with_jobs_are_named() {
        let some = CountsJson { running: 2, succeeded: 1_288, ..CountsJson::default() };
        assert_eq!(counts(&some), "2 running, 1,288 succeeded");
        assert_eq!(counts(&CountsJson::default()), "0 jobs");
    }
}
