//! Requests that wait: `wait` and `results`.
//!
//! A request that waits looks at the store, and looks again whenever something that it may wait for has changed:
//! nothing is kept for it but what it asked.

use super::Engine;
use super::ask::{Asked, not_found, store_refusal};
use super::event::{Client, Effects};
use super::mutant::Mutant;
use super::timers::Timer;
use crate::config::{LOOK_AGAIN, PAGE_ROWS_MAX, WAITERS_MAX};
use crate::model::{
    Answer, Applied, BatchId, Counts, FinishCursor, JobId, Mono, Now, Query, Select, State, StoreError, Word,
};
use crate::wire::control::{Code, CountsJson, Refusal, WaitReply};
use crate::wire::record::{self, Parts};
use crate::wire::reply::Reply;
use crate::wire::request::finish_cursor_json;
use log::Level;
use std::time::Duration;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    select: Select,
    rows: Option<RowsWanted>,
    /// A look is under way.
    looking: bool,
    /// Something has changed since the look under way began.
    dirty: bool,
    /// Its time is over: the next answer is its reply.
    over: bool,
    last_look: Mono,
    /// The selection is this batch and nothing else.
    batch: Option<BatchId>,
    /// As of the last look; `None` before the first.
    counts: Option<Counts>,
}

impl Waiter {
    /// Whether all that is waited for has its outcome.
    fn is_done(&self) -> bool {
        self.counts.is_some_and(|counts| counts.unfinished() == 0)
    }
}

/// What `results` wants beside the counts.
#[derive(Debug)]
pub(super) struct RowsWanted {
    pub(super) after: FinishCursor,
    pub(super) limit: usize,
}

impl Engine {
    pub(super) fn on_wait(
        &mut self,
        now: Now,
        client: Client,
        select: Select,
        rows: Option<RowsWanted>,
        timeout: Duration,
        effects: &mut Effects,
    ) {
        if self.asks.waiters.len() >= WAITERS_MAX {
            let refusal = Refusal::new(Code::Limit, format!("{WAITERS_MAX} requests wait already"));
            effects.reply(client, Reply::Refused(Box::new(refusal)));
            return;
        }
        let waiter = Waiter {
            select,
            rows,
            looking: false,
            dirty: false,
            over: timeout.is_zero(),
            last_look: now.mono,
            batch: None,
            counts: None,
        };
        self.asks.waiters.insert(client, waiter);
        self.timers.set(Timer::Wait(client), now.mono + timeout);
        self.look(now, client, effects);
    }

    fn look(&mut self, now: Now, client: Client, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get_mut(&client) else {
            return;
        };
        waiter.looking = true;
        waiter.dirty = false;
        waiter.last_look = now.mono;
        // The store's states are asked for, not a selection of them: `done` is about all selected jobs.
        let select = waiter.select.clone();
        let select = self.stored_select(&select);
        self.ask(Query::Counts(select), Asked::Look(client), effects);
    }

    pub(super) fn on_look(
        &mut self,
        now: Now,
        client: Client,
        result: Result<Answer, StoreError>,
        effects: &mut Effects,
    ) {
        let Some(waiter) = self.asks.waiters.get_mut(&client) else {
            return;
        };
        match result {
            Ok(Answer::Counts { counts, batch }) => {
                waiter.counts = Some(counts);
                waiter.batch = batch;
                if let Some(after) = waiter.rows.as_ref().map(|rows| rows.after) {
                    self.look_behind(client, after, effects);
                } else if counts.unfinished() == 0 || waiter.over {
                    self.answer_wait(client, effects);
                } else {
                    self.keep_waiting(now, client, effects);
                }
            }
            Ok(Answer::Finished { rows, next, end }) => {
                let done = waiter.is_done() && end;
                if rows.is_empty() && !end && !waiter.over {
                    // None of those in this piece of the log was meant: on to the next.
                    self.look_behind(client, next, effects);
                } else if !rows.is_empty() || done || waiter.over {
                    let records = rows.iter().map(|row| record::render(row, Parts::Result)).collect();
                    self.end_wait(client);
                    let next = finish_cursor_json(next);
                    effects.reply(client, Reply::Records { records, next, done });
                } else {
                    self.keep_waiting(now, client, effects);
                }
            }
            Ok(Answer::NotFound { what }) => {
                self.end_wait(client);
                effects.reply(client, not_found(&what));
            }
            Ok(
                other @ (Answer::Jobs { .. }
                | Answer::Ids { .. }
                | Answer::Job { .. }
                | Answer::Batches { .. }
                | Answer::Submit(_)
                | Answer::Audit { .. }),
            ) => unreachable!("a waiting request asks for counts and finished jobs, not {other:?}"),
            Err(error) => {
                self.end_wait(client);
                effects.log(Level::Error, format!("the store cannot be read: {error}"));
                effects.reply(client, store_refusal(&error));
            }
        }
    }

