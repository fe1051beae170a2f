//! A random story for stores: what could be told to one, record by record.
//!
//! The author knows what was submitted and what is held, so that most records make sense, and some do not. Which
//! round a job is in is looked up in a store that was told everything so far.

use crate::make::*;
use pushpull::model::*;
use pushpull::store::{Answer, Query, Record, Recovered, Select, Word};
use std::sync::Arc;

pub const POOLS: [&str; 3] = ["default", "gpu", "io-2"];

/// Xorshift.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub fn is(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            None
        } else {
            Some(from[usize::try_from(self.roll(from.len() as u64)).ok()?].clone())
        }
    }
}

/// Who makes up the records.
pub struct Author {
    pub dice: Dice,
    pub now: u64,
    pub next_job: u64,
    pub next_batch: u64,
    /// Jobs that were ever submitted, as they were given.
    jobs: Vec<Job>,
    /// Open submits: key, ticket, elements so far.
    open: Vec<(String, u64, u64)>,
    pub held: Vec<Arc<Job>>,
}

impl Author {
    pub fn new(seed: u64) -> Author {
        let dice = Dice::new(seed);
        let (jobs, open, held) = (Vec::new(), Vec::new(), Vec::new());
        Author { dice, now: 1_000, next_job: 1, next_batch: 1, jobs, open, held }
    }

    /// The stores were opened again, and this is what they found.
    pub fn recovered(&mut self, found: &Recovered) {
        self.open.clear();
        self.held.clear();
        self.next_job = self.next_job.max(found.next_job.0);
    }

    /// A few records that are written together.
    pub fn group(&mut self, told: &mut Subject) -> Vec<Record> {
        (0..=self.dice.roll(5)).map(|_| self.record(told)).collect()
    }

    pub fn record(&mut self, told: &mut Subject) -> Record {
        let now = Wall(self.now);
        match self.dice.roll(24) {
            0..=6 => self.chunk(),
            7 => {
                let ticket = self.dice.pick(&self.open).map_or(99, |open| open.1);
                self.open.retain(|open| open.1 != ticket);
                Record::Discard(BatchId(ticket))
            }
            8..=13 => self.finish(told),
            14..=15 => self.charge(told),
            16 => Record::Promote { pool: self.pool(), now, limit: self.limit() },
            17 => Record::Retry { ids: self.ids() },
            18 => Record::Remove { ids: self.ids() },
            19 => Record::Expire {
                before: Wall(self.now.saturating_sub(self.dice.roll(400))),
                bytes_max: u64::MAX,
                limit: self.limit(),
            },
            20..=21 => Record::Release { now, limit: self.limit() },
            22 => Record::Pause { pool: self.pool(), paused: self.dice.is(2) },
            _ => Record::Generations(Generation(self.dice.roll(100))),
        }
    }

    pub fn pool(&mut self) -> PoolName {
        pool_name(self.dice.pick(&POOLS).expect("there are pools"))
    }

    fn limit(&mut self) -> usize {
        self.dice.pick(&[0, 1, 2, 3, 100]).expect("there are limits")
    }

    pub fn ids(&mut self) -> Vec<JobId> {
        (0..self.dice.roll(6)).map(|_| JobId(1 + self.dice.roll(self.next_job))).collect()
    }

    fn chunk(&mut self) -> Record {
        let goes_on = !self.open.is_empty() && self.dice.is(2);
        let (key, ticket, done, head) = if goes_on {
            let (key, ticket, done) = self.dice.pick(&self.open).expect("not empty");
            (key, ticket, done, None)
        } else {
            let ticket = self.next_batch;
            self.next_batch += 1;
            let repeats = self.dice.is(6);
            let key = format!("submit-{}", if repeats { 1 + self.dice.roll(ticket) } else { ticket });
            let name = self.dice.pick(&[None, Some("one"), Some("two")]).expect("there are names");
            let submitted = Wall(self.now);
            let join = self.dice.is(2);
            (key, ticket, 0, Some(BatchHead { submitted, context: self.context(), ..head(name, join) }))
        };
        let jobs: Vec<Job> = (0..self.dice.roll(7)).map(|place| self.job(ticket, done + place)).collect();
        let last = self.dice.is(2);
        self.open.retain(|open| open.0 != key);
        if !last {
            self.open.push((key.clone(), ticket, done + jobs.len() as u64));
        }
        self.jobs.extend(jobs.iter().cloned());
        keyed_chunk(&key, ticket, head, jobs, last)
    }

