//! What each record does to the jobs.

use super::{Ended, MemoryStore};
use crate::model::{Charge, JobId, Outcome, PoolName, Standing, State, Wall};
use crate::store::Record;
use crate::store::end::{self, End, Passing};
use crate::store::scope;
use crate::store::turn::Turn;

impl MemoryStore {
    pub(super) fn record(&mut self, record: &Record, turn: &mut Turn) {
        match record {
            Record::Chunk(chunk) => {
                let fate = self.chunk(chunk, turn);
                turn.applied.chunks.push(fate);
            }
            Record::Discard(ticket) => self.discard(*ticket),
            Record::Finish(outcome) => {
                let first = self.finish(outcome, turn);
                turn.applied.finishes.push(first);
            }
            Record::Charge(charge) => self.charge(charge, turn),
            Record::Promote { pool, now, limit } => {
                let next_due = self.promote(pool, *now, *limit, turn);
                turn.applied.next_due.push(next_due);
            }
            Record::Retry { ids } => {
                let changed = ids.iter().copied().filter(|id| self.retry(*id, turn)).collect();
                turn.applied.changed.push(changed);
            }
            Record::Remove { ids } => {
                let changed = self.remove(ids, turn);
                turn.applied.changed.push(changed);
            }
            Record::Expire { before, bytes_max, limit } => {
                let changed = self.expire(*before, *bytes_max, *limit, turn);
                turn.applied.changed.push(changed);
            }
            Record::Release { now, limit } => self.release(*now, *limit, turn),
            Record::Pause { pool, paused } => {
                self.pools.entry(pool.clone()).or_default().paused = *paused;
            }
            Record::Generations(next) => self.next_generation = self.next_generation.max(*next),
        }
    }

    pub(super) fn finish(&mut self, outcome: &Outcome, turn: &mut Turn) -> bool {
        let Some(entry) = self.jobs.get_mut(&outcome.id) else { return false };
        if entry.state.is_finished() || entry.standing.round != outcome.standing.round {
            return false;
        }
        let job = entry.job.clone();
        let due = entry.due.take();
        turn.moved(&job.pool, job.batch, Some(entry.state), Some(outcome.state), 1);
        entry.state = outcome.state;
        let standing = outcome.standing_after(entry.standing);
        entry.standing = standing;
        self.bytes += scope::outcome_weight(outcome) as u64;
        let outcome = Outcome { batch: job.batch, pool: job.pool.clone(), standing, ..outcome.clone() };
        let state = outcome.state;
        entry.ended = Some(Box::new(Ended { outcome, commit: self.commit + 1 }));
        turn.finished.push(job.id);
        self.unqueue(&job, due);
        let end = if state == State::Succeeded { End::Succeeded } else { End::Failed };
        self.pass_on(job.id, end);
        true
    }

    fn charge(&mut self, charge: &Charge, turn: &mut Turn) {
        let Some(entry) = self.jobs.get_mut(&charge.id) else { return };
        let goes_on = matches!(entry.state, State::Queued | State::Delayed);
        if !goes_on || entry.standing.round != charge.standing.round {
            return;
        }
        let job = entry.job.clone();
        let from = entry.state;
        let was_due = std::mem::replace(&mut entry.due, charge.due);
        entry.state = if charge.due.is_some() { State::Delayed } else { State::Queued };
        entry.standing = charge.standing;
        entry.attempts.push((charge.standing, charge.attempt.clone()));
        turn.moved(&job.pool, job.batch, Some(from), Some(entry.state), 1);
        self.unqueue(&job, was_due);
        match charge.due {
            Some(due) => self.delay(&job, due),
            None => self.enqueue(&job, turn),
        }
    }

    fn promote(&mut self, name: &PoolName, now: Wall, limit: usize, turn: &mut Turn) -> Option<Wall> {
        for _ in 0..limit {
            let pool = self.pools.get_mut(name)?;
            let (due, id) = *pool.delayed.first()?;
            if due > now {
                return Some(due);
            }
            pool.delayed.pop_first();
            let entry = self.jobs.get_mut(&id).expect("a delayed job is kept");
            entry.state = State::Queued;
            entry.due = None;
            let job = entry.job.clone();
            turn.moved(name, job.batch, Some(State::Delayed), Some(State::Queued), 1);
            self.enqueue(&job, turn);
        }
        Some(self.pools.get(name)?.delayed.first()?.0)
    }

    fn retry(&mut self, id: JobId, turn: &mut Turn) -> bool {
        let Some(entry) = self.jobs.get(&id) else { return false };
        if !entry.state.is_finished() || entry.state == State::Succeeded {
            return false;
        }
        self.reopen(id, turn);
        true
    }

    /// Opens the next round of a finished job.
    pub(super) fn reopen(&mut self, id: JobId, turn: &mut Turn) {
        let is_blocked = self.is_waiting(id);
        let entry = self.jobs.get_mut(&id).expect("only a kept job is reopened");
        let ended = entry.ended.take().expect("a finished job has its outcome");
        self.bytes -= scope::outcome_weight(&ended.outcome) as u64;
        entry.attempts.extend(end::ended_attempt(&ended.outcome));
        if ended.commit == self.commit + 1 {
            turn.finished.retain(|finished| *finished != id);
        }
        let to = if is_blocked { State::Blocked } else { State::Queued };
        let from = std::mem::replace(&mut entry.state, to);
        entry.standing = end::next_round(entry.standing);
        let job = entry.job.clone();
        turn.moved(&job.pool, job.batch, Some(from), Some(to), 1);
        if !is_blocked {
            self.enqueue(&job, turn);
        }
        self.pass_on(id, End::Retried);
    }

    /// Notes an end that others wait for.
    pub(super) fn pass_on(&mut self, id: JobId, end: End) {
        if self.successor(id, JobId(0)).is_some() {
            let pending = self.passing.get(&id).copied();
            self.passing.insert(id, Passing::new(end, pending));
        }
    }

    /// Where a job stands that nothing has happened to in its round.
    pub(super) fn standing(&self, id: JobId) -> Standing {
        self.jobs.get(&id).map(|entry| entry.standing).unwrap_or_default()
    }
}
