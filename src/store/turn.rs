//! One group of records on its way into a store: what it changed so far.

use super::{Applied, Move};
use crate::model::{BatchId, JobId, PoolName, State};
use std::collections::BTreeMap;

/// From where to where, and in which pool and batch.
pub(super) type Path = (PoolName, BatchId, Option<State>, Option<State>);

/// Gathers an [`Applied`]. Jobs that move alike come in a row, so the last path is kept at hand.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) applied: Applied,
    /// Ids in the order in which they finished.
    pub(super) finished: Vec<JobId>,
    moves: BTreeMap<Path, u64>,
    /// The part of `moves` that the counters do not know yet.
    fresh: BTreeMap<Path, u64>,
    last: Option<(Path, u64)>,
}

impl Turn {
    /// `jobs` jobs left `from` for `to`.
    pub(super) fn moved(
        &mut self,
        pool: &PoolName,
        batch: BatchId,
        from: Option<State>,
        to: Option<State>,
        jobs: u64,
    ) {
        if from == to || jobs == 0 {
            return;
        }
        match &mut self.last {
            Some((path, so_far)) if path.1 == batch && path.2 == from && path.3 == to && path.0 == *pool => {
                *so_far += jobs;
            }
            Some(_) | None => {
                self.settle();
                self.last = Some(((pool.clone(), batch, from, to), jobs));
            }
        }
    }

    /// A job of this priority is now where a fetch finds it.
    pub(super) fn visible(&mut self, pool: &PoolName, priority: i16) {
        match self.applied.visible.get_mut(pool) {
            Some(highest) => *highest = priority.max(*highest),
            None => {
                self.applied.visible.insert(pool.clone(), priority);
            }
        }
    }

    /// The moves since this was last called, to be added to the counters.
    pub(super) fn take_fresh(&mut self) -> BTreeMap<Path, u64> {
        self.settle();
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn into_applied(mut self) -> Applied {
        self.settle();
        let moves = std::mem::take(&mut self.moves).into_iter();
        let entry = |((pool, batch, from, to), jobs)| Move { pool, batch, from, to, jobs };
        self.applied.moves = moves.map(entry).collect();
        self.applied
    }

    fn settle(&mut self) {
        if let Some((path, jobs)) = self.last.take() {
            *self.fresh.entry(path.clone()).or_default() += jobs;
            *self.moves.entry(path).or_default() += jobs;
        }
    }
}
