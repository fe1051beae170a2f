//! Where a JSON value ends, found without understanding it.
//!
//! Brackets outside of strings are counted, whatever their kind; so nothing here can run out of stack. Whether the
//! text is JSON is for others to say: a text that is has its end where it is found here.

use super::source::Source;
use std::io::{self, BufRead};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The value, if it is one, and nothing else.
    Whole,
    /// More than was asked for.
    TooLong,
    /// The file ended inside.
    Open,
}

/// Appends the text of the next value to `text`, at most `max` bytes of it. Nothing is appended if what follows
/// cannot begin a value.
pub(super) fn read_value<R: BufRead>(
    source: &mut Source<R>,
    text: &mut Vec<u8>,
    max: usize,
) -> io::Result<Extent> {
    let room = max.saturating_add(text.len());
    each_piece(source, |piece| {
        let fits = piece.len().min(room - text.len());
        text.extend_from_slice(&piece[..fits]);
        fits == piece.len()
    })
}

/// Goes on behind the next value, or to where `bytes_max` bytes are recorded.
pub(super) fn skip_value<R: BufRead>(source: &mut Source<R>, bytes_max: usize) -> io::Result<Extent> {
    let mut left = bytes_max.saturating_sub(source.recorded());
    each_piece(source, |piece| {
        let fits = piece.len() <= left;
        left = left.saturating_sub(piece.len());
        fits
    })
}

/// Feeds the pieces of the next value to `take`, until it says that it has enough.
fn each_piece<R: BufRead>(source: &mut Source<R>, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<Extent> {
    let mut scan = Scan { depth: 0, inside: Inside::Nothing };
    loop {
        let chunk = source.chunk()?;
        if chunk.is_empty() {
            return Ok(match scan.inside {
                Inside::Nothing | Inside::Scalar => Extent::Whole,
                Inside::Brackets | Inside::Text | Inside::Escape => Extent::Open,
            });
        }
        let (used, is_end) = scan.feed(chunk);
        let is_enough = !take(&chunk[..used]);
        source.advance(used)?;
        if is_enough {
            return Ok(Extent::TooLong);
        }
        if is_end {
            return Ok(Extent::Whole);
        }
    }
}

/// What the bytes so far have led into.
#[derive(Clone, Copy, Debug)]
enum Inside {
    Nothing,
    Brackets,
    /// A string.
    Text,
    /// A string, behind a backslash.
    Escape,
    /// A number or a word.
    Scalar,
}

struct Scan {
    /// Open brackets.
    depth: usize,
    inside: Inside,
}

impl Scan {
    /// How many of these bytes belong to the value, and whether it ends there.
    fn feed(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, &byte) in bytes.iter().enumerate() {
            self.inside = match (self.inside, byte) {
                (Inside::Nothing | Inside::Brackets, b'{' | b'[') => {
                    self.depth += 1;
                    Inside::Brackets
                }
                (Inside::Brackets, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                    Inside::Brackets
                }
                (Inside::Nothing | Inside::Brackets, b'"') | (Inside::Escape, _) if byte != b'\n' => {
                    Inside::Text
                }
                (Inside::Text, b'"') if self.depth == 0 => return (at + 1, true),
                (Inside::Brackets, _) | (Inside::Text, b'"') => Inside::Brackets,
                (Inside::Text, b'\\') => Inside::Escape,
                // No string goes across lines: one that is not closed ends here rather than at the end of the file.
                (Inside::Text | Inside::Escape, b'\n') => return (at, true),
                (Inside::Text | Inside::Escape, _) => Inside::Text,
                (Inside::Nothing | Inside::Scalar, byte) if is_delimiter(byte) => return (at, true),
                (Inside::Nothing | Inside::Scalar, _) => Inside::Scalar,
            };
        }
        (bytes.len(), false)
    }
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn extent_of(text: &str, max: usize) -> (String, Extent) {
        let mut seen = None;
        for capacity in [1, 3, 4_096] {
            let mut source = Source::new(BufReader::with_capacity(capacity, text.as_bytes()));
            let mut value = Vec::new();
            let extent = read_value(&mut source, &mut value, max).expect("memory can be read");
            let found = (String::from_utf8(value).expect("text"), extent);
            assert_eq!(*seen.get_or_insert(found.clone()), found, "the same however it comes in");
        }
        seen.expect("it was read")
    }

    #[test]
    fn a_value_ends_where_json_says() {
        for value in [
            "{}",
            "[]",
            "\"\"",
            "1",
            "-1.5e9",
            "true",
            r#"{"a":[1,{"b":"}]"}]}"#,
            r#""a\"b\\""#,
            "[\n1\n]",
            r#"["\\"]"#,
        ] {
            for behind in ["", " x", "\n", ",", "]", "}", "\"", "[1"] {
                assert_eq!(extent_of(&format!("{value}{behind}"), 1_000), (value.to_owned(), Extent::Whole));
            }
        }
    }

    #[test]
    fn the_end_of_the_file_leaves_it_open() {
        for text in ["{", "[1,[2]", "\"abc", "\"abc\\", "[\"", "{\"a\":1"] {
            assert_eq!(extent_of(text, 1_000), (text.to_owned(), Extent::Open));
        }
    }

    #[test]
    fn a_string_ends_with_its_line() {
        assert_eq!(extent_of("[\"abc\n1]", 1_000), ("[\"abc".to_owned(), Extent::Whole));
        assert_eq!(extent_of("\"abc\\\n\"", 1_000), ("\"abc\\".to_owned(), Extent::Whole));
    }

    #[test]
    fn what_cannot_begin_a_value_gives_nothing() {
        for text in ["", ",", "]", "}", ":", " 1"] {
            assert_eq!(extent_of(text, 1_000), (String::new(), Extent::Whole));
        }
    }

    #[test]
    fn no_more_than_asked_for_is_kept() {
        assert_eq!(extent_of("[1,2]", 5), ("[1,2]".to_owned(), Extent::Whole));
        assert_eq!(extent_of("[1,2]", 4), ("[1,2".to_owned(), Extent::TooLong));
        let deep = "[".repeat(1_000_000);
        assert_eq!(extent_of(&deep, 10), ("[".repeat(10), Extent::TooLong));
    }

    #[test]
    fn skipping_stops_at_the_limit() {
        let text = format!("[\"{}\"] ", "x".repeat(300_000));
        let mut source = Source::new(text.as_bytes());
        source.mark();
        assert_eq!(skip_value(&mut source, 100_000).ok(), Some(Extent::TooLong));
        assert!(source.recorded() < 200_000);
        source.rewind();
        source.mark();
        assert_eq!(skip_value(&mut source, 1_000_000).ok(), Some(Extent::Whole));
        assert_eq!(source.recorded(), text.len() - 1);
    }
}
