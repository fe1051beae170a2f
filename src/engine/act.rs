//! Cancel, retry and remove: what is done to each job of a selection, a page at a time.

use super::ask::{Asked, not_found, store_refusal};
use super::event::{Client, Effect, Effects};
use super::mutant::Mutant;
use super::settle::End;
use super::write::Then;
use super::{Engine, Place};
use crate::config::SWEEP_JOBS_MAX;
use crate::model::{
    Answer, AttemptPlace, Cause, Generation, JobId, Now, Query, Record, Select, State, StoreError, Stub,
};
use crate::wire::reply::Reply;
use crate::wire::request::Verb;
use std::collections::BTreeMap;

/// Acts under way, by who asked.
#[derive(Debug, Default)]
pub(super) struct Acts(BTreeMap<Client, Act>);

#[derive(Debug)]
struct Act {
    verb: Verb,
    select: Select,
    reason: Option<Box<str>>,
    /// Jobs up to this one are done with.
    after: JobId,
    /// The page at hand is the last.
    last_page: bool,
    /// Records of the page at hand that are not yet durable.
    writing: u64,
    changed: u64,
    unchanged: u64,
}

impl Engine {
    pub(super) fn on_act(
        &mut self,
        client: Client,
        verb: Verb,
        select: Select,
        reason: Option<Box<str>>,
        effects: &mut Effects,
    ) {
        let act = Act {
            verb,
            select,
            reason,
            after: JobId(0),
            last_page: false,
            writing: 0,
            changed: 0,
            unchanged: 0,
        };
        self.acts.0.insert(client, act);
        self.ask_for_page(client, effects);
    }

    fn ask_for_page(&mut self, client: Client, effects: &mut Effects) {
        let Some(act) = self.acts.0.get(&client) else {
            return;
        };
        let (select, after) = (self.stored_select(&act.select), act.after);
        let ticket = self.next_ticket();
        self.asks.expect(ticket, Asked::Act(client));
        // In order with writes: what it does not know of, this engine still remembers.
        effects.push(Effect::Query {
            ticket,
            query: Query::Ids { select, after, limit: SWEEP_JOBS_MAX },
            ordered: true,
        });
    }

    pub(super) fn on_act_page(
        &mut self,
        now: Now,
        client: Client,
        result: Result<Answer, StoreError>,
        effects: &mut Effects,
    ) {
        let (stubs, next, end) = match result {
            Ok(Answer::Ids { stubs, next, end }) => (stubs, next, end),
            Ok(Answer::NotFound { what }) => {
                self.acts.0.remove(&client);
                effects.reply(client, not_found(&what));
                return;
            }
            Ok(other) => unreachable!("ids were asked for, not {other:?}"),
            Err(error) => {
                self.acts.0.remove(&client);
                effects.reply(client, store_refusal(&error));
                return;
            }
        };
        let Some(act) = self.acts.0.get_mut(&client) else {
            return;
        };
        act.after = next;
        act.last_page = end;
        let (verb, states) = (act.verb, act.select.states.clone());
        let stubs: Vec<Stub> = stubs
            .into_iter()
            .filter(|stub| states.is_empty() || states.contains(&self.state_of(stub)))
            .collect();
        match verb {
            Verb::Cancel => self.cancel_page(now, client, &stubs, effects),
            Verb::Retry => {
                let is_failed = |stub: &Stub| matches!(stub.state, State::Failed | State::Cancelled);
                self.change_page(client, &stubs, is_failed, |ids| Record::Retry { ids }, effects);
            }
            Verb::Remove => {
                let is_finished =
                    |stub: &Stub| stub.state.is_finished() && !Mutant::AcknowledgeRemove.is_on();
                self.change_page(client, &stubs, is_finished, |ids| Record::Remove { ids }, effects);
            }
        }
        self.go_on_with_act(client, effects);
    }

    /// A stored job's state with what only this engine knows.
    fn state_of(&self, stub: &Stub) -> State {
        match self.jobs.get(&stub.id).map(|live| live.place) {
            Some(Place::Held(_)) if stub.state == State::Queued => State::Running,
            Some(Place::Held(_) | Place::Waiting | Place::Charging | Place::Ending | Place::Parked)
            | None => stub.state,
        }
    }

    fn cancel_page(&mut self, now: Now, client: Client, stubs: &[Stub], effects: &mut Effects) {
        for stub in stubs {
            let is_open = !stub.state.is_finished();
            if is_open {
                self.cancel(now, client, stub, effects);
            }
            if let Some(act) = self.acts.0.get_mut(&client) {
                if is_open && !Mutant::AcknowledgeCancelEarly.is_on() {
                    act.writing += 1;
                } else {
                    act.unchanged += 1;
                }
            }
        }
    }

