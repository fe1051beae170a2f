//! What is durable of jobs, and what is on its way to the disk.

use super::Seen;
use super::sends::FETCH_PATIENCE_NS;
use crate::clients::Submit;
use crate::plan::tag_of;
use pushpull::engine::{Event, Ticket};
use pushpull::model::{After, Answer, Submitted};
use pushpull::model::{Applied, ChunkFate, Job, JobId, PoolName, Query, Record, Select, State, Word};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Jobs {
    /// Every job that was ever visible, with the number in its data.
    pub tags: BTreeMap<JobId, u64>,
    /// What each job waits for.
    pub before: BTreeMap<JobId, Vec<JobId>>,
    pub succeeded: BTreeSet<JobId>,
    /// Every outcome that was ever durable.
    pub outcomes: BTreeSet<(JobId, State)>,
    pub removed: BTreeSet<JobId>,
    /// Keys of submits under which something else was taken, since nothing of the first was left.
    pub taken_over: BTreeSet<String>,
    /// Jobs that go alone for the rest of their round.
    pub alone: BTreeMap<JobId, PoolName>,
    /// Crash charges on their way to the disk.
    pub charging: BTreeMap<Ticket, JobId>,
    /// Outcomes on their way to the disk.
    pub ending: BTreeMap<Ticket, JobId>,
    /// Records that were handed over and must be kept at any price.
    pub written: BTreeSet<Ticket>,
    /// Of these, those that could not be written and were not handed over again.
    pub refused: BTreeSet<Ticket>,
    /// Since when each job may be sent, and its priority.
    waiting: BTreeMap<JobId, (u64, i16, PoolName)>,
}

impl Jobs {
    pub fn is_ending(&self, id: JobId) -> bool {
        self.ending.values().any(|ending| *ending == id)
    }

    pub fn has_finished(&self, id: JobId) -> bool {
        [State::Succeeded, State::Failed, State::Cancelled]
            .iter()
            .any(|state| self.outcomes.contains(&(id, *state)))
    }

    pub fn on_durable(&mut self, record: &Record, applied: &Applied, seen: &mut Seen) -> Result<(), String> {
        match record {
            Record::Chunk(chunk) => {
                for fate in &applied.chunks {
                    if let ChunkFate::Visible(submitted) = fate {
                        self.on_visible(&chunk.key, submitted, seen)?;
                    }
                }
            }
            Record::Finish(outcome) if applied.finishes == [true] => {
                self.on_outcome(outcome.id, outcome.state);
            }
            Record::Release { .. } => {
                for id in &applied.cancelled {
                    self.on_outcome(*id, State::Cancelled);
                }
            }
            Record::Remove { .. } | Record::Expire { .. } => {
                self.removed.extend(applied.changed.iter().flatten());
            }
            Record::Finish(_)
            | Record::Charge(_)
            | Record::Retry { .. }
            | Record::Discard(_)
            | Record::Promote { .. }
            | Record::Pause { .. }
            | Record::Generations(_) => {}
        }
        Ok(())
    }

    fn on_outcome(&mut self, id: JobId, state: State) {
        self.outcomes.insert((id, state));
        self.alone.remove(&id);
        if state == State::Succeeded {
            self.succeeded.insert(id);
        }
    }

