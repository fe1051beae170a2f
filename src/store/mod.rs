//! What survives: the jobs, their outcomes and the counters.
//!
//! A store is told what happened ([`Record`]) and answers from what it was told. It decides nothing but what only
//! it can know: whether a key is known and whether a round already has its outcome. One suite in `tests/store`
//! runs against every store.

mod end;
mod label;
mod memory;
mod scope;
mod sqlite;
mod turn;

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

pub use crate::model::{
    Answer, Applied, Fetch, Fetched, FinishCursor, Move, Query, Record, Recovered, Row, Select, StoreError,
    Stub, Word,
};
use crate::model::{Job, PoolName};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What survives. One thread owns it.
pub trait Store: Send {
    /// What the store knows when it is opened. Called once, first.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    fn recover(&mut self) -> Result<Recovered, StoreError>;

    /// Writes a group of records, all or nothing; what it returns is durable.
    ///
    /// # Errors
    /// Nothing was written.
    fn apply(&mut self, records: &[Arc<Record>]) -> Result<Applied, StoreError>;

    /// The next waiting jobs of a pool. No job is given out twice, unless it was charged, promoted or put back
    /// by [`Store::rewind`] in between.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn fetch(&mut self, fetch: &Fetch) -> Result<Fetched, StoreError>;

    /// These jobs were fetched and are no longer held in memory: fetch them again in their turn. May give others
    /// again that were fetched since; who fetches sorts those out.
    fn rewind(&mut self, jobs: &[Arc<Job>]);

    /// Whatever of this pool waits is to be fetched again, as if nothing of it had been. Who fetches sorts out what
    /// is held in memory.
    fn begin_anew(&mut self, pool: &PoolName);

    /// Answers a question of people.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn query(&mut self, query: &Query) -> Result<Answer, StoreError>;

    /// A second handle that can answer queries from another thread, if the store has such a thing.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(None)
    }

    /// A handle for audits, which look at everything and last: it answers with an error soon after `stop` is set.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    fn auditor(&self, stop: Arc<AtomicBool>) -> Result<Option<Box<dyn Reader>>, StoreError> {
        drop(stop);
        Ok(None)
    }

    /// Does what can be put off, such as a checkpoint; called when nothing else waits.
    fn idle(&mut self) {}
}

/// A handle that only answers.
pub trait Reader: Send {
    /// Answers a question of people from what is durable.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn query(&mut self, query: &Query) -> Result<Answer, StoreError>;
}