    /// Writes down that a job is cancelled, and keeps it from running. When its outcome is on its way already, this one
    /// will not count; it is written all the same, so that the client hears nothing before the first is durable.
    fn cancel(&mut self, now: Now, client: Client, stub: &Stub, effects: &mut Effects) {
        let reason = self.acts.0.get(&client).and_then(|act| act.reason.clone());
        let error = reason.map_or_else(|| "cancelled".into(), |reason| format!("cancelled: {reason}").into());
        let mut end = End {
            state: State::Cancelled,
            cause: Some(Cause::Cancelled),
            standing: stub.standing,
            last: None,
            error: Some(error),
            result: None,
            evidence: None,
        };
        let Some(live) = self.jobs.get(&stub.id).cloned() else {
            self.cancelling.insert(stub.id);
            self.write_cancel(now, client, stub, end, effects);
            return;
        };
        end.standing = live.standing;
        match live.place {
            Place::Ending | Place::Charging | Place::Parked => {}
            Place::Waiting => {
                if let Some(place) = self.pool_place(&live.job.pool) {
                    self.pools[place].window.remove(&live.job);
                }
            }
            Place::Held(worker) => end.last = self.take_from_worker(now, worker, stub.id, effects),
        }
        if let Some(live) = self.jobs.get_mut(&stub.id) {
            live.place = Place::Ending;
        }
        self.write_cancel(now, client, stub, end, effects);
    }

    /// A worker's job was cancelled.
    fn take_from_worker(
        &mut self,
        now: Now,
        worker: Generation,
        id: JobId,
        effects: &mut Effects,
    ) -> Option<AttemptPlace> {
        let process = self.process(worker)?;
        // One that stood behind others never ran.
        let ran = process.held.front().is_some_and(|held| held.job.id == id);
        let place = AttemptPlace { worker: process.name.clone(), started: process.oldest_since.wall };
        self.void(now, worker, id, effects);
        ran.then_some(place)
    }

    fn write_cancel(&mut self, now: Now, client: Client, stub: &Stub, end: End, effects: &mut Effects) {
        let outcome = end.outcome(now, stub.id, stub.batch, stub.pool.clone());
        self.write(Record::Finish(outcome), Then::Cancelled { act: client, id: stub.id }, effects);
    }

    fn change_page(
        &mut self,
        client: Client,
        stubs: &[Stub],
        may_change: impl Fn(&Stub) -> bool,
        record: impl Fn(Vec<JobId>) -> Record,
        effects: &mut Effects,
    ) {
        let ids: Vec<JobId> = stubs.iter().filter(|stub| may_change(stub)).map(|stub| stub.id).collect();
        if let Some(act) = self.acts.0.get_mut(&client) {
            act.unchanged += (stubs.len() - ids.len()) as u64;
            act.writing += u64::from(!ids.is_empty());
        }
        if !ids.is_empty() {
            self.write(record(ids), Then::Changed(client), effects);
        }
    }

    pub(super) fn on_cancel_written(&mut self, client: Client, was_first: bool, effects: &mut Effects) {
        if let Some(act) = self.acts.0.get_mut(&client) {
            act.writing -= 1;
            if was_first {
                act.changed += 1;
            } else {
                act.unchanged += 1;
            }
        }
        self.go_on_with_act(client, effects);
    }

    pub(super) fn on_page_written(&mut self, client: Client, changed: u64, effects: &mut Effects) {
        if let Some(act) = self.acts.0.get_mut(&client) {
            act.writing -= 1;
            act.changed += changed;
        }
        self.go_on_with_act(client, effects);
    }

    /// The daemon leaves: who cancels, retries or removes hears that it could not be written.
    pub(super) fn dismiss_acts(&mut self, effects: &mut Effects) {
        if let Some(trouble) = self.writes.trouble.clone() {
            for client in std::mem::take(&mut self.acts.0).into_keys() {
                effects.reply(client, store_refusal(&trouble));
            }
        }
    }

    /// The next page when this one is durable, the reply after the last.
    fn go_on_with_act(&mut self, client: Client, effects: &mut Effects) {
        let Some(act) = self.acts.0.get(&client) else {
            return;
        };
        if act.writing > 0 {
            return;
        }
        if !act.last_page {
            self.ask_for_page(client, effects);
            return;
        }
        let (done, left) = match act.verb {
            Verb::Cancel => ("cancelled", "already_finished"),
            Verb::Retry => ("retried", "not_failed"),
            Verb::Remove => ("removed", "not_finished"),
        };
        let fates = vec![(done, act.changed), (left, act.unchanged)];
        self.acts.0.remove(&client);
        effects.reply(client, Reply::Fates(fates));
    }
}
