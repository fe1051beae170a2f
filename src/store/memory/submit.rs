//! How jobs enter.

use super::{Batch, Entry, MemoryStore, Staged};
use crate::model::{
    After, BatchHead, BatchId, Chunk, ChunkFate, Job, JobId, Standing, State, Submitted, Wall, push_id,
};
use crate::store::end::{End, Passing};
use crate::store::label::Labels;
use crate::store::turn::Turn;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

impl MemoryStore {
    pub(super) fn chunk(&mut self, chunk: &Chunk, turn: &mut Turn) -> ChunkFate {
        if let Some((digest, submitted)) = self.submits.get(&chunk.key) {
            return ChunkFate::Repeated { digest: *digest, submitted: submitted.clone() };
        }
        let is_open = self.staged.get(&chunk.key).is_some_and(|staged| !staged.refused);
        let mut staged = match &chunk.head {
            Some(head) => {
                if let Some(former) = self.staged.get(&chunk.key).map(|staged| staged.ticket) {
                    self.discard(former);
                }
                self.fold(turn);
                self.begin(chunk, head)
            }
            None if is_open => self.staged.remove(&chunk.key).expect("it was just seen"),
            None => return ChunkFate::Missing,
        };
        let staged_before = staged.jobs.len();
        match self.stage(chunk, &mut staged) {
            Ok(edges) => {
                self.waits.extend(edges.iter().map(|edge| (edge.1, edge.0)));
                self.edges.extend(edges);
            }
            Err((position, after)) => {
                if chunk.head.is_none() {
                    staged.jobs.truncate(staged_before);
                    staged.refused = true;
                    self.staged.insert(chunk.key.clone(), staged);
                }
                return ChunkFate::Unknown { position, after };
            }
        }
        if let Some(head) = &chunk.head {
            self.batches.entry(staged.batch).or_insert_with(|| Batch {
                name: head.name.clone(),
                key: chunk.key.clone(),
                submitted: head.submitted,
                born: self.commit,
                ..Batch::default()
            });
        }
        let next_index = staged.jobs[staged_before..].iter().map(|job| job.index + 1).max().unwrap_or(0);
        let batch = self.batches.get_mut(&staged.batch).expect("a staged submit's batch is kept");
        batch.next_index = batch.next_index.max(next_index);
        if let Some(job) = chunk.jobs.last() {
            self.next_job = self.next_job.max(JobId(job.id.0 + 1));
        }
        self.next_batch = self.next_batch.max(BatchId(chunk.batch.0 + 1));
        if let Some(digest) = chunk.last {
            return ChunkFate::Visible(self.complete(&chunk.key, digest, staged, turn));
        }
        self.staged.insert(chunk.key.clone(), staged);
        ChunkFate::Staged
    }

    /// A submit that begins with this chunk, in its own batch or in the one that it joins.
    fn begin(&self, chunk: &Chunk, head: &BatchHead) -> Staged {
        let is_unfinished =
            |id: &&BatchId| self.batches[id].counts.values().any(|counts| counts.unfinished() > 0);
        let namesakes = head.name.as_ref().filter(|_| head.join).and_then(|name| self.names.get(name));
        let joined = namesakes.and_then(|ids| ids.iter().rev().find(is_unfinished)).copied();
        let batch = joined.unwrap_or(chunk.batch);
        Staged {
            ticket: chunk.batch,
            batch,
            base: joined.map_or(0, |batch| self.batches[&batch].next_index),
            refused: false,
            jobs: Vec::new(),
            reply: Submitted { batch, ..Submitted::default() },
            labels: Labels::default(),
        }
    }

    /// Adds a chunk's jobs to its submit and answers with the edges to them, or says which one waits for
    /// something that is not kept.
    fn stage(&self, chunk: &Chunk, staged: &mut Staged) -> Result<Vec<(JobId, JobId)>, (usize, After)> {
        let mut edges = Vec::new();
        for (position, job) in chunk.jobs.iter().enumerate() {
            staged.reply.jobs += 1;
            if let Some(known) = self.known(job, staged) {
                staged.reply.known += 1;
                push_id(&mut staged.reply.ids, known.id);
                staged.labels.add(known.id, known.name.as_deref(), known.key.as_deref());
                continue;
            }
            for after in &job.after {
                let predecessors = self.resolve(after, staged).ok_or_else(|| (position, after.clone()))?;
                let open = predecessors.into_iter().filter(|id| !self.has_succeeded(*id));
                edges.extend(open.map(|id| (id, job.id)));
            }
            let placed = staged.base > 0 || job.batch != staged.batch;
            let job = if placed {
                Arc::new(Job { batch: staged.batch, index: staged.base + job.index, ..Job::clone(job) })
            } else {
                Arc::clone(job)
            };
            push_id(&mut staged.reply.ids, job.id);
            staged.labels.add(job.id, job.name.as_deref(), job.key.as_deref());
            staged.jobs.push(job);
        }
        Ok(edges)
    }

