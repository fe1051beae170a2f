//! What clients are told: each request gets exactly one reply, some at once, some when the store has answered, some
//! when what they wait for has happened.

use super::event::{Client, Effect, Effects, Ticket};
use super::mutant::Mutant;
use super::wait::{RowsWanted, Waiter};
use super::{Engine, Place};
use crate::config::RECENT_JOBS;
use crate::model::{
    Answer, BatchId, BatchRow, Counts, JobId, Now, PoolName, Query, Record, Row, Running, Select, State,
    StoreError, Word,
};
use crate::wire::control::{AuditReply, BatchJson, Code, Refusal};
use crate::wire::record::{self, Parts};
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Subject, Submission};
use crate::wire::timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// Questions to the store, and requests that wait.
#[derive(Debug, Default)]
pub(super) struct Asks {
    pub(super) pending: BTreeMap<Ticket, Asked>,
    pub(super) waiters: BTreeMap<Client, Waiter>,
    pausing: BTreeMap<Client, Pausing>,
}

/// A pause or resume whose records are on their way.
#[derive(Debug)]
struct Pausing {
    left: usize,
    /// Why one of them could not be written.
    trouble: Option<StoreError>,
}

/// What the answer to a question is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    List {
        client: Client,
        states: Vec<State>,
        recent: Recent,
    },
    /// The jobs that finished last, for a list that says nothing; the list follows.
    Recent {
        client: Client,
        after: JobId,
        limit: usize,
    },
    ShowJob(Client),
    ExplainJob(Client),
    /// Whether a submit that would be refused repeats one that is complete.
    Resubmit {
        client: Client,
        said: Box<Submission>,
        refusal: Box<Refusal>,
    },
    /// First the batch's number, then its row.
    ShowBatch(Client),
    ShowBatchRow(Client, BatchId),
    Batches(Client),
    Audit(Client),
    Act(Client),
    /// A waiting request's look: how many of its jobs stand where.
    Look(Client),
    /// The same for `results`, which then asks for the rows.
    Rows(Client),
}

/// The jobs that finished last, to be sorted into a list of unfinished ones from the job behind `after` on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recent {
    rows: Vec<Row>,
    after: JobId,
}

impl Asks {
    pub(super) fn expect(&mut self, ticket: Ticket, asked: Asked) {
        self.pending.insert(ticket, asked);
    }
}

pub(super) fn not_found(what: &str) -> Reply {
    let (noun, hint) = if what.starts_with('@') { ("batch", "batches") } else { ("job", "list all") };
    let refusal = Refusal::new(Code::NotFound, format!("there is no {noun} {what}"));
    Reply::Refused(Box::new(refusal.hint(format!("pushpullctl {hint} shows what is kept"))))
}

pub(super) fn no_pool(name: &PoolName) -> Reply {
    let refusal = Refusal::new(Code::NotFound, format!("there is no pool {name}"));
    Reply::Refused(Box::new(refusal.hint("pushpullctl status lists them")))
}

pub(super) fn no_worker(name: &str) -> Reply {
    let refusal = Refusal::new(Code::NotFound, format!("there is no worker {name}"));
    Reply::Refused(Box::new(refusal.hint("pushpullctl workers lists them, as default.0.17 or default.0")))
}

pub(super) fn store_refusal(error: &StoreError) -> Reply {
    let refusal = match error {
        StoreError::NoSpace => Refusal::new(Code::NoSpace, error.to_string())
            .hint("nothing was accepted; free some space and try again"),
        StoreError::Io(_) | StoreError::Refused(_) => {
            Refusal::new(Code::Internal, error.to_string()).hint("see the daemon's log")
        }
    };
    Reply::Refused(Box::new(refusal))
}

