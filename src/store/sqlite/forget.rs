//! How jobs leave: removed by people, expired by age or size, or discarded with a submit that was not completed.

use super::codec::{get_id, get_state, num, ranges_from, sql};
use super::work::Work;
use crate::model::{BatchId, JobId, State, Wall};
use crate::store::end::{End, Passing};
use std::collections::BTreeSet;

/// Ends are not passed on to jobs that are only waiting to be deleted.
pub(super) const FORGET_HIDDEN_EDGES: &str = "DELETE FROM edge WHERE after IN (SELECT edge.after FROM submit
    JOIN span ON span.submit = submit.id JOIN edge ON edge.after BETWEEN first_id AND last_id
    WHERE submit.state = 3 AND span.known = 0)";

/// Jobs that are forgotten before the size of the file is looked at again.
const SIZE_CHECK_JOBS: usize = 32;

impl Work<'_> {
    pub(super) fn remove(&mut self, ids: &[JobId]) -> rusqlite::Result<Vec<JobId>> {
        let mut touched = BTreeSet::new();
        let mut removed = Vec::new();
        for &id in ids {
            if self.forget(id, &mut touched)? {
                removed.push(id);
            }
        }
        self.forget_batches(touched)?;
        Ok(removed)
    }

    pub(super) fn expire(
        &mut self,
        before: Wall,
        bytes_max: u64,
        limit: usize,
    ) -> rusqlite::Result<Vec<JobId>> {
        let mut removed = Vec::new();
        let mut touched = BTreeSet::new();
        let mut is_too_large = self.bytes()? > bytes_max;
        'log: loop {
            let first = "SELECT seq, ids FROM finish ORDER BY seq LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            let Some((seq, ids)) = self.one(first, [], read)? else { break };
            let ids = ranges_from(&ids).unwrap_or_default();
            for id in ids.into_iter().flat_map(|(first, last)| first..=last) {
                let find = "SELECT finished FROM outcome WHERE id = ?1 AND finish = ?2";
                let Some(finished) = self.one(find, (sql(id), seq), |row| row.get::<_, i64>(0))? else {
                    continue;
                };
                if (finished >= sql(before.0) && !is_too_large) || removed.len() >= limit {
                    break 'log;
                }
                self.forget(JobId(id), &mut touched)?;
                removed.push(JobId(id));
                if removed.len() % SIZE_CHECK_JOBS == 0 {
                    is_too_large = self.bytes()? > bytes_max;
                }
            }
            self.run("DELETE FROM finish WHERE seq = ?1", [seq])?;
        }
        self.forget_batches(touched)?;
        let find = "SELECT id FROM batch WHERE kept = 0 AND visible = 1 AND submitted < ?1 ORDER BY submitted, id LIMIT ?2";
        let empty = self.all(find, (sql(before.0), sql(limit as u64)), |row| row.get(0))?;
        self.forget_batches(empty.into_iter().collect())?;
        Ok(removed)
    }

    /// What the file holds, in bytes, without the pages that are free.
    fn bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |name: &str| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(num(pages * pragma("page_size")?))
    }

    /// Forgets a finished job.
    fn forget(&mut self, id: JobId, touched: &mut BTreeSet<i64>) -> rusqlite::Result<bool> {
        let key = sql(id.0);
        let find = "SELECT batch, pool, context, state FROM outcome JOIN job ON job.id = outcome.id WHERE outcome.id = ?1";
        let found = self.one(find, [key], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?, get_state(row, 3)?))
        })?;
        let Some((batch, pool, context, state)) = found else { return Ok(false) };
        self.run("DELETE FROM job WHERE id = ?1", [key])?;
        self.run("DELETE FROM outcome WHERE id = ?1", [key])?;
        self.run("DELETE FROM attempt WHERE id = ?1", [key])?;
        if let Some(context) = context {
            *self.contexts.entry(context).or_default() -= 1;
        }
        let pool = self.facts.names.pool(self.db, pool)?;
        self.turn.moved(&pool, BatchId(num(batch)), Some(state), None, 1);
        touched.insert(batch);
        if self.facts.has_edges {
            self.run("DELETE FROM edge WHERE after = ?1", [key])?;
            if state != State::Succeeded && self.successor(key, 0)?.is_some() {
                self.set_passing(key, Passing::new(End::Gone, None))?;
            }
        }
        Ok(true)
    }

    /// Forgets those of these batches that have become empty.
    fn forget_batches(&mut self, touched: BTreeSet<i64>) -> rusqlite::Result<()> {
        self.fold()?;
        for batch in touched {
            let forgotten = self.run(
                "DELETE FROM batch WHERE id = ?1 AND kept = 0
                 AND NOT EXISTS (SELECT 1 FROM submit WHERE batch = ?1 AND state IN (0, 2))",
                [batch],
            )?;
            if forgotten > 0 {
                self.run(
                    "DELETE FROM span WHERE submit IN (SELECT id FROM submit WHERE batch = ?1 AND state = 1)",
                    [batch],
                )?;
                self.run("DELETE FROM submit WHERE batch = ?1 AND state = 1", [batch])?;
                self.run("DELETE FROM counter WHERE batch = ?1", [batch])?;
            }
        }
        Ok(())
    }

    /// Discards the open submit whose batch was first to be this one.
    pub(super) fn discard_ticket(&mut self, ticket: BatchId) -> rusqlite::Result<()> {
        let find = "SELECT id, batch FROM submit WHERE ticket = ?1 AND state IN (0, 2)";
        let found =
            self.one(find, [sql(ticket.0)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let Some((submit, batch)) = found else { return Ok(()) };
        self.run("UPDATE submit SET state = 3, key = NULL WHERE id = ?1", [submit])?;
        self.run("DELETE FROM stage WHERE submit = ?1", [submit])?;
        self.run("DELETE FROM batch WHERE id = ?1 AND visible = 0", [batch])?;
        if self.facts.has_edges {
            self.db.prepare_cached(FORGET_HIDDEN_EDGES)?.execute([])?;
        }
        self.facts.labels.remove(&submit);
        self.facts.is_sweeping = true;
        self.facts.hidden = None;
        Ok(())
    }

    /// Deletes rows of discarded submits, at most `limit` jobs.
    pub(super) fn sweep(&mut self, limit: usize) -> rusqlite::Result<()> {
        let mut left = sql(limit as u64);
        while self.facts.is_sweeping && left > 0 {
            self.facts.hidden = None;
            let find = "SELECT span.submit, seq, first_id, last_id, span.known FROM submit JOIN span ON span.submit = submit.id
                WHERE state = 3 LIMIT 1";
            let span = self.one(find, [], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    get_id(row, 2)?,
                    get_id(row, 3)?,
                    row.get::<_, bool>(4)?,
                ))
            })?;
            let Some((submit, seq, first, last, known)) = span else {
                self.run("DELETE FROM submit WHERE state = 3", [])?;
                self.facts.is_sweeping = false;
                break;
            };
            if !known {
                let end = last.0.min(first.0 + num(left) - 1);
                left -= sql(end - first.0 + 1);
                self.sweep_jobs(sql(first.0), sql(end))?;
                if end < last.0 {
                    self.run(
                        "UPDATE span SET first_id = ?3 WHERE submit = ?1 AND seq = ?2",
                        (submit, seq, sql(end + 1)),
                    )?;
                    break;
                }
            }
            left -= 1;
            self.run("DELETE FROM span WHERE submit = ?1 AND seq = ?2", (submit, seq))?;
        }
        Ok(())
    }

    fn sweep_jobs(&mut self, first: i64, last: i64) -> rusqlite::Result<()> {
        let count = "SELECT context, count(*) FROM job WHERE id BETWEEN ?1 AND ?2 AND context IS NOT NULL GROUP BY context";
        let contexts =
            self.all(count, (first, last), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        for (context, jobs) in contexts {
            *self.contexts.entry(context).or_default() -= jobs;
        }
        self.run("DELETE FROM job WHERE id BETWEEN ?1 AND ?2", (first, last))?;
        self.run("DELETE FROM side WHERE id BETWEEN ?1 AND ?2", (first, last))?;
        Ok(())
    }
}
