//! Which ids a selection means, and how much of an answer fits on a page.
//!
//! A selection unites ranges of ids and batches. Either can be far too long to list, so a scope is walked: asked
//! for the lowest range at or above an id, it looks at each of its parts and clips the lowest. Whoever goes on
//! behind that range's end meets every id once, however the parts overlap.

use super::{Answer, Select, StoreError, Word};
use crate::model::{BatchId, Counts, Job, JobId, Outcome, PoolName, State};

/// Rows on a page at most.
const PAGE_ROWS_MAX: usize = 1_000;
/// A page ends with the row that reaches this size.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Jobs that are looked at for one page, whether they are selected or not.
const PAGE_LOOKED_MAX: usize = 10_000;

/// Why a query has no ordinary answer.
pub(super) enum Miss {
    /// It names something that is not kept.
    NotFound(String),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Miss {
    fn from(error: E) -> Miss {
        Miss::Store(error.into())
    }
}

/// An answer, with a miss put where it belongs.
pub(super) fn settle(answer: Result<Answer, Miss>) -> Result<Answer, StoreError> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(Miss::NotFound(what)) => Ok(Answer::NotFound { what }),
        Err(Miss::Store(error)) => Err(error),
    }
}

/// What a scope must know of a store to resolve names.
pub(super) trait Directory {
    /// The newest visible batch, of this name if one is given.
    fn newest_batch(&mut self, name: Option<&str>) -> Result<Option<BatchId>, StoreError>;
    /// Whether a visible batch has this number.
    fn has_batch(&mut self, batch: BatchId) -> Result<bool, StoreError>;
    /// Whether a visible job has this id.
    fn has_job(&mut self, id: JobId) -> Result<bool, StoreError>;
}

/// A resolved selection.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Inclusive, ascending, disjoint.
    ranges: Vec<(u64, u64)>,
    /// Ascending, each once.
    pub(super) batches: Vec<BatchId>,
    states: Vec<State>,
    pools: Vec<PoolName>,
    everything: bool,
}

impl Scope {
    pub(super) fn resolve(select: &Select, directory: &mut dyn Directory) -> Result<Scope, Miss> {
        let mut scope =
            Scope { states: select.states.clone(), pools: select.pools.clone(), ..Scope::default() };
        for word in &select.words {
            match word {
                Word::All => scope.everything = true,
                Word::Ids(first, last) => scope.ranges.push((first.0, last.0)),
                Word::Batch(batch) if directory.has_batch(*batch)? => scope.batches.push(*batch),
                Word::Batch(batch) => return Err(Miss::NotFound(batch.to_string())),
                Word::Named(name) => scope.batches.push(found(directory.newest_batch(Some(name))?, name)?),
                Word::Last => scope.batches.push(found(directory.newest_batch(None)?, "last")?),
            }
        }
        if let [Word::Ids(first, last)] = select.words[..] {
            if first == last && !directory.has_job(first)? {
                return Err(Miss::NotFound(first.to_string()));
            }
        }
        scope.batches.sort_unstable();
        scope.batches.dedup();
        scope.ranges.retain(|(first, last)| first <= last);
        scope.ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in scope.ranges.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                Some(_) | None => joined.push((first, last)),
            }
        }
        scope.ranges = if scope.everything { vec![(0, u64::MAX)] } else { joined };
        Ok(scope)
    }

    /// The lowest range at or above `from`. `span` answers the same for one batch.
    pub(super) fn next_range<E>(
        &self,
        from: u64,
        mut span: impl FnMut(BatchId, u64) -> Result<Option<(u64, u64)>, E>,
    ) -> Result<Option<(u64, u64)>, E> {
        let at = self.ranges.partition_point(|(_, last)| *last < from);
        let mut lowest = self.ranges.get(at).map(|(first, last)| (from.max(*first), *last));
        if self.everything {
            return Ok(lowest);
        }
        for batch in &self.batches {
            if let Some((first, last)) = span(*batch, from)? {
                let clipped = (from.max(first), last);
                lowest = Some(lowest.map_or(clipped, |so_far| so_far.min(clipped)));
            }
        }
        Ok(lowest)
    }

    /// Whether a job of this id and batch is meant, states and pools aside.
    pub(super) fn has(&self, id: JobId, batch: BatchId) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < id.0);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= id.0)
            || self.batches.binary_search(&batch).is_ok()
    }

    /// Whether states and pools leave in such a job.
    pub(super) fn admits(&self, state: State, pool: &PoolName) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && (self.pools.is_empty() || self.pools.contains(pool))
    }

    /// Whether only jobs without an outcome are left in.
    pub(super) fn is_unfinished_only(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| !state.is_finished())
    }

    /// Whose counters hold the answer, if counters do.
    pub(super) fn counted_by(&self) -> CountedBy<'_> {
        if self.everything {
            CountedBy::Pools
        } else if self.ranges.is_empty() {
            CountedBy::Batches(&self.batches)
        } else {
            CountedBy::Rows
        }
    }

    /// Adds those of a pool's counts that states and pools leave in.
    pub(super) fn add_counts(&self, pool: &PoolName, counts: &Counts, sum: &mut Counts) {
        for state in State::ALL.into_iter().filter(|state| self.admits(*state, pool)) {
            sum[state] += counts[state];
        }
    }

    /// The batch, if the selection is one batch and nothing else.
    pub(super) fn one_batch(&self) -> Option<BatchId> {
        match self.batches[..] {
            [batch] if self.ranges.is_empty() && self.states.is_empty() && self.pools.is_empty() => {
                Some(batch)
            }
            _ => None,
        }
    }

    /// Whether every selected job belongs to one of [`Scope::batches`].
    pub(super) fn is_batches_only(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Where the counts of a selection come from.
pub(super) enum CountedBy<'a> {
    Pools,
    Batches(&'a [BatchId]),
    Rows,
}

fn found(batch: Option<BatchId>, name: &str) -> Result<BatchId, Miss> {
    batch.ok_or_else(|| Miss::NotFound(format!("@{name}")))
}

/// What is left of a page.
#[derive(Debug)]
pub(super) struct Page {
    rows: usize,
    bytes: usize,
    looks: usize,
}

impl Page {
    pub(super) fn new(limit: usize) -> Page {
        Page { rows: limit.clamp(1, PAGE_ROWS_MAX), bytes: PAGE_BYTES_MAX, looks: PAGE_LOOKED_MAX }
    }

    /// A job was looked at.
    pub(super) fn look(&mut self) {
        self.looks = self.looks.saturating_sub(1);
    }

    /// A row of this size was added.
    pub(super) fn add(&mut self, bytes: usize) {
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows == 0 || self.bytes == 0 || self.looks == 0
    }
}

/// What a job and its outcome take on a page, in bytes.
pub(super) fn weight(job: &Job, outcome: Option<&Outcome>) -> usize {
    job.weight() + outcome.map_or(0, outcome_weight)
}

/// What an outcome takes, in bytes.
pub(super) fn outcome_weight(outcome: &Outcome) -> usize {
    let text = outcome.error.as_ref().map_or(0, |text| text.len());
    let json = |json: &Option<crate::model::Json>| json.as_ref().map_or(0, |json| json.len());
    size_of::<Outcome>() + text + json(&outcome.result) + json(&outcome.evidence)
}
