//! A job's record: what is known of a kept job, spelled the same in every reply and in what `--once` prints.
//!
//! [`render`] writes it from a [`Row`]; [`Record`] reads it. Fields are added, never changed. Payloads go through
//! byte for byte, line breaks included: whoever prints one record per line passes it through [`one_line`].

#[cfg(test)]
mod tests;

use super::duration::seconds_json;
use super::job::after_json;
use super::object::Object;
use super::timestamp;
use crate::model::{
    Attempt, AttemptPlace, Cause, Exit, Outcome, Row, Standing, State, Wall, Work, WorkerName,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How much of a job a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts<'a> {
    /// All but the result, as `list` does.
    Brief,
    /// With the result, as `results` and `--once` do.
    Result,
    /// With data, policy and history too, as `show` does; the attempts that ended without ending the job, oldest
    /// first, each with its round and number.
    All(&'a [(Standing, Attempt)]),
}

/// The record of a job.
#[must_use]
pub fn render(row: &Row, parts: Parts<'_>) -> String {
    let job = &*row.job;
    // A job that was retried still has the outcome of its round before; it says nothing about this one.
    let outcome = row.outcome.as_ref().filter(|_| row.state.is_finished());
    let standing = outcome.map_or(row.standing, |outcome| outcome.standing);
    let (worker, started) = match (outcome, &row.running) {
        (Some(outcome), _) => (
            outcome.last.as_ref().map(|place| &place.worker),
            outcome.last.as_ref().map(|place| place.started),
        ),
        (None, Some(running)) => (Some(&running.worker), running.started),
        (None, None) => (None, None),
    };
    let command = match &job.work {
        Work::Run(command) => Some(&**command),
        Work::Data(_) => None,
    };
    let result = outcome.and_then(|outcome| outcome.result.as_deref());
    let mut object = Object::with_capacity(384 + command.map_or(0, str::len) + result.map_or(0, str::len));
    object.number("id", job.id);
    object.number("batch", job.batch.0);
    object.number("index", job.index);
    object.text_or_null("name", job.name.as_deref());
    object.text_or_null("key", job.key.as_deref());
    object.text("pool", job.pool.as_str());
    object.raw_or_null("run", command);
    object.text("state", row.state.as_str());
    object.number("attempts", standing.attempts);
    object.number("crashes", standing.crashes);
    object.text_or_null("cause", outcome.and_then(|outcome| outcome.cause).map(Cause::as_str));
    object.text_or_null("error", outcome.and_then(error_of_outcome).as_deref());
    match parts {
        Parts::Brief => {}
        Parts::Result | Parts::All(_) => object.raw_or_null("result", result),
    }
    write_worker(&mut object, worker);
    object.text("submitted", &timestamp::render(job.submitted));
    write_time(&mut object, "started", started);
    write_time(&mut object, "finished", outcome.map(|outcome| outcome.finished));
    object.number("priority", job.priority);
    match parts {
        Parts::Brief | Parts::Result => {}
        Parts::All(attempts) => write_show(&mut object, row, outcome, attempts),
    }
    object.finish()
}

/// JSON text without line breaks. In valid JSON they stand only between values, where a space means the same.
#[must_use]
pub fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// A record, as a client reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub id: u64,
    pub batch: u64,
    pub index: u64,
    pub name: Option<String>,
    pub key: Option<String>,
    pub pool: String,
    pub run: Option<Box<RawValue>>,
    /// A word of [`State`].
    pub state: String,
    pub attempts: u32,
    pub crashes: u32,
    /// A word of [`Cause`].
    pub cause: Option<String>,
    pub error: Option<String>,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    pub worker: Option<String>,
    pub submitted: String,
    pub started: Option<String>,
    pub finished: Option<String>,
    pub priority: i16,
    /// From here on: only of `show`.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
    #[serde(default)]
    pub timeout_s: Option<f64>,
    #[serde(default)]
    pub retries: Option<u32>,
    #[serde(default)]
    pub backoff_s: Option<f64>,
    #[serde(default)]
    pub delay_s: Option<f64>,
    #[serde(default)]
    pub output_dir: Option<String>,
    #[serde(default)]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub cwd: Option<String>,
    #[serde(default)]
    pub stdin: Option<String>,
    #[serde(default)]
    pub due: Option<String>,
    #[serde(default)]
    pub after: Vec<serde_json::Value>,
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
}

impl Record {
    /// Its state; `None` if a newer daemon knows one that we do not.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        State::from_word(&self.state)
    }

    /// Its cause, likewise.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.as_deref().and_then(Cause::from_word)
    }
}

/// One attempt of a [`Record`]'s history.
#[derive(Clone, Debug, Deserialize)]
pub struct HistoryEntry {
    pub round: u32,
    pub attempt: u32,
    pub worker: Option<String>,
    pub started: Option<String>,
    pub finished: Option<String>,
    pub cause: Option<String>,
    pub error: Option<String>,
    pub evidence: Option<Box<RawValue>>,
    pub result: Option<Box<RawValue>>,
}

