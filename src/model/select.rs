//! Which jobs people mean.

use super::{BatchId, JobId, PoolName, State};

/// Which jobs are meant, as far as it can be told without asking a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// United.
    pub words: Vec<Word>,
    /// Empty: any state.
    pub states: Vec<State>,
    /// Empty: any pool.
    pub pools: Vec<PoolName>,
}

/// One word of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    All,
    /// An inclusive range.
    Ids(JobId, JobId),
    Batch(BatchId),
    /// The newest batch of that name.
    Named(Box<str>),
    /// The newest batch.
    Last,
}
