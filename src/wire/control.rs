//! The control protocol: one frame of JSON each way, REQ to ROUTER.
//!
//! Both programs use these types, so a field has one spelling.

use crate::model::{Counts, JobId, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the protocol, the `v` of every request.
pub const VERSION: u32 = 1;

/// A request frame before its operation is known.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope<'a> {
    pub v: u32,
    #[serde(borrow)]
    pub op: std::borrow::Cow<'a, str>,
}

/// One word of the command line's grammar, or an array of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        match self {
            OneOrMany::One(word) => std::slice::from_ref(word),
            OneOrMany::Many(words) => words,
        }
    }
}

/// Which jobs a request means, as it stands in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<OneOrMany>,
}

/// `submit`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit<'a> {
    pub v: u32,
    pub op: String,
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub environment: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub abort: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Every operation but `submit`: one shape, of which each operation reads its own fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub v: u32,
    pub op: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<bool>,
}

/// Why a request was refused. The exit status of pushpullctl follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    UnknownOp,
    Version,
    BadJob,
    NotFound,
    Limit,
    NoSpace,
    Draining,
    WrongState,
    KeyConflict,
    ChunkExpected,
    Internal,
}

impl Code {
    /// What a program exits with that was refused for this reason.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Code::BadRequest | Code::UnknownOp | Code::Version | Code::BadJob => 2,
            Code::NotFound => 4,
            Code::Limit
            | Code::NoSpace
            | Code::Draining
            | Code::WrongState
            | Code::KeyConflict
            | Code::ChunkExpected => 5,
            Code::Internal => 6,
        }
    }
}

/// A refusal, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of `bad_job`: the element's place in its file, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Of `bad_job`: the line of its file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Of `bad_job`: the field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of `limit`: the setting's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Of `limit`: its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// Of `chunk_expected`: the chunk to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            hint: None,
            index: None,
            line: None,
            field: None,
            limit: None,
            value: None,
            expect: None,
        }
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

/// Jobs by state, as they travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsJson {
    pub queued: u64,
    pub delayed: u64,
    pub blocked: u64,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl From<Counts> for CountsJson {
    fn from(counts: Counts) -> CountsJson {
        CountsJson {
            queued: counts[State::Queued],
            delayed: counts[State::Delayed],
            blocked: counts[State::Blocked],
            running: counts[State::Running],
            succeeded: counts[State::Succeeded],
            failed: counts[State::Failed],
            cancelled: counts[State::Cancelled],
        }
    }
}

impl CountsJson {
    /// All jobs counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.unfinished() + self.finished()
    }

    /// Jobs without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.queued + self.delayed + self.blocked + self.running
    }

    /// Jobs with an outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// The reply to a complete `submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitReply {
    pub batch: u64,
    pub jobs: u64,
    pub known: u64,
    pub ids: Vec<(u64, u64)>,
}

/// The reply to `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReply {
    pub done: bool,
    pub counts: CountsJson,
}

/// The reply to `audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReply {
    pub done: bool,
    pub jobs: u64,
    pub counts: CountsJson,
    pub differences: Vec<String>,
}

/// The reply to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    pub version: String,
    pub pid: u32,
    pub uptime_s: f64,
    pub draining: bool,
    pub jobs: CountsJson,
    /// Finished jobs that were forgotten by `keep` and `keep_size` since the start.
    #[serde(default)]
    pub expired: u64,
    /// When the last of these was forgotten.
    #[serde(default)]
    pub expired_at: Option<String>,
    /// Messages of workers that changed nothing, since the start.
    #[serde(default)]
    pub void_reports: VoidReports,
    pub warnings: Vec<String>,
    pub pools: Vec<PoolStatus>,
}

/// Messages of workers that changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidReports {
    /// Answers after the outcome: too late, or for the second time.
    pub late: u64,
    /// Answers for jobs that their sender does not hold.
    pub refused: u64,
    /// What is no report.
    pub malformed: u64,
}

/// One pool of a [`StatusReply`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub name: String,
    pub paused: bool,
    pub workers: WorkerCounts,
    pub jobs: CountsJson,
    pub oldest_queued_s: Option<f64>,
    pub per_second: PerSecond,
}

/// How many workers of a pool stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCounts {
    pub wanted: u64,
    pub ready: u64,
    pub busy: u64,
    pub starting: u64,
    pub backoff: u64,
}

/// Rates, over the last ten seconds or so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerSecond {
    pub finished: f64,
}

/// One line of `workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    pub worker: String,
    pub pool: String,
    pub slot: u32,
    pub generation: u64,
    pub pid: Option<u32>,
    pub state: String,
    pub held: u64,
    pub jobs_done: u64,
    pub restarts: u64,
    pub age_s: f64,
    pub rss_kib: Option<u64>,
    pub last_exit: Option<LastExit>,
}

/// How a slot's previous worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    pub at: String,
}

/// One line of `batches`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJson {
    pub batch: u64,
    pub name: Option<String>,
    pub key: Option<String>,
    pub submitted: String,
    pub counts: CountsJson,
}

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    pub version: String,
    pub pid: u32,
    pub limits: Limits,
}

/// What a client must know to cut a submit into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub request_bytes_max: u64,
    pub chunk_jobs_max: u64,
    pub batch_jobs_max: u64,
    pub job_bytes_max: u64,
}

/// Inclusive ranges of ids, as they travel.
#[must_use]
pub fn id_ranges(ids: &[(JobId, JobId)]) -> Vec<(u64, u64)> {
    ids.iter().map(|(first, last)| (first.0, last.0)).collect()
}
