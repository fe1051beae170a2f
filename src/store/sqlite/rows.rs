//! Reading a job, and what became of it.

use super::codec::{
    after_from, bad_column, get_cause, get_id, get_place, get_standing, get_state, get_wall, num, policy_from,
};
use super::names::Names;
use super::work::PLAIN;
use crate::model::{BatchId, Job, Outcome, State, Wall, Work};
use crate::store::Row;
use rusqlite::Connection;
use std::sync::Arc;

/// The columns that [`get_job`] reads, 13 of them.
pub(super) const JOB_COLUMNS: &str = "job.id, job.batch, job.idx, job.pool, job.priority, job.name, job.key,
    job.kind, job.work, job.policy, job.context, job.after, job.submitted";

/// The columns that [`get_row`] reads behind those of the job. `?1` says whether results are wanted.
pub(super) const REST_COLUMNS: &str = "outcome.state, outcome.cause, outcome.worker, outcome.started,
    outcome.finished, outcome.error, iif(?1, outcome.result, NULL), outcome.evidence, outcome.round,
    outcome.attempts, outcome.crashes, outcome.alone, side.state, side.due, side.round, side.attempts,
    side.crashes, side.alone";

/// What [`REST_COLUMNS`] come from.
pub(super) const JOINED: &str =
    "job LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN side ON side.id = job.id";

pub(super) fn get_job(db: &Connection, names: &mut Names, row: &rusqlite::Row<'_>) -> rusqlite::Result<Job> {
    let text = row.get(8)?;
    let policy = match row.get_ref(9)?.as_str_or_null()? {
        Some(text) => Some(Box::new(policy_from(text).ok_or_else(|| bad_column(9, "not a policy"))?)),
        None => None,
    };
    let after = match row.get_ref(11)?.as_str_or_null()? {
        Some(text) => after_from(text).ok_or_else(|| bad_column(11, "not a list of jobs"))?,
        None => Vec::new(),
    };
    let context = row.get::<_, Option<i64>>(10)?;
    Ok(Job {
        id: get_id(row, 0)?,
        batch: BatchId(num(row.get(1)?)),
        index: num(row.get(2)?),
        pool: names.pool(db, row.get(3)?)?,
        priority: row.get(4)?,
        name: row.get(5)?,
        key: row.get(6)?,
        work: if row.get::<_, i64>(7)? == 0 { Work::Run(text) } else { Work::Data(text) },
        policy,
        context: context.map(|number| names.context(db, number)).transpose()?,
        after,
        submitted: Wall(num(row.get(12)?)),
    })
}

/// A job with its outcome or its place beside the runs.
pub(super) fn get_row(db: &Connection, names: &mut Names, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let job = Arc::new(get_job(db, names, row)?);
    if row.get::<_, Option<i64>>(13)?.is_some() {
        let outcome = Outcome {
            id: job.id,
            batch: job.batch,
            pool: job.pool.clone(),
            state: get_state(row, 13)?,
            cause: get_cause(row, 14)?,
            standing: get_standing(row, 21)?,
            last: get_place(row, 15)?,
            finished: get_wall(row, 17)?.unwrap_or_default(),
            error: row.get(18)?,
            result: row.get(19)?,
            evidence: row.get(20)?,
        };
        let (state, standing) = (outcome.state, outcome.standing);
        return Ok(Row { job, state, standing, due: None, running: None, outcome: Some(outcome) });
    }
    if row.get::<_, Option<i64>>(25)?.is_some() {
        let state = get_state(row, 25)?;
        let due = get_wall(row, 26)?.filter(|_| state == State::Delayed);
        return Ok(Row { job, state, standing: get_standing(row, 27)?, due, running: None, outcome: None });
    }
    let standing = crate::model::Standing::default();
    Ok(Row { job, state: PLAIN, standing, due: None, running: None, outcome: None })
}
