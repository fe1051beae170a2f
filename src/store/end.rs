//! Ends of jobs on their way to those that wait for them.
//!
//! An edge leads from a job to one that waits for it, and stands until the first one's success has been passed
//! on. So a job may start when no edge leads to it, whatever the order in which its predecessors ended. An end
//! is passed on successor by successor, as many at a time as one is willing to; what happens to a successor
//! follows from this table alone.
//!
//! | end       | edge    | a blocked successor           | one that this cancelled once        |
//! |-----------|---------|-------------------------------|-------------------------------------|
//! | succeeded | removed | starts, if it has no edge left | is reopened, if a retry is still to be passed on |
//! | failed    | stays   | is cancelled                  | stays                               |
//! | retried   | stays   | stays                         | is reopened                         |
//! | gone      | removed | is cancelled                  | stays                               |
//!
//! A successor is not reopened while another of its predecessors stands failed or cancelled.

use crate::model::{Attempt, BatchId, Cause, JobId, Outcome, PoolName, Standing, State, Wall};

/// What happened to a job that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    /// Or cancelled.
    Failed,
    Retried,
    /// Forgotten without having succeeded.
    Gone,
}

/// How far an end has been passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passing {
    pub(super) end: End,
    /// Before this end, a retry was still to be passed on.
    pub(super) reopens: bool,
    /// The last successor that knows.
    pub(super) upto: JobId,
}

impl Passing {
    /// `end`, to be passed on from the beginning instead of `pending`.
    pub(super) fn new(end: End, pending: Option<Passing>) -> Passing {
        let retry_pends = pending.is_some_and(|passing| passing.reopens || passing.end == End::Retried);
        Passing { end, reopens: end == End::Succeeded && retry_pends, upto: JobId(0) }
    }

    /// `end`, for `successor` if for nobody else.
    pub(super) fn back_to(end: End, successor: JobId, pending: Option<Passing>) -> Passing {
        let upto = JobId(successor.0.saturating_sub(1));
        match pending {
            Some(passing) => Passing { upto: upto.min(passing.upto), ..passing },
            None => Passing { end, reopens: false, upto },
        }
    }

    /// What to do with a successor.
    pub(super) fn to(self, successor: Successor) -> Step {
        let keep_edge = match self.end {
            End::Succeeded => false,
            End::Failed | End::Retried => true,
            End::Gone => successor == Successor::Staged,
        };
        let act = match (successor, self.end) {
            (Successor::Blocked, End::Succeeded) => Act::Start,
            (Successor::Blocked, End::Failed | End::Gone) => Act::Cancel,
            (Successor::Dependent, End::Retried) => Act::Reopen,
            (Successor::Dependent, End::Succeeded) if self.reopens => Act::Reopen,
            (Successor::Blocked, End::Retried)
            | (Successor::Dependent, End::Succeeded | End::Failed | End::Gone)
            | (Successor::Staged | Successor::Other, _) => Act::Nothing,
        };
        Step { keep_edge, act }
    }
}

/// A successor, as far as passing on an end depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// Its submit is not complete.
    Staged,
    Blocked,
    /// Cancelled with the cause `dependency`.
    Dependent,
    Other,
}

/// What to do with a successor and the edge to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) keep_edge: bool,
    pub(super) act: Act,
}

/// What to do with a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Unless another edge leads to it.
    Start,
    Cancel,
    /// Unless another of its predecessors stands failed or cancelled.
    Reopen,
}

/// What cancels a job whose predecessor will not succeed.
pub(super) fn dependency_outcome(
    id: JobId,
    batch: BatchId,
    pool: PoolName,
    standing: Standing,
    before: JobId,
    now: Wall,
) -> Outcome {
    Outcome {
        id,
        batch,
        pool,
        state: State::Cancelled,
        cause: Some(Cause::Dependency),
        standing,
        last: None,
        finished: now,
        error: Some(format!("job {before} did not succeed").into()),
        result: None,
        evidence: None,
    }
}

/// The next round of a job that stood at `standing`.
pub(super) fn next_round(standing: Standing) -> Standing {
    Standing { round: standing.round + 1, ..Standing::default() }
}

/// What history keeps of the outcome of a round that a retry ended; nothing if the job never ran.
pub(super) fn ended_attempt(outcome: &Outcome) -> Option<(Standing, Attempt)> {
    let place = outcome.last.clone()?;
    let attempt = Attempt {
        place,
        finished: outcome.finished,
        cause: outcome.cause.unwrap_or(Cause::Error),
        error: outcome.error.clone(),
        result: outcome.result.clone(),
        evidence: outcome.evidence.clone(),
    };
    Some((outcome.standing, attempt))
}
