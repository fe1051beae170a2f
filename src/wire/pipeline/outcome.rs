//! The outcome of a command, as it stands in the record of its job.

use super::put;
use crate::model::{Exit, Json};
use std::time::Duration;

/// How a command ended and what it wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandOutcome {
    pub exit: Exit,
    pub stdout: Stream,
    pub stderr: Stream,
    /// Whether the middle of a stream was left out.
    pub truncated: bool,
    pub run: Duration,
    /// The most memory that it had resident.
    pub max_rss_kib: u64,
}

/// What a command wrote to one of its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    Text(String),
    /// Not UTF-8; in base64.
    Base64(String),
}

impl CommandOutcome {
    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let (exit, signal) = match self.exit {
            Exit::Status(status) => (Some(status), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        let mut out = Vec::with_capacity(128 + self.stdout.len() + self.stderr.len());
        out.extend_from_slice(b"{\"exit\":");
        put(&mut out, &exit);
        out.extend_from_slice(b",\"signal\":");
        put(&mut out, &signal);
        put_stream(&mut out, "stdout", &self.stdout);
        put_stream(&mut out, "stderr", &self.stderr);
        out.extend_from_slice(b",\"truncated\":");
        put(&mut out, &self.truncated);
        out.extend_from_slice(b",\"run_s\":");
        put(&mut out, &rounded_to_micros(self.run));
        out.extend_from_slice(b",\"max_rss_kib\":");
        put(&mut out, &self.max_rss_kib);
        out.push(b'}');
        Json::from(String::from_utf8(out).expect("JSON is written as UTF-8"))
    }
}

impl Stream {
    fn len(&self) -> usize {
        match self {
            Stream::Text(text) | Stream::Base64(text) => text.len(),
        }
    }
}

fn put_stream(out: &mut Vec<u8>, name: &str, stream: &Stream) {
    let (suffix, text) = match stream {
        Stream::Text(text) => ("", text),
        Stream::Base64(text) => ("_base64", text),
    };
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.extend_from_slice(b"\":");
    put(out, text);
}

/// Seconds, without digits that no clock has measured.
fn rounded_to_micros(span: Duration) -> f64 {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_the_fields_of_the_manual() {
        let mut outcome = CommandOutcome {
            exit: Exit::Status(0),
            stdout: Stream::Text("hi\n".to_owned()),
            stderr: Stream::Base64("/w==".to_owned()),
            truncated: false,
            run: Duration::from_nanos(10_000_999),
            max_rss_kib: 1234,
        };
        assert_eq!(
            &*outcome.to_json(),
            r#"{"exit":0,"signal":null,"stdout":"hi\n","stderr_base64":"/w==","truncated":false,"run_s":0.01,"max_rss_kib":1234}"#
        );
        outcome.exit = Exit::Signal(9);
        assert!(outcome.to_json().starts_with(r#"{"exit":null,"signal":9,"#));
    }
}
