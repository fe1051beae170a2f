//! Charges and outcomes: each has its reason, and its numbers are right.

use super::crew::{Licence, Why};
use super::{Oracles, Seen};
use crate::plan::Plan;
use crate::world::last_words;
use pushpull::config::{BACKOFF_MAX, PoolSettings};
use pushpull::engine::Ticket;
use pushpull::model::{AttemptPlace, Cause, Charge, JobId, Json, Outcome, Record, Standing, State};
use std::time::Duration;

impl Oracles {
    pub(super) fn on_write(
        &mut self,
        ticket: Ticket,
        record: &Record,
        seen: &mut Seen,
    ) -> Result<(), String> {
        self.jobs.refused.remove(&ticket);
        if !matches!(record, Record::Chunk(_) | Record::Pause { .. }) && !self.jobs.written.insert(ticket) {
            // The same record again, because the disk had failed.
            return Ok(());
        }
        match record {
            Record::Charge(charge) => {
                if charge.attempt.cause == Cause::Crash {
                    self.jobs.charging.insert(ticket, charge.id);
                }
                // Until it is sent again nobody waits for it to be fetched at once.
                self.jobs.on_taken(charge.id);
                self.window.on_gone(charge.id);
                self.check_charge(charge, seen)
            }
            Record::Finish(outcome) => {
                self.check_outcome(outcome, seen)?;
                self.jobs.ending.insert(ticket, outcome.id);
                self.jobs.on_taken(outcome.id);
                self.crew.on_left_memory(outcome.id);
                self.window.on_gone(outcome.id);
                self.crew.on_void(outcome.id, seen.now);
                Ok(())
            }
            Record::Chunk(chunk) => {
                if chunk.head.is_some() {
                    self.clocks.on_begun(chunk.batch, seen.now);
                }
                Ok(())
            }
            Record::Discard(_)
            | Record::Promote { .. }
            | Record::Retry { .. }
            | Record::Remove { .. }
            | Record::Expire { .. }
            | Record::Release { .. }
            | Record::Pause { .. }
            | Record::Generations(_) => Ok(()),
        }
    }

    /// A job was charged and goes on.
    fn check_charge(&mut self, charge: &Charge, seen: &mut Seen) -> Result<(), String> {
        let (id, attempt) = (charge.id, &charge.attempt);
        let licence = self.licence(id, attempt.cause, &attempt.place, charge.standing)?;
        let (plan, pool) = self.plan(id, seen)?;
        check_evidence(id, attempt.cause, attempt.evidence.as_ref(), &licence)?;
        let tries = charge.standing.attempts - charge.standing.crashes;
        if attempt.cause == Cause::Crash {
            self.jobs.alone.insert(id, pool.name.clone());
            if charge.standing.crashes >= pool.max_crashes || charge.due.is_some() {
                return Err(format!("job {id} goes on after a crash: {charge:?}"));
            }
            return Ok(());
        }
        let may_retry = matches!(licence.why, Why::Failure { retry: true, .. });
        if !may_retry || tries > plan.retries(pool) {
            return Err(format!("job {id} is retried beyond its retries: {charge:?}"));
        }
        let due = charge.due.ok_or_else(|| format!("job {id} is retried without a pause"))?;
        let pause = due.since(self.clocks.steady(seen.now));
        let base = (plan.backoff(pool) * 2_u32.pow(tries - 1)).min(BACKOFF_MAX);
        let rounding = Duration::from_millis(2);
        if pause + rounding < base * 4 / 5 || pause > (base * 6 / 5).min(BACKOFF_MAX) + rounding {
            return Err(format!("job {id} pauses {pause:?} after {tries} tries: its backoff is {base:?}"));
        }
        self.clocks.put_off(id, seen.now, pause);
        self.crew.on_left_memory(id);
        Ok(())
    }

