//! What clients ask.

use super::happening::Happening;
use super::{MS, World};
use crate::oracles::Asked;
use pushpull::engine::{Client, Event};
use pushpull::model::{BatchId, JobId, PoolName, Select, State, Word};
use pushpull::wire::request::{ListCursor, Request, Submission, Verb};
use std::time::Duration;

/// A request of somebody who submits nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    Act(Verb),
    /// Everything is cancelled, and retried soon after.
    CancelAll,
    /// What was cancelled last is retried: perhaps a worker is still at it, or its last answer is on its way.
    RetryLast,
    /// Pause, or resume.
    Pause(bool),
    Drain,
    EndDrain,
    /// A complete submit once more, word by word.
    Repeat(usize),
    /// Something else under the key of a complete submit.
    Conflict(usize),
    Status,
    Audit,
    Wait,
    Show,
    List,
    Browse,
    /// Somebody reads all results, a page at a time.
    Follow,
}

impl World {
    /// Somebody asks; exactly one reply is due. Nobody hears when no daemon runs.
    pub(super) fn request(&mut self, asked: Asked, request: Request) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        self.next_client += 1;
        let client = Client(self.next_client);
        self.trace.push(format!("{} {client:?} {request:?}", self.now));
        let (oracles, mut seen) = self.watch();
        oracles.on_request(client, asked, &request, &mut seen);
        self.step(Event::Request { client, request })
    }

    /// A client says what it has not heard an answer to, again and again.
    pub(super) fn send_submit(&mut self, number: usize, turn: u64) -> Result<(), String> {
        let is_known = self.oracles.submits.is_acknowledged(number) || self.submits[number].turn != turn;
        if is_known
            || self.quiet
            || self.submits[number].vanishes.is_some_and(|chunk| self.submits[number].at >= chunk)
        {
            return Ok(());
        }
        if self.submits[number].said.is_empty() {
            let known = self.oracles.submits.known();
            self.submits[number].settle(&self.plans, &known);
        }
        let patience = self.dice.between(50, 400) * MS;
        self.submits[number].turn += 1;
        self.later(patience, Happening::ClientSends(number, turn + 1));
        let said = self.submits[number].request();
        self.request(Asked::Submit(number), Request::Submit(Box::new(said)))
    }

    pub(super) fn ask(&mut self, asking: Asking) -> Result<(), String> {
        match asking {
            Asking::Act(verb) => {
                let select = self.draw_select(verb);
                if verb == Verb::Cancel && self.dice.hits(60) {
                    self.last_cancel.clone_from(&select.words);
                    let soon = self.dice.between(1, 150) * MS;
                    self.later(soon, Happening::Ask(Asking::RetryLast));
                }
                self.act(verb, select)
            }
            Asking::CancelAll => {
                self.last_cancel = all().words;
                let soon = self.dice.between(1, 60) * MS;
                self.later(soon, Happening::Ask(Asking::RetryLast));
                self.act(Verb::Cancel, all())
            }
            Asking::RetryLast => {
                let words = self.last_cancel.clone();
                self.act(Verb::Retry, Select { words, ..Select::default() })
            }
            Asking::Pause(paused) => {
                let names: Vec<PoolName> = self.config.pools.iter().map(|pool| pool.name.clone()).collect();
                let pool = self.dice.hits(70).then(|| self.dice.pick(&names));
                self.request(Asked::Pause { pool: pool.clone(), paused }, Request::Pause { pool, paused })
            }
            Asking::Drain => self.request(Asked::Drain, Request::Drain),
            Asking::EndDrain if self.oracles.pauses.draining => self.resume_all(),
            Asking::EndDrain => Ok(()),
            Asking::Repeat(number) => self.repeat(number),
            Asking::Conflict(number) => self.conflict(number),
            Asking::Status => self.request(Asked::Status, Request::Status),
            Asking::Audit => self.request(Asked::Audit, Request::Audit),
            Asking::Wait => {
                let timeout = Duration::from_millis(self.dice.between(0, 2_000));
                let from = self.dice.between(1, 100);
                let ids = (JobId(from), JobId(from + self.dice.between(0, 10)));
                let select = Select { words: vec![Word::Ids(ids.0, ids.1)], ..Select::default() };
                self.request(Asked::Wait(select.clone()), Request::Wait { select, timeout })
            }
            Asking::Show => {
                let id = JobId(self.dice.between(1, 150));
                self.request(Asked::Show, Request::ShowJob(id))
            }
            Asking::List => {
                let select = self.dice.hits(50).then(all);
                let list = Request::List { select, after: ListCursor::default(), limit: 1_000 };
                self.request(Asked::Show, list)
            }
            Asking::Browse => match self.dice.between(0, 3) {
                0 => self.request(Asked::Browse, Request::Ping),
                1 => self.request(Asked::Browse, Request::Workers),
                2 => self.request(Asked::Browse, Request::ShowBatch(Word::Last)),
                _ => self.request(Asked::Browse, Request::Batches { after: BatchId(0), limit: 1_000 }),
            },
            Asking::Follow => self.follow(),
        }
    }

    fn act(&mut self, verb: Verb, select: Select) -> Result<(), String> {
        let (_, mut seen) = self.watch();
        let asked = Asked::act(verb, &select, &mut seen);
        self.request(asked, Request::Act { verb, select, reason: None })
    }

    pub(super) fn resume_all(&mut self) -> Result<(), String> {
        let asked = Asked::Pause { pool: None, paused: false };
        self.request(asked, Request::Pause { pool: None, paused: false })
    }

    fn draw_select(&mut self, verb: Verb) -> Select {
        let states = match verb {
            Verb::Cancel => State::ALL.into_iter().filter(|state| !state.is_finished()).collect(),
            Verb::Retry => vec![State::Failed, State::Cancelled],
            Verb::Remove => vec![State::Succeeded, State::Failed, State::Cancelled],
        };
        let states = if self.dice.hits(25) { vec![self.dice.pick(&states)] } else { Vec::new() };
        let from = self.dice.between(1, 120);
        let words = match self.dice.between(1, 10) {
            1 => vec![Word::All],
            2 | 3 => vec![Word::Batch(BatchId(self.dice.between(1, 5)))],
            4 => vec![Word::Ids(JobId(from), JobId(from))],
            _ => vec![Word::Ids(JobId(from), JobId(from + self.dice.between(1, 12)))],
        };
        Select { words, states, pools: Vec::new() }
    }

    /// A complete submit once more: its last chunk if that is enough, else from the first.
    fn repeat(&mut self, number: usize) -> Result<(), String> {
        let submit = &self.submits[number];
        if !self.oracles.submits.is_acknowledged(number) || submit.said.len() != 1 {
            return Ok(());
        }
        let said = Submission { chunk: 0, last: true, ..submit.request() };
        self.request(Asked::Repeat(number), Request::Submit(Box::new(said)))
    }

    fn conflict(&mut self, number: usize) -> Result<(), String> {
        if !self.oracles.submits.is_acknowledged(number) {
            return Ok(());
        }
        let pools = &self.whole.pools[..1];
        let tag = self.plans.draw(&mut self.dice, pools);
        let plan = self.plans.0.get_mut(&tag).expect("it was just drawn");
        (plan.key, plan.after) = (None, Vec::new());
        let jobs = vec![plan.json(tag, &[]).into()];
        let said = Submission {
            key: Some(self.submits[number].key.as_str().into()),
            last: true,
            jobs,
            ..Submission::default()
        };
        self.request(Asked::Conflict(number), Request::Submit(Box::new(said)))
    }

    /// Reads on where the last page ended.
    fn follow(&mut self) -> Result<(), String> {
        let timeout = Duration::from_millis(self.dice.between(0, 300));
        let pause = self.dice.between(1, 200) * MS;
        self.later(pause, Happening::Ask(Asking::Follow));
        if self.oracles.desk.is_following() || self.followed {
            return Ok(());
        }
        let limit = self.dice.between(1, 100) as usize;
        let request = Request::Results { select: all(), after: self.follower, limit, timeout };
        self.request(Asked::Follow, request)
    }
}

pub fn all() -> Select {
    Select { words: vec![Word::All], ..Select::default() }
}
