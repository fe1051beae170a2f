//! Answers to people's questions.

use super::{Entry, MemoryStore};
use crate::model::{BatchId, BatchRow, Counts, JobId, Outcome, PoolName, State};
use crate::store::scope::{self, CountedBy, Directory, Miss, Page, Scope};
use crate::store::{Answer, FinishCursor, Query, Row, Select, StoreError, Stub};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

impl MemoryStore {
    pub(super) fn answer(&mut self, query: &Query) -> Result<Answer, Miss> {
        match query {
            Query::Jobs { select, after, limit, results } => self.list(select, *after, *limit, *results),
            Query::Ids { select, after, limit } => self.stubs(select, *after, *limit),
            Query::Finished { select, after, limit } => self.finished(select, *after, *limit),
            Query::Job(id) => {
                let entry = self.jobs.get(id).ok_or_else(|| Miss::NotFound(id.to_string()))?;
                Ok(Answer::Job { row: Box::new(entry.row(true)), attempts: entry.attempts.clone() })
            }
            Query::Batches { after, limit } => Ok(self.batch_rows(*after, *limit)),
            Query::Counts(select) => self.counts(select),
            Query::Recent(limit) => Ok(self.recent(*limit)),
            Query::Submit(key) => Ok(Answer::Submit(self.submits.get(key).cloned())),
            Query::Audit => Ok(self.audit()),
        }
    }

    /// Counts the jobs themselves and compares the counters.
    fn audit(&self) -> Answer {
        let mut differences = Vec::new();
        let mut counts = Counts::default();
        let mut pools: BTreeMap<&PoolName, Counts> = BTreeMap::new();
        for (id, entry) in &self.jobs {
            counts[entry.state] += 1;
            pools.entry(&entry.job.pool).or_default()[entry.state] += 1;
            if entry.ended.is_some() != entry.state.is_finished() {
                differences.push(format!("job {id} is {} and has an outcome, or the reverse", entry.state));
            }
        }
        for (name, pool) in &self.pools {
            let kept = pools.get(name).copied().unwrap_or_default();
            for state in State::ALL.into_iter().filter(|state| kept[*state] != pool.counts[*state]) {
                let (kept, counted) = (kept[state], pool.counts[state]);
                differences
                    .push(format!("pool {name}: {kept} jobs are {state}, and the counter says {counted}"));
            }
        }
        Answer::Audit { counts, differences }
    }

    /// Walks the log of finishing from its end.
    fn recent(&self, limit: usize) -> Answer {
        let log =
            self.log.iter().rev().flat_map(|(commit, ids)| ids.iter().rev().map(move |id| (*commit, id)));
        let current = log.filter_map(|(commit, id)| {
            self.jobs.get(id).filter(|entry| entry.ended.as_ref().is_some_and(|ended| ended.commit == commit))
        });
        let mut rows: Vec<Row> = current.take(limit).map(|entry| entry.row(false)).collect();
        rows.sort_by_key(|row| row.job.id);
        let next = rows.last().map_or(JobId(0), |row| row.job.id);
        Answer::Jobs { rows, next, end: true }
    }

    fn list(&mut self, select: &Select, after: JobId, limit: usize, results: bool) -> Result<Answer, Miss> {
        let mut rows = Vec::new();
        let (next, end) = self.walk(select, after, limit, |entry| {
            let row = entry.row(results);
            let weight = scope::weight(&row.job, row.outcome.as_ref());
            rows.push(row);
            weight
        })?;
        Ok(Answer::Jobs { rows, next, end })
    }

    fn stubs(&mut self, select: &Select, after: JobId, limit: usize) -> Result<Answer, Miss> {
        let mut stubs = Vec::new();
        let (next, end) = self.walk(select, after, limit, |entry| {
            stubs.push(entry.stub());
            size_of::<Stub>()
        })?;
        Ok(Answer::Ids { stubs, next, end })
    }

    /// Hands a page of selected jobs to `visit`, which answers with each one's weight.
    fn walk(
        &mut self,
        select: &Select,
        after: JobId,
        limit: usize,
        mut visit: impl FnMut(&Entry) -> usize,
    ) -> Result<(JobId, bool), Miss> {
        let scope = Scope::resolve(select, self)?;
        let mut page = Page::new(limit);
        let mut next = after;
        while let Some((first, last)) = self.next_range(&scope, next.0.saturating_add(1)) {
            for (id, entry) in self.jobs.range(JobId(first)..=JobId(last)) {
                if page.is_full() {
                    return Ok((next, false));
                }
                page.look();
                next = *id;
                if scope.admits(entry.state, &entry.job.pool) {
                    page.add(visit(entry));
                }
            }
            if last == u64::MAX {
                break;
            }
            next = JobId(last);
        }
        Ok((next, true))
    }

