//! A request frame, checked and typed, as the engine takes it.

use super::control::{Ask, Code, Envelope, OneOrMany, Refusal, Selection, Submit, VERSION};
use super::job::KEY_BYTES_MAX;
use super::logs::{self, LogsAsk};
use super::{nearest, select};
use crate::config::{PAGE_ROWS_MAX, WAIT_MAX, WORKERS_MAX};
use crate::model::{BatchId, Context, FinishCursor, JobId, Json, PoolName, Select, Word};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Every operation, in the order of the manual.
pub const OPERATIONS: [&str; 24] = [
    "ping", "version", "submit", "status", "metrics", "audit", "list", "results", "show", "explain",
    "batches", "workers", "logs", "wait", "cancel", "retry", "remove", "pause", "resume", "scale", "restart",
    "reload", "drain", "shutdown",
];

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Ping,
    Submit(Box<Submission>),
    Status,
    Metrics,
    Audit,
    List { select: Option<Select>, after: ListCursor, limit: usize },
    Results { select: Select, after: FinishCursor, limit: usize, timeout: Duration },
    ShowJob(JobId),
    Explain(Subject),
    ShowBatch(Word),
    Batches { after: BatchId, limit: usize },
    Workers,
    Logs(LogsAsk),
    Wait { select: Select, timeout: Duration },
    Act { verb: Verb, select: Select, reason: Option<Box<str>> },
    Pause { pool: Option<PoolName>, paused: bool },
    Scale { pool: PoolName, workers: u32 },
    Restart { what: Restarted, now: bool },
    Reload,
    Drain,
    Shutdown { now: bool },
}

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Job(JobId),
    /// `POOL.SLOT` or `POOL.SLOT.GENERATION`.
    Worker(String),
    /// Why nothing moves.
    Everything,
}

/// Which workers are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restarted {
    Everything,
    Pool(PoolName),
    /// `POOL.SLOT` or `POOL.SLOT.GENERATION`.
    Worker(String),
}

/// What is done to each job of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Cancel,
    Retry,
    Remove,
}

/// Where a list goes on. The opaque `next` of a `list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCursor(pub JobId);

/// A chunk of a submit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    pub key: Option<Box<str>>,
    pub chunk: u64,
    pub last: bool,
    pub abort: bool,
    pub name: Option<Box<str>>,
    /// The name of a batch to join.
    pub into: Option<Box<str>>,
    /// A JSON object.
    pub defaults: Option<Json>,
    pub context: Option<Arc<Context>>,
    /// One JSON value each.
    pub jobs: Vec<Json>,
}

/// Reads a request frame.
///
/// # Errors
/// A refusal to send back: the frame is not a request of this protocol.
pub fn parse(frame: &[u8]) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(frame).map_err(|_| bad("a request is one frame of UTF-8 JSON"))?;
    let envelope: Envelope = serde_json::from_str(text)
        .map_err(|error| bad(format!("a request is a JSON object with \"v\" and \"op\": {error}")))?;
    if envelope.v != VERSION {
        let message = format!("this daemon speaks version {VERSION} of the protocol, not {}", envelope.v);
        return Err(Refusal::new(Code::Version, message).hint("use the pushpullctl of this daemon's version"));
    }
    if envelope.op == "submit" {
        return parse_submit(text);
    }
    if !OPERATIONS.contains(&envelope.op.as_ref()) {
        let hint = nearest::did_you_mean(&envelope.op, OPERATIONS);
        return Err(Refusal::new(Code::UnknownOp, format!("unknown operation {:?}.{hint}", envelope.op)));
    }
    let ask: Ask = serde_json::from_str(text).map_err(|error| bad(format!("{}: {error}", envelope.op)))?;
    parse_ask(&ask)
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}

