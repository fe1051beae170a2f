//! Ends of rounds and of attempts, and what begins a round anew.

use super::codec::{get_attempt, get_id, get_standing, get_state, get_wall, sql, state_code, state_from};
use super::work::{PLAIN, Place, Work};
use crate::model::{Attempt, BatchId, Charge, JobId, Outcome, PoolName, Standing, State, Wall};
use crate::store::end::{self, End};

/// What `side` says of a job besides its place.
#[derive(Clone, Copy, Default)]
pub(super) struct Standings {
    pub(super) standing: Standing,
    pub(super) due: Option<Wall>,
    /// How long it was to wait when `due` was set, in milliseconds.
    pub(super) pause: i64,
}

/// An unfinished job as it is found.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) state: State,
    pub(super) has_side: bool,
    pub(super) standing: Standing,
}

impl Work<'_> {
    pub(super) fn finish_job(&mut self, outcome: &Outcome) -> rusqlite::Result<bool> {
        self.see(outcome.finished);
        let Some(found) = self.unfinished(outcome.id)? else { return Ok(false) };
        if found.standing.round != outcome.standing.round {
            return Ok(false);
        }
        let id = sql(outcome.id.0);
        let standing = outcome.standing_after(found.standing);
        let worker = outcome.last.as_ref().map(|place| place.worker.to_string());
        let inserted = self.run(
            "INSERT OR IGNORE INTO outcome VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            (
                id,
                standing.round,
                standing.attempts,
                standing.crashes,
                standing.alone,
                state_code(outcome.state),
                outcome.cause.map(crate::model::Cause::as_str),
                worker,
                outcome.last.as_ref().map(|place| sql(place.started.0)),
                sql(outcome.finished.0),
                outcome.error.as_deref(),
                outcome.result.as_deref(),
                outcome.evidence.as_deref(),
                self.finish_seq,
            ),
        )?;
        if inserted == 0 {
            return Ok(false);
        }
        if found.has_side {
            self.run("DELETE FROM side WHERE id = ?1", [id])?;
            self.shifts.gone.push(outcome.id);
        }
        let pool = self.facts.names.pool(self.db, found.place.pool)?;
        let batch = BatchId(super::num(found.place.batch));
        self.turn.moved(&pool, batch, Some(found.state), Some(outcome.state), 1);
        self.turn.finished.push(outcome.id);
        self.facts.outcome_top = self.facts.outcome_top.max(id);
        *self.facts.ends.entry(found.place.pool).or_default() += 1;
        self.pass_on(id, if outcome.state == State::Succeeded { End::Succeeded } else { End::Failed })?;
        Ok(true)
    }

    /// A visible job that may lack an outcome: whether one is there is not looked up.
    fn unfinished(&mut self, id: JobId) -> rusqlite::Result<Option<Found>> {
        if self.hidden()?.end_of(id.0).is_some() {
            return Ok(None);
        }
        let id = sql(id.0);
        if id <= self.facts.side_top {
            let find = "SELECT batch, pool, priority, state, round, attempts, crashes, alone FROM side WHERE id = ?1";
            let found = self.one(find, [id], |row| {
                let place = Place { batch: row.get(0)?, pool: row.get(1)?, priority: row.get(2)? };
                let state = state_from(row.get(3)?);
                Ok(state.map(|state| (place, state, get_standing(row, 4))))
            })?;
            match found {
                Some(Some((place, state, standing))) => {
                    return Ok(Some(Found { place, state, has_side: true, standing: standing? }));
                }
                Some(None) => return Ok(None),
                None => {}
            }
        }
        self.one("SELECT batch, pool, priority FROM job WHERE id = ?1", [id], |row| {
            let place = Place { batch: row.get(0)?, pool: row.get(1)?, priority: row.get(2)? };
            Ok(Found { place, state: PLAIN, has_side: false, standing: Standing::default() })
        })
    }

    fn has_outcome(&self, id: i64) -> rusqlite::Result<bool> {
        if id > self.facts.outcome_top {
            return Ok(false);
        }
        Ok(self.one("SELECT 1 FROM outcome WHERE id = ?1", [id], |_| Ok(()))?.is_some())
    }

    pub(super) fn charge(&mut self, charge: &Charge) -> rusqlite::Result<()> {
        self.see(charge.attempt.finished);
        let Some(found) = self.unfinished(charge.id)? else { return Ok(()) };
        let goes_on = matches!(found.state, State::Queued | State::Delayed)
            && found.standing.round == charge.standing.round
            && (found.has_side || !self.has_outcome(sql(charge.id.0))?);
        if !goes_on {
            return Ok(());
        }
        self.keep_attempt(charge.id, charge.standing, &charge.attempt)?;
        let pause = charge.due.map_or(0, |due| {
            i64::try_from(due.since(charge.attempt.finished).as_millis()).unwrap_or(i64::MAX)
        });
        let to = if charge.due.is_some() { State::Delayed } else { State::Queued };
        let standings = Standings { standing: charge.standing, due: charge.due, pause };
        self.put_aside(charge.id, &found.place, state_code(to), &standings)?;
        let pool = self.facts.names.pool(self.db, found.place.pool)?;
        let batch = BatchId(super::num(found.place.batch));
        self.turn.moved(&pool, batch, Some(found.state), Some(to), 1);
        self.shifts.gone.push(charge.id);
        if charge.due.is_none() {
            self.enqueued(charge.id, &pool, found.place.priority);
        }
        Ok(())
    }

    fn keep_attempt(&self, id: JobId, standing: Standing, attempt: &Attempt) -> rusqlite::Result<()> {
        self.run(
            "INSERT INTO attempt (id, round, attempts, crashes, alone, worker, started, finished, cause, error, result,
             evidence) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            (
                sql(id.0),
                standing.round,
                standing.attempts,
                standing.crashes,
                standing.alone,
                attempt.place.worker.to_string(),
                sql(attempt.place.started.0),
                sql(attempt.finished.0),
                attempt.cause.as_str(),
                attempt.error.as_deref(),
                attempt.result.as_deref(),
                attempt.evidence.as_deref(),
            ),
        )?;
        Ok(())
    }

    pub(super) fn promote(
        &mut self,
        name: &PoolName,
        now: Wall,
        limit: usize,
    ) -> rusqlite::Result<Option<Wall>> {
        self.see(now);
        let Some(pool) = self.facts.names.find_pool(self.db, name)? else { return Ok(None) };
        let find = "SELECT id, batch, priority FROM side WHERE pool = ?1 AND state = 1 AND due <= ?2
            ORDER BY due, id LIMIT ?3";
        let due = self.all(find, (pool, sql(now.0), sql(limit as u64)), |row| {
            Ok((get_id(row, 0)?, row.get(1)?, row.get(2)?))
        })?;
        for (id, batch, priority) in due {
            let batch: i64 = batch;
            self.run("UPDATE side SET state = 0, due = NULL WHERE id = ?1", [sql(id.0)])?;
            self.turn.moved(name, BatchId(super::num(batch)), Some(State::Delayed), Some(State::Queued), 1);
            self.enqueued(id, name, priority);
        }
        let next = "SELECT due FROM side WHERE pool = ?1 AND state = 1 ORDER BY due, id LIMIT 1";
        Ok(self.one(next, [pool], |row| get_wall(row, 0))?.flatten())
    }

    pub(super) fn retry(&mut self, ids: &[JobId]) -> rusqlite::Result<Vec<JobId>> {
        let mut changed = Vec::new();
        for &id in ids {
            let find = "SELECT state FROM outcome WHERE id = ?1";
            let state = self.one(find, [sql(id.0)], |row| get_state(row, 0))?;
            if state.is_some_and(|state| state != State::Succeeded) {
                self.reopen(sql(id.0))?;
                changed.push(id);
            }
        }
        Ok(changed)
    }

    /// Opens the next round of a finished job.
    pub(super) fn reopen(&mut self, id: i64) -> rusqlite::Result<()> {
        let job = JobId(super::num(id));
        let (place, state, standing, finish) = self
            .one(
                "SELECT job.batch, job.pool, job.priority, outcome.state, outcome.finish, round, attempts, crashes,
                 alone FROM outcome JOIN job ON job.id = outcome.id WHERE outcome.id = ?1",
                [id],
                |row| {
                    let place = Place { batch: row.get(0)?, pool: row.get(1)?, priority: row.get(2)? };
                    Ok((place, get_state(row, 3)?, get_standing(row, 5)?, row.get::<_, i64>(4)?))
                },
            )?
            .expect("only a finished job is reopened");
        // The columns of both tables are alike, so the row moves as it is.
        self.run(
            "INSERT INTO attempt (id, round, attempts, crashes, alone, worker, started, finished, cause, error, result,
             evidence) SELECT id, round, attempts, crashes, alone, worker, started, finished, coalesce(cause, 'error'),
             error, result, evidence FROM outcome WHERE id = ?1 AND worker IS NOT NULL",
            [id],
        )?;
        self.run("DELETE FROM outcome WHERE id = ?1", [id])?;
        if finish == self.finish_seq {
            self.turn.finished.retain(|finished| *finished != job);
        }
        let to = if self.is_waiting(id)? { State::Blocked } else { State::Queued };
        let standings = Standings { standing: end::next_round(standing), ..Standings::default() };
        self.put_aside(job, &place, state_code(to), &standings)?;
        let pool = self.facts.names.pool(self.db, place.pool)?;
        self.turn.moved(&pool, BatchId(super::num(place.batch)), Some(state), Some(to), 1);
        if to == State::Queued {
            self.enqueued(job, &pool, place.priority);
        }
        self.pass_on(id, End::Retried)
    }
}

/// A job's attempts, oldest first.
pub(super) fn attempts(db: &rusqlite::Connection, id: JobId) -> rusqlite::Result<Vec<(Standing, Attempt)>> {
    let find =
        "SELECT round, attempts, crashes, alone, worker, started, finished, cause, error, result, evidence
        FROM attempt WHERE id = ?1 ORDER BY seq";
    db.prepare_cached(find)?.query_map([sql(id.0)], get_attempt)?.collect()
}
