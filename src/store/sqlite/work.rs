//! One transaction: what it is done with, and what each record does.

use super::codec::{ranges_text, sql, state_code};
use super::finish::Standings;
use super::hidden::Hidden;
use super::lane::Shifts;
use super::names::Names;
use crate::model::{JobId, PoolName, State, Wall, push_id};
use crate::store::Applied;
use crate::store::Record;
use crate::store::label::Labels;
use crate::store::turn::Turn;
use rusqlite::{Connection, OptionalExtension, Params, Row};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of discarded submits that are deleted along with other work.
pub(super) const SWEEP_ROWS: usize = 1_000;

/// Facts about the file that save look-ups. True within a transaction; read again when one has failed.
pub(super) struct Facts {
    pub(super) names: Names,
    pub(super) meta: Meta,
    /// No job above has a row in `side`.
    pub(super) side_top: i64,
    /// No job above has an outcome.
    pub(super) outcome_top: i64,
    /// Whether a job may wait for another, or an end to be passed on.
    pub(super) has_edges: bool,
    /// Whether rows of discarded submits are left.
    pub(super) is_sweeping: bool,
    /// What is not visible; `None`: to be looked up.
    pub(super) hidden: Option<Arc<Hidden>>,
    /// Of submits whose jobs wait for each other by keys and names.
    pub(super) labels: BTreeMap<i64, Labels>,
    /// Ends by pool since its runs were last trimmed.
    pub(super) ends: BTreeMap<i64, u64>,
    /// Where the trimming of a pool's runs goes on.
    pub(super) trimmed: BTreeMap<i64, (i64, i64)>,
}

/// The row of `meta`.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Meta {
    pub(super) next_job: i64,
    pub(super) next_batch: i64,
    pub(super) next_generation: i64,
    pub(super) finishes: i64,
    pub(super) clock: i64,
}

impl Facts {
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Facts> {
        let meta = db.query_row(
            "SELECT next_job, next_batch, next_generation, finishes, clock FROM meta",
            [],
            |row| {
                Ok(Meta {
                    next_job: row.get(0)?,
                    next_batch: row.get(1)?,
                    next_generation: row.get(2)?,
                    finishes: row.get(3)?,
                    clock: row.get(4)?,
                })
            },
        )?;
        let facts =
            "SELECT coalesce((SELECT max(id) FROM side), 0), coalesce((SELECT max(id) FROM outcome), 0),
            EXISTS (SELECT 1 FROM edge) OR EXISTS (SELECT 1 FROM passing), EXISTS (SELECT 1 FROM submit WHERE state = 3)";
        db.query_row(facts, [], |row| {
            Ok(Facts {
                names: Names::default(),
                meta,
                side_top: row.get(0)?,
                outcome_top: row.get(1)?,
                has_edges: row.get(2)?,
                is_sweeping: row.get(3)?,
                hidden: None,
                labels: BTreeMap::new(),
                ends: BTreeMap::new(),
                trimmed: BTreeMap::new(),
            })
        })
    }
}

/// A transaction on its way.
pub(super) struct Work<'a> {
    pub(super) db: &'a Connection,
    pub(super) facts: &'a mut Facts,
    pub(super) turn: Turn,
    /// For the places of fetches, once this is committed.
    pub(super) shifts: Shifts,
    /// How the number of jobs changed by context.
    pub(super) contexts: BTreeMap<i64, i64>,
    /// The same by the chunk at hand, which may yet be refused.
    pub(super) contexts_of_chunk: BTreeMap<i64, i64>,
    /// The number of this commit in the log of finishing.
    pub(super) finish_seq: i64,
    meta_before: Meta,
}

