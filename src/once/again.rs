//! The command line that goes on with an interrupted run, to be copied from the screen.

use std::ffi::OsString;

/// `pushpulld` with the same arguments and `--resume`. `words` are the arguments without the program's name.
pub fn command_line(words: impl Iterator<Item = OsString>) -> String {
    let mut line = "pushpulld".to_owned();
    let mut add = |word: &str| {
        line.push(' ');
        line.push_str(&quoted(word));
    };
    let mut words = words.map(|word| word.to_string_lossy().into_owned()).peekable();
    while let Some(word) = words.next_if(|word| word != "--") {
        if word != "--fresh" && word != "--resume" {
            add(&word);
        }
    }
    add("--resume");
    for word in words {
        add(&word);
    }
    line
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command_line(words.iter().map(OsString::from))
    }

    #[test]
    fn the_same_arguments_with_resume_before_the_command() {
        assert_eq!(line(&["--once", "jobs.json"]), "pushpulld --once jobs.json --resume");
        assert_eq!(line(&["--fresh", "--once", "a b"]), "pushpulld --once 'a b' --resume");
        assert_eq!(
            line(&["--resume", "--once", "it's", "--", "sh", "-c", "$x", "--fresh"]),
            r"pushpulld --once 'it'\''s' --resume -- sh -c '$x' --fresh"
        );
        assert_eq!(line(&["--once", ""]), "pushpulld --once '' --resume");
    }
}