/// The fields that `show` adds.
fn write_show(object: &mut Object, row: &Row, outcome: Option<&Outcome>, attempts: &[(Standing, Attempt)]) {
    let job = &*row.job;
    match &job.work {
        Work::Run(_) => object.raw("data", "null"),
        Work::Data(data) => object.raw("data", data),
    }
    let policy = job.policy();
    object.raw_or_null("timeout_s", policy.timeout.map(seconds_json).as_deref());
    object.raw_or_null("retries", policy.retries.map(|retries| retries.to_string()).as_deref());
    object.raw_or_null("backoff_s", policy.backoff.map(seconds_json).as_deref());
    object.raw_or_null("delay_s", policy.delay.map(seconds_json).as_deref());
    object.text_or_null("output_dir", policy.output_dir.as_deref());
    object.raw_or_null("env", policy.env.as_deref());
    object.text_or_null("cwd", policy.cwd.as_deref());
    object.text_or_null("stdin", policy.stdin.as_deref());
    write_time(object, "due", row.due);
    object.raw("after", &after_json(&job.after));
    let mut history: Vec<String> =
        attempts.iter().map(|(standing, attempt)| history_of_attempt(*standing, attempt)).collect();
    history.extend(outcome.and_then(history_of_outcome));
    object.raw("history", &format!("[{}]", history.join(",")));
}

fn history_of_attempt(standing: Standing, attempt: &Attempt) -> String {
    let error = error_text(
        attempt.error.as_deref(),
        Some(attempt.cause),
        attempt.result.as_deref(),
        attempt.evidence.as_deref(),
    );
    history_entry(&Ended {
        standing,
        place: &attempt.place,
        finished: attempt.finished,
        cause: Some(attempt.cause),
        error: error.as_deref(),
        evidence: attempt.evidence.as_deref(),
        result: attempt.result.as_deref(),
    })
}

/// The attempt that ended the job, if it was an attempt that did. A cancel, say, charges none: then the last
/// place is that of an attempt that was never settled, and still worth telling.
fn history_of_outcome(outcome: &Outcome) -> Option<String> {
    outcome.last.as_ref().map(|place| {
        history_entry(&Ended {
            standing: outcome.standing,
            place,
            finished: outcome.finished,
            cause: outcome.cause,
            error: error_of_outcome(outcome).as_deref(),
            evidence: outcome.evidence.as_deref(),
            result: outcome.result.as_deref(),
        })
    })
}

/// An attempt that is over, whether or not it ended its job.
struct Ended<'a> {
    standing: Standing,
    place: &'a AttemptPlace,
    finished: Wall,
    cause: Option<Cause>,
    error: Option<&'a str>,
    evidence: Option<&'a str>,
    result: Option<&'a str>,
}

fn history_entry(ended: &Ended<'_>) -> String {
    let mut object = Object::with_capacity(256 + ended.result.map_or(0, str::len));
    object.number("round", ended.standing.round);
    object.number("attempt", ended.standing.attempts);
    write_worker(&mut object, Some(&ended.place.worker));
    write_time(&mut object, "started", Some(ended.place.started));
    write_time(&mut object, "finished", Some(ended.finished));
    object.text_or_null("cause", ended.cause.map(Cause::as_str));
    object.text_or_null("error", ended.error);
    object.raw_or_null("evidence", ended.evidence);
    object.raw_or_null("result", ended.result);
    object.finish()
}

/// What went wrong, in one line, as it was given or as the outcome and the evidence say.
pub(crate) fn error_of_outcome(outcome: &Outcome) -> Option<Cow<'_, str>> {
    error_text(
        outcome.error.as_deref(),
        outcome.cause,
        outcome.result.as_deref(),
        outcome.evidence.as_deref(),
    )
}

/// The error as it was given; without one, the exit or signal that stands in the outcome of a command or in the
/// evidence of a crash.
fn error_text<'a>(
    error: Option<&'a str>,
    cause: Option<Cause>,
    result: Option<&str>,
    evidence: Option<&str>,
) -> Option<Cow<'a, str>> {
    if let Some(error) = error {
        return Some(Cow::Borrowed(error));
    }
    let exit = match cause? {
        Cause::Exit | Cause::Signal => exit_in(result?)?,
        Cause::Crash => exit_in(evidence?)?,
        Cause::Error | Cause::Timeout | Cause::Lost | Cause::Start | Cause::Dependency | Cause::Cancelled => {
            return None;
        }
    };
    Some(Cow::Owned(exit.to_string()))
}

/// The `exit` or `signal` of a JSON object, if it has one.
fn exit_in(json: &str) -> Option<Exit> {
    #[derive(Deserialize)]
    struct Ending {
        #[serde(default)]
        exit: Option<i32>,
        #[serde(default)]
        signal: Option<i32>,
    }
    // Without the look at the brace an array would be read as the fields in order.
    let ending: Ending = json.starts_with('{').then(|| serde_json::from_str(json).ok())??;
    ending.signal.map(Exit::Signal).or(ending.exit.map(Exit::Status))
}

fn write_worker(object: &mut Object, worker: Option<&WorkerName>) {
    object.text_or_null("worker", worker.map(ToString::to_string).as_deref());
}

fn write_time(object: &mut Object, name: &str, at: Option<Wall>) {
    object.text_or_null(name, at.map(timestamp::render).as_deref());
}
