//! Everything that can go wrong, its exit status, and its words for people and for programs.

use crate::trouble::Trouble;
use crate::words::plain;
use pushpull::wire::control::{Code, Refusal};
use pushpull::wire::jobfile::FileError;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io;

/// How a verb ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// A job that was waited for failed or was cancelled, or an audit found a difference.
    Unsuccessful,
    /// The wait's own limit ran out.
    TimedOut,
}

impl Ending {
    pub fn exit_status(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Unsuccessful => 1,
            Ending::TimedOut => 124,
        }
    }
}

/// Why a verb could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be.
    Usage { message: String, hint: String },
    /// A job file is not right.
    File(Box<FileError>),
    /// The daemon said no.
    Refused(Box<Refused>),
    /// There was no answer.
    Trouble(Trouble),
    /// There was no answer to a submit; if it was to its last chunk, it may or may not be accepted.
    Unknown { key: String, last: bool, trouble: Trouble },
    /// A wait ended before its jobs did; this command looks at them again.
    Left { again: String, trouble: Trouble },
    /// The daemon's answer makes no sense.
    Answer(String),
    /// The output cannot be written.
    Output(io::Error),
    /// Something else of this machine does not work.
    System(String),
}

/// The `error` of a reply, whatever fields a newer daemon puts there.
#[derive(Clone, Debug, Deserialize)]
pub struct Refused {
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub hint: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Refused {
    /// The code, if it is one that we know.
    pub fn code(&self) -> Option<Code> {
        serde_json::from_value(Value::from(self.code.as_str())).ok()
    }

    /// The number in one of the further fields.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.more.get(field).and_then(Value::as_u64)
    }
}

