//! The elements of one submit by the words with which `after` may name them.

use crate::model::JobId;
use std::collections::{BTreeMap, BTreeSet};

/// Keys go before names; a name means all that have it.
#[derive(Clone, Default)]
pub(super) struct Labels {
    keys: BTreeMap<Box<str>, JobId>,
    names: BTreeMap<Box<str>, BTreeSet<JobId>>,
}

impl Labels {
    /// Adds an element. A known one counts as the job that is kept for it.
    pub(super) fn add(&mut self, id: JobId, name: Option<&str>, key: Option<&str>) {
        if let Some(key) = key {
            // A job that was known under this key may have been forgotten since: the later one is kept.
            self.keys.insert(key.into(), id);
        }
        if let Some(name) = name {
            self.names.entry(name.into()).or_default().insert(id);
        }
    }

    /// The element with this key.
    pub(super) fn by_key(&self, key: &str) -> Option<JobId> {
        self.keys.get(key).copied()
    }

    /// The kept elements that a label means; none if it means nothing.
    pub(super) fn find<E>(
        &self,
        label: &str,
        mut is_kept: impl FnMut(JobId) -> Result<bool, E>,
    ) -> Result<Vec<JobId>, E> {
        if let Some(id) = self.by_key(label) {
            if is_kept(id)? {
                return Ok(vec![id]);
            }
        }
        let mut found = Vec::new();
        for id in self.names.get(label).into_iter().flatten() {
            if is_kept(*id)? {
                found.push(*id);
            }
        }
        Ok(found)
    }
}
