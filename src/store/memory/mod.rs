//! Nothing on disk: the store of `--memory`, and the simulator's.
//!
//! Ordered maps all through, so that two stores that were told the same are the same. A job is in `jobs` from
//! the moment its submit is complete; until then it lies in its [`Staged`] submit, where nothing else sees it.
//! [`Store::recover`] does to it what a start of the daemon does to a store on disk: unfinished submits are
//! discarded, and every waiting job is to be fetched again.

mod forget;
mod query;
mod record;
mod release;
mod submit;

use super::end::Passing;
use super::label::Labels;
use super::turn::Turn;
use super::{Answer, Applied, Fetch, Fetched, Query, Record, Recovered, Store, StoreError};
use crate::model::{
    Attempt, BatchId, Counts, Generation, Job, JobId, Outcome, PoolName, Standing, State, Submitted, Wall,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A store that ends with its process.
#[derive(Clone, Default)]
pub struct MemoryStore {
    next_job: JobId,
    next_batch: BatchId,
    next_generation: Generation,
    /// Visible jobs.
    jobs: BTreeMap<JobId, Entry>,
    /// Visible jobs by key, the oldest first.
    keys: BTreeMap<Box<str>, Vec<JobId>>,
    pools: BTreeMap<PoolName, Pool>,
    batches: BTreeMap<BatchId, Batch>,
    /// Batches by name, visible ones only.
    names: BTreeMap<Box<str>, BTreeSet<BatchId>>,
    /// Visible batches without a job, by their time of submit.
    empty: BTreeSet<(Wall, BatchId)>,
    /// Submits that are not complete, by key.
    staged: BTreeMap<Box<str>, Staged>,
    /// Complete submits, by key.
    submits: BTreeMap<Box<str>, (u128, Submitted)>,
    /// From a job to one that waits for it.
    edges: BTreeSet<(JobId, JobId)>,
    /// The same the other way round.
    waits: BTreeSet<(JobId, JobId)>,
    passing: BTreeMap<JobId, Passing>,
    /// The log of finishing, by commit.
    log: BTreeMap<u64, Vec<JobId>>,
    /// The last number in the log of finishing.
    commit: u64,
    bytes: u64,
}

#[derive(Clone)]
struct Entry {
    job: Arc<Job>,
    state: State,
    standing: Standing,
    due: Option<Wall>,
    ended: Option<Box<Ended>>,
    attempts: Vec<(Standing, Attempt)>,
}

#[derive(Clone)]
struct Ended {
    outcome: Outcome,
    commit: u64,
}

#[derive(Clone, Default)]
struct Pool {
    paused: bool,
    /// Queued jobs that were not fetched.
    ready: BTreeSet<(Reverse<i16>, JobId)>,
    delayed: BTreeSet<(Wall, JobId)>,
    counts: Counts,
}

#[derive(Clone, Default)]
struct Batch {
    name: Option<Box<str>>,
    key: Box<str>,
    submitted: Wall,
    visible: bool,
    /// Where the next submit's places begin.
    next_index: u64,
    kept: u64,
    counts: BTreeMap<PoolName, Counts>,
    /// The last commit in the log of finishing before this batch was made.
    born: u64,
    /// Its jobs, as ranges by their last id.
    spans: BTreeMap<u64, u64>,
    /// The keys of its submits.
    submits: Vec<Box<str>>,
}

/// A submit that is not complete.
#[derive(Clone)]
struct Staged {
    ticket: BatchId,
    batch: BatchId,
    /// Added to every job's place.
    base: u64,
    /// A chunk was refused: nothing more is taken.
    refused: bool,
    jobs: Vec<Arc<Job>>,
    reply: Submitted,
    labels: Labels,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore {
            next_job: JobId(1),
            next_batch: BatchId(1),
            next_generation: Generation(1),
            ..MemoryStore::default()
        }
    }

    /// Adds a turn's moves to the counters. The moves have lost their order, so a counter may pass below 0 on the
    /// way: it wraps, and is right at the end.
    fn fold(&mut self, turn: &mut Turn) {
        for ((pool, batch, from, to), jobs) in turn.take_fresh() {
            let pool_counts = &mut self.pools.entry(pool.clone()).or_default().counts;
            let batch = self.batches.get_mut(&batch).expect("a job's batch is kept as long as the job");
            let batch_counts = batch.counts.entry(pool).or_default();
            if let Some(from) = from {
                pool_counts[from] = pool_counts[from].wrapping_sub(jobs);
                batch_counts[from] = batch_counts[from].wrapping_sub(jobs);
            } else {
                batch.kept = batch.kept.wrapping_add(jobs);
            }
            if let Some(to) = to {
                pool_counts[to] = pool_counts[to].wrapping_add(jobs);
                batch_counts[to] = batch_counts[to].wrapping_add(jobs);
            } else {
                batch.kept = batch.kept.wrapping_sub(jobs);
            }
        }
    }

    /// A daemon starts at this time: after the clock was set back, no job waits longer than its delay or the pause
    /// before its next attempt. A store on disk does this by itself; the simulator's clocks are invented.
    pub fn shorten_delays(&mut self, now: Wall) {
        let timed = self.jobs.iter().filter_map(|(id, entry)| Some((*id, entry.due?)));
        let timed: Vec<(JobId, Wall)> = timed.collect();
        for (id, due) in timed {
            let entry = self.jobs.get_mut(&id).expect("it was just seen");
            let begun = match entry.attempts.last() {
                Some((standing, attempt)) if standing.round == entry.standing.round => attempt.finished,
                Some(_) | None => entry.job.submitted,
            };
            if begun > now {
                let sooner = now + due.since(begun);
                entry.due = Some(sooner);
                if entry.state == State::Delayed {
                    let job = Arc::clone(&entry.job);
                    self.unqueue(&job, Some(due));
                    self.delay(&job, sooner);
                }
            }
        }
    }

    /// Puts a queued job where a fetch finds it.
    fn enqueue(&mut self, job: &Job, turn: &mut Turn) {
        self.pools.entry(job.pool.clone()).or_default().ready.insert((Reverse(job.priority), job.id));
        turn.visible(&job.pool, job.priority);
    }

    /// Puts a delayed job where its time finds it.
    fn delay(&mut self, job: &Job, due: Wall) {
        self.pools.entry(job.pool.clone()).or_default().delayed.insert((due, job.id));
    }

    /// Takes an unfinished job out of its pool's orders.
    fn unqueue(&mut self, job: &Job, due: Option<Wall>) {
        let pool = self.pools.entry(job.pool.clone()).or_default();
        pool.ready.remove(&(Reverse(job.priority), job.id));
        if let Some(due) = due {
            pool.delayed.remove(&(due, job.id));
        }
    }
}