impl Engine {
    pub(super) fn on_request(&mut self, now: Now, client: Client, request: Request, effects: &mut Effects) {
        match request {
            Request::Ping => effects.reply(client, Reply::Ping(self.ping())),
            Request::Submit(said) => self.on_submit(now, client, &said, effects),
            Request::Status => {
                let status = self.status(now);
                effects.reply(client, Reply::Status(Box::new(status)));
            }
            Request::Metrics => {
                let text = self.metrics(now);
                effects.reply(client, Reply::Object(serde_json::json!({ "text": text }).to_string()));
            }
            Request::Audit => self.ask(Query::Audit, Asked::Audit(client), effects),
            Request::Workers => effects.reply(client, Reply::Workers(self.worker_rows(now))),
            Request::List { select: Some(select), after, limit } => {
                self.list(client, &select, after.0, limit, Recent::default(), effects);
            }
            Request::List { select: None, after, limit } => {
                let asked = Asked::Recent { client, after: after.0, limit };
                self.ask(Query::Recent(RECENT_JOBS), asked, effects);
            }
            Request::ShowJob(id) => self.ask(Query::Job(id), Asked::ShowJob(client), effects),
            Request::Explain(Subject::Job(id)) => {
                self.ask(Query::Job(id), Asked::ExplainJob(client), effects);
            }
            Request::Explain(Subject::Worker(name)) => {
                let reply = self.explain_worker(now, &name).unwrap_or_else(|| no_worker(&name));
                effects.reply(client, reply);
            }
            Request::Explain(Subject::Everything) => {
                let reply = self.explain_all(now);
                effects.reply(client, reply);
            }
            Request::Logs(ask) => {
                let known = ask.worker.as_ref().map(|word| self.find_slot(&word.to_string()).is_some());
                effects.push(Effect::Logs { client, ask, is_known: known.unwrap_or(true) });
            }
            Request::ShowBatch(word) => {
                let select = Select { words: vec![word], ..Select::default() };
                self.ask(Query::Counts(select), Asked::ShowBatch(client), effects);
            }
            Request::Batches { after, limit } => {
                self.ask(Query::Batches { after, limit }, Asked::Batches(client), effects);
            }
            Request::Wait { select, timeout } => self.on_wait(now, client, select, None, timeout, effects),
            Request::Results { select, after, limit, timeout } => {
                self.on_wait(now, client, select, Some(RowsWanted { after, limit }), timeout, effects);
            }
            Request::Act { verb, select, reason } => self.on_act(client, verb, select, reason, effects),
            Request::Pause { pool, paused } => self.on_pause(client, pool, paused, effects),
            Request::Restart { what, now: at_once } => self.on_restart(now, client, &what, at_once, effects),
            Request::Scale { pool, workers } => self.on_scale(now, client, &pool, workers, effects),
            Request::Reload => self.on_reload(Some(client), effects),
            Request::Drain => {
                self.set_draining(true);
                effects.reply(client, Reply::Done);
                self.end_drain_if_done(now, effects);
            }
            Request::Shutdown { now: at_once } => {
                effects.reply(client, Reply::Done);
                let force = if at_once { super::stop::Force::Stop } else { super::stop::Force::Drain };
                self.stop_all(now, force, effects);
            }
        }
    }

    pub(super) fn ask(&mut self, query: Query, asked: Asked, effects: &mut Effects) {
        let ticket = self.next_ticket();
        self.asks.expect(ticket, asked);
        effects.push(Effect::Query { ticket, query, ordered: false });
    }

    fn list(
        &mut self,
        client: Client,
        select: &Select,
        after: JobId,
        limit: usize,
        recent: Recent,
        effects: &mut Effects,
    ) {
        let states = select.states.clone();
        let query = Query::Jobs { select: self.stored_select(select), after, limit, results: false };
        self.ask(query, Asked::List { client, states, recent }, effects);
    }

    /// A selection as the store can answer it: there, a running job is a queued one.
    pub(super) fn stored_select(&self, select: &Select) -> Select {
        let mut stored = select.clone();
        let only_running = stored.states == [State::Running];
        if only_running && stored.words == [Word::All] {
            // The running ones are known here; nobody needs to look through all that wait.
            stored.words = self.holders().map(|(id, _)| Word::Ids(id, id)).collect();
            stored.states.clear();
            // An empty range: nothing may run, and a job that has gone meanwhile is no error.
            stored.words.push(Word::Ids(JobId(1), JobId(0)));
        } else if stored.states.contains(&State::Running) {
            stored.states.retain(|state| *state != State::Running);
            if !stored.states.contains(&State::Queued) {
                stored.states.push(State::Queued);
            }
        }
        stored
    }

