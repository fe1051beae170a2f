//! Requests and replies: each request gets exactly one, and none tells what is not durable.

use super::Seen;
use super::crew::Crew;
use super::jobs::Jobs;
use super::replies::{check_act, check_refusal, check_status, check_told, check_wait};
use pushpull::engine::Client;
use pushpull::model::{Answer, JobId, Mono, Now, PoolName, Query, Select, State, Word};
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Verb};
use std::collections::BTreeMap;
use std::time::Duration;

/// A reply may come so long after its time is over: the store is asked once more.
const DISK_PATIENCE: Duration = Duration::from_secs(3);

/// What somebody waits for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A chunk of this submit.
    Submit(usize),
    /// A complete submit, again.
    Repeat(usize),
    /// Something else under the key of a complete submit.
    Conflict(usize),
    /// The next chunk of a submit whose client was silent for too long.
    Forgotten(usize),
    Act(Act),
    Pause {
        pool: Option<PoolName>,
        paused: bool,
    },
    Drain,
    Shutdown,
    Status,
    Audit,
    Wait(Select),
    Show,
    Browse,
    Follow,
}

/// A cancel, retry or remove, and the jobs that it meant when it was asked.
#[derive(Clone, Debug)]
pub struct Act {
    pub verb: Verb,
    pub select: Select,
    pub meant: Vec<(JobId, State, u32)>,
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Open {
    pub asked: Asked,
    /// The daemon was draining or stopping when it was asked.
    pub refuses: bool,
    /// The chunk of a submit.
    pub chunk: u64,
    /// Another retry was under way at the same time, or something else under the key of a submit.
    pub crossed: bool,
    /// When it must have its reply, if it said how long it waits.
    until: Option<Mono>,
    /// The newest job that was visible when it was asked.
    pub newest: JobId,
}

#[derive(Debug, Default)]
pub struct Desk {
    open: BTreeMap<Client, Open>,
    /// What the follower was told last of each job.
    followed: BTreeMap<JobId, (String, u64)>,
}

impl Asked {
    /// An act, with what it means.
    pub fn act(verb: Verb, select: &Select, seen: &mut Seen) -> Asked {
        let query = Query::Ids { select: select.clone(), after: JobId(0), limit: 1_000 };
        let meant = match seen.disk.look(&query) {
            Answer::Ids { stubs, .. } => {
                stubs.into_iter().map(|stub| (stub.id, stub.state, stub.standing.round)).collect()
            }
            _ => Vec::new(),
        };
        Asked::Act(Act { verb, select: select.clone(), meant })
    }

    fn is_retry(&self) -> bool {
        matches!(self, Asked::Act(Act { verb: Verb::Retry, .. }))
    }
}

impl Desk {
    pub fn on_request(
        &mut self,
        client: Client,
        asked: Asked,
        request: &Request,
        refuses: bool,
        newest: JobId,
        now: Now,
    ) {
        let chunk = if let Request::Submit(said) = request { said.chunk } else { 0 };
        let until = match request {
            Request::Wait { timeout, .. } | Request::Results { timeout, .. } => {
                Some(now.mono + *timeout + DISK_PATIENCE)
            }
            _ => None,
        };
        let mut crossed = false;
        if let Asked::Submit(number) | Asked::Repeat(number) = asked {
            let is_other = |open: &Open| matches!(open.asked, Asked::Conflict(other) if other == number);
            crossed = self.open.values().any(is_other);
        }
        if asked.is_retry() {
            for open in self.open.values_mut().filter(|open| open.asked.is_retry()) {
                (open.crossed, crossed) = (true, true);
            }
        }
        self.open.insert(client, Open { asked, refuses, chunk, crossed, until, newest });
    }

    /// The request that this reply answers.
    pub fn take(&mut self, client: Client, reply: &Reply) -> Result<Open, String> {
        self.open.remove(&client).ok_or_else(|| format!("{client:?} gets a second reply: {reply:?}"))
    }

    pub fn is_following(&self) -> bool {
        self.open.values().any(|open| matches!(open.asked, Asked::Follow))
    }

