//! What the daemon answers, and its one spelling as a frame.

use super::control::{
    AuditReply, BatchJson, PingReply, Refusal, StatusReply, SubmitReply, WaitReply, WorkerRow,
};
use serde::Serialize;
use serde_json::Value;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Refused(Box<Refusal>),
    /// Done; there is nothing to tell.
    Done,
    Ping(PingReply),
    /// A middle chunk of a submit arrived; this one is next.
    Expect(u64),
    Submitted(SubmitReply),
    Status(Box<StatusReply>),
    /// Records as JSON objects.
    Records {
        records: Vec<String>,
        next: Value,
        done: bool,
    },
    /// One record or batch, a JSON object whose fields become the reply's.
    Object(String),
    Batches {
        rows: Vec<BatchJson>,
        next: Value,
        done: bool,
    },
    Workers(Vec<WorkerRow>),
    /// Lines as JSON objects.
    Logs {
        pieces: Vec<String>,
        next: String,
        /// Lines that the cursor pointed at are gone.
        gap: bool,
        /// There is nothing more for now.
        done: bool,
    },
    Wait(WaitReply),
    /// How many jobs met which fate.
    Fates(Vec<(&'static str, u64)>),
    Audit(AuditReply),
}

#[derive(Serialize)]
struct Answer<T> {
    ok: bool,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Error<'a> {
    ok: bool,
    error: &'a Refusal,
}

#[derive(Serialize)]
struct Expect {
    expect: u64,
}

#[derive(Serialize)]
struct Page<'a, T> {
    ok: bool,
    rows: &'a [T],
    next: &'a Value,
    done: bool,
}

impl Reply {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Refused(refusal) => bytes(&Error { ok: false, error: refusal }),
            Reply::Done => bytes(&Answer { ok: true, body: Value::Object(serde_json::Map::new()) }),
            Reply::Ping(ping) => bytes(&Answer { ok: true, body: ping }),
            Reply::Expect(chunk) => bytes(&Answer { ok: true, body: Expect { expect: *chunk } }),
            Reply::Submitted(submitted) => bytes(&Answer { ok: true, body: submitted }),
            Reply::Status(status) => bytes(&Answer { ok: true, body: status }),
            Reply::Records { records, next, done } => encode_records(records, next, *done),
            Reply::Object(object) => format!("{{\"ok\":true,{}", &object[1..]).into_bytes(),
            Reply::Batches { rows, next, done } => bytes(&Page { ok: true, rows, next, done: *done }),
            Reply::Workers(rows) => bytes(&Page { ok: true, rows, next: &Value::Null, done: true }),
            Reply::Logs { pieces, next, gap, done } => encode_pieces(pieces, next, *gap, *done),
            Reply::Audit(audit) => bytes(&Answer { ok: true, body: audit }),
            Reply::Wait(wait) => bytes(&Answer { ok: true, body: wait }),
            Reply::Fates(fates) => {
                let body: serde_json::Map<String, Value> =
                    fates.iter().map(|(fate, jobs)| ((*fate).to_owned(), Value::from(*jobs))).collect();
                bytes(&Answer { ok: true, body })
            }
        }
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("replies have text keys and no values that JSON lacks")
}

/// Records are JSON already: they are joined, not parsed again.
fn encode_records(records: &[String], next: &Value, done: bool) -> Vec<u8> {
    format!("{{\"ok\":true,\"records\":[{}],\"next\":{next},\"done\":{done}}}", records.join(","))
        .into_bytes()
}

/// The same for lines of logs.
fn encode_pieces(pieces: &[String], next: &str, gap: bool, done: bool) -> Vec<u8> {
    let (pieces, next) = (pieces.join(","), Value::from(next));
    format!("{{\"ok\":true,\"pieces\":[{pieces}],\"next\":{next},\"gap\":{gap},\"done\":{done}}}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::control::Code;
    use super::*;

    fn text(reply: &Reply) -> String {
        String::from_utf8(reply.encode()).unwrap()
    }

    #[test]
    fn replies_say_ok_first() {
        assert_eq!(text(&Reply::Done), r#"{"ok":true}"#);
        assert_eq!(text(&Reply::Expect(3)), r#"{"ok":true,"expect":3}"#);
        assert_eq!(text(&Reply::Object(r#"{"id":1}"#.to_owned())), r#"{"ok":true,"id":1}"#);
        let page =
            Reply::Records { records: vec!["{}".into(), "[1]".into()], next: Value::from(7), done: false };
        assert_eq!(text(&page), r#"{"ok":true,"records":[{},[1]],"next":7,"done":false}"#);
        assert_eq!(text(&Reply::Fates(vec![("cancelled", 2)])), r#"{"ok":true,"cancelled":2}"#);
    }

    #[test]
    fn refusals_carry_their_code_and_hint() {
        let refusal = Refusal::new(Code::NotFound, "no job 17").hint("pushpullctl list");
        assert_eq!(
            text(&Reply::Refused(Box::new(refusal))),
            r#"{"ok":false,"error":{"code":"not_found","message":"no job 17","hint":"pushpullctl list"}}"#
        );
    }
}
