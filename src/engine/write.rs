//! What is told once it is durable.
//!
//! Every record that the store is to keep gets a ticket and a [`Then`]: what follows when, and only when, the store
//! says that it is durable. So "durable before promised" is not an order of calls but a state.

use super::event::{Client, Effect, Effects, Ticket};
use super::mutant::Mutant;
use super::timers::Timer;
use super::{Engine, Place};
use crate::config::{UNWRITTEN_BYTES_MAX, UNWRITTEN_RECORDS_MAX, WRITE_AGAIN};
use crate::model::{
    Applied, BatchId, Generation, JobId, Move, Now, PoolName, Record, Standing, State, StoreError, Wall,
};
use log::Level;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What follows when a record is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// These generations may be used.
    Reserved(Generation),
    /// A chunk of this submit was written.
    Chunk {
        key: Box<str>,
        batch: BatchId,
    },
    Discarded,
    /// The job leaves memory, unless it is there in another round.
    Finished {
        id: JobId,
        round: u32,
    },
    /// The job goes on: at once, or when it is due.
    Charged {
        id: JobId,
        delayed: Option<Wall>,
    },
    /// A job of a cancel.
    Cancelled {
        act: Client,
        id: JobId,
    },
    /// A page of a retry or remove.
    Changed(Client),
    Promoted(usize),
    Released,
    /// Finished jobs were forgotten.
    Expired(super::keep::Reason),
    Paused {
        client: Client,
        pool: PoolName,
        paused: bool,
    },
}

/// Records that are on their way into the store.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The last ticket of a question; those of records are counted apart.
    asked: u64,
    /// By ticket, the first of them that of `first`. Those that are done with have no entry.
    pending: VecDeque<Option<(Arc<Record>, Then)>>,
    first: u64,
    /// How many entries there are.
    unwritten: usize,
    /// What these weigh.
    bytes: usize,
    /// Could not be written; tried again in this order.
    failed: BTreeSet<Ticket>,
    /// Why, while the store refuses.
    pub(super) trouble: Option<StoreError>,
    /// Ends of jobs wait to be passed on.
    pub(super) releases: bool,
    pub(super) releasing: bool,
}

impl Writes {
    /// Whether so much is unwritten that nothing new should be begun.
    pub(super) fn are_full(&self) -> bool {
        let too_many = self.unwritten >= UNWRITTEN_RECORDS_MAX || self.bytes >= UNWRITTEN_BYTES_MAX;
        (self.trouble.is_some() && !Mutant::SendUnwritable.is_on()) || too_many
    }

    /// Whether the store has still to say what became of some record.
    pub(super) fn are_under_way(&self) -> bool {
        self.unwritten > self.failed.len()
    }

    /// Whether so many bytes are on their way into the store that no more requests should be read. Not while the
    /// store refuses: then requests are answered, and submits with a refusal.
    fn are_choked(&self) -> bool {
        self.trouble.is_none() && self.bytes >= UNWRITTEN_BYTES_MAX
    }

    fn put(&mut self, record: Arc<Record>, then: Then) -> Ticket {
        let ticket = Ticket(self.first + self.pending.len() as u64);
        self.bytes += payload(&record);
        self.unwritten += 1;
        self.pending.push_back(Some((record, then)));
        ticket
    }

    fn take(&mut self, ticket: Ticket) -> Option<Then> {
        let (record, then) = self.entry(ticket)?.take()?;
        self.bytes -= payload(&record);
        self.unwritten -= 1;
        while self.pending.front().is_some_and(Option::is_none) {
            self.pending.pop_front();
            self.first += 1;
        }
        Some(then)
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Option<(Arc<Record>, Then)>> {
        let place = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unwritten == 0
    }
}

impl Engine {
    /// Whether requests should wait until the store has caught up.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.writes.are_choked()
    }