impl Failure {
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: hint.into() }
    }

    /// A request that we can see to be wrong before it is sent.
    pub fn of_request(refusal: Refusal) -> Failure {
        Failure::Usage { message: refusal.message, hint: refusal.hint.unwrap_or_default() }
    }

    pub fn exit_status(&self) -> u8 {
        match self {
            Failure::Usage { .. } => 2,
            Failure::File(error) if error.limit.is_some() => Code::Limit.exit_status(),
            Failure::File(_) => Code::BadJob.exit_status(),
            Failure::Refused(refused) => refused.code().map_or(6, Code::exit_status),
            Failure::Trouble(trouble) | Failure::Unknown { trouble, .. } | Failure::Left { trouble, .. } => {
                trouble.exit_status()
            }
            Failure::Output(_) if self.is_silent() => 0,
            Failure::Answer(_) | Failure::System(_) | Failure::Output(_) => 6,
        }
    }

    /// Whether there is something to say: not about a reader that has seen enough.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// For people; the second line, if any, says what to do next.
    pub fn text(&self) -> String {
        let (message, hint) = (self.message(), self.hint());
        let message = message.split('\n').map(plain).collect::<Vec<_>>().join("\n");
        let hint = hint.split('\n').map(plain).collect::<Vec<_>>().join("\n");
        if hint.is_empty() { message } else { format!("{message}\n{hint}") }
    }

    /// For programs, on one line.
    pub fn json(&self) -> String {
        let mut error = Map::new();
        error.insert("code".to_owned(), Value::from(self.code()));
        error.insert("message".to_owned(), Value::from(self.message()));
        let hint = self.hint();
        if !hint.is_empty() {
            error.insert("hint".to_owned(), Value::from(hint));
        }
        error.extend(self.more());
        json!({ "error": error }).to_string()
    }

    fn code(&self) -> &str {
        match self {
            Failure::Usage { .. } => "usage",
            Failure::File(error) if error.limit.is_some() => "limit",
            Failure::File(_) => "bad_job",
            Failure::Refused(refused) => &refused.code,
            Failure::Trouble(trouble) | Failure::Unknown { trouble, .. } | Failure::Left { trouble, .. } => {
                trouble.code()
            }
            Failure::Answer(_) | Failure::System(_) => "internal",
            Failure::Output(_) => "output",
        }
    }

    fn message(&self) -> String {
        match self {
            Failure::Usage { message, .. } | Failure::Answer(message) | Failure::System(message) => {
                message.clone()
            }
            Failure::File(error) => {
                // The hint has a line of its own.
                let mut bare = (**error).clone();
                bare.hint = None;
                bare.to_string()
            }
            Failure::Refused(refused) => refused.message.clone(),
            Failure::Trouble(trouble) | Failure::Left { trouble, .. } => trouble.to_string(),
            Failure::Unknown { key, last: true, trouble } => {
                format!("{trouble}\nit is not known whether the submit with the key {key} was accepted")
            }
            Failure::Unknown { key, last: false, trouble } => {
                format!("{trouble}\nnothing of the submit with the key {key} was accepted")
            }
            Failure::Output(error) => format!("the output cannot be written: {error}"),
        }
    }

    fn hint(&self) -> String {
        match self {
            Failure::Usage { hint, .. } => hint.clone(),
            Failure::File(error) => error.hint.clone().unwrap_or_default(),
            Failure::Refused(refused) => refused.hint.clone().unwrap_or_default(),
            Failure::Trouble(trouble) => trouble.hint(),
            Failure::Left { again, .. } => format!("The jobs go on. Look again: {again}"),
            Failure::Unknown { key, .. } => {
                format!("Submit the same again with --key {key}: what was accepted is not accepted twice")
            }
            Failure::Answer(_) => {
                "Are pushpullctl and pushpulld of the same version? See pushpullctl version".to_owned()
            }
            Failure::Output(_) | Failure::System(_) => String::new(),
        }
    }

    fn more(&self) -> Map<String, Value> {
        let mut more = Map::new();
        match self {
            Failure::File(error) => {
                more.insert("file".to_owned(), Value::from(&*error.file));
                more.insert("line".to_owned(), Value::from(error.line));
                if let Some(index) = error.index {
                    more.insert("index".to_owned(), Value::from(index));
                }
                if let Some(field) = &error.field {
                    more.insert("field".to_owned(), Value::from(field.as_str()));
                }
                if let Some((limit, value)) = error.limit {
                    more.insert("limit".to_owned(), Value::from(limit));
                    more.insert("value".to_owned(), Value::from(value));
                }
            }
            Failure::Refused(refused) => more.clone_from(&refused.more),
            Failure::Unknown { key, .. } => {
                // For whoever repeats it.
                more.insert("key".to_owned(), Value::from(key.as_str()));
            }
            Failure::Usage { .. }
            | Failure::Trouble(_)
            | Failure::Left { .. }
            | Failure::Answer(_)
            | Failure::Output(_)
            | Failure::System(_) => {}
        }
        more
    }
}

impl From<io::Error> for Failure {
    /// Only writing to the output fails with a plain I/O error; all others say more.
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::Trouble(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Failure {
        let text = format!(r#"{{"code":"{code}","message":"no \u001b[31m","limit":"jobs_max","value":7}}"#);
        Failure::Refused(Box::new(serde_json::from_str(&text).expect("an error")))
    }

    #[test]
    fn refusals_have_the_statuses_of_the_manual() {
        for (code, status) in [
            ("bad_request", 2),
            ("bad_job", 2),
            ("not_found", 4),
            ("limit", 5),
            ("key_conflict", 5),
            ("internal", 6),
            ("of_the_future", 6),
        ] {
            assert_eq!(refused(code).exit_status(), status, "{code}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_fields_in_json_and_loses_its_control_characters_for_people() {
        let failure = refused("limit");
        let json: Value = serde_json::from_str(&failure.json()).expect("JSON");
        assert_eq!(json["error"]["limit"], "jobs_max");
        assert_eq!(json["error"]["value"], 7);
        assert!(!failure.text().contains('\u{1b}'), "{}", failure.text());
        assert!(!failure.json().contains('\n'));
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        let closed = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit_status(), closed.is_silent()), (0, true));
        let full = Failure::Output(io::ErrorKind::StorageFull.into());
        assert_eq!((full.exit_status(), full.is_silent()), (6, false));
    }
}
