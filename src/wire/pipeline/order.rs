//! What the daemon says: jobs, and to the built-in worker their commands and cancels.
//!
//! A message is written by splicing JSON that was checked at submit; nothing is built as a tree. To the built-in
//! worker, `data` is an object that says which command to run and how. A submitter's environment and directory
//! are often the same for a million jobs, so they travel as `context` only when they change from one job sent to
//! a worker to the next; a worker begins with none, that is with the daemon's own.

use super::put;
use crate::model::{Context, Job, JobId, Json, Policy, Work};
use crate::wire::pipeline::Style;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// A job on its way to a worker, with what its pool decided.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub job: &'a Job,
    /// Counted from 1.
    pub attempt: u32,
    /// Limit of this attempt; only the built-in worker is told.
    pub timeout: Option<Duration>,
    /// Time between TERM and KILL; only the built-in worker is told.
    pub stop_timeout: Option<Duration>,
    /// The submitter's environment and directory if they differ from those of the job that this worker was sent
    /// before. `None`: as before. `Some(None)`: the daemon's own again.
    pub context: Option<Option<&'a Context>>,
}

/// Writes the message that gives a job to a worker into `out`, which is cleared first.
pub fn encode_job(delivery: &Delivery<'_>, style: Style, out: &mut Vec<u8>) {
    out.clear();
    let job = delivery.job;
    match (style, &job.work) {
        (Style::Bare, Work::Data(json) | Work::Run(json)) => out.extend_from_slice(json.as_bytes()),
        (Style::Envelope, Work::Data(json)) => {
            put_head(out, job.id, delivery.attempt);
            put_raw(out, ",\"data\":", json);
            out.push(b'}');
        }
        (Style::Envelope, Work::Run(run)) => {
            put_head(out, job.id, delivery.attempt);
            if let Some(context) = delivery.context {
                put_context(out, context);
            }
            put_raw(out, ",\"data\":{\"run\":", run);
            put_seconds(out, ",\"timeout_s\":", delivery.timeout);
            put_seconds(out, ",\"stop_timeout_s\":", delivery.stop_timeout);
            if let Some(policy) = &job.policy {
                put_policy(out, policy);
            }
            out.extend_from_slice(b"}}");
        }
    }
}

/// Writes the message that takes a job back from the built-in worker into `out`, which is cleared first.
pub fn encode_cancel(id: JobId, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(br#"{"type":"cancel","id":"#);
    put(out, &id.0);
    out.push(b'}');
}

/// A message as the built-in worker understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Job(Box<JobOrder>),
    Cancel(JobId),
}

/// A job as the built-in worker understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOrder {
    pub id: JobId,
    pub attempt: u32,
    /// As in [`Delivery::context`].
    pub context: Option<Option<Context>>,
    /// Text for the job's error if its `data` is no command.
    pub command: Result<Command, String>,
}

