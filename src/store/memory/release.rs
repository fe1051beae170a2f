//! Passing ends of jobs on to those that wait for them.

use super::MemoryStore;
use crate::model::{Cause, JobId, State, Wall};
use crate::store::end::{self, Act, Successor};
use crate::store::turn::Turn;

impl MemoryStore {
    pub(super) fn release(&mut self, now: Wall, limit: usize, turn: &mut Turn) {
        let mut left = limit;
        while left > 0 {
            let Some((&before, &passing)) = self.passing.first_key_value() else { return };
            let Some(after) = self.successor(before, passing.upto) else {
                self.passing.remove(&before);
                continue;
            };
            left -= 1;
            self.passing.get_mut(&before).expect("it was just read").upto = after;
            let step = passing.to(self.stands(after));
            if !step.keep_edge {
                self.edges.remove(&(before, after));
                self.waits.remove(&(after, before));
            }
            match step.act {
                Act::Nothing => {}
                Act::Start => self.start(after, now, turn),
                Act::Cancel => self.cancel_dependent(before, after, now, turn),
                Act::Reopen => {
                    if !self.has_failed_predecessor(after) {
                        self.reopen(after, turn);
                    }
                }
            }
        }
        while let Some((&before, &passing)) = self.passing.first_key_value() {
            if self.successor(before, passing.upto).is_some() {
                return;
            }
            self.passing.remove(&before);
        }
    }

    /// The first job above `upto` that waits for this one.
    pub(super) fn successor(&self, before: JobId, upto: JobId) -> Option<JobId> {
        self.edges.range((before, JobId(upto.0 + 1))..=(before, JobId(u64::MAX))).next().map(|edge| edge.1)
    }

    /// Whether a job's predecessors have not all passed on their success.
    pub(super) fn is_waiting(&self, after: JobId) -> bool {
        self.predecessors(after).next().is_some()
    }

    pub(super) fn predecessors(&self, after: JobId) -> impl Iterator<Item = JobId> + '_ {
        self.waits.range((after, JobId(0))..=(after, JobId(u64::MAX))).map(|edge| edge.1)
    }

    fn has_failed_predecessor(&self, after: JobId) -> bool {
        let has_failed = |before: JobId| {
            let state = self.jobs.get(&before).map(|entry| entry.state);
            matches!(state, Some(State::Failed | State::Cancelled))
        };
        self.predecessors(after).any(has_failed)
    }

    fn stands(&self, after: JobId) -> Successor {
        let Some(entry) = self.jobs.get(&after) else { return Successor::Staged };
        let cause = entry.ended.as_ref().and_then(|ended| ended.outcome.cause);
        match (entry.state, cause) {
            (State::Blocked, _) => Successor::Blocked,
            (State::Cancelled, Some(Cause::Dependency)) => Successor::Dependent,
            _ => Successor::Other,
        }
    }

    fn start(&mut self, id: JobId, now: Wall, turn: &mut Turn) {
        if self.is_waiting(id) {
            return;
        }
        let entry = self.jobs.get_mut(&id).expect("a blocked job is kept");
        entry.due = entry.due.filter(|due| *due > now);
        entry.state = if entry.due.is_some() { State::Delayed } else { State::Queued };
        let (job, due) = (entry.job.clone(), entry.due);
        turn.moved(&job.pool, job.batch, Some(State::Blocked), Some(entry.state), 1);
        match due {
            Some(due) => self.delay(&job, due),
            None => self.enqueue(&job, turn),
        }
    }

    fn cancel_dependent(&mut self, before: JobId, after: JobId, now: Wall, turn: &mut Turn) {
        let job = self.jobs[&after].job.clone();
        let standing = self.standing(after);
        let outcome = end::dependency_outcome(after, job.batch, job.pool.clone(), standing, before, now);
        assert!(self.finish(&outcome, turn), "a blocked job has no outcome");
        turn.applied.cancelled.push(after);
    }
}
