//! When faults are off, everything finishes as it should.

use super::{Oracles, Seen};
use crate::plan::Fate;
use pushpull::model::{Answer, Attempt, Cause, JobId, Outcome, Query, Row, Select, Standing, State, Word};

impl Oracles {
    /// What should have finished and has not, or should have been acknowledged; empty when all is well.
    pub fn unfinished(&self, seen: &mut Seen) -> String {
        for (number, submit) in seen.submits.iter().enumerate() {
            let can_run = |tag: &u64| {
                let plan = &seen.plans.0[tag];
                seen.pool(&plan.pool).is_some_and(|pool| pool.is_builtin() == plan.runs)
            };
            let is_able = submit.vanishes.is_none() && submit.tags().iter().all(can_run);
            if is_able && !self.submits.is_acknowledged(number) {
                return format!("{} was not acknowledged", submit.key);
            }
        }
        let states = State::ALL.into_iter().filter(|state| !state.is_finished()).collect();
        let select = Select { words: vec![Word::All], states, pools: Vec::new() };
        let query = Query::Jobs { select, after: JobId(0), limit: 1_000, results: false };
        let Answer::Jobs { rows, .. } = seen.disk.look(&query) else {
            return String::new();
        };
        match rows.iter().find(|row| !self.may_wait(row, seen)) {
            Some(row) => format!("job {} is {}: {row:?}", row.job.id, row.state.as_str()),
            None => String::new(),
        }
    }

    /// Whether a job has a reason to stay unfinished: its pool is paused, gone, or cannot run it; or it waits for
    /// such a job, or for one that nobody retries.
    fn may_wait(&self, row: &Row, seen: &mut Seen) -> bool {
        if self.pauses.may_be_paused(&row.job.pool) || seen.home(&row.job).is_none() {
            return true;
        }
        let before = self.jobs.before.get(&row.job.id).cloned().unwrap_or_default();
        row.state == State::Blocked
            && before.iter().any(|id| match seen.disk.row(*id) {
                Some(before) if before.state.is_finished() => {
                    before.state != State::Succeeded && row.standing.round > 0
                }
                Some(before) => self.may_wait(&before, seen),
                None => false,
            })
    }

    /// Every promised job has the outcome that its plan allows, and the sums match.
    pub fn check_end(&mut self, seen: &mut Seen) -> Result<(), String> {
        let lost = self.submits.promised().find(|id| !self.jobs.tags.contains_key(id));
        if let Some(id) = lost {
            return Err(format!("the acknowledged job {id} was never visible"));
        }
        let ids: Vec<JobId> = self.jobs.tags.keys().copied().collect();
        for id in ids {
            match (seen.disk.look(&Query::Job(id)), self.jobs.removed.contains(&id)) {
                (Answer::Job { row, attempts }, false) => self.check_job(&row, &attempts, seen)?,
                (Answer::Job { .. }, true) => return Err(format!("the removed job {id} is back")),
                (_, true) => {}
                (_, false) => return Err(format!("job {id} is lost")),
            }
        }
        match seen.disk.look(&Query::Audit) {
            Answer::Audit { differences, .. } if differences.is_empty() => Ok(()),
            other => Err(format!("the audit says {other:?}")),
        }
    }

    fn check_job(&self, row: &Row, attempts: &[(Standing, Attempt)], seen: &mut Seen) -> Result<(), String> {
        let Some(outcome) = &row.outcome else {
            let waits = self.may_wait(row, seen);
            return if waits { Ok(()) } else { Err(format!("job {} has no outcome: {row:?}", row.job.id)) };
        };
        self.check_dependency(row, outcome, seen)?;
        let in_round = attempts.iter().filter(|(standing, _)| standing.round == row.standing.round).count();
        let last = usize::from(outcome.state != State::Cancelled);
        // A charge that could not be written at once may come after the outcome, which then stands alone.
        if row.standing.attempts as usize != in_round + last && !seen.disk.was_broken {
            return Err(format!("job {} has {in_round} attempts in its history: {row:?}", row.job.id));
        }
        let fate = seen.plans.of(&row.job).fate;
        let has_limit = seen.plans.of(&row.job).timeout_ms.is_some()
            || seen.pool(&row.job.pool).is_none_or(|pool| pool.timeout.is_some());
        if is_possible(fate, outcome, has_limit) {
            return Ok(());
        }
        Err(format!("job {} ({fate:?}) ends like this: {outcome:?}", row.job.id))
    }

    /// Who waits for a job that failed is cancelled, and nobody else is with that cause.
    fn check_dependency(&self, row: &Row, outcome: &Outcome, seen: &mut Seen) -> Result<(), String> {
        let id = row.job.id;
        let before = self.jobs.before.get(&id).cloned().unwrap_or_default();
        let has_passed =
            |before: &JobId| self.jobs.succeeded.contains(before) || self.jobs.removed.contains(before);
        let has_failed = !before.iter().all(has_passed);
        // A label that stands for several jobs may mean one that is not known here.
        let knows_all = before.len() == row.job.after.len();
        let is_dependent = outcome.cause == Some(Cause::Dependency) && knows_all;
        if is_dependent
            && before
                .iter()
                .all(|before| seen.disk.row(*before).is_some_and(|row| row.state == State::Succeeded))
        {
            return Err(format!("job {id} is cancelled for {before:?}, which have succeeded"));
        }
        if has_failed && outcome.state != State::Cancelled {
            return Err(format!("job {id} waits for {before:?}, and ends like this: {outcome:?}"));
        }
        Ok(())
    }
}

/// Whether a job of this fate may end like this.
fn is_possible(fate: Fate, outcome: &Outcome, has_limit: bool) -> bool {
    let Some(cause) = outcome.cause else {
        return matches!(fate, Fate::Succeed | Fate::Flaky(_) | Fate::Leave(_));
    };
    match cause {
        Cause::Dependency => outcome.state == State::Cancelled,
        // The built-in worker says that it let go of a job, perhaps twice, and the job runs again by then; and somebody
        // may have killed a worker again and again.
        Cause::Cancelled | Cause::Crash => true,
        Cause::Timeout => has_limit,
        Cause::Lost => matches!(fate, Fate::Leave(_)),
        Cause::Error => matches!(fate, Fate::Fail | Fate::GiveUp | Fate::Flaky(_) | Fate::Big),
        Cause::Exit => matches!(fate, Fate::Fail | Fate::GiveUp),
        Cause::Signal => matches!(fate, Fate::Flaky(_)),
        Cause::Start => false,
    }
}
