//! How jobs enter: a submit comes in one or more chunks, and is all or nothing.
//!
//! A chunk is checked, numbered and handed to the store. Its client hears of it when it is durable. The jobs become
//! visible with the last chunk. A repetition is recognised by its key and told from another submit under the same
//! key by a digest of what was said, however it was cut into chunks.

use super::Engine;
use super::ask::{Asked, store_refusal};
use super::event::{Client, Effects};
use super::intake::{bad_job, digest_jobs, limit};
use super::mutant::Mutant;
use super::timers::Timer;
use super::write::Then;
use crate::config::{RECENT_SUBMITS_MAX, SUBMIT_SILENCE, SUBMITS_MAX};
use crate::model::{
    After, BatchHead, BatchId, Chunk, ChunkFate, Context, Job, JobId, Now, PoolName, Query, Record,
    Recovered, StoreError, Submitted,
};
use crate::wire::control::{Code, Refusal, SubmitReply, id_ranges};
use crate::wire::job::{Defaults, JobError};
use crate::wire::reply::Reply;
use crate::wire::request::Submission;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Submits that are under way, and the numbers they take.
#[derive(Debug)]
pub(super) struct Submits {
    pub(super) next_job: JobId,
    next_batch: BatchId,
    open: BTreeMap<Box<str>, Open>,
    recent: VecDeque<Recent>,
}

/// A submit of which not all chunks are durable.
pub(super) struct Open {
    pub(super) batch: BatchId,
    /// The chunk to go on with.
    pub(super) expect: u64,
    /// Jobs so far, which is the index of the next.
    pub(super) jobs: u64,
    /// The index of the first job of the chunk under way.
    pub(super) chunk_first: u64,
    pub(super) defaults: Defaults,
    pub(super) context: Option<Arc<Context>>,
    pub(super) submitted: crate::model::Wall,
    pub(super) digest: Xxh3,
    /// The digest before the chunk that is being written, for its repetition.
    pub(super) digest_before: Xxh3,
    /// A complete submit has this key: nothing is written, the rest is only compared.
    pub(super) repeats: Option<(u128, Submitted)>,
    /// The chunk under way is the last.
    pub(super) last: bool,
    /// When the delayed jobs among them are due, by pool.
    pub(super) delays: BTreeMap<PoolName, std::time::Duration>,
    /// Who waits for the chunk under way. Empty: none is under way.
    pub(super) clients: Vec<Client>,
}

/// A submit that was completed by this daemon and whose last chunk may be repeated alone.
struct Recent {
    key: Box<str>,
    chunk: u64,
    before: Box<Xxh3>,
    digest: u128,
    submitted: Submitted,
}

impl Open {
    fn new(batch: BatchId, client: Client, said: &Submission, now: Now) -> Open {
        let digest = digest_head(said);
        Open {
            batch,
            expect: 0,
            jobs: 0,
            chunk_first: 0,
            defaults: Defaults::default(),
            context: said.context.clone(),
            submitted: now.wall,
            digest_before: digest.clone(),
            digest,
            repeats: None,
            last: said.last,
            delays: BTreeMap::new(),
            clients: vec![client],
        }
    }

    /// Takes a chunk of a submit that is only compared with a complete one.
    pub(super) fn take_repeated(&mut self, said: &Submission) {
        digest_jobs(&mut self.digest, said);
        self.chunk_first = self.jobs;
        self.jobs += said.jobs.len() as u64;
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open")
            .field("batch", &self.batch)
            .field("expect", &self.expect)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent").field("key", &self.key).field("chunk", &self.chunk).finish_non_exhaustive()
    }
}