    /// A submit is complete: its jobs are there, all at once.
    fn on_visible(&mut self, key: &str, submitted: &Submitted, seen: &mut Seen) -> Result<(), String> {
        let submit = seen.submits.iter().find(|submit| submit.key == key);
        if submit.is_some_and(|submit| submit.vanishes.is_some()) {
            return Err(format!("{key} was never completed, and its jobs are visible"));
        }
        let ids: Vec<JobId> =
            submitted.ids.iter().flat_map(|(first, last)| (first.0..=last.0).map(JobId)).collect();
        for id in &ids {
            let Some(row) = seen.disk.row(*id) else {
                // It was known by its key, and was removed before the last chunk came.
                if self.removed.contains(id) {
                    continue;
                }
                return Err(format!("job {id} of {key} is not kept"));
            };
            if row.job.batch == submitted.batch && self.removed.contains(id) {
                return Err(format!("the removed job {id} is back"));
            }
            let tag = *self.tags.entry(*id).or_insert_with(|| tag_of(&row.job));
            let is_other = submit.is_some_and(|submit| !submit.tags().contains(&tag));
            if is_other && row.job.batch == submitted.batch {
                self.taken_over.insert(key.to_owned());
            }
        }
        for id in &ids {
            let Some(row) = seen.disk.row(*id) else { continue };
            // A label names one of the same submit; a known job may stand for it.
            let own = |label: &str| {
                let tags = submit.map(Submit::tags).unwrap_or_default();
                let is_meant =
                    |tag: &u64| format!("n{tag}") == label || seen.plans.0[tag].key.as_deref() == Some(label);
                let mut meant: Vec<JobId> =
                    tags.iter().zip(&ids).filter(|(tag, _)| is_meant(tag)).map(|(_, id)| *id).collect();
                meant.dedup();
                // Jobs of one key may stand for different jobs if the key's owner came between two chunks.
                if let [only] = meant[..] { Some(only) } else { None }
            };
            let before = row.job.after.iter().filter_map(|after| match after {
                After::Id(before) => Some(*before),
                After::Label(label) => own(label),
            });
            let before: Vec<JobId> = before.collect();
            self.before.entry(*id).or_insert(before);
        }
        Ok(())
    }

    pub fn on_told(&mut self, event: &Event, seen: &mut Seen) {
        let Event::Written { ticket, result } = event else {
            return;
        };
        match result {
            Ok(applied) => {
                self.charging.remove(ticket);
                self.ending.remove(ticket);
                for fate in &applied.chunks {
                    if let ChunkFate::Visible(submitted) = fate {
                        self.note_waiting(submitted, seen);
                    }
                }
            }
            Err(_) if self.written.contains(ticket) => {
                self.refused.insert(*ticket);
            }
            Err(_) => {}
        }
    }

    /// From now on these jobs may be sent, unless they are delayed.
    fn note_waiting(&mut self, submitted: &Submitted, seen: &mut Seen) {
        for id in submitted.ids.iter().flat_map(|(first, last)| (first.0..=last.0).map(JobId)) {
            if let Some(row) = seen.disk.row(id).filter(|row| row.state == State::Queued) {
                let is_new = row.job.batch == submitted.batch && row.standing.attempts == 0;
                if is_new && !self.alone.contains_key(&id) {
                    let since = (seen.now.mono.0, row.job.priority, row.job.pool.clone());
                    self.waiting.insert(id, since);
                }
            }
        }
    }

    /// Nobody waits for this job to be sent any longer.
    pub fn on_taken(&mut self, id: JobId) {
        self.waiting.remove(&id);
    }

    /// A better job of the same pool that has waited for long enough.
    pub fn better(&self, job: &Job, now: u64) -> Option<JobId> {
        let is_better = |(other, (since, priority, pool)): &(&JobId, &(u64, i16, PoolName))| {
            **other != job.id
                && *priority > job.priority
                && *pool == job.pool
                && now - since > FETCH_PATIENCE_NS
                && !self.alone.contains_key(other)
        };
        self.waiting.iter().find(is_better).map(|(id, _)| *id)
    }

    /// What was only in memory is gone.
    pub fn on_boot(&mut self, seen: &mut Seen) {
        self.charging.clear();
        self.ending.clear();
        self.written.clear();
        self.refused.clear();
        self.waiting.clear();
        self.alone.clear();
        let select =
            Select { words: vec![Word::All], states: vec![State::Queued, State::Delayed], pools: Vec::new() };
        if let Answer::Ids { stubs, .. } =
            seen.disk.look(&Query::Ids { select, after: JobId(0), limit: 1_000 })
        {
            for stub in stubs.into_iter().filter(|stub| stub.standing.alone) {
                self.alone.insert(stub.id, stub.pool);
            }
        }
    }
}