fn parse_submit(text: &str) -> Result<Request, Refusal> {
    let submit: Submit = serde_json::from_str(text).map_err(|error| bad(format!("submit: {error}")))?;
    let chunk = submit.chunk.unwrap_or(0);
    let last = submit.last.unwrap_or(submit.chunk.is_none());
    if submit.key.is_none() && (submit.abort || submit.chunk.is_some_and(|chunk| chunk > 0 || !last)) {
        return Err(bad("a submit in chunks needs a \"key\""));
    }
    if let Some(key) = &submit.key {
        check_key(key)?;
    }
    for name in submit.name.iter().chain(&submit.into) {
        select::check_batch_name(name).map_err(bad)?;
    }
    let heads = [submit.name.is_some(), submit.into.is_some(), submit.defaults.is_some()];
    if chunk > 0 && (heads.contains(&true) || submit.environment.is_some() || submit.directory.is_some()) {
        return Err(bad("name, into, defaults, environment and directory belong into chunk 0"));
    }
    if submit.name.is_some() && submit.into.is_some() {
        return Err(bad("a submit makes a batch (name) or joins one (into), not both"));
    }
    Ok(Request::Submit(Box::new(Submission {
        key: submit.key.map(Into::into),
        chunk,
        last,
        abort: submit.abort,
        name: submit.name.map(Into::into),
        into: submit.into.map(Into::into),
        defaults: submit.defaults.map(|raw| Json::from(raw.get())),
        context: parse_context(submit.environment.map(serde_json::value::RawValue::get), submit.directory)?,
        jobs: submit.jobs.iter().map(|raw| Json::from(raw.get())).collect(),
    })))
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.len() > KEY_BYTES_MAX {
        let mut refusal = Refusal::new(
            Code::Limit,
            format!(
                "the submit's key is too long with {} bytes: key_bytes_max is {KEY_BYTES_MAX}",
                key.len()
            ),
        );
        refusal.limit = Some("key_bytes_max".to_owned());
        refusal.value = Some(KEY_BYTES_MAX as u64);
        return Err(refusal);
    }
    if key.is_empty() || key.contains(char::is_control) {
        return Err(bad("a key is not empty and has no control characters"));
    }
    Ok(())
}

fn parse_context(
    environment: Option<&str>,
    directory: Option<String>,
) -> Result<Option<Arc<Context>>, Refusal> {
    if let Some(raw) = environment {
        super::job::check_environment(raw).map_err(|why| bad(format!("environment: {why}")))?;
    }
    if directory.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
        return Err(bad("directory is an absolute path"));
    }
    if environment.is_none() && directory.is_none() {
        return Ok(None);
    }
    let environment = environment.map(Json::from);
    Ok(Some(Arc::new(Context { environment, directory: directory.map(Into::into) })))
}

fn parse_ask(ask: &Ask) -> Result<Request, Refusal> {
    let limit = ask
        .limit
        .map_or(PAGE_ROWS_MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, PAGE_ROWS_MAX));
    let timeout = Duration::from_millis(ask.timeout_ms.unwrap_or(0)).min(WAIT_MAX);
    match ask.op.as_str() {
        "ping" | "version" => Ok(Request::Ping),
        "status" => Ok(Request::Status),
        "metrics" => Ok(Request::Metrics),
        "audit" => Ok(Request::Audit),
        "list" => {
            let after = ListCursor(JobId(after_number(ask)?));
            Ok(Request::List { select: selection(ask)?, after, limit })
        }
        "results" => {
            let select = selection(ask)?.unwrap_or_else(|| words(vec![Word::Last]));
            Ok(Request::Results { select, after: finish_cursor(ask)?, limit, timeout })
        }
        "show" => parse_show(ask),
        "explain" => parse_explain(ask),
        "batches" => Ok(Request::Batches { after: BatchId(after_number(ask)?), limit }),
        "workers" => Ok(Request::Workers),
        "logs" => Ok(Request::Logs(logs::parse(ask, timeout)?)),
        "wait" => {
            let select = selection(ask)?.unwrap_or_else(|| words(vec![Word::All]));
            Ok(Request::Wait { select, timeout })
        }
        "cancel" => parse_act(ask, Verb::Cancel),
        "retry" => parse_act(ask, Verb::Retry),
        "remove" => parse_act(ask, Verb::Remove),
        "pause" => Ok(Request::Pause { pool: one_pool(ask)?, paused: true }),
        "resume" => Ok(Request::Pause { pool: one_pool(ask)?, paused: false }),
        "scale" => parse_scale(ask),
        "restart" => parse_restart(ask),
        "reload" => Ok(Request::Reload),
        "drain" => Ok(Request::Drain),
        "shutdown" => Ok(Request::Shutdown { now: ask.now.unwrap_or(false) }),
        other => Err(Refusal::new(Code::UnknownOp, format!("unknown operation {other:?}."))),
    }
}

fn words(words: Vec<Word>) -> Select {
    Select { words, ..Select::default() }
}

/// The request's selection; `None` when it says nothing.
fn selection(ask: &Ask) -> Result<Option<Select>, Refusal> {
    if ask.select.is_none() && ask.state.is_none() && ask.pool.is_none() {
        return Ok(None);
    }
    let said = Selection { select: ask.select.clone(), state: ask.state.clone(), pool: ask.pool.clone() };
    let mut select = select::selection(&said)?;
    if select.words.is_empty() {
        select.words.push(Word::All);
    }
    Ok(Some(select))
}

