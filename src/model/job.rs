//! A job as it was submitted, and where it stands in its round.

use super::{PoolName, Wall};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A job's number: given at submit, never reused; gaps are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A batch's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// The number under which the store keeps a [`Context`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// JSON text, carried as it came. Whoever makes one has checked that it is one JSON value.
pub type Json = Arc<str>;

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A command for the built-in worker: a JSON string (for `/bin/sh -c`) or a JSON array of strings.
    Run(Json),
    /// Any JSON, for a pool with a command of its own; given to the worker byte for byte.
    Data(Json),
}

impl Work {
    /// The JSON text of the command or the data.
    #[must_use]
    pub fn json(&self) -> &Json {
        match self {
            Work::Run(json) | Work::Data(json) => json,
        }
    }
}

/// How a job wants to be treated; what is `None` comes from its pool when an attempt starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Limit for one attempt.
    pub timeout: Option<Duration>,
    /// Further attempts after a failure; crashes of the worker are counted apart.
    pub retries: Option<u32>,
    /// First pause before a retry.
    pub backoff: Option<Duration>,
    /// Start no sooner than this after the submit.
    pub delay: Option<Duration>,
    /// For commands: a directory for whole streams.
    pub output_dir: Option<Box<str>>,
    /// For commands: a JSON object of strings, added to the environment.
    pub env: Option<Json>,
    /// For commands: the working directory.
    pub cwd: Option<Box<str>>,
    /// For commands: what they read from standard input.
    pub stdin: Option<Box<str>>,
}

impl Policy {
    /// Whether the job leaves everything to its pool.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Policy::default()
    }
}

/// The environment and directory of a submitter, stored once per content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// A JSON object of strings, the whole environment; `None`: the daemon's.
    pub environment: Option<Json>,
    /// An absolute path; `None`: the daemon's.
    pub directory: Option<Box<str>>,
}

/// One unit of work, as it was submitted. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub batch: BatchId,
    /// Its place in its file, from 0.
    pub index: u64,
    pub pool: PoolName,
    /// -1000 to 1000, higher first.
    pub priority: i16,
    /// A label for people.
    pub name: Option<Box<str>>,
    /// While a job with this key is kept, submitting it again returns that job.
    pub key: Option<Box<str>>,
    pub work: Work,
    /// `None`: everything from the pool.
    pub policy: Option<Box<Policy>>,
    pub context: Option<Arc<Context>>,
    /// What must succeed first.
    pub after: Vec<After>,
    pub submitted: Wall,
}

/// A job that must succeed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    Id(JobId),
    /// An earlier job of the same submit that has this key, else all earlier ones that have this name.
    Label(Box<str>),
}

impl Job {
    /// Its policy, spelled out.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy.as_deref().cloned().unwrap_or_default()
    }

    /// What it weighs in the window, in bytes: its texts and a share for the structure around them.
    #[must_use]
    pub fn weight(&self) -> usize {
        let label = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let policy = self.policy.as_ref().map_or(0, |policy| {
            let env = policy.env.as_ref().map_or(0, |env| env.len());
            std::mem::size_of::<Policy>()
                + env
                + label(&policy.stdin)
                + label(&policy.cwd)
                + label(&policy.output_dir)
        });
        std::mem::size_of::<Job>() + self.work.json().len() + label(&self.name) + label(&self.key) + policy
    }
}

/// Where a job stands in its round. All zero for one that nothing has happened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Counted from 0; each `retry` of a finished job opens the next.
    pub round: u32,
    /// Attempts of this round that ended in an answer or a charge.
    pub attempts: u32,
    /// Of these, the ones in which the worker died on it.
    pub crashes: u32,
    /// To be sent only to a worker that holds nothing, with nothing behind it.
    pub alone: bool,
}