    /// The end of a job's round.
    fn check_outcome(&mut self, outcome: &Outcome, seen: &mut Seen) -> Result<(), String> {
        let id = outcome.id;
        let Some(cause) = outcome.cause else {
            return self.check_success(outcome);
        };
        if cause == Cause::Cancelled && outcome.state == State::Cancelled {
            let is_asked = self.desk.is_cancelling(id);
            return if is_asked { Ok(()) } else { Err(format!("job {id} is cancelled, and nobody asked")) };
        }
        let place =
            outcome.last.as_ref().ok_or_else(|| format!("job {id} failed and never ran: {outcome:?}"))?;
        let licence = self.licence(id, cause, place, outcome.standing)?;
        let (plan, pool) = self.plan(id, seen)?;
        check_evidence(id, cause, outcome.evidence.as_ref(), &licence)?;
        let tries = outcome.standing.attempts - outcome.standing.crashes;
        let is_right = match (cause, licence.why) {
            _ if outcome.state != State::Failed => false,
            (Cause::Crash, _) => outcome.standing.crashes == pool.max_crashes,
            (Cause::Lost, _) => true,
            (_, Why::Failure { retry, .. }) => !retry || tries > plan.retries(pool),
            (_, Why::Success | Why::LateSuccess) => false,
        };
        if is_right { Ok(()) } else { Err(format!("job {id} fails too soon or too late: {outcome:?}")) }
    }

    fn check_success(&mut self, outcome: &Outcome) -> Result<(), String> {
        let id = outcome.id;
        let place = outcome.last.as_ref().ok_or_else(|| format!("job {id} succeeded and never ran"))?;
        let is_success = |why| matches!(why, Why::Success | Why::LateSuccess);
        let worker = place.worker.generation;
        let licence = self.crew.take(id, worker, is_success);
        let licence =
            licence.ok_or_else(|| format!("job {id} succeeds, and worker {} did not say so", worker.0))?;
        let (before, after) = (licence.standing, outcome.standing);
        let is_next = after.attempts == before.attempts + 1 && after.crashes == before.crashes;
        let is_later = after.attempts > before.attempts && licence.why == Why::LateSuccess;
        if after.round != before.round || !(is_next || is_later) {
            return Err(format!("job {id} stood at {before:?} and succeeds at {after:?}"));
        }
        let tag = self.jobs.tags[&id];
        let said = outcome.result.as_ref().map(ToString::to_string);
        if said != Some(tag.to_string()) || outcome.state != State::Succeeded {
            return Err(format!("job {id} ends with another's result {said:?}"));
        }
        Ok(())
    }

    /// What allows this charge or failure.
    fn licence(
        &mut self,
        id: JobId,
        cause: Cause,
        place: &AttemptPlace,
        after: Standing,
    ) -> Result<Licence, String> {
        let worker = place.worker.generation;
        let fits = |why| matches!(why, Why::Failure { cause: real, .. } if real == cause);
        let licence = self.crew.take(id, worker, fits);
        let licence = licence.ok_or_else(|| {
            format!("job {id} is charged with {cause} of worker {}, which did not happen", worker.0)
        })?;
        let before = licence.standing;
        let crashes = before.crashes + u32::from(cause == Cause::Crash);
        if (after.round, after.attempts, after.crashes) != (before.round, before.attempts + 1, crashes) {
            return Err(format!("job {id} stood at {before:?} and stands at {after:?} after {cause}"));
        }
        Ok(licence)
    }

    /// A job's plan and its pool's settings.
    fn plan<'a>(&self, id: JobId, seen: &'a Seen) -> Result<(&'a Plan, &'a PoolSettings), String> {
        let plan = &seen.plans.0[&self.jobs.tags[&id]];
        let pool = seen.pool(&plan.pool).ok_or_else(|| format!("job {id} ends, and its pool is gone"))?;
        Ok((plan, pool))
    }
}

/// The evidence of a crash holds the last output of the worker that died.
fn check_evidence(id: JobId, cause: Cause, evidence: Option<&Json>, licence: &Licence) -> Result<(), String> {
    let words = last_words(licence.worker);
    let is_there = evidence.is_some_and(|evidence| evidence.contains(&words));
    if cause == Cause::Crash && !is_there {
        return Err(format!("the evidence of the crash of job {id} lacks {words:?}: {evidence:?}"));
    }
    Ok(())
}
