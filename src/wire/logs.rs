//! What workers and the daemon have written, line by line: whose lines are wanted, and how a line travels.

use super::base64;
use super::control::{Ask, Code, Refusal};
use super::object::Object;
use crate::model::PoolName;
use std::time::Duration;

/// What a client wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsAsk {
    /// `None`: everything, the daemon's own lines among it.
    pub worker: Option<WorkerWord>,
    /// The opaque `next` of an earlier reply; checked by whoever made it.
    pub after: Option<String>,
    /// How long the reply may wait for a line.
    pub timeout: Duration,
}

/// A worker, as in `default.3.17`, or a slot with all that were ever in it, as in `default.3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerWord {
    pub pool: PoolName,
    pub slot: u32,
    pub generation: Option<u64>,
}

impl WorkerWord {
    /// Reads `POOL.SLOT` or `POOL.SLOT.GENERATION`.
    #[must_use]
    pub fn parse(text: &str) -> Option<WorkerWord> {
        let mut parts = text.split('.');
        let pool = PoolName::new(parts.next()?)?;
        let slot = number(parts.next()?)?;
        let generation = match parts.next() {
            None => None,
            Some(text) => Some(number(text)?),
        };
        parts.next().is_none().then_some(WorkerWord { pool, slot, generation })
    }

    /// Whether `worker`, a full name, is meant.
    #[must_use]
    pub fn means(&self, worker: &str) -> bool {
        WorkerWord::parse(worker).is_some_and(|named| {
            named.pool == self.pool
                && named.slot == self.slot
                && named.generation.is_some()
                && (self.generation.is_none() || named.generation == self.generation)
        })
    }
}

impl std::fmt::Display for WorkerWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.pool, self.slot)?;
        self.generation.map_or(Ok(()), |generation| write!(f, ".{generation}"))
    }
}

/// Digits and nothing else, which one number has one spelling of.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// One line that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339.
    pub at: &'a str,
    /// `None`: the daemon itself.
    pub worker: Option<&'a str>,
    pub stream: &'a str,
    /// Without its end; a worker may write any bytes.
    pub text: &'a [u8],
}

impl Line<'_> {
    /// A piece of a reply.
    #[must_use]
    pub fn render(&self) -> String {
        let mut piece = Object::with_capacity(96 + self.text.len());
        piece.text("at", self.at);
        piece.text_or_null("worker", self.worker);
        piece.text("stream", self.stream);
        match std::str::from_utf8(self.text) {
            Ok(text) => piece.text("text", text),
            Err(_) => piece.text("base64", &base64::encode(self.text)),
        }
        piece.finish()
    }
}

/// Reads the request `logs`.
///
/// # Errors
/// When it names no worker.
pub(super) fn parse(ask: &Ask, timeout: Duration) -> Result<LogsAsk, Refusal> {
    let worker = match &ask.worker {
        None => None,
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let refusal = Refusal::new(Code::NotFound, format!("{text} is a job: pushpullctl show {text}"));
            return Err(refusal.hint("logs takes a worker, as default.3.17, or a slot, as default.3"));
        }
        Some(text) => Some(WorkerWord::parse(text).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("{text:?} is no worker")).hint(
                "name a worker, as default.3.17, or a slot, as default.3; pushpullctl workers lists them",
            )
        })?),
    };
    let after = match &ask.after {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(Refusal::new(Code::BadRequest, "after is the next of an earlier reply")),
    };
    Ok(LogsAsk { worker, after, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_slots_are_told_apart_and_all_else_is_neither() {
        let slot = WorkerWord::parse("default.3").expect("a slot");
        let worker = WorkerWord::parse("default.3.17").expect("a worker");
        assert_eq!((slot.to_string(), worker.to_string()), ("default.3".into(), "default.3.17".into()));
        for (name, of_slot, of_worker) in [
            ("default.3.17", true, true),
            ("default.3.18", true, false),
            ("default.30.17", false, false),
            ("other.3.17", false, false),
            ("default.3", false, false),
        ] {
            assert_eq!((slot.means(name), worker.means(name)), (of_slot, of_worker), "{name}");
        }
        for bad in
            ["", "default", "default.", "default.x", "default.3.", "default.3.17.1", "D.3", "d.+3", "d.03"]
        {
            assert_eq!(WorkerWord::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_is_a_job_and_says_so() {
        let ask = |worker: &str| Ask { worker: Some(worker.to_owned()), ..Ask::default() };
        let refusal = parse(&ask("17"), Duration::ZERO).expect_err("no worker");
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::NotFound, "17 is a job: pushpullctl show 17")
        );
        assert_eq!(parse(&ask("gpu"), Duration::ZERO).expect_err("no worker").code, Code::NotFound);
        let asked = parse(&ask("gpu.0"), Duration::ZERO).expect("a slot");
        assert_eq!(asked.worker, WorkerWord::parse("gpu.0"));
    }

    #[test]
    fn what_is_no_text_travels_as_base64() {
        let line = Line { at: "T", worker: Some("default.0.1"), stream: "stdout", text: b"a\"b" };
        assert_eq!(line.render(), r#"{"at":"T","worker":"default.0.1","stream":"stdout","text":"a\"b"}"#);
        let line = Line { worker: None, stream: "log", text: b"\xff\xfe\xfb", ..line };
        assert_eq!(line.render(), r#"{"at":"T","worker":null,"stream":"log","base64":"//77"}"#);
    }
}
