//! Short ways to make jobs, chunks and outcomes, and the stores under test.

use pushpull::model::*;
use pushpull::store::{
    Answer, Applied, Fetch, Fetched, MemoryStore, Query, Record, Recovered, Select, SqliteStore, Store, Word,
};
use std::sync::Arc;
use std::time::Duration;

/// A store that can be closed and opened again, as by a crash of the daemon.
pub struct Subject {
    pub store: Box<dyn Store>,
    pub place: Place,
}

/// Where a store under test lies.
pub enum Place {
    Memory,
    File(tempfile::TempDir),
}

impl Subject {
    pub fn memory() -> Subject {
        Subject { store: Box::new(MemoryStore::new()), place: Place::Memory }
    }

    pub fn sqlite() -> Subject {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = SqliteStore::open(&dir.path().join("jobs.db"), Wall(0)).expect("a new store");
        Subject { store: Box::new(store), place: Place::File(dir) }
    }

    pub fn apply(&mut self, records: Vec<Record>) -> Applied {
        let records: Vec<Arc<Record>> = records.into_iter().map(Arc::new).collect();
        self.store.apply(&records).expect("the records are written")
    }

    pub fn fetch(&mut self, pool: &str, jobs_max: usize) -> Fetched {
        let fetch = Fetch { pool: pool_name(pool), jobs_max, bytes_max: usize::MAX };
        self.store.fetch(&fetch).expect("the file can be read")
    }

    /// Ids of all jobs that wait in a pool, in their order.
    pub fn fetch_all(&mut self, pool: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        loop {
            let fetched = self.fetch(pool, 3);
            ids.extend(fetched.jobs.iter().map(|(job, _)| job.id.0));
            if fetched.end {
                return ids;
            }
            assert!(!fetched.jobs.is_empty(), "an empty answer is the end");
        }
    }

    pub fn query(&mut self, query: &Query) -> Answer {
        self.store.query(query).expect("the file can be read")
    }

    pub fn counts(&mut self, words: Vec<Word>) -> Counts {
        match self.query(&Query::Counts(Select { words, ..Select::default() })) {
            Answer::Counts { counts, .. } => counts,
            other => panic!("not counts: {other:?}"),
        }
    }

    pub fn row(&mut self, id: u64) -> pushpull::store::Row {
        match self.query(&Query::Job(JobId(id))) {
            Answer::Job { row, .. } => *row,
            other => panic!("not a job: {other:?}"),
        }
    }

    pub fn state(&mut self, id: u64) -> State {
        self.row(id).state
    }

    /// Ends the store without a word and opens it again.
    pub fn crash(&mut self, now: Wall) -> Recovered {
        if let Place::File(dir) = &self.place {
            self.store = Box::new(MemoryStore::new());
            let store =
                SqliteStore::open(&dir.path().join("jobs.db"), now).expect("the store is opened again");
            self.store = Box::new(store);
        }
        self.store.recover().expect("the store is read")
    }
}

pub fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a good name")
}

pub fn job(id: u64, batch: u64) -> Job {
    Job {
        id: JobId(id),
        batch: BatchId(batch),
        index: 0,
        pool: PoolName::default(),
        priority: 0,
        name: None,
        key: None,
        work: Work::Data(format!("{{\"n\":{id}}}").into()),
        policy: None,
        context: None,
        after: Vec::new(),
        submitted: Wall(1_000),
    }
}

pub fn delayed(id: u64, batch: u64, millis: u64) -> Job {
    let policy = Policy { delay: Some(Duration::from_millis(millis)), ..Policy::default() };
    Job { policy: Some(Box::new(policy)), ..job(id, batch) }
}

pub fn waiting(id: u64, batch: u64, after: &[u64]) -> Job {
    Job { after: after.iter().map(|id| After::Id(JobId(*id))).collect(), ..job(id, batch) }
}

pub fn head(name: Option<&str>, join: bool) -> BatchHead {
    BatchHead { name: name.map(Into::into), join, submitted: Wall(1_000), context: None }
}

pub fn chunk(batch: u64, head: Option<BatchHead>, jobs: Vec<Job>, last: bool) -> Record {
    keyed_chunk(&format!("key-{batch}"), batch, head, jobs, last)
}

pub fn keyed_chunk(key: &str, batch: u64, head: Option<BatchHead>, jobs: Vec<Job>, last: bool) -> Record {
    Record::Chunk(Chunk {
        batch: BatchId(batch),
        key: key.into(),
        head,
        jobs: jobs.into_iter().map(Arc::new).collect(),
        last: last.then_some(u128::from(batch) << 70 | 7),
    })
}

/// A whole submit.
pub fn submit(batch: u64, jobs: Vec<Job>) -> Record {
    chunk(batch, Some(head(None, false)), jobs, true)
}

pub fn outcome(job: &Job, state: State, round: u32, at: u64) -> Outcome {
    let is_success = state == State::Succeeded;
    let worker = WorkerName { pool: job.pool.clone(), slot: 3, generation: Generation(17) };
    Outcome {
        id: job.id,
        batch: job.batch,
        pool: job.pool.clone(),
        state,
        cause: (!is_success).then_some(if state == State::Failed { Cause::Exit } else { Cause::Cancelled }),
        standing: Standing { round, attempts: 1, ..Standing::default() },
        last: (state != State::Cancelled).then_some(AttemptPlace { worker, started: Wall(at) }),
        finished: Wall(at + 1),
        error: (!is_success).then(|| "exit status 1".into()),
        result: is_success.then(|| "[1]".into()),
        evidence: None,
    }
}

pub fn finish(job: &Job, state: State) -> Record {
    Record::Finish(outcome(job, state, 0, 2_000))
}

pub fn charge(job: &Job, standing: Standing, at: u64, due: Option<u64>) -> Record {
    let worker = WorkerName { pool: job.pool.clone(), slot: 0, generation: Generation(4) };
    Record::Charge(Charge {
        id: job.id,
        batch: job.batch,
        pool: job.pool.clone(),
        priority: job.priority,
        standing,
        attempt: Attempt {
            place: AttemptPlace { worker, started: Wall(at) },
            finished: Wall(at + 1),
            cause: Cause::Crash,
            error: Some("killed by signal 9 (KILL)".into()),
            result: None,
            evidence: Some("{\"signal\":9}".into()),
        },
        due: due.map(Wall),
    })
}