impl Store for MemoryStore {
    fn recover(&mut self) -> Result<Recovered, StoreError> {
        let tickets: Vec<BatchId> = self.staged.values().map(|staged| staged.ticket).collect();
        for ticket in tickets {
            self.discard(ticket);
        }
        for pool in self.pools.values_mut() {
            pool.ready.clear();
        }
        for (id, entry) in &self.jobs {
            if entry.state == State::Queued {
                let pool = self.pools.get_mut(&entry.job.pool).expect("a job's pool is known");
                pool.ready.insert((Reverse(entry.job.priority), *id));
            }
        }
        let next_due = |(name, pool): (&PoolName, &Pool)| Some((name.clone(), pool.delayed.first()?.0));
        let used = self.pools.iter().filter(|(_, pool)| pool.counts.total() > 0);
        let paused = self.pools.iter().filter(|(_, pool)| pool.paused);
        Ok(Recovered {
            next_job: self.next_job,
            next_batch: self.next_batch,
            next_generation: self.next_generation,
            counts: used.map(|(name, pool)| (name.clone(), pool.counts)).collect(),
            next_due: self.pools.iter().filter_map(next_due).collect(),
            paused: paused.map(|(name, _)| name.clone()).collect(),
            releases: !self.passing.is_empty(),
        })
    }

    fn apply(&mut self, records: &[Arc<Record>]) -> Result<Applied, StoreError> {
        let mut turn = Turn::default();
        for record in records {
            self.record(record, &mut turn);
        }
        self.fold(&mut turn);
        if !turn.finished.is_empty() {
            self.commit += 1;
            self.log.insert(self.commit, std::mem::take(&mut turn.finished));
        }
        turn.applied.releases = !self.passing.is_empty();
        Ok(turn.into_applied())
    }

    fn fetch(&mut self, fetch: &Fetch) -> Result<Fetched, StoreError> {
        let mut fetched = Fetched::default();
        let Some(pool) = self.pools.get_mut(&fetch.pool) else {
            return Ok(Fetched { end: true, ..fetched });
        };
        let mut bytes = 0;
        while fetched.jobs.len() < fetch.jobs_max && bytes < fetch.bytes_max.max(1) {
            let Some((_, id)) = pool.ready.pop_first() else { break };
            let entry = &self.jobs[&id];
            bytes += entry.job.weight();
            fetched.jobs.push((Arc::clone(&entry.job), entry.standing));
        }
        fetched.end = pool.ready.is_empty();
        Ok(fetched)
    }

    fn rewind(&mut self, jobs: &[Arc<Job>]) {
        for job in jobs {
            if self.jobs.get(&job.id).is_some_and(|entry| entry.state == State::Queued) {
                let pool = self.pools.get_mut(&job.pool).expect("a job's pool is known");
                pool.ready.insert((Reverse(job.priority), job.id));
            }
        }
    }

    fn begin_anew(&mut self, pool: &PoolName) {
        let queued =
            self.jobs.values().filter(|entry| entry.job.pool == *pool && entry.state == State::Queued);
        let ready = queued.map(|entry| (Reverse(entry.job.priority), entry.job.id)).collect();
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.ready = ready;
        }
    }

    fn query(&mut self, query: &Query) -> Result<Answer, StoreError> {
        super::scope::settle(self.answer(query))
    }
}