    /// A ticket for a question.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.writes.asked += 1;
        Ticket(self.writes.asked)
    }

    pub(super) fn write(&mut self, record: Record, then: Then, effects: &mut Effects) {
        let record = Arc::new(record);
        let ticket = self.writes.put(record.clone(), then);
        effects.push(Effect::Write { ticket, record });
    }

    pub(super) fn on_written(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<Applied, StoreError>,
        effects: &mut Effects,
    ) {
        match result {
            Ok(applied) => {
                let were_full = self.writes.are_full();
                let Some(then) = self.writes.take(ticket) else {
                    return;
                };
                self.writes.failed.remove(&ticket);
                if self.writes.failed.is_empty() && self.writes.trouble.take().is_some() {
                    effects.log(Level::Warn, "the store can be written again");
                }
                if were_full && !self.writes.are_full() {
                    self.dirty.extend(0..self.pools.len());
                }
                self.on_applied(now, &applied, effects);
                self.on_durable(now, then, applied, effects);
            }
            Err(error) => self.on_write_failed(now, ticket, &error, effects),
        }
    }

    /// Counters, windows and waiting requests follow what the store says has changed.
    fn on_applied(&mut self, now: Now, applied: &Applied, effects: &mut Effects) {
        for moved in &applied.moves {
            self.on_move(now, moved);
        }
        for (pool, priority) in &applied.visible {
            self.on_visible(pool, *priority, effects);
        }
        for id in &applied.cancelled {
            self.drop_from_memory(now, *id, effects);
        }
        self.writes.releases |= applied.releases;
        self.release_ends(now, effects);
        self.wake_waiters(now, applied, effects);
    }

    fn on_move(&mut self, now: Now, moved: &Move) {
        let place = self.pool_place(&moved.pool);
        let counts = match place {
            Some(place) => &mut self.pools[place].counts,
            None => self.orphans.entry(moved.pool.clone()).or_default(),
        };
        if let Some(from) = moved.from {
            let jobs = if Mutant::MiscountMoves.is_on() { 0 } else { moved.jobs };
            counts[from] = counts[from].saturating_sub(jobs);
        }
        let is_released = (moved.from, moved.to) == (Some(State::Blocked), Some(State::Delayed));
        if let (Some(place), true) = (place, is_released) {
            // Only the store knows when they are due: asking it to promote tells.
            self.timers.set_if_sooner(Timer::Due(place), now.mono);
        }
        if let Some(to) = moved.to {
            counts[to] += moved.jobs;
        }
        if let Some(place) = place {
            let pool = &mut self.pools[place];
            if moved.from.is_none() {
                pool.totals.submitted += moved.jobs;
            }
            if let Some(ended) = moved.to.filter(|to| to.is_finished()) {
                pool.rate.add(now.mono.0, moved.jobs);
                *pool.totals.finished.entry(ended).or_default() += moved.jobs;
            }
        }
        if moved.to.is_some_and(State::is_finished) {
            self.note_for_expiry(now);
        }
    }

    fn on_durable(&mut self, now: Now, then: Then, applied: Applied, effects: &mut Effects) {
        match then {
            Then::Reserved(upto) => self.on_reserved(now, upto, effects),
            Then::Chunk { key, batch } => {
                let fate = applied.chunks.into_iter().next();
                self.on_chunk_written(now, &key, batch, fate, effects);
            }
            Then::Discarded => {}
            Then::Finished { id, .. } if Mutant::RunAgain.is_on() => {
                self.wait_again(id, Standing::default(), false);
            }
            Then::Finished { id, round } => {
                // A late answer may end a job that was not in memory then and has been fetched since.
                if self.jobs.get(&id).is_some_and(|live| live.standing.round == round) {
                    self.take_from_memory(now, id, effects);
                }
            }
            Then::Charged { id, delayed } => self.on_charged(now, id, delayed),
            Then::Cancelled { act, id } => {
                self.jobs.remove(&id);
                self.cancelling.remove(&id);
                let was_first = applied.finishes.first().copied().unwrap_or(false);
                self.on_cancel_written(act, was_first, effects);
            }
            Then::Changed(client) => {
                let changed = applied.changed.into_iter().next().unwrap_or_default();
                self.on_page_written(client, changed.len() as u64, effects);
            }
            Then::Promoted(place) => {
                if let Some(Some(due)) = applied.next_due.first() {
                    self.due_at(now, place, *due);
                }
            }
            Then::Released => {
                self.writes.releasing = false;
                self.writes.releases = applied.releases;
                self.release_ends(now, effects);
            }
            Then::Expired(reason) => self.on_expired(now, reason, &applied, effects),
            Then::Paused { client, pool, paused } => {
                if let Some(place) = self.pool_place(&pool) {
                    self.pools[place].paused = paused;
                    self.dirty.insert(place);
                }
                self.on_pool_paused(client, None, effects);
            }
        }
    }

    fn on_charged(&mut self, now: Now, id: JobId, delayed: Option<Wall>) {
        let Some(live) = self.jobs.get(&id) else {
            return;
        };
        if live.place != Place::Charging {
            return;
        }
        let (standing, pool) = (live.standing, live.job.pool.clone());
        match delayed {
            None => self.wait_again(id, standing, false),
            Some(due) => {
                self.jobs.remove(&id);
                if let Some(place) = self.pool_place(&pool) {
                    self.due_at(now, place, due);
                }
            }
        }
    }

    /// The store has ended a job on its own, as a successor of a failed one.
    fn drop_from_memory(&mut self, now: Now, id: JobId, effects: &mut Effects) {
        match self.jobs.get(&id).map(|live| live.place) {
            Some(Place::Waiting | Place::Held(_) | Place::Parked) => self.take_from_memory(now, id, effects),
            Some(Place::Charging | Place::Ending) | None => {}
        }
    }

    /// Forgets a job that has its outcome, wherever it is.
    fn take_from_memory(&mut self, now: Now, id: JobId, effects: &mut Effects) {
        let Some(live) = self.jobs.remove(&id) else {
            return;
        };
        let pool = self.pool_place(&live.job.pool);
        match live.place {
            Place::Waiting => {
                if let Some(pool) = pool {
                    self.pools[pool].window.remove(&live.job);
                }
            }
            Place::Held(worker) => self.void(now, worker, id, effects),
            Place::Parked | Place::Charging | Place::Ending => {}
        }
        self.dirty.extend(pool);
    }

    fn on_write_failed(&mut self, now: Now, ticket: Ticket, error: &StoreError, effects: &mut Effects) {
        let Some((_, then)) = self.writes.entry(ticket).and_then(|entry| entry.clone()) else {
            return;
        };
        match then {
            // A submit is refused at once; nothing of it was promised.
            Then::Chunk { key, batch } => {
                self.writes.take(ticket);
                self.on_chunk_refused(&key, batch, error, effects);
            }
            // A pause that is not durable is not acknowledged.
            Then::Paused { client, .. } => {
                self.writes.take(ticket);
                self.on_pool_paused(client, Some(error.clone()), effects);
            }
            Then::Reserved(_)
            | Then::Discarded
            | Then::Finished { .. }
            | Then::Charged { .. }
            | Then::Cancelled { .. }
            | Then::Changed(_)
            | Then::Promoted(_)
            | Then::Released
            | Then::Expired(_) => {
                self.writes.failed.insert(ticket);
            }
        }
        self.on_store_trouble(now, error, effects);
    }

    /// The store cannot be used at present: nothing new is begun, and what must be written is tried again.
    pub(super) fn on_store_trouble(&mut self, now: Now, error: &StoreError, effects: &mut Effects) {
        if self.writes.trouble.is_none() {
            effects.log(Level::Error, format!("{error}; nothing is started until it works again"));
        }
        self.writes.trouble = Some(error.clone());
        if !self.timers.is_set(Timer::WriteAgain) {
            self.timers.set(Timer::WriteAgain, now.mono + WRITE_AGAIN);
        }
    }

    pub(super) fn write_again(&mut self, effects: &mut Effects) {
        for ticket in std::mem::take(&mut self.writes.failed) {
            if let Some((record, _)) = self.writes.entry(ticket).and_then(|entry| entry.clone()) {
                effects.push(Effect::Write { ticket, record });
            }
        }
        if self.writes.is_empty() && self.writes.trouble.take().is_some() {
            // Nothing needs writing: the next submit or fetch will tell whether the store works again.
            effects.log(Level::Info, "trying the store again");
            self.dirty.extend(0..self.pools.len());
        }
    }

    /// Ids of batches in which `applied` changed something.
    pub(super) fn touched(applied: &Applied) -> BTreeSet<BatchId> {
        applied.moves.iter().map(|moved| moved.batch).collect()
    }
}

/// Bytes of jobs and results in a record.
fn payload(record: &Record) -> usize {
    let size = |json: &Option<crate::model::Json>| json.as_ref().map_or(0, |json| json.len());
    match record {
        Record::Chunk(chunk) => chunk.jobs.iter().map(|job| job.weight()).sum(),
        Record::Finish(outcome) => size(&outcome.result) + size(&outcome.evidence),
        Record::Charge(charge) => size(&charge.attempt.result) + size(&charge.attempt.evidence),
        Record::Discard(_)
        | Record::Promote { .. }
        | Record::Retry { .. }
        | Record::Remove { .. }
        | Record::Expire { .. }
        | Record::Release { .. }
        | Record::Pause { .. }
        | Record::Generations(_) => 0,
    }
}
