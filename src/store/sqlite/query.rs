//! Answers to people's questions, a page at a time.

use super::codec::{get_id, get_standing, get_state, get_wall, num, ranges_from, sql};
use super::finish::attempts;
use super::hidden::Hidden;
use super::names::Names;
use super::rows::{JOB_COLUMNS, JOINED, REST_COLUMNS, get_row};
use crate::model::{BatchId, BatchRow, Counts, JobId};
use crate::store::scope::{CountedBy, Directory, Miss, Page, Scope, settle, weight};
use crate::store::{Answer, FinishCursor, Query, Row, Select, StoreError, Stub};
use rusqlite::{Connection, OptionalExtension};
use std::sync::atomic::AtomicBool;

/// Answers a question; an audit ends early when `stop` is set.
pub(super) fn answer(
    db: &Connection,
    names: &mut Names,
    query: &Query,
    stop: &AtomicBool,
) -> Result<Answer, StoreError> {
    let hidden = Hidden::load(db)?;
    let mut asking = Asking { db, names, hidden };
    settle(match query {
        Query::Jobs { select, after, limit, results } => asking.list(select, *after, *limit, *results),
        Query::Ids { select, after, limit } => asking.stubs(select, *after, *limit),
        Query::Finished { select, after, limit } => asking.finished(select, *after, *limit),
        Query::Recent(limit) => Ok(asking.recent(*limit)?),
        Query::Job(id) => asking.job(*id),
        Query::Batches { after, limit } => asking.batches(*after, *limit),
        Query::Counts(select) => asking.counts(select),
        Query::Submit(key) => Ok(Answer::Submit(super::known::complete(asking.db, key)?)),
        Query::Audit => super::audit::audit(asking.db, &asking.hidden, stop).map_err(Miss::Store),
    })
}

struct Asking<'a> {
    db: &'a Connection,
    names: &'a mut Names,
    hidden: Hidden,
}