    /// Asks for the rows behind `after`.
    fn look_behind(&mut self, client: Client, after: FinishCursor, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get_mut(&client) else {
            return;
        };
        let Some(rows) = &mut waiter.rows else {
            return;
        };
        rows.after = after;
        let query = Query::Finished { select: waiter.select.clone(), after, limit: rows.limit };
        self.ask(query, Asked::Rows(client), effects);
    }

    fn keep_waiting(&mut self, now: Now, client: Client, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get_mut(&client) else {
            return;
        };
        waiter.looking = false;
        if waiter.dirty {
            self.look_soon(now, client, effects);
        }
    }

    /// Looks at once where that is cheap, else not too often.
    fn look_soon(&mut self, now: Now, client: Client, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get(&client) else {
            return;
        };
        let soonest = waiter.last_look + LOOK_AGAIN;
        if is_cheap(&waiter.select) || soonest <= now.mono {
            self.look(now, client, effects);
        } else {
            self.timers.set(Timer::Look(client), soonest);
        }
    }

    pub(super) fn look_again(&mut self, now: Now, client: Client, effects: &mut Effects) {
        if self.asks.waiters.get(&client).is_some_and(|waiter| !waiter.looking) {
            self.look(now, client, effects);
        }
    }

    /// Something has changed: those that may wait for it look again.
    pub(super) fn wake_waiters(&mut self, now: Now, applied: &Applied, effects: &mut Effects) {
        if self.asks.waiters.is_empty() || applied.moves.is_empty() {
            return;
        }
        let touched = Engine::touched(applied);
        let mut woken = Vec::new();
        for (client, waiter) in &mut self.asks.waiters {
            if waiter.batch.is_none_or(|batch| touched.contains(&batch)) {
                waiter.dirty = true;
                if !waiter.looking {
                    woken.push(*client);
                }
            }
        }
        for client in woken {
            self.look_soon(now, client, effects);
        }
    }

    pub(super) fn on_wait_over(&mut self, client: Client, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get_mut(&client) else {
            return;
        };
        waiter.over = !Mutant::ForgetReply.is_on();
        if waiter.looking {
            return;
        }
        match &waiter.rows {
            None => self.answer_wait(client, effects),
            Some(rows) => {
                let next = finish_cursor_json(rows.after);
                self.end_wait(client);
                effects.reply(client, Reply::Records { records: Vec::new(), next, done: false });
            }
        }
    }

    fn answer_wait(&mut self, client: Client, effects: &mut Effects) {
        let Some(waiter) = self.asks.waiters.get(&client) else {
            return;
        };
        let done = waiter.is_done();
        let counts = self.waiter_counts(waiter);
        self.end_wait(client);
        if Mutant::ReplyTwice.is_on() {
            effects.reply(client, Reply::Wait(WaitReply { done, counts }));
        }
        effects.reply(client, Reply::Wait(WaitReply { done, counts }));
    }

    /// A waiter's counts, with the running jobs told apart as far as the selection can be judged here.
    fn waiter_counts(&self, waiter: &Waiter) -> CountsJson {
        let mut counts = waiter.counts.unwrap_or_default();
        let is_meant = |id: JobId, batch: BatchId| {
            waiter.batch == Some(batch)
                || waiter.select.words.iter().any(|word| match word {
                    Word::All => true,
                    Word::Ids(first, last) => (*first..=*last).contains(&id),
                    Word::Batch(meant) => *meant == batch,
                    Word::Named(_) | Word::Last => false,
                })
        };
        let running = self.running_in(is_meant).min(counts[State::Queued]);
        counts[State::Queued] -= running;
        counts[State::Running] += running;
        counts.into()
    }

    fn end_wait(&mut self, client: Client) {
        self.asks.waiters.remove(&client);
        self.timers.clear(Timer::Wait(client));
        self.timers.clear(Timer::Look(client));
    }

    /// Has those who wait look once more if something has changed since they looked.
    pub(super) fn tell_last_news(&mut self, now: Now, effects: &mut Effects) {
        let behind: Vec<Client> = self
            .asks
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.dirty && !waiter.looking)
            .map(|(client, _)| *client)
            .collect();
        for client in behind {
            self.look(now, client, effects);
        }
    }

    /// The daemon leaves: who waits gets what is known.
    pub(super) fn dismiss_waiters(&mut self, effects: &mut Effects) {
        let waiting: Vec<Client> = self.asks.waiters.keys().copied().collect();
        for client in waiting {
            if let Some(waiter) = self.asks.waiters.get_mut(&client) {
                waiter.looking = false;
            }
            self.on_wait_over(client, effects);
        }
    }
}

/// Whether the store counts these jobs from its counters, or from a few rows.
fn is_cheap(select: &Select) -> bool {
    let rows = select.words.iter().map(|word| match word {
        Word::Ids(first, last) => last.0.saturating_sub(first.0).saturating_add(1),
        Word::All | Word::Batch(_) | Word::Named(_) | Word::Last => 0,
    });
    rows.fold(0, u64::saturating_add) <= PAGE_ROWS_MAX as u64
}
