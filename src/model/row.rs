//! A job with everything that has happened to it, as it is kept and shown.

use super::{AttemptPlace, Job, Outcome, Standing, State, Wall};
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
    pub running: Option<AttemptPlace>,
    pub outcome: Option<Outcome>,
}