impl Asking<'_> {
    fn job(&mut self, id: JobId) -> Result<Answer, Miss> {
        let row = self.row(id, true)?.ok_or_else(|| Miss::NotFound(id.to_string()))?;
        Ok(Answer::Job { row: Box::new(row), attempts: attempts(self.db, id)? })
    }

    fn row(&mut self, id: JobId, results: bool) -> rusqlite::Result<Option<Row>> {
        if self.hidden.end_of(id.0).is_some() {
            return Ok(None);
        }
        let text = format!("SELECT {JOB_COLUMNS}, {REST_COLUMNS} FROM {JOINED} WHERE job.id = ?2");
        let (db, names) = (self.db, &mut *self.names);
        db.prepare_cached(&text)?.query_row((results, sql(id.0)), |row| get_row(db, names, row)).optional()
    }

    fn list(&mut self, select: &Select, after: JobId, limit: usize, results: bool) -> Result<Answer, Miss> {
        let text = format!(
            "SELECT {JOB_COLUMNS}, {REST_COLUMNS} FROM {JOINED} WHERE job.id BETWEEN ?2 AND ?3 ORDER BY job.id"
        );
        let mut rows = Vec::new();
        let (next, end) = self.walk(&text, results, select, after, limit, |asking, scope, found| {
            let row = get_row(asking.db, asking.names, found)?;
            if !scope.admits(row.state, &row.job.pool) {
                return Ok(None);
            }
            let weight = weight(&row.job, row.outcome.as_ref());
            rows.push(row);
            Ok(Some(weight))
        })?;
        Ok(Answer::Jobs { rows, next, end })
    }

    fn stubs(&mut self, select: &Select, after: JobId, limit: usize) -> Result<Answer, Miss> {
        let text = format!(
            "SELECT job.id, coalesce(outcome.state, side.state, 0), coalesce(outcome.round, side.round, 0),
             coalesce(outcome.attempts, side.attempts, 0), coalesce(outcome.crashes, side.crashes, 0),
             coalesce(outcome.alone, side.alone, 0), job.batch, job.pool, job.priority
             FROM {JOINED} WHERE job.id BETWEEN ?2 AND ?3 AND ?1 ORDER BY job.id"
        );
        let mut stubs = Vec::new();
        let (next, end) = self.walk(&text, true, select, after, limit, |asking, scope, row| {
            let stub = Stub {
                id: get_id(row, 0)?,
                batch: BatchId(num(row.get(6)?)),
                pool: asking.names.pool(asking.db, row.get(7)?)?,
                priority: row.get(8)?,
                state: get_state(row, 1)?,
                standing: get_standing(row, 2)?,
            };
            let is_meant = scope.admits(stub.state, &stub.pool);
            Ok(is_meant.then(|| {
                stubs.push(stub);
                size_of::<Stub>()
            }))
        })?;
        Ok(Answer::Ids { stubs, next, end })
    }

    /// Hands a page of rows to `visit`, which answers with the weight of each that it took.
    fn walk(
        &mut self,
        text: &str,
        results: bool,
        select: &Select,
        after: JobId,
        limit: usize,
        mut visit: impl FnMut(&mut Self, &Scope, &rusqlite::Row<'_>) -> rusqlite::Result<Option<usize>>,
    ) -> Result<(JobId, bool), Miss> {
        let scope = Scope::resolve(select, self)?;
        let mut page = Page::new(limit);
        let mut next = after.0;
        if scope.is_unfinished_only() {
            next = next.max(self.first_unfinished()?.saturating_sub(1));
        }
        let db = self.db;
        let mut find = db.prepare_cached(text)?;
        while let Some((first, last)) = self.next_range(&scope, next.saturating_add(1))? {
            let mut skip_to = None;
            let mut rows = find.query((results, sql(first), sql(last)))?;
            while let Some(row) = rows.next()? {
                let id = get_id(row, 0)?.0;
                if let Some(end) = self.hidden.end_of(id) {
                    skip_to = Some(end);
                    break;
                }
                if page.is_full() {
                    return Ok((JobId(next), false));
                }
                page.look();
                next = id;
                if let Some(weight) = visit(self, &scope, row)? {
                    page.add(weight);
                }
            }
            next = skip_to.unwrap_or(last);
            if next >= i64::MAX.unsigned_abs() {
                break;
            }
        }
        Ok((JobId(next), true))
    }

    /// No job below has not finished.
    fn first_unfinished(&self) -> rusqlite::Result<u64> {
        let find = "SELECT min(coalesce((SELECT min(first_id) FROM run), ?1), coalesce((SELECT min(id) FROM side), ?1))";
        self.db.prepare_cached(find)?.query_row([i64::MAX], |row| Ok(num(row.get(0)?)))
    }

    fn next_range(&self, scope: &Scope, from: u64) -> rusqlite::Result<Option<(u64, u64)>> {
        scope.next_range(from, |batch, from| {
            let find = "SELECT first_id, last_id FROM span WHERE batch = ?1 AND known = 0 AND last_id >= ?2
                ORDER BY last_id LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| Ok((num(row.get(0)?), num(row.get(1)?)));
            self.db.prepare_cached(find)?.query_row((sql(batch.0), sql(from)), read).optional()
        })
    }

    fn finished(&mut self, select: &Select, after: FinishCursor, limit: usize) -> Result<Answer, Miss> {
        let scope = Scope::resolve(select, self)?;
        let mut from = after;
        if scope.is_batches_only() {
            from = from.max(FinishCursor { commit: self.born(&scope)?, offset: u32::MAX });
        }
        let mut page = Page::new(limit);
        let mut rows = Vec::new();
        let mut next = after;
        let db = self.db;
        let mut log = db.prepare_cached("SELECT seq, ids FROM finish WHERE seq >= ?1 ORDER BY seq")?;
        let mut commits = log.query([sql(from.commit)])?;
        while let Some(row) = commits.next()? {
            let commit = num(row.get(0)?);
            let ids = ranges_from(&row.get::<_, String>(1)?).unwrap_or_default();
            let ids = ids.into_iter().flat_map(|(first, last)| first..=last);
            let skip = if commit == from.commit { from.offset } else { 0 };
            for (offset, id) in (1..).zip(ids).skip(skip as usize) {
                if page.is_full() {
                    return Ok(Answer::Finished { rows, next, end: false });
                }
                page.look();
                next = FinishCursor { commit, offset };
                let find = "SELECT 1 FROM outcome WHERE id = ?1 AND finish = ?2";
                let mut find = db.prepare_cached(find)?;
                if find.query_row((sql(id), sql(commit)), |_| Ok(())).optional()?.is_none() {
                    continue;
                }
                let Some(row) = self.row(JobId(id), true)? else { continue };
                if scope.has(row.job.id, row.job.batch) && scope.admits(row.state, &row.job.pool) {
                    page.add(weight(&row.job, row.outcome.as_ref()));
                    rows.push(row);
                }
            }
        }
        Ok(Answer::Finished { rows, next, end: true })
    }

    /// Walks the log of finishing from its end.
    fn recent(&mut self, limit: usize) -> rusqlite::Result<Answer> {
        let db = self.db;
        let mut rows: Vec<Row> = Vec::new();
        let mut log = db.prepare_cached("SELECT seq, ids FROM finish ORDER BY seq DESC")?;
        let mut commits = log.query([])?;
        'log: while let Some(commit) = commits.next()? {
            let seq = num(commit.get(0)?);
            let ids = ranges_from(&commit.get::<_, String>(1)?).unwrap_or_default();
            for id in ids.into_iter().rev().flat_map(|(first, last)| (first..=last).rev()) {
                if rows.len() >= limit {
                    break 'log;
                }
                let mut find = db.prepare_cached("SELECT 1 FROM outcome WHERE id = ?1 AND finish = ?2")?;
                if find.query_row((sql(id), sql(seq)), |_| Ok(())).optional()?.is_some() {
                    rows.extend(self.row(JobId(id), false)?);
                }
            }
        }
        rows.sort_by_key(|row| row.job.id);
        let next = rows.last().map_or(JobId(0), |row| row.job.id);
        Ok(Answer::Jobs { rows, next, end: true })
    }

    /// The last commit before the first of a scope's batches was made.
    fn born(&self, scope: &Scope) -> rusqlite::Result<u64> {
        let mut born = u64::MAX;
        for batch in &scope.batches {
            let mut find = self.db.prepare_cached("SELECT born FROM batch WHERE id = ?1")?;
            born = born.min(find.query_row([sql(batch.0)], |row| Ok(num(row.get(0)?)))?);
        }
        Ok(born)
    }

    fn batches(&mut self, after: BatchId, limit: usize) -> Result<Answer, Miss> {
        let mut page = Page::new(limit);
        let mut rows = Vec::new();
        let find = "SELECT id, name, key, submitted FROM batch WHERE id > ?1 AND visible = 1 ORDER BY id";
        let mut find = self.db.prepare_cached(find)?;
        let mut found = find.query([sql(after.0)])?;
        while let Some(row) = found.next()? {
            if page.is_full() {
                return Ok(Answer::Batches { rows, end: false });
            }
            let batch = BatchId(num(row.get(0)?));
            let mut counts = Counts::default();
            let count = "SELECT state, sum(jobs) FROM counter WHERE batch = ?1 GROUP BY state";
            let mut count = self.db.prepare_cached(count)?;
            let mut counted = count.query([sql(batch.0)])?;
            while let Some(row) = counted.next()? {
                counts[get_state(row, 0)?] = num(row.get(1)?);
            }
            page.add(size_of::<BatchRow>());
            let submitted = get_wall(row, 3)?.unwrap_or_default();
            rows.push(BatchRow { batch, name: row.get(1)?, key: row.get(2)?, submitted, counts });
        }
        Ok(Answer::Batches { rows, end: true })
    }

    fn counts(&mut self, select: &Select) -> Result<Answer, Miss> {
        let scope = Scope::resolve(select, self)?;
        let counts = match scope.counted_by() {
            CountedBy::Pools => self.counters(&scope, &[BatchId(0)])?,
            CountedBy::Batches(batches) => self.counters(&scope, batches)?,
            CountedBy::Rows => self.counted(&scope)?,
        };
        Ok(Answer::Counts { counts, batch: scope.one_batch() })
    }

    fn counters(&mut self, scope: &Scope, batches: &[BatchId]) -> rusqlite::Result<Counts> {
        let mut sum = Counts::default();
        let mut find = self.db.prepare_cached("SELECT pool, state, jobs FROM counter WHERE batch = ?1")?;
        for batch in batches {
            let mut rows = find.query([sql(batch.0)])?;
            while let Some(row) = rows.next()? {
                let pool = self.names.pool(self.db, row.get(0)?)?;
                let mut counts = Counts::default();
                counts[get_state(row, 1)?] = num(row.get(2)?);
                scope.add_counts(&pool, &counts, &mut sum);
            }
        }
        Ok(sum)
    }

    /// Counts row by row.
    fn counted(&mut self, scope: &Scope) -> rusqlite::Result<Counts> {
        let mut sum = Counts::default();
        let text = format!(
            "SELECT job.id, job.pool, coalesce(outcome.state, side.state, 0) FROM {JOINED}
             WHERE job.id BETWEEN ?1 AND ?2 ORDER BY job.id"
        );
        let db = self.db;
        let mut find = db.prepare_cached(&text)?;
        let mut from = 0;
        while let Some((first, last)) = self.next_range(scope, from)? {
            let mut skip_to = None;
            let mut rows = find.query((sql(first), sql(last)))?;
            while let Some(row) = rows.next()? {
                skip_to = self.hidden.end_of(get_id(row, 0)?.0);
                if skip_to.is_some() {
                    break;
                }
                let (state, pool) = (get_state(row, 2)?, self.names.pool(db, row.get(1)?)?);
                if scope.admits(state, &pool) {
                    sum[state] += 1;
                }
            }
            from = skip_to.unwrap_or(last).saturating_add(1);
            if from > i64::MAX.unsigned_abs() {
                break;
            }
        }
        Ok(sum)
    }
}

impl Directory for Asking<'_> {
    fn newest_batch(&mut self, name: Option<&str>) -> Result<Option<BatchId>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| Ok(BatchId(num(row.get(0)?)));
        let newest = match name {
            Some(name) => self
                .db
                .prepare_cached(
                    "SELECT id FROM batch WHERE name = ?1 AND visible = 1 ORDER BY id DESC LIMIT 1",
                )?
                .query_row([name], read),
            None => self
                .db
                .prepare_cached("SELECT id FROM batch WHERE visible = 1 ORDER BY id DESC LIMIT 1")?
                .query_row([], read),
        };
        Ok(newest.optional()?)
    }

    fn has_batch(&mut self, batch: BatchId) -> Result<bool, StoreError> {
        let mut find = self.db.prepare_cached("SELECT 1 FROM batch WHERE id = ?1 AND visible = 1")?;
        Ok(find.exists([sql(batch.0)])?)
    }

    fn has_job(&mut self, id: JobId) -> Result<bool, StoreError> {
        let mut find = self.db.prepare_cached("SELECT 1 FROM job WHERE id = ?1")?;
        Ok(self.hidden.end_of(id.0).is_none() && find.exists([sql(id.0)])?)
    }
}
