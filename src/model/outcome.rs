//! How attempts and jobs end.

use super::{BatchId, Cause, JobId, Json, PoolName, Standing, State, Wall, WorkerName};

/// The one recorded end of a job's round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub id: JobId,
    pub batch: BatchId,
    pub pool: PoolName,
    /// Succeeded, failed or cancelled.
    pub state: State,
    /// None for a success.
    pub cause: Option<Cause>,
    /// Where the job stood at its end, this attempt counted.
    pub standing: Standing,
    /// The last attempt; `None` if the job never ran.
    pub last: Option<AttemptPlace>,
    pub finished: Wall,
    /// Text for people.
    pub error: Option<Box<str>>,
    /// The worker's `data`, or the outcome of a command, also when that failed.
    pub result: Option<Json>,
    /// For a crash: what was seen of the worker's death, a JSON object.
    pub evidence: Option<Json>,
}

impl Outcome {
    /// Where the job stands at its end, if it stood at `stored` just before: a success that came late, from an earlier
    /// delivery, does not know of the attempts that were charged meanwhile.
    #[must_use]
    pub fn standing_after(&self, stored: Standing) -> Standing {
        let least = stored.attempts + u32::from(self.state == State::Succeeded);
        Standing {
            attempts: self.standing.attempts.max(least),
            crashes: self.standing.crashes.max(stored.crashes),
            ..self.standing
        }
    }
}

/// Where and since when an attempt ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptPlace {
    pub worker: WorkerName,
    pub started: Wall,
}

/// An attempt that ended badly without ending its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub place: AttemptPlace,
    pub finished: Wall,
    pub cause: Cause,
    pub error: Option<Box<str>>,
    pub result: Option<Json>,
    pub evidence: Option<Json>,
}

/// A job that was charged and goes on: at once when `due` is `None`, else delayed until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub id: JobId,
    pub batch: BatchId,
    pub pool: PoolName,
    pub priority: i16,
    /// After the charge; its `attempts` is the number of `attempt`.
    pub standing: Standing,
    pub attempt: Attempt,
    pub due: Option<Wall>,
}
