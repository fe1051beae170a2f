//! The engine's one door in and one door out.

use crate::config::Config;
use crate::model::{
    Answer, Applied, Exit, Fetch, Fetched, Generation, Job, JobId, PoolName, Query, Record, StoreError,
    WorkerName,
};
use crate::wire::logs::LogsAsk;
use crate::wire::pipeline::Report;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use std::sync::Arc;
use std::time::Duration;

/// Somebody who waits for exactly one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub u64);

/// Ties a completion to what asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client asks.
    Request { client: Client, request: Request },
    /// A worker says something; its socket tells which worker.
    Report { worker: Generation, report: Report },
    /// A worker sent what is no report; `what` is for the log.
    Malformed { worker: Generation, what: String },
    /// A worker sent a frame above `FRAME_BYTES_MAX`.
    TooLarge { worker: Generation, bytes: usize },
    /// The process runs its program.
    Spawned { worker: Generation, pid: u32 },
    /// There is no process; `error` names the step and the reason.
    SpawnFailed { worker: Generation, error: String },
    /// The process and all that it started are gone, and its last words have been read.
    Exited { worker: Generation, death: Death },
    /// The process is gone, but something that it started outlives every SIGKILL ([`Death::survivor`]); its last words
    /// have been read. [`Event::Exited`] follows if that ends after all.
    Survived { worker: Generation, death: Death },
    /// A record is durable, or could not be written.
    Written { ticket: Ticket, result: Result<Applied, StoreError> },
    /// The answer to [`Effect::Fetch`].
    Fetched { pool: PoolName, result: Result<Fetched, StoreError> },
    /// The answer to [`Effect::Query`].
    Answered { ticket: Ticket, result: Result<Answer, StoreError> },
    /// How much resident memory a worker has.
    Measured { worker: Generation, rss_kib: u64 },
    /// TERM or INT reached the daemon.
    Stop,
    /// HUP reached the daemon.
    Hangup,
    /// The answer to [`Effect::ReadConfig`]: a configuration that can be used, or why there is none.
    Configured { client: Option<Client>, result: Result<Box<Config>, String> },
    /// Time has passed: timers are looked at now, and at no other event. What has happened by now is told first.
    Tick,
}

/// What was seen of a worker's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub exit: Exit,
    pub max_rss_kib: u64,
    /// The last lines that it wrote to its standard output and standard error.
    pub last_output: Vec<String>,
    /// A SIGKILL that was not ours came while the kernel's count of out-of-memory kills rose.
    pub perhaps_out_of_memory: bool,
    /// A process, the worker or one that it left behind, that no SIGKILL could end.
    pub survivor: Option<u32>,
}

impl Death {
    /// An end of which nothing else is known.
    #[must_use]
    pub fn of(exit: Exit) -> Death {
        Death { exit, max_rss_kib: 0, last_output: Vec::new(), perhaps_out_of_memory: false, survivor: None }
    }
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Bind its sockets and start its program.
    Spawn(WorkerName),
    /// Signal the process; harmless if it has gone.
    Kill {
        worker: Generation,
        with: Blow,
    },
    /// How much memory do these workers have? Answered by [`Event::Measured`], for those that live.
    Measure(Vec<Generation>),
    /// Its results need not be read any longer.
    Forget(Generation),
    Send {
        worker: Generation,
        message: ToWorker,
    },
    /// Make durable, then answer with [`Event::Written`]. Records are applied in the order in which they were
    /// handed over.
    Write {
        ticket: Ticket,
        record: Arc<Record>,
    },
    /// In order with writes.
    Fetch(Fetch),
    /// In order with writes and fetches: these jobs are no longer in memory.
    Rewind(Vec<Arc<Job>>),
    /// In order with writes and fetches: whatever of this pool waits is to be fetched again.
    BeginAnew(PoolName),
    /// Read the configuration again and check it whole, then answer with [`Event::Configured`].
    ReadConfig {
        client: Option<Client>,
    },
    /// From now on this is the configuration.
    Configure(Box<Config>),
    /// Ask the store: in order with writes when `ordered`, else of what is durable by now.
    Query {
        ticket: Ticket,
        query: Query,
        ordered: bool,
    },
    Reply {
        client: Client,
        reply: Reply,
    },
    /// Answer from what workers and the daemon have written. The worker, if one is asked for, is there for certain
    /// when `is_known`; else it may have been there once.
    Logs {
        client: Client,
        ask: LogsAsk,
        is_known: bool,
    },
    Log {
        level: log::Level,
        text: String,
    },
    /// Everything is settled: leave with this status.
    Exit(u8),
}

/// How hard a worker is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The pool's stop signal, and CONT.
    Stop,
    /// SIGABRT, and CONT: it hangs, and may leave a core.
    Abort,
    /// SIGKILL, to its group as well, and CONT.
    Kill,
}

/// What goes down a worker's job socket.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    Job {
        job: Arc<Job>,
        attempt: u32,
        /// For the built-in worker, which enforces it.
        timeout: Option<Duration>,
    },
    /// To the built-in worker alone.
    Cancel(JobId),
}

/// The effects of some steps, in order.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Takes what has gathered.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn log(&mut self, level: log::Level, text: impl Into<String>) {
        self.push(Effect::Log { level, text: text.into() });
    }

    pub(super) fn reply(&mut self, client: Client, reply: Reply) {
        self.push(Effect::Reply { client, reply });
    }
}
