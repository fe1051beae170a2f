//! Two stores are told the same random story, and everything that they say is compared.
//!
//! A step is a group of random records, a fetch, a rewind, a round of questions, or a crash of the daemon. Where
//! the trait leaves a store its freedom (where a page ends, whether a fetch knows that it was the last) only what
//! it promises is compared. A failing seed is printed; `check(seed, steps)` plays it again.

use crate::make::*;
use pushpull::model::*;
use pushpull::store::{Answer, Fetch, FinishCursor, Query, Record, Select, Word};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Xorshift.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            None
        } else {
            Some(from[usize::try_from(self.roll(from.len() as u64)).ok()?].clone())
        }
    }
}

struct Story {
    dice: Dice,
    memory: Subject,
    sqlite: Subject,
    now: u64,
    next_job: u64,
    next_batch: u64,
    /// Jobs that were ever submitted, as they were given.
    jobs: Vec<Job>,
    /// Open submits: key, ticket, elements so far.
    open: Vec<(String, u64, u64)>,
    held: Vec<Arc<Job>>,
}

const POOLS: [&str; 3] = ["default", "gpu", "io-2"];

impl Story {
    fn new(seed: u64) -> Story {
        let mut story = Story {
            dice: Dice::new(seed),
            memory: Subject::memory(),
            sqlite: Subject::sqlite(),
            now: 1_000,
            next_job: 1,
            next_batch: 1,
            jobs: Vec::new(),
            open: Vec::new(),
            held: Vec::new(),
        };
        story.recover(false);
        story
    }

    fn step(&mut self) {
        self.now += self.dice.roll(40);
        match self.dice.roll(20) {
            0..=9 => self.group(),
            10..=13 => self.fetch(),
            14 => self.rewind(),
            15..=17 => self.ask(),
            18 => self.memory.store.idle_both(&mut self.sqlite),
            _ => self.recover(true),
        }
    }

    fn recover(&mut self, crash: bool) {
        // Later than every time so far, for a clock set back shortens delays.
        self.now += 2;
        let now = Wall(self.now);
        let left = if crash { self.memory.crash(now) } else { self.memory.store.recover().expect("memory") };
        let right = if crash { self.sqlite.crash(now) } else { self.sqlite.store.recover().expect("a file") };
        assert_eq!(left, right, "recovered");
        self.open.clear();
        self.held.clear();
        self.next_job = self.next_job.max(left.next_job.0);
    }

    fn group(&mut self) {
        let records: Vec<Record> = (0..=self.dice.roll(5)).map(|_| self.record()).collect();
        let left = self.memory.apply(records.clone());
        let right = self.sqlite.apply(records.clone());
        assert_eq!(left, right, "after {records:#?}");
    }

