//! What people ask of the store.

use super::{Attempt, BatchId, BatchRow, Counts, JobId, PoolName, Row, Select, Standing, State, Submitted};

/// A question of people. Answers come a page at a time; no transaction lasts across two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Jobs in order of id, from the first id above `after`. `states` and `pools` narrow; empty means any.
    /// [`State::Running`] is not known here: such a job is `Queued`.
    Jobs { select: Select, after: JobId, limit: usize, results: bool },
    /// The same without their contents, to act on them.
    Ids { select: Select, after: JobId, limit: usize },
    /// Finished jobs in order of finishing, from the position `after`.
    Finished { select: Select, after: FinishCursor, limit: usize },
    /// The jobs that finished last, at most so many, in order of id and without their results.
    Recent(usize),
    /// One job with its attempts.
    Job(JobId),
    /// Batches in order of their number, from the first above `after`.
    Batches { after: BatchId, limit: usize },
    /// How many of the selected jobs stand in each state.
    Counts(Select),
    /// The complete submit that has this key.
    Submit(Box<str>),
    /// Whether the sums match. Looks at every job that is kept.
    Audit,
}

/// A place in the log of finishing: a commit's number and how many of its jobs lie behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FinishCursor {
    pub commit: u64,
    pub offset: u32,
}

/// A job as far as one must know it to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    pub id: JobId,
    pub batch: BatchId,
    pub pool: PoolName,
    pub priority: i16,
    pub state: State,
    pub standing: Standing,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Query::Jobs`] and [`Query::Recent`]. `next` is the last id looked at; `end`: there is nothing behind it.
    Jobs {
        rows: Vec<Row>,
        next: JobId,
        end: bool,
    },
    /// To [`Query::Ids`].
    Ids {
        stubs: Vec<Stub>,
        next: JobId,
        end: bool,
    },
    /// To [`Query::Finished`]. `end`: the log of finishing has nothing further at present.
    Finished {
        rows: Vec<Row>,
        next: FinishCursor,
        end: bool,
    },
    /// To [`Query::Job`], with the attempts that ended without ending the job, oldest first, each with its
    /// round and number.
    Job {
        row: Box<Row>,
        attempts: Vec<(Standing, Attempt)>,
    },
    Batches {
        rows: Vec<BatchRow>,
        end: bool,
    },
    /// To [`Query::Counts`]. `batch`: the number of the batch, if the selection is one batch and nothing else.
    Counts {
        counts: Counts,
        batch: Option<BatchId>,
    },
    /// To [`Query::Submit`]: its digest and what it was told.
    Submit(Option<(u128, Submitted)>),
    /// To [`Query::Audit`]: the jobs as their rows say, and what does not match.
    Audit {
        counts: Counts,
        differences: Vec<String>,
    },
    /// The query names a batch or a single job that is not kept: `what` is its word, as in `@3` or `17`.
    NotFound {
        what: String,
    },
}
