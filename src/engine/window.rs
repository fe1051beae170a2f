//! The jobs of one pool that are in memory and wait for a worker, best first.

use crate::model::{Job, JobId, Standing};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The order in which jobs are started: higher priority first, then lower id.
pub(super) type Rank = (Reverse<i16>, JobId);

/// A waiting job, as far as dispatch looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    weight: usize,
    crashes: u32,
}

/// Waiting jobs in order, those that go alone apart from the others.
#[derive(Debug, Default)]
pub(super) struct Window {
    together: BTreeMap<Rank, Entry>,
    alone: BTreeMap<Rank, Entry>,
    bytes: usize,
}

impl Window {
    pub(super) fn rank(job: &Job) -> Rank {
        (Reverse(job.priority), job.id)
    }

    pub(super) fn insert(&mut self, job: &Job, standing: &Standing) {
        let entry = Entry { weight: job.weight(), crashes: standing.crashes };
        let lane = if standing.alone { &mut self.alone } else { &mut self.together };
        if lane.insert(Window::rank(job), entry).is_none() {
            self.bytes += entry.weight;
        }
    }

    pub(super) fn remove(&mut self, job: &Job) {
        let rank = Window::rank(job);
        if let Some(entry) = self.together.remove(&rank).or_else(|| self.alone.remove(&rank)) {
            self.bytes -= entry.weight;
        }
    }

    /// Jobs that may share a worker.
    pub(super) fn together(&self) -> usize {
        self.together.len()
    }

    pub(super) fn len(&self) -> usize {
        self.together.len() + self.alone.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The best job that may share a worker, with its weight in bytes.
    pub(super) fn first_together(&self) -> Option<(Rank, usize)> {
        self.together.first_key_value().map(|(rank, entry)| (*rank, entry.weight))
    }

    /// The highest priority among all.
    pub(super) fn best_priority(&self) -> Option<i16> {
        let firsts = [self.together.first_key_value(), self.alone.first_key_value()];
        firsts.into_iter().flatten().map(|((Reverse(priority), _), _)| *priority).max()
    }

    /// Jobs that go alone, best first, each with its crashes.
    pub(super) fn alone(&self) -> impl Iterator<Item = (Rank, u32)> + '_ {
        self.alone.iter().map(|(rank, entry)| (*rank, entry.crashes))
    }

    /// The last in order of those that may be fetched again.
    pub(super) fn last_together(&self) -> Option<Rank> {
        self.together.last_key_value().map(|(rank, _)| *rank)
    }

    /// Ids of all, in no particular order.
    pub(super) fn ids(&self) -> impl Iterator<Item = JobId> + '_ {
        self.together.keys().chain(self.alone.keys()).map(|(_, id)| *id)
    }
}