impl Submits {
    pub(super) fn new(recovered: &Recovered) -> Submits {
        Submits {
            next_job: JobId(recovered.next_job.0.max(1)),
            next_batch: BatchId(recovered.next_batch.0.max(1)),
            open: BTreeMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// Jobs of submits that are not complete.
    pub(super) fn jobs_under_way(&self) -> u64 {
        self.open.values().filter(|open| open.repeats.is_none()).map(|open| open.jobs).sum()
    }

    fn take_batch(&mut self) -> BatchId {
        let batch = self.next_batch;
        self.next_batch.0 += 1;
        batch
    }
}

impl Engine {
    pub(super) fn on_submit(&mut self, now: Now, client: Client, said: &Submission, effects: &mut Effects) {
        if said.abort {
            self.abort(said, client, effects);
            return;
        }
        let taken = if said.chunk == 0 {
            self.begin_submit(now, client, said, effects)
        } else {
            self.go_on_with_submit(now, client, said, effects)
        };
        let Err(refusal) = taken else {
            return;
        };
        match &said.key {
            // Its reply may have been lost, and whatever speaks against it now did not then.
            Some(key) if said.chunk == 0 => {
                let asked = Asked::Resubmit { client, said: Box::new(said.clone()), refusal };
                self.ask(Query::Submit(key.clone()), asked, effects);
            }
            Some(_) | None => effects.reply(client, Reply::Refused(refusal)),
        }
    }

    /// A submit that is refused is taken all the same if it only repeats one that is complete.
    pub(super) fn on_known_submit(
        &mut self,
        now: Now,
        client: Client,
        said: &Submission,
        refusal: Box<Refusal>,
        known: Option<(u128, Submitted)>,
        effects: &mut Effects,
    ) {
        let key = said.key.clone().unwrap_or_default();
        let mut open = Open::new(self.submits.next_batch, client, said, now);
        open.take_repeated(said);
        match known {
            // Whatever else is under way under its key.
            Some((digest, submitted)) if said.last && open.digest.digest128() == digest => {
                effects.reply(client, Reply::Submitted(submit_reply(&submitted)));
            }
            Some(known) if !self.submits.open.contains_key(&key) => {
                self.submits.take_batch();
                open.repeats = Some(known);
                self.put_chunk(now, key, open, None, Vec::new(), effects);
            }
            Some(_) | None => effects.reply(client, Reply::Refused(refusal)),
        }
    }

    fn begin_submit(
        &mut self,
        now: Now,
        client: Client,
        said: &Submission,
        effects: &mut Effects,
    ) -> Result<(), Box<Refusal>> {
        self.check_may_submit()?;
        let batch = self.submits.next_batch;
        // Without a key a submit cannot be repeated; its own number, which no client can say, tells it apart.
        let key = said.key.clone().unwrap_or_else(|| format!("\u{1}{}", batch.0).into());
        if let Some(open) = self.submits.open.get_mut(&key) {
            if open.expect == 0 && !open.clients.is_empty() {
                return join(open, &key, client, said);
            }
            // The client starts again: what it sent before is forgotten.
            self.discard(&key, &Reply::Refused(chunk_expected(0)), effects);
        }
        if self.submits.open.len() >= SUBMITS_MAX {
            return Err(limit("submits_max", SUBMITS_MAX as u64, "too many submits are under way"));
        }
        let defaults = match &said.defaults {
            None => Defaults::default(),
            Some(raw) => Defaults::parse(raw).map_err(|error| bad_job(error, None))?,
        };
        // Delays are counted from here, and go by a clock that nobody sets.
        let submitted = self.steady_wall(now);
        let open = Open { defaults, submitted, ..Open::new(batch, client, said, now) };
        let head = BatchHead {
            name: said.into.clone().or_else(|| said.name.clone()),
            join: said.into.is_some(),
            submitted,
            context: said.context.clone(),
        };
        let (open, jobs) = self.take_jobs(open, said)?;
        self.submits.take_batch();
        self.put_chunk(now, key, open, Some(head), jobs, effects);
        Ok(())
    }

    fn go_on_with_submit(
        &mut self,
        now: Now,
        client: Client,
        said: &Submission,
        effects: &mut Effects,
    ) -> Result<(), Box<Refusal>> {
        let key = said.key.clone().unwrap_or_default();
        let Some(mut open) = self.submits.open.remove(&key) else {
            return self.repeat_last_chunk(client, &key, said, effects);
        };
        let under_way = !open.clients.is_empty();
        if said.chunk + 1 == open.expect && !under_way {
            let expect = open.expect;
            self.submits.open.insert(key, open);
            effects.reply(client, Reply::Expect(expect));
            return Ok(());
        }
        if said.chunk != open.expect {
            let refusal = chunk_expected(open.expect);
            self.submits.open.insert(key, open);
            return Err(refusal);
        }
        if under_way {
            let joined = join(&mut open, &key, client, said);
            self.submits.open.insert(key, open);
            return joined;
        }
        open.clients.push(client);
        open.last = said.last;
        open.digest_before = open.digest.clone();
        let batch = open.batch;
        match self.take_jobs(open, said) {
            Ok((open, jobs)) => {
                self.put_chunk(now, key, open, None, jobs, effects);
                Ok(())
            }
            Err(refusal) => {
                self.timers.clear(Timer::Silence(batch));
                self.write(Record::Discard(batch), Then::Discarded, effects);
                Err(refusal)
            }
        }
    }

    /// A chunk of a submit that is not under way: the last of a complete one, or one that was discarded.
    fn repeat_last_chunk(
        &mut self,
        client: Client,
        key: &str,
        said: &Submission,
        effects: &mut Effects,
    ) -> Result<(), Box<Refusal>> {
        let recent = self.submits.recent.iter().find(|recent| *recent.key == *key);
        let Some(recent) = recent.filter(|recent| recent.chunk == said.chunk && said.last) else {
            return Err(chunk_expected(0));
        };
        let mut digest = (*recent.before).clone();
        digest_jobs(&mut digest, said);
        if digest.digest128() == recent.digest {
            effects.reply(client, Reply::Submitted(submit_reply(&recent.submitted)));
            Ok(())
        } else {
            Err(key_conflict(key, recent.submitted.batch))
        }
    }

    /// Hands a chunk to the store, unless it only repeats what is complete.
    fn put_chunk(
        &mut self,
        now: Now,
        key: Box<str>,
        open: Open,
        head: Option<BatchHead>,
        jobs: Vec<Arc<Job>>,
        effects: &mut Effects,
    ) {
        self.timers.set(Timer::Silence(open.batch), now.mono + SUBMIT_SILENCE);
        let repeats = open.repeats.is_some();
        let chunk = Chunk {
            batch: open.batch,
            key: if Mutant::ForgetKey.is_on() {
                format!("{key} {}", open.batch.0).into()
            } else {
                key.clone()
            },
            head,
            jobs,
            last: (open.last || Mutant::RevealEarly.is_on()).then(|| open.digest.digest128()),
        };
        if Mutant::AcknowledgeEarly.is_on() {
            acknowledge_early(&open, &chunk, effects);
        }
        self.submits.open.insert(key.clone(), open);
        if repeats {
            self.answer_repetition(now, &key, effects);
        } else {
            let batch = chunk.batch;
            self.write(Record::Chunk(chunk), Then::Chunk { key, batch }, effects);
        }
    }

    pub(super) fn on_chunk_written(
        &mut self,
        now: Now,
        key: &str,
        batch: BatchId,
        fate: Option<ChunkFate>,
        effects: &mut Effects,
    ) {
        // A client that started again has another submit under the key by now.
        let Some(open) = self.submits.open.get_mut(key).filter(|open| open.batch == batch) else {
            return;
        };
        match fate {
            None | Some(ChunkFate::Staged) => {
                open.expect += 1;
                let expect = open.expect;
                for client in std::mem::take(&mut open.clients) {
                    effects.reply(client, Reply::Expect(expect));
                }
            }
            Some(ChunkFate::Visible(submitted)) => self.complete(now, key, submitted, effects),
            Some(ChunkFate::Repeated { digest, submitted }) => {
                open.repeats = Some((digest, submitted));
                self.answer_repetition(now, key, effects);
            }
            Some(ChunkFate::Missing) => {
                self.discard(key, &Reply::Refused(chunk_expected(0)), effects);
            }
            Some(ChunkFate::Unknown { position, after }) => {
                let index = open.chunk_first + position as u64;
                let what = match after {
                    After::Id(id) => format!("no job {id} is kept"),
                    After::Label(label) => {
                        format!("no earlier job of this submit has the key or name {label:?}")
                    }
                };
                let error =
                    JobError { field: Some("after".to_owned()), message: what, hint: None, limit: None };
                self.discard(key, &Reply::Refused(bad_job(error, Some(index))), effects);
            }
        }
    }

    fn complete(&mut self, now: Now, key: &str, submitted: Submitted, effects: &mut Effects) {
        let Some(open) = self.submits.open.remove(key) else {
            return;
        };
        self.timers.clear(Timer::Silence(open.batch));
        for (pool, delay) in &open.delays {
            if let Some(place) = self.pool_place(pool) {
                self.due_at(now, place, open.submitted + *delay);
            }
        }
        for client in &open.clients {
            if !Mutant::AcknowledgeEarly.is_on() {
                effects.reply(*client, Reply::Submitted(submit_reply(&submitted)));
            }
        }
        if self.submits.recent.len() >= RECENT_SUBMITS_MAX {
            self.submits.recent.pop_front();
        }
        let digest = open.digest.digest128();
        self.submits.recent.push_back(Recent {
            key: key.into(),
            chunk: open.expect,
            before: Box::new(open.digest_before),
            digest,
            submitted,
        });
    }

    /// A complete submit has this key: its reply again, if this one says the same.
    fn answer_repetition(&mut self, now: Now, key: &str, effects: &mut Effects) {
        let Some(open) = self.submits.open.get_mut(key) else {
            return;
        };
        let Some((digest, submitted)) = open.repeats.clone() else {
            return;
        };
        if !open.last {
            open.expect += 1;
            let expect = open.expect;
            for client in std::mem::take(&mut open.clients) {
                effects.reply(client, Reply::Expect(expect));
            }
        } else if open.digest.digest128() == digest || Mutant::IgnoreConflict.is_on() {
            self.complete(now, key, submitted, effects);
        } else {
            let refusal = key_conflict(key, submitted.batch);
            self.discard(key, &Reply::Refused(refusal), effects);
        }
    }

    pub(super) fn on_chunk_refused(
        &mut self,
        key: &str,
        batch: BatchId,
        error: &StoreError,
        effects: &mut Effects,
    ) {
        if self.submits.open.get(key).is_none_or(|open| open.batch != batch) {
            return;
        }
        self.discard(key, &store_refusal(error), effects);
    }

    pub(super) fn on_silence(&mut self, batch: BatchId, effects: &mut Effects) {
        let silent = self.submits.open.iter().find(|(_, open)| open.batch == batch);
        if let Some(key) = silent.map(|(key, _)| key.clone()).filter(|_| !Mutant::KeepSilent.is_on()) {
            self.discard(&key, &Reply::Refused(chunk_expected(0)), effects);
        }
    }

    fn abort(&mut self, said: &Submission, client: Client, effects: &mut Effects) {
        if let Some(key) = &said.key {
            self.discard(key, &Reply::Refused(chunk_expected(0)), effects);
        }
        effects.reply(client, Reply::Done);
    }

    /// Ends a submit of which nothing is kept. Who waits for a chunk of it gets `reply`.
    fn discard(&mut self, key: &str, reply: &Reply, effects: &mut Effects) {
        if let Some(open) = self.submits.open.remove(key) {
            self.timers.clear(Timer::Silence(open.batch));
            for client in open.clients {
                effects.reply(client, reply.clone());
            }
            if open.repeats.is_none() {
                self.write(Record::Discard(open.batch), Then::Discarded, effects);
            }
        }
    }
}

/// See [`Mutant::AcknowledgeEarly`].
fn acknowledge_early(open: &Open, chunk: &Chunk, effects: &mut Effects) {
    let mut ids = Vec::new();
    for job in &chunk.jobs {
        crate::model::push_id(&mut ids, job.id);
    }
    let submitted = Submitted { batch: open.batch, jobs: open.jobs, known: 0, ids };
    for client in &open.clients {
        effects.reply(*client, Reply::Submitted(submit_reply(&submitted)));
    }
}

/// Has a client wait for the chunk under way, if it says the same.
fn join(open: &mut Open, key: &str, client: Client, said: &Submission) -> Result<(), Box<Refusal>> {
    let mut digest = if said.chunk == 0 { digest_head(said) } else { open.digest_before.clone() };
    digest_jobs(&mut digest, said);
    if said.last != open.last || digest.digest128() != open.digest.digest128() {
        return Err(key_conflict(key, open.batch));
    }
    open.clients.push(client);
    Ok(())
}

/// The digest of what a submit says before its jobs.
fn digest_head(said: &Submission) -> Xxh3 {
    let mut digest = Xxh3::new();
    for part in [said.name.as_deref(), said.into.as_deref(), said.defaults.as_deref()] {
        digest.update(part.unwrap_or("").as_bytes());
        digest.update(b"\n");
    }
    digest
}

fn submit_reply(submitted: &Submitted) -> SubmitReply {
    SubmitReply {
        batch: submitted.batch.0,
        jobs: submitted.jobs,
        known: submitted.known,
        ids: id_ranges(&submitted.ids),
    }
}

fn chunk_expected(expect: u64) -> Box<Refusal> {
    let mut refusal = Refusal::new(Code::ChunkExpected, format!("chunk {expect} is expected next"));
    refusal.expect = Some(expect);
    Box::new(refusal)
}

fn key_conflict(key: &str, batch: BatchId) -> Box<Refusal> {
    let message = format!("the key {key:?} belongs to another submit, batch {batch}");
    Box::new(Refusal::new(Code::KeyConflict, message).hint("use another key for other jobs"))
}
