//! How jobs leave.

use super::MemoryStore;
use crate::model::{BatchId, JobId, State, Wall};
use crate::store::end::{End, Passing};
use crate::store::scope;
use crate::store::turn::Turn;
use std::collections::BTreeSet;

impl MemoryStore {
    pub(super) fn remove(&mut self, ids: &[JobId], turn: &mut Turn) -> Vec<JobId> {
        let mut touched = BTreeSet::new();
        let removed = ids.iter().copied().filter(|id| self.forget(*id, &mut touched, turn)).collect();
        self.forget_batches(touched, turn);
        removed
    }

    pub(super) fn expire(
        &mut self,
        before: Wall,
        bytes_max: u64,
        limit: usize,
        turn: &mut Turn,
    ) -> Vec<JobId> {
        let mut removed = Vec::new();
        let mut touched = BTreeSet::new();
        'log: while let Some((&commit, ids)) = self.log.first_key_value() {
            for id in ids.clone() {
                let Some(entry) = self.jobs.get(&id) else { continue };
                let Some(ended) = entry.ended.as_ref().filter(|ended| ended.commit == commit) else {
                    continue;
                };
                let is_over = ended.outcome.finished >= before && self.bytes <= bytes_max;
                if is_over || removed.len() >= limit {
                    break 'log;
                }
                self.forget(id, &mut touched, turn);
                removed.push(id);
            }
            self.log.pop_first();
        }
        self.forget_batches(touched, turn);
        let old = self.empty.range(..(before, BatchId(0))).take(limit).map(|(_, batch)| *batch);
        let old: BTreeSet<BatchId> = old.collect();
        self.forget_batches(old, turn);
        removed
    }

    /// Forgets a finished job.
    fn forget(&mut self, id: JobId, touched: &mut BTreeSet<BatchId>, turn: &mut Turn) -> bool {
        if !self.jobs.get(&id).is_some_and(|entry| entry.state.is_finished()) {
            return false;
        }
        let entry = self.jobs.remove(&id).expect("it was just seen");
        let job = &entry.job;
        let outcome = entry.ended.as_ref().map(|ended| &ended.outcome);
        self.bytes -= scope::weight(job, outcome) as u64;
        turn.moved(&job.pool, job.batch, Some(entry.state), None, 1);
        touched.insert(job.batch);
        if let Some(key) = &job.key {
            let ids = self.keys.get_mut(key).expect("a visible job's key is known");
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.keys.remove(key);
            }
        }
        self.forget_edges_to(id);
        if entry.state != State::Succeeded && self.successor(id, JobId(0)).is_some() {
            self.passing.insert(id, Passing::new(End::Gone, None));
        }
        true
    }

    pub(super) fn forget_edges_to(&mut self, after: JobId) {
        let predecessors: Vec<JobId> = self.predecessors(after).collect();
        for before in predecessors {
            self.edges.remove(&(before, after));
            self.waits.remove(&(after, before));
        }
    }

    /// Forgets those of these batches that have become empty.
    fn forget_batches(&mut self, touched: BTreeSet<BatchId>, turn: &mut Turn) {
        self.fold(turn);
        for id in touched {
            let batch = &self.batches[&id];
            if batch.kept > 0 {
                continue;
            }
            if self.staged.values().any(|staged| staged.batch == id) {
                self.empty.insert((batch.submitted, id));
                continue;
            }
            let batch = self.batches.remove(&id).expect("it was just seen");
            self.empty.remove(&(batch.submitted, id));
            for key in batch.submits {
                self.submits.remove(&key);
            }
            if let Some(name) = batch.name {
                let ids = self.names.get_mut(&name).expect("a visible batch's name is known");
                ids.remove(&id);
                if ids.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }
}