/// A command and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub run: Run,
    /// Relative to the context's directory.
    pub cwd: Option<String>,
    /// Added to the context's environment.
    pub env: BTreeMap<String, String>,
    pub stdin: Option<String>,
    /// Relative to the command's directory.
    pub output_dir: Option<String>,
    pub timeout: Option<Duration>,
    pub stop_timeout: Option<Duration>,
}

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Run {
    /// For `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

/// Reads a frame that came from the daemon.
///
/// # Errors
///
/// Text for the log when the frame is neither a job nor a cancel.
pub fn parse_order(frame: &[u8]) -> Result<Order, String> {
    let message: Message = serde_json::from_slice(frame).map_err(|error| error.to_string())?;
    match &*message.kind {
        "cancel" => Ok(Order::Cancel(JobId(message.id))),
        "job" => {
            let context = match message.context {
                None => None,
                Some(raw) => Some(parse_context(raw)?),
            };
            let command = match message.data {
                Some(raw) => parse_command(raw),
                None => Err("the job has no command".to_owned()),
            };
            let (id, attempt) = (JobId(message.id), message.attempt);
            Ok(Order::Job(Box::new(JobOrder { id, attempt, context, command })))
        }
        unknown => Err(format!("unknown type {unknown:?}")),
    }
}

/// The variables of a [`Context`]'s environment.
///
/// # Errors
///
/// Text for people when `json` is not an object of texts.
pub fn parse_environment(json: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(json).map_err(|error| format!("the environment is not an object of texts: {error}"))
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    id: u64,
    #[serde(default)]
    attempt: u32,
    #[serde(default, borrow, deserialize_with = "present")]
    context: Option<&'a RawValue>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// A field that is there, also if it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct ContextFields<'a> {
    #[serde(borrow)]
    environment: Option<&'a RawValue>,
    directory: Option<Box<str>>,
}

fn parse_context(raw: &RawValue) -> Result<Option<Context>, String> {
    let fields: Option<ContextFields> =
        serde_json::from_str(raw.get()).map_err(|error| format!("`context`: {error}"))?;
    Ok(fields.map(|fields| Context {
        environment: fields.environment.map(|raw| Json::from(raw.get())),
        directory: fields.directory,
    }))
}

#[derive(Deserialize)]
struct CommandFields {
    run: Run,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    output_dir: Option<String>,
    timeout_s: Option<f64>,
    stop_timeout_s: Option<f64>,
}

fn parse_command(raw: &RawValue) -> Result<Command, String> {
    let fields: CommandFields =
        serde_json::from_str(raw.get()).map_err(|error| format!("this is no command: {error}"))?;
    // What no `Duration` can hold is as good as for ever.
    let duration = |seconds: Option<f64>| seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    Ok(Command {
        run: fields.run,
        cwd: fields.cwd,
        env: fields.env,
        stdin: fields.stdin,
        output_dir: fields.output_dir,
        timeout: duration(fields.timeout_s),
        stop_timeout: duration(fields.stop_timeout_s),
    })
}

fn put_head(out: &mut Vec<u8>, id: JobId, attempt: u32) {
    out.extend_from_slice(br#"{"type":"job","id":"#);
    put(out, &id.0);
    out.extend_from_slice(br#","attempt":"#);
    put(out, &attempt);
}

fn put_context(out: &mut Vec<u8>, context: Option<&Context>) {
    let Some(context) = context else {
        out.extend_from_slice(br#","context":null"#);
        return;
    };
    put_raw(out, ",\"context\":{\"environment\":", context.environment.as_deref().unwrap_or("null"));
    out.extend_from_slice(br#","directory":"#);
    put(out, &context.directory);
    out.push(b'}');
}

fn put_policy(out: &mut Vec<u8>, policy: &Policy) {
    put_text(out, ",\"cwd\":", policy.cwd.as_deref());
    if let Some(env) = &policy.env {
        put_raw(out, ",\"env\":", env);
    }
    put_text(out, ",\"stdin\":", policy.stdin.as_deref());
    put_text(out, ",\"output_dir\":", policy.output_dir.as_deref());
}

fn put_raw(out: &mut Vec<u8>, name: &str, json: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(json.as_bytes());
}

fn put_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.extend_from_slice(name.as_bytes());
        put(out, text);
    }
}

fn put_seconds(out: &mut Vec<u8>, name: &str, span: Option<Duration>) {
    if let Some(span) = span {
        out.extend_from_slice(name.as_bytes());
        put(out, &span.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchId, PoolName, Wall};

    fn job(work: Work, policy: Option<Policy>) -> Job {
        Job {
            id: JobId(17),
            batch: BatchId(1),
            index: 0,
            pool: PoolName::default(),
            priority: 0,
            name: None,
            key: None,
            work,
            policy: policy.map(Box::new),
            context: None,
            after: Vec::new(),
            submitted: Wall(0),
        }
    }

    #[expect(clippy::option_option, reason = "it is the type of the field")]
    fn encoded(job: &Job, context: Option<Option<&Context>>, style: Style) -> String {
        let mut out = b"left over".to_vec();
        let timeout = Some(Duration::from_millis(1500));
        encode_job(&Delivery { job, attempt: 2, timeout, stop_timeout: None, context }, style, &mut out);
        String::from_utf8(out).expect("a message is UTF-8")
    }

    #[test]
    fn data_travels_byte_for_byte() {
        let job = job(Work::Data(r#"{ "x": 1.50 }"#.into()), None);
        assert_eq!(
            encoded(&job, None, Style::Envelope),
            r#"{"type":"job","id":17,"attempt":2,"data":{ "x": 1.50 }}"#
        );
        assert_eq!(encoded(&job, None, Style::Bare), r#"{ "x": 1.50 }"#);
    }

    #[test]
    fn a_command_arrives_as_it_was_sent() {
        let policy = Policy {
            cwd: Some("sub".into()),
            env: Some(r#"{"A":"1 \" 2"}"#.into()),
            stdin: Some("line\n".into()),
            output_dir: Some("out".into()),
            ..Policy::default()
        };
        let job = job(Work::Run(r#"["echo","hi"]"#.into()), Some(policy));
        let context =
            Context { environment: Some(r#"{"HOME":"/x"}"#.into()), directory: Some("/work \"1\"".into()) };
        let frame = encoded(&job, Some(Some(&context)), Style::Envelope);
        let command = Command {
            run: Run::Program(vec!["echo".to_owned(), "hi".to_owned()]),
            cwd: Some("sub".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "1 \" 2".to_owned())]),
            stdin: Some("line\n".to_owned()),
            output_dir: Some("out".to_owned()),
            timeout: Some(Duration::from_millis(1500)),
            stop_timeout: None,
        };
        let order =
            JobOrder { id: JobId(17), attempt: 2, context: Some(Some(context)), command: Ok(command) };
        let expected = Order::Job(Box::new(order));
        assert_eq!(parse_order(frame.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_context_is_new_or_none_or_as_before() {
        let job = job(Work::Run(r#""true""#.into()), None);
        let empty = Context { environment: None, directory: None };
        for context in [None, Some(None), Some(Some(&empty))] {
            let frame = encoded(&job, context, Style::Envelope);
            match parse_order(frame.as_bytes()) {
                Ok(Order::Job(order)) => assert_eq!(order.context.as_ref().map(Option::as_ref), context),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn cancels_and_bad_commands_keep_their_id() {
        let mut out = Vec::new();
        encode_cancel(JobId(5), &mut out);
        assert_eq!(parse_order(&out), Ok(Order::Cancel(JobId(5))));
        let bad = br#"{"type":"job","id":5,"attempt":1,"data":{"run":7}}"#;
        match parse_order(bad) {
            Ok(Order::Job(order)) => assert!(order.id == JobId(5) && order.command.is_err()),
            other => panic!("{other:?}"),
        }
        assert!(parse_order(b"{\"type\":\"job\"}").is_err());
    }
}
