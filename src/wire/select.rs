//! Which jobs are meant: the grammar of `SELECT`, the same on the command line and in requests.
//!
//! ```text
//! 17  3-9  3,5  3,7-9     jobs by id
//! @3  @NAME  @last        the jobs of a batch
//! all
//! ```
//!
//! A word that begins with `@` is a name to its end, commas and all. Several words are united.

use super::control::{Code, OneOrMany, Refusal, Selection};
use super::nearest::{did_you_mean, quote};
use crate::model::{BatchId, JobId, PoolName, Select, State, Word};

/// The longest name of a batch or a job, in bytes.
pub const NAME_BYTES_MAX: usize = 10 * 1024;

/// The most ids, ranges and names of one selection.
pub const SELECT_WORDS_MAX: usize = 100_000;

/// The grammar in a line, for whoever got it wrong.
pub const GRAMMAR: &str = "Write 17, 3-9, 3,5, @3, @NAME, @last or all";

/// Reads the words of a selection.
///
/// # Errors
/// A sentence for people that quotes the word.
pub fn parse(words: &[String]) -> Result<Vec<Word>, String> {
    let mut parsed = Vec::new();
    for word in words {
        parse_word(word, &mut parsed)?;
        if parsed.len() > SELECT_WORDS_MAX {
            return Err(format!(
                "more than {SELECT_WORDS_MAX} ids, ranges and names: select a range or a batch"
            ));
        }
    }
    Ok(parsed)
}

/// Reads what a request selects. Without words a state or a pool narrows `all`; with nothing at all the selection
/// has no words, and the operation knows what that means.
///
/// # Errors
/// `bad_request`.
#[expect(clippy::result_large_err, reason = "a refusal is rare and ends the request")]
pub fn selection(selection: &Selection) -> Result<Select, Refusal> {
    let refuse = |message: String| Refusal::new(Code::BadRequest, message);
    let mut words =
        parse(words_of(selection.select.as_ref())).map_err(|message| refuse(message).hint(GRAMMAR))?;
    let mut states = Vec::new();
    for word in words_of(selection.state.as_ref()).iter().flat_map(|words| words.split(',')) {
        let state = State::from_word(word).ok_or_else(|| {
            let known = State::ALL.map(State::as_str);
            refuse(format!("{} is not a state.{}", quote(word), did_you_mean(word, known)))
                .hint(format!("States are {}", known.join(", ")))
        })?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let mut pools = Vec::new();
    for word in words_of(selection.pool.as_ref()) {
        let pool = PoolName::new(word).ok_or_else(|| {
            refuse(format!("{} is not a pool's name", quote(word)))
                .hint("A pool's name is up to 32 of a-z, 0-9, _ and -, and begins with a letter or digit")
        })?;
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    }
    if words.is_empty() && !(states.is_empty() && pools.is_empty()) {
        words.push(Word::All);
    }
    Ok(Select { words, states, pools })
}

/// Whether a batch may have this name: one that `@NAME` can tell from `@3` and `@last`, and that fits a line.
///
/// # Errors
/// A sentence for people.
pub fn check_batch_name(name: &str) -> Result<(), String> {
    let quoted = quote(name);
    if name.is_empty() {
        Err("a batch's name is not empty".to_owned())
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("the batch's name {quoted} is too long: name_bytes_max is {NAME_BYTES_MAX}"))
    } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
        Err(format!("a batch cannot be called {quoted}: all digits are a batch's number"))
    } else if name == "last" {
        Err("a batch cannot be called \"last\": that is the newest batch".to_owned())
    } else if name.chars().any(char::is_control) {
        Err(format!("the batch's name {quoted} contains a control character"))
    } else {
        Ok(())
    }
}

fn words_of(words: Option<&OneOrMany>) -> &[String] {
    words.map_or(&[], OneOrMany::words)
}

fn parse_word(word: &str, parsed: &mut Vec<Word>) -> Result<(), String> {
    if let Some(name) = word.strip_prefix('@') {
        parsed.push(parse_batch(word, name)?);
        return Ok(());
    }
    if word == "all" {
        parsed.push(Word::All);
        return Ok(());
    }
    for part in word.split(',') {
        // The limit is checked by the caller; here it keeps one endless word from filling the memory first.
        if parsed.len() <= SELECT_WORDS_MAX {
            parsed.push(parse_ids(word, part)?);
        }
    }
    Ok(())
}

fn parse_batch(word: &str, name: &str) -> Result<Word, String> {
    if name == "last" {
        return Ok(Word::Last);
    }
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return match name.parse() {
            Ok(number) => Ok(Word::Batch(BatchId(number))),
            Err(_) => Err(format!("{} is too large for a batch's number", quote(word))),
        };
    }
    check_batch_name(name).map_err(|problem| format!("{} selects nothing: {problem}", quote(word)))?;
    Ok(Word::Named(name.into()))
}

fn parse_ids(word: &str, part: &str) -> Result<Word, String> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (parse_id(word, first)?, parse_id(word, last)?);
    if first > last {
        return Err(format!("the range {} runs backwards: write {last}-{first}", quote(part)));
    }
    Ok(Word::Ids(first, last))
}

