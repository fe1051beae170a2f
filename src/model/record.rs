//! What the engine tells the store and what the store says to it.

use super::{
    BatchId, Charge, Chunk, ChunkFate, Counts, Generation, Job, JobId, Outcome, PoolName, Standing, State,
    Wall,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that happened and is to be remembered.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A chunk of a submit. Its fate is in [`Applied::chunks`].
    Chunk(Chunk),
    /// Forget the jobs of a submit that will not be completed.
    Discard(BatchId),
    /// The end of a job's round. The first one counts; another for the same round changes nothing.
    Finish(Outcome),
    /// A job was charged and goes on. Without effect if its round has ended.
    Charge(Charge),
    /// Delayed jobs of this pool whose time has come are queued from now on, at most `limit` of them.
    Promote { pool: PoolName, now: Wall, limit: usize },
    /// These finished jobs begin a new round: queued, or blocked while a job that they wait for has not
    /// succeeded. Successors that were cancelled with the cause `dependency` because of them are blocked again.
    /// Jobs that have not finished, have succeeded or are not kept stay as they are.
    Retry { ids: Vec<JobId> },
    /// Forget these jobs, so far as they are finished.
    Remove { ids: Vec<JobId> },
    /// Forget finished jobs, the oldest first and at most `limit` of them: those that finished before `before`,
    /// and as many more as keep all that is stored above `bytes_max`.
    Expire { before: Wall, bytes_max: u64, limit: usize },
    /// Pass on at most `limit` ends of jobs to their successors: unblock them after a success, cancel them with
    /// the cause `dependency` after a failure or a cancel, block them again after a retry.
    Release { now: Wall, limit: usize },
    /// A pool was paused or resumed.
    Pause { pool: PoolName, paused: bool },
    /// Generations below this one may have been used.
    Generations(Generation),
}

/// What a group of records changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One entry per [`Record::Chunk`], in order.
    pub chunks: Vec<ChunkFate>,
    /// One entry per [`Record::Finish`], in order: whether it was the first of its round.
    pub finishes: Vec<bool>,
    /// How the counters moved, one entry per pool, batch and pair of states.
    pub moves: Vec<Move>,
    /// One entry per [`Record::Promote`], in order: when the pool's next delayed job is due.
    pub next_due: Vec<Option<Wall>>,
    /// One entry per [`Record::Retry`], [`Record::Remove`] and [`Record::Expire`], in order: the jobs it changed.
    pub changed: Vec<Vec<JobId>>,
    /// Jobs that [`Record::Release`] cancelled.
    pub cancelled: Vec<JobId>,
    /// Pools in which this group put a job where a fetch finds it, with the highest priority among them.
    pub visible: BTreeMap<PoolName, i16>,
    /// Ends of jobs wait to be passed on by [`Record::Release`].
    pub releases: bool,
}

/// `jobs` jobs of a batch and pool left `from` (`None`: they are new) for `to` (`None`: they are gone).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub pool: PoolName,
    pub batch: BatchId,
    pub from: Option<State>,
    pub to: Option<State>,
    pub jobs: u64,
}

/// What a store knew when it was opened. An unfinished submit has been discarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The first job id that was never given out.
    pub next_job: JobId,
    /// The first batch number that was never given out.
    pub next_batch: BatchId,
    /// The first generation that was never given out.
    pub next_generation: Generation,
    /// Kept jobs by pool. `Running` is always 0: that state lives in memory alone.
    pub counts: BTreeMap<PoolName, Counts>,
    /// When the first delayed job of a pool is due.
    pub next_due: BTreeMap<PoolName, Wall>,
    /// Pools that were paused.
    pub paused: Vec<PoolName>,
    /// Ends of jobs wait to be passed on by [`Record::Release`].
    pub releases: bool,
}

/// Which jobs to bring into the window next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub pool: PoolName,
    /// No more than this many.
    pub jobs_max: usize,
    /// Stop after the first job with which their [`Job::weight`] reaches this many bytes.
    pub bytes_max: usize,
}

/// Jobs in the order in which they are to be started: higher priority first, then lower id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub jobs: Vec<(Arc<Job>, Standing)>,
    /// Nothing else is waiting in this pool until a new record says so.
    pub end: bool,
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written; there may be room later.
    #[error("no space left in the state directory")]
    NoSpace,
    /// Nothing was written.
    #[error("the store cannot be used: {0}")]
    Io(String),
    /// The file is damaged, or was written by a newer version. It was not touched.
    #[error("{0}")]
    Refused(String),
}