impl<'a> Work<'a> {
    pub(super) fn new(db: &'a Connection, facts: &'a mut Facts) -> Work<'a> {
        let meta_before = facts.meta;
        let finish_seq = facts.meta.finishes + 1;
        let (turn, shifts) = (Turn::default(), Shifts::default());
        let (contexts, contexts_of_chunk) = (BTreeMap::new(), BTreeMap::new());
        Work { db, facts, turn, shifts, contexts, contexts_of_chunk, finish_seq, meta_before }
    }

    pub(super) fn record(&mut self, record: &Record) -> rusqlite::Result<()> {
        match record {
            Record::Chunk(chunk) => {
                let fate = self.chunk(chunk)?;
                self.turn.applied.chunks.push(fate);
            }
            Record::Discard(ticket) => self.discard_ticket(*ticket)?,
            Record::Finish(outcome) => {
                let first = self.finish_job(outcome)?;
                self.turn.applied.finishes.push(first);
            }
            Record::Charge(charge) => self.charge(charge)?,
            Record::Promote { pool, now, limit } => {
                let next_due = self.promote(pool, *now, *limit)?;
                self.turn.applied.next_due.push(next_due);
            }
            Record::Retry { ids } => {
                let changed = self.retry(ids)?;
                self.turn.applied.changed.push(changed);
            }
            Record::Remove { ids } => {
                let changed = self.remove(ids)?;
                self.turn.applied.changed.push(changed);
            }
            Record::Expire { before, bytes_max, limit } => {
                let changed = self.expire(*before, *bytes_max, *limit)?;
                self.turn.applied.changed.push(changed);
            }
            Record::Release { now, limit } => self.release(*now, *limit)?,
            Record::Pause { pool, paused } => {
                let pool = self.facts.names.pool_number(self.db, pool)?;
                self.run("UPDATE pool SET paused = ?2 WHERE id = ?1", (pool, paused))?;
            }
            Record::Generations(next) => {
                self.facts.meta.next_generation = self.facts.meta.next_generation.max(sql(next.0));
            }
        }
        Ok(())
    }

    /// Writes what concerns the transaction as a whole.
    pub(super) fn finish(mut self) -> rusqlite::Result<(Applied, Shifts)> {
        self.fold()?;
        for (context, jobs) in std::mem::take(&mut self.contexts) {
            self.run("UPDATE context SET jobs = jobs + ?2 WHERE id = ?1", (context, jobs))?;
            if jobs < 0 && self.run("DELETE FROM context WHERE id = ?1 AND jobs = 0", [context])? > 0 {
                self.facts.names.forget_context(context);
            }
        }
        if !self.turn.finished.is_empty() {
            let mut ranges = Vec::new();
            self.turn.finished.iter().for_each(|id| push_id(&mut ranges, *id));
            self.run(
                "INSERT INTO finish (seq, ids) VALUES (?1, ?2)",
                (self.finish_seq, ranges_text(&ranges)),
            )?;
            self.facts.meta.finishes = self.finish_seq;
        }
        if self.facts.meta != self.meta_before {
            let meta = self.facts.meta;
            self.run(
                "UPDATE meta SET next_job = ?1, next_batch = ?2, next_generation = ?3, finishes = ?4, clock = ?5",
                (meta.next_job, meta.next_batch, meta.next_generation, meta.finishes, meta.clock),
            )?;
        }
        self.turn.applied.releases =
            self.facts.has_edges && self.one("SELECT 1 FROM passing", [], |_| Ok(()))?.is_some();
        Ok((self.turn.into_applied(), self.shifts))
    }

    /// Adds the moves so far to the counters.
    pub(super) fn fold(&mut self) -> rusqlite::Result<()> {
        let mut changes: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
        let mut kept: BTreeMap<i64, i64> = BTreeMap::new();
        for ((pool, batch, from, to), jobs) in self.turn.take_fresh() {
            let pool = self.facts.names.pool_number(self.db, &pool)?;
            let (batch, jobs) = (sql(batch.0), sql(jobs));
            for (state, change) in [(from, -jobs), (to, jobs)] {
                if let Some(state) = state {
                    *changes.entry((0, pool, state_code(state))).or_default() += change;
                    *changes.entry((batch, pool, state_code(state))).or_default() += change;
                    *kept.entry(batch).or_default() += change;
                }
            }
        }
        for (key, change) in changes.into_iter().filter(|(_, change)| *change != 0) {
            let (batch, pool, state) = key;
            let known = self.run(
                "UPDATE counter SET jobs = jobs + ?4 WHERE batch = ?1 AND pool = ?2 AND state = ?3",
                (batch, pool, state, change),
            )?;
            if known == 0 {
                self.run("INSERT INTO counter VALUES (?1, ?2, ?3, ?4)", (batch, pool, state, change))?;
            }
        }
        for (batch, change) in kept.into_iter().filter(|(_, change)| *change != 0) {
            self.run("UPDATE batch SET kept = kept + ?2 WHERE id = ?1", (batch, change))?;
        }
        Ok(())
    }

    /// What is not visible at present.
    pub(super) fn hidden(&mut self) -> rusqlite::Result<Arc<Hidden>> {
        if let Some(hidden) = &self.facts.hidden {
            return Ok(Arc::clone(hidden));
        }
        let hidden = Arc::new(Hidden::load(self.db)?);
        self.facts.hidden = Some(Arc::clone(&hidden));
        Ok(hidden)
    }

    /// A wall time came by.
    pub(super) fn see(&mut self, time: Wall) {
        self.facts.meta.clock = self.facts.meta.clock.max(sql(time.0));
    }

    /// A job is queued that has a row in `side`.
    pub(super) fn enqueued(&mut self, id: JobId, pool: &PoolName, priority: i16) {
        self.turn.visible(pool, priority);
        self.shifts.queued.push((pool.clone(), priority, id));
    }

    /// Puts a job into `side` or replaces its row there.
    pub(super) fn put_aside(
        &mut self,
        id: JobId,
        place: &Place,
        state: i64,
        standings: &Standings,
    ) -> rusqlite::Result<()> {
        self.facts.side_top = self.facts.side_top.max(sql(id.0));
        self.run(
            "INSERT OR REPLACE INTO side VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            (
                sql(id.0),
                place.batch,
                place.pool,
                place.priority,
                state,
                standings.due.map(|due| sql(due.0)),
                standings.pause,
                standings.standing.round,
                standings.standing.attempts,
                standings.standing.crashes,
                standings.standing.alone,
            ),
        )?;
        Ok(())
    }

    pub(super) fn run(&self, text: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(text)?.execute(params)
    }

    pub(super) fn one<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.db.prepare_cached(text)?.query_row(params, read).optional()
    }

    pub(super) fn all<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.db.prepare_cached(text)?.query_map(params, read)?.collect()
    }
}

/// Where a job belongs, in numbers.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) batch: i64,
    pub(super) pool: i64,
    pub(super) priority: i16,
}

/// The state of a job with no row but its own.
pub(super) const PLAIN: State = State::Queued;