    pub(super) fn on_answered(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<Answer, StoreError>,
        effects: &mut Effects,
    ) {
        let Some(asked) = self.asks.pending.remove(&ticket) else {
            return;
        };
        let client = match asked.clone() {
            Asked::Act(client) => return self.on_act_page(now, client, result, effects),
            Asked::Look(client) | Asked::Rows(client) => {
                return self.on_look(now, client, result, effects);
            }
            Asked::Recent { client, after, limit } => {
                if let Ok(Answer::Jobs { rows, .. }) = result {
                    return self.list(client, &unfinished(), after, limit, Recent { rows, after }, effects);
                }
                client
            }
            Asked::Resubmit { client, said, refusal } => {
                let known = match result {
                    Ok(Answer::Submit(known)) => known,
                    Ok(other) => unreachable!("a submit was asked for, not {other:?}"),
                    Err(_) => None,
                };
                return self.on_known_submit(now, client, &said, refusal, known, effects);
            }
            Asked::List { client, .. }
            | Asked::ShowJob(client)
            | Asked::ExplainJob(client)
            | Asked::ShowBatch(client)
            | Asked::ShowBatchRow(client, _)
            | Asked::Batches(client)
            | Asked::Audit(client) => client,
        };
        let reply = match result {
            Err(error) => store_refusal(&error),
            Ok(Answer::NotFound { what }) => not_found(&what),
            Ok(Answer::Jobs { rows, next, end }) => self.list_reply(asked, rows, next, end),
            Ok(Answer::Job { mut row, attempts }) => {
                self.overlay(&mut row);
                if asked == Asked::ExplainJob(client) {
                    effects.reply(client, self.explain_job(now, &row, &attempts));
                    return;
                }
                Reply::Object(record::render(&row, Parts::All(&attempts)))
            }
            Ok(Answer::Audit { counts, differences }) => self.audit_reply(counts, differences),
            Ok(Answer::Batches { rows, end }) => self.batches_reply(&asked, &rows, end),
            Ok(Answer::Counts { batch: Some(batch), .. }) => {
                let after = BatchId(batch.0.saturating_sub(1));
                self.ask(Query::Batches { after, limit: 1 }, Asked::ShowBatchRow(client, batch), effects);
                return;
            }
            Ok(
                other @ (Answer::Counts { .. }
                | Answer::Ids { .. }
                | Answer::Finished { .. }
                | Answer::Submit(_)),
            ) => {
                unreachable!("{asked:?} does not ask for {other:?}")
            }
        };
        effects.reply(client, reply);
    }

    /// Adds to the store's audit what only this engine can see: that every running job is held by a living worker.
    fn audit_reply(&self, mut counts: Counts, mut differences: Vec<String>) -> Reply {
        let mut running = 0;
        for (id, worker) in self.holders() {
            running += 1;
            let is_held = self
                .process(worker)
                .is_some_and(|process| process.held.iter().any(|held| held.job.id == id && !held.void));
            if !is_held {
                differences.push(format!("job {id} is running, and no living worker holds it"));
            }
        }
        let running = running.min(counts[State::Queued]);
        counts[State::Queued] -= running;
        counts[State::Running] = running;
        Reply::Audit(AuditReply { done: true, jobs: counts.total(), counts: counts.into(), differences })
    }

    fn list_reply(&self, asked: Asked, mut rows: Vec<Row>, next: JobId, end: bool) -> Reply {
        let Asked::List { states, recent, .. } = asked else {
            unreachable!("{asked:?} does not ask for jobs");
        };
        for row in &mut rows {
            self.overlay(row);
        }
        rows.retain(|row| states.is_empty() || states.contains(&row.state));
        let in_page = |row: &Row| row.job.id > recent.after && (end || row.job.id <= next);
        rows.extend(recent.rows.into_iter().filter(in_page));
        rows.sort_by_key(|row| row.job.id);
        // A job may have finished between the two looks.
        rows.dedup_by_key(|row| row.job.id);
        let records = rows.iter().map(|row| record::render(row, Parts::Brief)).collect();
        Reply::Records { records, next: Value::from(next.0), done: end }
    }