fn parse_scale(ask: &Ask) -> Result<Request, Refusal> {
    let Some(pool) = one_pool(ask)? else {
        return Err(bad("scale needs a \"pool\""));
    };
    let workers = ask.workers.filter(|workers| *workers <= u64::from(WORKERS_MAX));
    match workers.and_then(|workers| u32::try_from(workers).ok()) {
        Some(workers) => Ok(Request::Scale { pool, workers }),
        None => Err(bad(format!("scale needs \"workers\", a number from 0 to {WORKERS_MAX}"))),
    }
}

fn parse_restart(ask: &Ask) -> Result<Request, Refusal> {
    let what = match (one_pool(ask)?, &ask.worker) {
        (Some(pool), None) => Restarted::Pool(pool),
        (None, Some(worker)) => Restarted::Worker(worker.clone()),
        (None, None) => Restarted::Everything,
        (Some(_), Some(_)) => return Err(bad("restart takes a \"pool\" or a \"worker\", not both")),
    };
    Ok(Request::Restart { what, now: ask.now.unwrap_or(false) })
}

fn parse_explain(ask: &Ask) -> Result<Request, Refusal> {
    match (ask.id, &ask.worker) {
        (Some(id), None) => Ok(Request::Explain(Subject::Job(JobId(id)))),
        (None, Some(worker)) => Ok(Request::Explain(Subject::Worker(worker.clone()))),
        (None, None) => Ok(Request::Explain(Subject::Everything)),
        (Some(_), Some(_)) => Err(bad("explain takes an \"id\" or a \"worker\", not both")),
    }
}

fn parse_act(ask: &Ask, verb: Verb) -> Result<Request, Refusal> {
    let Some(select) = selection(ask)? else {
        return Err(bad(format!("{} needs to know which jobs", ask.op))
            .hint("name ids (17, 3-9), a batch (@3, @NAME, @last), a state or a pool, or say all"));
    };
    Ok(Request::Act { verb, select, reason: ask.reason.clone().map(Into::into) })
}

fn parse_show(ask: &Ask) -> Result<Request, Refusal> {
    match (&ask.id, &ask.batch) {
        (Some(id), None) => Ok(Request::ShowJob(JobId(*id))),
        (None, Some(Value::Number(number))) => match number.as_u64() {
            Some(batch) => Ok(Request::ShowBatch(Word::Batch(BatchId(batch)))),
            None => Err(bad("batch is a number or a name")),
        },
        (None, Some(Value::String(name))) => {
            let word = format!("@{}", name.strip_prefix('@').unwrap_or(name));
            let parsed = select::parse(&[word]).map_err(bad)?;
            parsed
                .into_iter()
                .next()
                .map(Request::ShowBatch)
                .ok_or_else(|| bad("batch is a number or a name"))
        }
        _ => Err(bad("show takes an id or a batch")),
    }
}

fn one_pool(ask: &Ask) -> Result<Option<PoolName>, Refusal> {
    match &ask.pool {
        None => Ok(None),
        Some(OneOrMany::One(name)) => match PoolName::new(name) {
            Some(pool) => Ok(Some(pool)),
            None => Err(bad(format!("{name:?} is no pool name"))),
        },
        Some(OneOrMany::Many(_)) => Err(bad("pool is one name here")),
    }
}

fn after_number(ask: &Ask) -> Result<u64, Refusal> {
    match &ask.after {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| bad("after is the next of an earlier reply")),
    }
}

fn finish_cursor(ask: &Ask) -> Result<FinishCursor, Refusal> {
    let wrong = || bad("after is the next of an earlier reply");
    match &ask.after {
        None | Some(Value::Null) => Ok(FinishCursor::default()),
        Some(Value::String(text)) => {
            let (commit, offset) = text.split_once('.').ok_or_else(wrong)?;
            let commit = commit.parse().map_err(|_| wrong())?;
            let offset = offset.parse().map_err(|_| wrong())?;
            Ok(FinishCursor { commit, offset })
        }
        Some(_) => Err(wrong()),
    }
}

/// The opaque `next` of `results`.
#[must_use]
pub fn finish_cursor_json(cursor: FinishCursor) -> Value {
    Value::String(format!("{}.{}", cursor.commit, cursor.offset))
}