    /// The kept job that has this job's key.
    fn known(&self, job: &Job, staged: &Staged) -> Option<Arc<Job>> {
        let key = job.key.as_ref()?;
        if let Some(id) = self.keys.get(key).and_then(|ids| ids.first()) {
            return Some(Arc::clone(&self.jobs[id].job));
        }
        let id = staged.labels.by_key(key)?;
        let at = staged.jobs.binary_search_by_key(&id, |job| job.id).ok()?;
        Some(Arc::clone(&staged.jobs[at]))
    }

    fn resolve(&self, after: &After, staged: &Staged) -> Option<Vec<JobId>> {
        let is_own = |id: JobId| staged.jobs.binary_search_by_key(&id, |job| job.id).is_ok();
        let is_kept = |id: JobId| Ok::<_, Infallible>(self.jobs.contains_key(&id) || is_own(id));
        let Ok(ids) = match after {
            After::Id(id) => is_kept(*id).map(|is_kept| if is_kept { vec![*id] } else { Vec::new() }),
            After::Label(label) => staged.labels.find(label, is_kept),
        };
        (!ids.is_empty()).then_some(ids)
    }

    fn has_succeeded(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|entry| entry.state == State::Succeeded)
    }

    /// Makes a submit's jobs visible.
    fn complete(&mut self, key: &str, digest: u128, staged: Staged, turn: &mut Turn) -> Submitted {
        for job in staged.jobs {
            self.reveal(job, turn);
        }
        let batch = self.batches.get_mut(&staged.batch).expect("a staged submit's batch is kept");
        batch.submits.push(key.into());
        batch.visible = true;
        if let Some(name) = &batch.name {
            self.names.entry(name.clone()).or_default().insert(staged.batch);
        }
        self.fold(turn);
        let batch = &self.batches[&staged.batch];
        let place = (batch.submitted, staged.batch);
        if batch.kept == 0 {
            self.empty.insert(place);
        } else {
            self.empty.remove(&place);
        }
        self.submits.insert(key.into(), (digest, staged.reply.clone()));
        staged.reply
    }

    fn reveal(&mut self, job: Arc<Job>, turn: &mut Turn) {
        self.chase(job.id);
        let due = due(&job);
        let state = if self.is_waiting(job.id) {
            State::Blocked
        } else if due.is_some() {
            State::Delayed
        } else {
            State::Queued
        };
        turn.moved(&job.pool, job.batch, None, Some(state), 1);
        match (state, due) {
            (State::Queued, _) => self.enqueue(&job, turn),
            (State::Delayed, Some(due)) => self.delay(&job, due),
            _ => {}
        }
        if let Some(key) = &job.key {
            let ids = self.keys.entry(key.clone()).or_default();
            let at = ids.partition_point(|id| *id < job.id);
            ids.insert(at, job.id);
        }
        self.bytes += job.weight() as u64;
        add_span(
            &mut self.batches.get_mut(&job.batch).expect("a staged submit's batch is kept").spans,
            job.id,
        );
        let entry =
            Entry { state, standing: Standing::default(), due, ended: None, attempts: Vec::new(), job };
        self.jobs.insert(entry.job.id, entry);
    }

    /// Catches up with ends of predecessors that came before this job was visible.
    fn chase(&mut self, after: JobId) {
        let predecessors: Vec<JobId> = self.predecessors(after).collect();
        for before in predecessors {
            let pending = self.passing.get(&before).copied();
            let end = match self.jobs.get(&before).map(|entry| entry.state) {
                Some(State::Failed | State::Cancelled) => End::Failed,
                Some(State::Succeeded) => End::Succeeded,
                Some(State::Queued | State::Delayed | State::Blocked | State::Running) => continue,
                None if pending.is_some_and(|passing| passing.end == End::Succeeded) => End::Succeeded,
                None => End::Gone,
            };
            if end == End::Succeeded {
                self.edges.remove(&(before, after));
                self.waits.remove(&(after, before));
            } else {
                self.passing.insert(before, Passing::back_to(end, after, pending));
            }
        }
    }

    pub(super) fn discard(&mut self, ticket: BatchId) {
        let Some(key) =
            self.staged.iter().find(|(_, staged)| staged.ticket == ticket).map(|(key, _)| key.clone())
        else {
            return;
        };
        let staged = self.staged.remove(&key).expect("it was just found");
        for job in &staged.jobs {
            self.forget_edges_to(job.id);
        }
        if !self.batches[&staged.batch].visible {
            self.batches.remove(&staged.batch);
        }
    }
}

/// When a job may start, if not at once.
fn due(job: &Job) -> Option<Wall> {
    let delay = job.policy.as_ref()?.delay.filter(|delay| !delay.is_zero())?;
    Some(job.submitted + delay)
}

/// Adds an id to ranges that are kept by their last id.
fn add_span(spans: &mut BTreeMap<u64, u64>, id: JobId) {
    let first = spans.remove(&(id.0.wrapping_sub(1))).unwrap_or(id.0);
    spans.insert(id.0, first);
}