    fn next_range(&self, scope: &Scope, from: u64) -> Option<(u64, u64)> {
        let span = |batch: BatchId, from: u64| {
            let span = self.batches[&batch].spans.range(from..).next();
            Ok::<_, Infallible>(span.map(|(last, first)| (*first, *last)))
        };
        match scope.next_range(from, span) {
            Ok(range) => range,
        }
    }

    fn finished(&mut self, select: &Select, after: FinishCursor, limit: usize) -> Result<Answer, Miss> {
        let scope = Scope::resolve(select, self)?;
        let mut from = after;
        if scope.is_batches_only() {
            let born = scope.batches.iter().map(|batch| self.batches[batch].born).min().unwrap_or(u64::MAX);
            from = from.max(FinishCursor { commit: born, offset: u32::MAX });
        }
        let mut page = Page::new(limit);
        let mut rows = Vec::new();
        let mut next = after;
        for (&commit, ids) in self.log.range(from.commit..) {
            let skip = if commit == from.commit { from.offset } else { 0 };
            for (offset, id) in (1..).zip(ids).skip(skip as usize) {
                if page.is_full() {
                    return Ok(Answer::Finished { rows, next, end: false });
                }
                page.look();
                next = FinishCursor { commit, offset };
                let Some(entry) = self.jobs.get(id) else { continue };
                let is_current = entry.ended.as_ref().is_some_and(|ended| ended.commit == commit);
                let job = &entry.job;
                if is_current && scope.has(*id, job.batch) && scope.admits(entry.state, &job.pool) {
                    let row = entry.row(true);
                    page.add(scope::weight(&row.job, row.outcome.as_ref()));
                    rows.push(row);
                }
            }
        }
        Ok(Answer::Finished { rows, next, end: true })
    }

    fn batch_rows(&self, after: BatchId, limit: usize) -> Answer {
        let mut page = Page::new(limit);
        let mut rows = Vec::new();
        for (id, batch) in self.batches.range(BatchId(after.0.saturating_add(1))..) {
            if !batch.visible {
                continue;
            }
            if page.is_full() {
                return Answer::Batches { rows, end: false };
            }
            let mut counts = Counts::default();
            batch.counts.values().for_each(|pool| counts.add(pool));
            page.add(size_of::<BatchRow>());
            rows.push(BatchRow {
                batch: *id,
                name: batch.name.clone(),
                key: batch.key.clone(),
                submitted: batch.submitted,
                counts,
            });
        }
        Answer::Batches { rows, end: true }
    }

    fn counts(&mut self, select: &Select) -> Result<Answer, Miss> {
        let scope = Scope::resolve(select, self)?;
        let mut counts = Counts::default();
        match scope.counted_by() {
            CountedBy::Pools => {
                for (name, pool) in &self.pools {
                    scope.add_counts(name, &pool.counts, &mut counts);
                }
            }
            CountedBy::Batches(batches) => {
                for (name, pool) in batches.iter().flat_map(|batch| &self.batches[batch].counts) {
                    scope.add_counts(name, pool, &mut counts);
                }
            }
            CountedBy::Rows => {
                let mut from = 0;
                while let Some((first, last)) = self.next_range(&scope, from) {
                    for entry in self.jobs.range(JobId(first)..=JobId(last)).map(|(_, entry)| entry) {
                        if scope.admits(entry.state, &entry.job.pool) {
                            counts[entry.state] += 1;
                        }
                    }
                    let Some(behind) = last.checked_add(1) else { break };
                    from = behind;
                }
            }
        }
        Ok(Answer::Counts { counts, batch: scope.one_batch() })
    }
}

impl Entry {
    fn row(&self, results: bool) -> Row {
        let outcome = self.ended.as_ref().map(|ended| {
            let result = ended.outcome.result.clone().filter(|_| results);
            Outcome { result, ..ended.outcome.clone() }
        });
        let is_delayed = self.state == crate::model::State::Delayed;
        Row {
            job: Arc::clone(&self.job),
            state: self.state,
            standing: self.standing,
            due: self.due.filter(|_| is_delayed),
            running: None,
            outcome,
        }
    }

    fn stub(&self) -> Stub {
        Stub {
            id: self.job.id,
            batch: self.job.batch,
            pool: self.job.pool.clone(),
            priority: self.job.priority,
            state: self.state,
            standing: self.standing,
        }
    }
}

impl Directory for MemoryStore {
    fn newest_batch(&mut self, name: Option<&str>) -> Result<Option<BatchId>, StoreError> {
        let newest = match name {
            Some(name) => self.names.get(name).and_then(|ids| ids.last()).copied(),
            None => self.batches.iter().rev().find(|(_, batch)| batch.visible).map(|(id, _)| *id),
        };
        Ok(newest)
    }

    fn has_batch(&mut self, batch: BatchId) -> Result<bool, StoreError> {
        Ok(self.batches.get(&batch).is_some_and(|batch| batch.visible))
    }

    fn has_job(&mut self, id: JobId) -> Result<bool, StoreError> {
        Ok(self.jobs.contains_key(&id))
    }
}
