//! A job with everything that has happened to it, as it is kept and shown.

use super::{Job, Outcome, Standing, State, Wall, WorkerName};
use std::sync::Arc;

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub job: Arc<Job>,
    /// A store does not know [`State::Running`]: there such a job is `Queued`, and the engine says better.
    pub state: State,
    pub standing: Standing,
    /// When a delayed job is due.
    pub due: Option<Wall>,
    /// Where a running job runs; `None` from a store.
    pub running: Option<Running>,
    pub outcome: Option<Outcome>,
}

/// Who has a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub worker: WorkerName,
    /// Since when it is its worker's oldest; `None` while it comes behind others.
    pub started: Option<Wall>,
}
