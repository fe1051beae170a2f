//! Mistyped words in messages: how they are quoted, and the known word that was probably meant.
//!
//! The distance is the number of letters to insert, delete, replace or swap with their neighbour (optimal string
//! alignment). A word may be wrong in a third of its letters, and in three at most: beyond that a suggestion
//! rather confuses.

/// Longer words are cut in messages and not compared: the work grows with the square, and no known word is near this long.
const WORD_CHARS_MAX: usize = 64;

/// The known word nearest to `word`, the first of equals; `None` if none is near. Case does not count.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.chars().nth(WORD_CHARS_MAX).is_some() {
        return None;
    }
    let typed = letters(word);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let meant = letters(candidate);
        let allowed = (typed.len().max(meant.len()) / 3).clamp(1, 3);
        if typed.len().abs_diff(meant.len()) > allowed || typed.len().min(meant.len()) <= allowed {
            continue;
        }
        let distance = distance(&typed, &meant);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// ` Did you mean "retries"?`, with the space in front, or nothing: to be put behind a message.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |meant| format!(" Did you mean {meant:?}?"))
}

/// `word` in quotes and without control characters, cut so that it fits a message.
#[must_use]
pub fn quote(word: &str) -> String {
    let short: String = word.chars().take(WORD_CHARS_MAX).collect();
    if short.len() < word.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

fn letters(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment: the usual table of prefixes, of which three rows are needed at a time.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != other);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == to[j - 1] && from[i - 1] == *other {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 7] = ["run", "data", "retries", "timeout", "priority", "output_dir", "env"];

    fn between(from: &str, to: &str) -> usize {
        distance(&letters(from), &letters(to))
    }

    #[test]
    fn each_kind_of_slip_costs_one() {
        assert_eq!(between("retries", "retries"), 0);
        assert_eq!(between("retires", "retries"), 1);
        assert_eq!(between("retrys", "retries"), 2);
        assert_eq!(between("timout", "timeout"), 1);
        assert_eq!(between("timeoutt", "timeout"), 1);
        assert_eq!(between("tameout", "timeout"), 1);
        assert_eq!(between("", "abc"), 3);
        assert_eq!(between("ca", "abc"), 3);
    }

    #[test]
    fn slips_are_understood() {
        for (typed, meant) in [
            ("retires", "retries"),
            ("Timeout", "timeout"),
            ("time_out", "timeout"),
            ("outputdir", "output_dir"),
            ("output-dir", "output_dir"),
            ("rnu", "run"),
            ("date", "data"),
        ] {
            assert_eq!(nearest(typed, FIELDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn strangers_get_no_suggestion() {
        for typed in ["", "x", "command", "zzz", "e", "prio", &"retries".repeat(100_000)] {
            assert_eq!(nearest(typed, FIELDS), None);
            assert_eq!(did_you_mean(typed, FIELDS), "");
        }
    }

    #[test]
    fn the_nearer_one_wins_and_then_the_first() {
        assert_eq!(nearest("stat", ["start", "stats"]), Some("start"));
        assert_eq!(nearest("statss", ["start", "stats"]), Some("stats"));
    }

    #[test]
    fn the_suggestion_is_a_sentence() {
        assert_eq!(did_you_mean("retires", FIELDS), " Did you mean \"retries\"?");
    }

    #[test]
    fn quoted_words_are_short_and_plain() {
        assert_eq!(quote("a\n\u{1b}[1m"), r#""a\n\u{1b}[1m""#);
        let long = quote(&"ü".repeat(1_000_000));
        assert!(long.ends_with("\"...") && long.chars().count() == WORD_CHARS_MAX + 5, "{long}");
    }
}