    fn record(&mut self) -> Record {
        let now = Wall(self.now);
        match self.dice.roll(24) {
            0..=6 => self.chunk(),
            7 => {
                let ticket = self.dice.pick(&self.open).map_or(99, |open| open.1);
                self.open.retain(|open| open.1 != ticket);
                Record::Discard(BatchId(ticket))
            }
            8..=13 => self.finish(),
            14..=15 => self.charge(),
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

    fn pool(&mut self) -> PoolName {
        pool_name(self.dice.pick(&POOLS).expect("there are pools"))
    }

    fn limit(&mut self) -> usize {
        self.dice.pick(&[0, 1, 2, 3, 100]).expect("there are limits")
    }

    fn ids(&mut self) -> Vec<JobId> {
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
    fn victim(&mut self) -> (Job, u32) {
        let held = self.dice.pick(&self.held).map(|job| Job::clone(&job));
        let any = self.dice.pick(&self.jobs);
        let victim = if self.dice.is(3) { any.or(held) } else { held.or(any) };
        let victim = victim.unwrap_or_else(|| job(7, 7));
        let round = match self.memory.query(&Query::Job(victim.id)) {
            Answer::Job { row, .. } => row.standing.round,
            _ => 0,
        };
        (victim, if self.dice.is(8) { round ^ 1 } else { round })
    }

    fn finish(&mut self) -> Record {
        let (victim, round) = self.victim();
        let state = [State::Succeeded, State::Succeeded, State::Failed, State::Cancelled];
        let state = self.dice.pick(&state).expect("there are states");
        if !self.dice.is(10) {
            self.held.retain(|job| job.id != victim.id);
        }
        Record::Finish(outcome(&victim, state, round, self.now))
    }

    fn charge(&mut self) -> Record {
        let (victim, round) = self.victim();
        let attempts = 1 + u32::try_from(self.dice.roll(3)).expect("small");
        let standing = Standing { round, attempts, crashes: attempts - 1, alone: self.dice.is(2) };
        let due = self.dice.is(2).then(|| self.now + self.dice.roll(200));
        self.held.retain(|job| job.id != victim.id);
        charge(&victim, standing, self.now, due)
    }

    fn fetch(&mut self) {
        let fetch = Fetch {
            pool: self.pool(),
            jobs_max: self.dice.pick(&[0, 1, 2, 5, 1_000]).expect("there are limits"),
            bytes_max: self.dice.pick(&[0, 1_000, usize::MAX]).expect("there are limits"),
        };
        let left = self.memory.store.fetch(&fetch).expect("memory");
        let right = self.sqlite.store.fetch(&fetch).expect("a file");
        assert_eq!(left.jobs, right.jobs, "{fetch:?}");
        assert!(!right.end || left.end, "it ended too early");
        if left.end && !right.end && fetch.jobs_max > 0 {
            let again = self.sqlite.store.fetch(&fetch).expect("a file");
            assert!(again.jobs.is_empty() && again.end, "there is no end: {again:?}");
        }
        self.held.extend(left.jobs.into_iter().map(|(job, _)| job));
    }

    fn rewind(&mut self) {
        let keep = self.dice.roll(3);
        let mut back = Vec::new();
        let held = std::mem::take(&mut self.held);
        for job in held {
            if self.dice.roll(3) < keep {
                self.held.push(job);
            } else {
                back.push(job);
            }
        }
        self.memory.store.rewind(&back);
        self.sqlite.store.rewind(&back);
    }

    fn select(&mut self) -> Select {
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

    fn ask(&mut self) {
        for id in self.ids() {
            let query = Query::Job(id);
            assert_eq!(self.memory.query(&query), self.sqlite.query(&query));
        }
        let select = self.select();
        let query = Query::Counts(select.clone());
        assert_eq!(self.memory.query(&query), self.sqlite.query(&query), "{query:?}");
        let recent = Query::Recent(3);
        assert_eq!(self.memory.query(&recent), self.sqlite.query(&recent));
        let audit = self.sqlite.query(&Query::Audit);
        assert_eq!(self.memory.query(&Query::Audit), audit);
        assert!(matches!(&audit, Answer::Audit { differences, .. } if differences.is_empty()), "{audit:?}");
        let limit = self.dice.pick(&[1, 3, 1_000]).expect("there are limits");
        let results = self.dice.is(2);
        for kind in 0..4 {
            let left = paged(&mut self.memory, kind, &select, limit, results);
            let right = paged(&mut self.sqlite, kind, &select, limit, results);
            let differs = left.iter().zip(&right).find(|(left, right)| left != right);
            assert_eq!(differs, None, "{kind}: {select:?} by {limit}");
            assert_eq!(left.len(), right.len(), "{kind}: {select:?} by {limit}");
        }
    }

    /// What must hold whatever happened: the counters agree with the rows, and what waits is fetched.
    fn settle(&mut self) {
        self.recover(true);
        for subject in [&mut self.memory, &mut self.sqlite] {
            let all = Select { words: vec![Word::All], ..Select::default() };
            let mut counts = Counts::default();
            let mut batches: BTreeMap<BatchId, Counts> = BTreeMap::new();
            let mut queued = Vec::new();
            let mut after = JobId(0);
            loop {
                let query = Query::Jobs { select: all.clone(), after, limit: 1_000, results: true };
                let Answer::Jobs { rows, next, end } = subject.query(&query) else { panic!("not jobs") };
                for row in rows {
                    counts[row.state] += 1;
                    batches.entry(row.job.batch).or_default()[row.state] += 1;
                    if row.state == State::Queued {
                        queued.push(row.job.id.0);
                    }
                }
                after = next;
                if end {
                    break;
                }
            }
            assert_eq!(subject.counts(vec![Word::All]), counts);
            for (batch, counts) in batches {
                assert_eq!(subject.counts(vec![Word::Batch(batch)]), counts, "{batch}");
            }
            let mut fetched: Vec<u64> = POOLS.iter().flat_map(|pool| subject.fetch_all(pool)).collect();
            fetched.sort_unstable();
            assert_eq!(fetched, queued, "what waits is what is fetched");
        }
    }
}

/// All pages of an answer, as text.
fn paged(subject: &mut Subject, kind: u8, select: &Select, limit: usize, results: bool) -> Vec<String> {
    let mut pages = Vec::new();
    let (mut job, mut cursor, mut batch) = (JobId(0), FinishCursor::default(), BatchId(0));
    let select = select.clone();
    for _ in 0..10_000 {
        let select = select.clone();
        let query = match kind {
            0 => Query::Jobs { select, after: job, limit, results },
            1 => Query::Ids { select, after: job, limit },
            2 => Query::Finished { select, after: cursor, limit },
            _ => Query::Batches { after: batch, limit },
        };
        let (rows, end): (Vec<String>, bool) = match subject.query(&query) {
            Answer::Jobs { rows, next, end } => {
                assert!(end || next > job, "paging goes on");
                job = next;
                (rows.iter().map(|row| format!("{row:?}")).collect(), end)
            }
            Answer::Ids { stubs, next, end } => {
                assert!(end || next > job, "paging goes on");
                job = next;
                (stubs.iter().map(|stub| format!("{stub:?}")).collect(), end)
            }
            Answer::Finished { rows, next, end } => {
                assert!(end || next > cursor, "paging goes on");
                cursor = next;
                (rows.iter().map(|row| format!("{row:?}")).collect(), end)
            }
            Answer::Batches { rows, end } => {
                batch = rows.last().map_or(batch, |row| row.batch);
                (rows.iter().map(|row| format!("{row:?}")).collect(), end)
            }
            other => (vec![format!("{other:?}")], true),
        };
        assert!(rows.len() <= limit);
        pages.extend(rows);
        if end {
            return pages;
        }
    }
    panic!("the pages have no end");
}

trait IdleBoth {
    fn idle_both(&mut self, other: &mut Subject);
}

impl IdleBoth for Box<dyn pushpull::store::Store> {
    fn idle_both(&mut self, other: &mut Subject) {
        self.idle();
        other.store.idle();
    }
}

fn check(seed: u64, steps: usize) {
    let mut story = Story::new(seed);
    for _ in 0..steps {
        story.step();
    }
    story.settle();
}

fn check_all(seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| check(seed, steps)) {
            eprintln!("seed {seed} with {steps} steps failed");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn both_stores_tell_the_same_short_stories() {
    check_all(0..120, 40);
}

#[test]
fn both_stores_tell_the_same_long_stories() {
    check_all(2_000..2_010, 400);
}