    /// Whether somebody has asked for this job to be cancelled and waits for the reply.
    pub fn is_cancelling(&self, id: JobId) -> bool {
        self.open.values().any(|open| match &open.asked {
            Asked::Act(Act { verb: Verb::Cancel, select, .. }) => {
                select.words.iter().any(|word| match word {
                    Word::Ids(first, last) => (*first..=*last).contains(&id),
                    Word::All | Word::Batch(_) | Word::Named(_) | Word::Last => true,
                })
            }
            _ => false,
        })
    }

    pub fn on_exit(&self) -> Result<(), String> {
        match self.open.first_key_value() {
            None => Ok(()),
            Some((client, open)) => {
                Err(format!("the daemon leaves without a reply to {client:?}: {:?}", open.asked))
            }
        }
    }

    /// After a long time nobody waits any longer.
    pub fn check_silence(&self) -> Result<(), String> {
        match self.open.first_key_value() {
            None => Ok(()),
            Some((client, open)) => Err(format!("{client:?} was never answered: {:?}", open.asked)),
        }
    }

    pub fn on_boot(&mut self) {
        self.open.clear();
    }

    /// A reply that is not about a submit.
    pub fn check_reply(
        &mut self,
        open: &Open,
        reply: &Reply,
        jobs: &Jobs,
        crew: &Crew,
        seen: &mut Seen,
    ) -> Result<(), String> {
        if open.until.is_some_and(|until| seen.now.mono > until) {
            return Err(format!("{:?} has waited for too long", open.asked));
        }
        match (&open.asked, reply) {
            (Asked::Submit(_) | Asked::Repeat(_) | Asked::Conflict(_) | Asked::Forgotten(_), _) => Ok(()),
            (_, Reply::Refused(refusal)) => check_refusal(&open.asked, refusal.code, seen),
            (Asked::Act(act), Reply::Fates(_)) => check_act(act, open.crossed, jobs, seen),
            (Asked::Status, Reply::Status(status)) => check_status(status, crew, seen),
            (Asked::Audit, Reply::Audit(audit)) if !audit.differences.is_empty() => {
                Err(format!("the audit finds {:?}", audit.differences))
            }
            (Asked::Wait(select), Reply::Wait(wait)) if wait.done => check_wait(select, open, jobs, seen),
            (Asked::Follow, Reply::Records { records, .. }) => self.follow(records, jobs),
            (Asked::Show, Reply::Records { records, .. }) => {
                records.iter().try_for_each(|record| check_told(record, jobs).map(|_| ()))
            }
            (Asked::Show, Reply::Object(record)) => check_told(record, jobs).map(|_| ()),
            (Asked::Pause { .. } | Asked::Drain | Asked::Shutdown, Reply::Done)
            | (Asked::Audit, Reply::Audit(_))
            | (Asked::Wait(_), Reply::Wait(_))
            | (
                Asked::Browse,
                Reply::Ping(_)
                | Reply::Workers(_)
                | Reply::Object(_)
                | Reply::Batches { .. }
                | Reply::Wait(_),
            ) => Ok(()),
            (asked, reply) => Err(format!("{asked:?} is answered with {reply:?}")),
        }
    }

    /// A page of results.
    fn follow(&mut self, records: &[String], jobs: &Jobs) -> Result<(), String> {
        for record in records {
            let (id, state, attempts) = check_told(record, jobs)?;
            if State::from_word(&state).is_none_or(|state| !state.is_finished()) {
                return Err(format!("results tell of job {id}, which is {state}"));
            }
            self.followed.insert(id, (state, attempts));
        }
        Ok(())
    }

    /// Whether who follows the results has been told of every outcome that is kept.
    pub fn has_followed(&self, seen: &mut Seen) -> bool {
        let states = vec![State::Succeeded, State::Failed, State::Cancelled];
        let select = Select { words: vec![Word::All], states, pools: Vec::new() };
        let query = Query::Ids { select, after: JobId(0), limit: 1_000 };
        let Answer::Ids { stubs, .. } = seen.disk.look(&query) else {
            return true;
        };
        stubs.iter().all(|stub| {
            let told = self.followed.get(&stub.id);
            told == Some(&(stub.state.as_str().to_owned(), u64::from(stub.standing.attempts)))
        })
    }
}