    fn batches_reply(&self, asked: &Asked, rows: &[BatchRow], end: bool) -> Reply {
        let next = rows.last().map_or(Value::Null, |row| Value::from(row.batch.0));
        let rows: Vec<BatchJson> = rows.iter().map(|row| self.batch_json(row)).collect();
        let Asked::ShowBatchRow(_, batch) = asked else {
            return Reply::Batches { rows, next, done: end };
        };
        // It may have been forgotten since its number was looked up; then the next one stands here.
        match rows.first().filter(|row| row.batch == batch.0) {
            Some(row) => Reply::Object(serde_json::to_string(row).expect("a batch is plain JSON")),
            None => not_found(&format!("@{}", batch.0)),
        }
    }

    fn batch_json(&self, row: &BatchRow) -> BatchJson {
        let mut counts = row.counts;
        let running = self.running_in(|_, batch| batch == row.batch).min(counts[State::Queued]);
        counts[State::Queued] -= running;
        counts[State::Running] += running;
        BatchJson {
            batch: row.batch.0,
            name: row.name.as_deref().map(str::to_owned),
            // A key that begins with a control character was made by the daemon for a submit without one.
            key: Some(row.key.to_string()).filter(|key| !key.starts_with('\u{1}')),
            submitted: timestamp::render(row.submitted),
            counts: counts.into(),
        }
    }

    /// Jobs that workers hold and that `is_meant`.
    pub(super) fn running_in(&self, is_meant: impl Fn(JobId, BatchId) -> bool) -> u64 {
        let held = self.jobs.values().filter(|live| matches!(live.place, Place::Held(_)));
        held.filter(|live| is_meant(live.job.id, live.job.batch)).count() as u64
    }

    /// Adds to a stored job what only this engine knows: that it runs, and where.
    fn overlay(&self, row: &mut Row) {
        let Some(live) = self.jobs.get(&row.job.id) else {
            return;
        };
        if live.place == Place::Ending && Mutant::TellEarly.is_on() {
            row.state = State::Succeeded;
        }
        let Place::Held(worker) = live.place else {
            return;
        };
        let Some(process) = self.process(worker).filter(|_| row.state == State::Queued) else {
            return;
        };
        row.state = State::Running;
        let is_oldest = process.held.front().is_some_and(|held| held.job.id == row.job.id);
        let started = is_oldest.then_some(process.oldest_since.wall);
        row.running = Some(Running { worker: process.name.clone(), started });
    }

    fn on_pause(&mut self, client: Client, pool: Option<PoolName>, paused: bool, effects: &mut Effects) {
        if let Some(name) = &pool {
            if self.live_pool(name).is_none() {
                effects.reply(client, no_pool(name));
                return;
            }
        } else if !paused && self.is_draining() {
            self.set_draining(false);
            effects.reply(client, Reply::Done);
            return;
        }
        let names: Vec<PoolName> = match pool {
            Some(name) => vec![name],
            None => self.live_pools().map(|pool| pool.settings.name.clone()).collect(),
        };
        self.asks.pausing.insert(client, Pausing { left: names.len(), trouble: None });
        // All at once, so that no other pause or resume comes in between.
        for pool in names {
            let record = Record::Pause { pool: pool.clone(), paused };
            self.write(record, super::write::Then::Paused { client, pool, paused }, effects);
        }
    }

    /// One of a request's pools is paused or resumed, or could not be; the reply comes after the last.
    pub(super) fn on_pool_paused(
        &mut self,
        client: Client,
        trouble: Option<StoreError>,
        effects: &mut Effects,
    ) {
        let Some(pausing) = self.asks.pausing.get_mut(&client) else {
            return;
        };
        pausing.left -= 1;
        pausing.trouble = pausing.trouble.take().or(trouble);
        if pausing.left == 0 {
            let trouble = self.asks.pausing.remove(&client).and_then(|pausing| pausing.trouble);
            effects.reply(client, trouble.map_or(Reply::Done, |error| store_refusal(&error)));
        }
    }
}

/// What `list` shows when it is told nothing.
fn unfinished() -> Select {
    let states = State::ALL.into_iter().filter(|state| !state.is_finished()).collect();
    Select { words: vec![Word::All], states, pools: Vec::new() }
}