    fn context(&mut self) -> Option<Arc<Context>> {
        let directory = self.dice.pick(&[None, Some("/a"), Some("/b")]).expect("there are directories")?;
        let environment = self.dice.is(2).then(|| "{\"A\":\"1\"}".into());
        Some(Arc::new(Context { environment, directory: Some(directory.into()) }))
    }

    fn job(&mut self, ticket: u64, index: u64) -> Job {
        if self.dice.is(12) {
            self.next_job += self.dice.roll(100);
        }
        let id = self.next_job;
        self.next_job += 1;
        let word = |dice: &mut Dice, one_in| dice.is(one_in).then(|| format!("w{}", dice.roll(12)).into());
        let policy = Policy {
            delay: self.dice.is(4).then(|| std::time::Duration::from_millis(self.dice.roll(120))),
            retries: self.dice.is(2).then_some(2),
            cwd: self.dice.is(2).then(|| "/tmp".into()),
            ..Policy::default()
        };
        let mut after = Vec::new();
        while self.dice.is(4) {
            after.push(if self.dice.is(4) {
                After::Label(format!("w{}", self.dice.roll(12)).into())
            } else {
                After::Id(JobId(id.saturating_sub(self.dice.roll(12))))
            });
        }
        Job {
            index,
            pool: self.pool(),
            priority: self.dice.pick(&[0, 0, 0, -1000, 5]).expect("there are priorities"),
            name: word(&mut self.dice, 4),
            key: word(&mut self.dice, 5),
            policy: (!policy.is_default()).then(|| Box::new(policy)),
            context: self.context(),
            after,
            submitted: Wall(self.now),
            ..job(id, ticket)
        }
    }

    /// A job that is held, as a rule, and its round, mostly the right one.
    fn victim(&mut self, told: &mut Subject) -> (Job, u32) {
        let held = self.dice.pick(&self.held).map(|job| Job::clone(&job));
        let any = self.dice.pick(&self.jobs);
        let victim = if self.dice.is(3) { any.or(held) } else { held.or(any) };
        let victim = victim.unwrap_or_else(|| job(7, 7));
        let round = match told.query(&Query::Job(victim.id)) {
            Answer::Job { row, .. } => row.standing.round,
            _ => 0,
        };
        (victim, if self.dice.is(8) { round ^ 1 } else { round })
    }

    fn finish(&mut self, told: &mut Subject) -> Record {
        let (victim, round) = self.victim(told);
        let state = [State::Succeeded, State::Succeeded, State::Failed, State::Cancelled];
        let state = self.dice.pick(&state).expect("there are states");
        if !self.dice.is(10) {
            self.held.retain(|job| job.id != victim.id);
        }
        Record::Finish(outcome(&victim, state, round, self.now))
    }

    fn charge(&mut self, told: &mut Subject) -> Record {
        let (victim, round) = self.victim(told);
        let attempts = 1 + u32::try_from(self.dice.roll(3)).expect("small");
        let standing = Standing { round, attempts, crashes: attempts - 1, alone: self.dice.is(2) };
        let due = self.dice.is(2).then(|| self.now + self.dice.roll(200));
        self.held.retain(|job| job.id != victim.id);
        charge(&victim, standing, self.now, due)
    }

    pub fn select(&mut self) -> Select {
        let mut words = Vec::new();
        for _ in 0..=self.dice.roll(2) {
            let id = 1 + self.dice.roll(self.next_job);
            words.push(match self.dice.roll(8) {
                0 => Word::All,
                1 => Word::Ids(JobId(id), JobId(id)),
                2 => Word::Ids(JobId(id), JobId(id + self.dice.roll(30))),
                3 => Word::Ids(JobId(id), JobId(u64::MAX)),
                4 | 5 => Word::Batch(BatchId(1 + self.dice.roll(self.next_batch))),
                6 => Word::Named("one".into()),
                _ => Word::Last,
            });
        }
        let states = State::ALL.into_iter().filter(|_| self.dice.is(5)).collect();
        let pools = POOLS.into_iter().filter(|_| self.dice.is(5)).map(pool_name).collect();
        Select { words, states, pools }
    }
}