fn parse_id(word: &str, digits: &str) -> Result<JobId, String> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // A batch's name without its @ is the likeliest slip.
        let hint =
            if word == "last" { " Did you mean \"@last\"?".to_owned() } else { did_you_mean(word, ["all"]) };
        return Err(format!("{} does not select jobs.{hint}", quote(word)));
    }
    digits.parse().map(JobId).map_err(|_| format!("{} is too large for a job's id", quote(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Result<Vec<Word>, String> {
        parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn ids(first: u64, last: u64) -> Word {
        Word::Ids(JobId(first), JobId(last))
    }

    fn one(text: &str) -> OneOrMany {
        OneOrMany::One(text.to_owned())
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        assert_eq!(words(&["17"]), Ok(vec![ids(17, 17)]));
        assert_eq!(words(&["3-9"]), Ok(vec![ids(3, 9)]));
        assert_eq!(words(&["3,5"]), Ok(vec![ids(3, 3), ids(5, 5)]));
        assert_eq!(words(&["3,7-9"]), Ok(vec![ids(3, 3), ids(7, 9)]));
        assert_eq!(words(&["@3"]), Ok(vec![Word::Batch(BatchId(3))]));
        assert_eq!(words(&["@nightly"]), Ok(vec![Word::Named("nightly".into())]));
        assert_eq!(words(&["@last"]), Ok(vec![Word::Last]));
        assert_eq!(words(&["all"]), Ok(vec![Word::All]));
        assert_eq!(words(&["18446744073709551615"]), Ok(vec![ids(u64::MAX, u64::MAX)]));
        assert_eq!(words(&[]), Ok(vec![]));
    }

    #[test]
    fn several_words_are_united_in_order() {
        assert_eq!(words(&["@last", "3", "5-6"]), Ok(vec![Word::Last, ids(3, 3), ids(5, 6)]));
    }

    #[test]
    fn a_word_with_an_at_sign_is_a_name_to_its_end() {
        for name in ["a,b", "3,5", "3-9", "all", "@last", "last,3", "with space", "ünï"] {
            assert_eq!(words(&[&format!("@{name}")]), Ok(vec![Word::Named(name.into())]));
        }
    }

    #[test]
    fn anything_else_is_refused_and_quoted() {
        for bad in [
            "", ",", "3,", ",3", "3,,5", "-3", "3-", "-", "3-5-7", "+3", "3.5", "x", "all,3", "3,@4", "٣",
            " 3", "0x3",
        ] {
            let error = words(&[bad]).expect_err(bad);
            assert!(error.contains(&format!("{bad:?}")), "{bad}: {error}");
        }
        assert!(words(&["@"]).expect_err("no name").contains("not empty"));
        assert!(words(&["9-3"]).expect_err("backwards").contains("write 3-9"));
        assert!(words(&["99999999999999999999"]).expect_err("large").contains("too large"));
        assert!(words(&["@99999999999999999999"]).expect_err("large").contains("too large"));
        assert!(words(&["last"]).expect_err("no at").contains("Did you mean \"@last\"?"));
        assert!(words(&["al"]).expect_err("no all").contains("does not select jobs"));
        assert!(words(&[&"x".repeat(1_000_000)]).expect_err("long").len() < 200);
    }

    #[test]
    fn select_words_max_is_a_limit() {
        let most = vec!["7"; SELECT_WORDS_MAX].join(",");
        assert_eq!(words(&[&most]).map(|words| words.len()), Ok(SELECT_WORDS_MAX));
        assert!(words(&[&most, "8"]).is_err());
        assert!(words(&[&format!("{most},8,9")]).is_err());
    }

    #[test]
    fn states_and_pools_narrow_all() {
        let asked = Selection { select: None, state: Some(one("failed,cancelled")), pool: Some(one("gpu")) };
        let select = selection(&asked).expect("a good selection");
        assert_eq!(select.words, [Word::All]);
        assert_eq!(select.states, [State::Failed, State::Cancelled]);
        assert_eq!(select.pools, [PoolName::new("gpu").expect("a name")]);
    }

    #[test]
    fn arrays_are_read_and_repetitions_counted_once() {
        let many =
            |texts: &[&str]| Some(OneOrMany::Many(texts.iter().map(|text| (*text).to_owned()).collect()));
        let asked = Selection {
            select: many(&["3", "@last"]),
            state: many(&["failed", "queued,failed"]),
            pool: many(&["a", "b", "a"]),
        };
        let select = selection(&asked).expect("a good selection");
        assert_eq!(select.words, [ids(3, 3), Word::Last]);
        assert_eq!(select.states, [State::Failed, State::Queued]);
        assert_eq!(select.pools.len(), 2);
    }

    #[test]
    fn nothing_selects_nothing() {
        assert_eq!(selection(&Selection::default()), Ok(Select::default()));
        let empty = Selection { select: Some(OneOrMany::Many(vec![])), state: None, pool: None };
        assert_eq!(selection(&empty), Ok(Select::default()));
    }

    #[test]
    fn bad_words_are_refused_with_the_nearest() {
        let refused = |asked: Selection| selection(&asked).expect_err("a bad selection");
        let state = refused(Selection { state: Some(one("faild")), ..Selection::default() });
        assert_eq!(state.code, Code::BadRequest);
        assert!(state.message.contains("Did you mean \"failed\"?"), "{}", state.message);
        assert!(state.hint.expect("a hint").contains("succeeded"));
        let pool = refused(Selection { pool: Some(one("GPU")), ..Selection::default() });
        assert!(pool.message.contains("\"GPU\""), "{}", pool.message);
        let select = refused(Selection { select: Some(one("17 18")), ..Selection::default() });
        assert_eq!(select.hint.as_deref(), Some(GRAMMAR));
        assert!(
            refused(Selection { state: Some(one("")), ..Selection::default() })
                .message
                .contains("not a state")
        );
    }

    #[test]
    fn batch_names_can_be_told_from_numbers() {
        for good in ["nightly", "3a", "a b", "lastly", "-", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(check_batch_name(good), Ok(()));
        }
        for bad in ["", "3", "0042", "last", "a\nb", "a\0", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(check_batch_name(bad).is_err(), "{bad:?}");
        }
    }
}
