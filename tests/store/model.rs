//! Two stores are told the same random story, and everything that they say is compared.
//!
//! A step is a group of random records, a fetch, a rewind, a round of questions, or a crash of the daemon. Where
//! the trait leaves a store its freedom (where a page ends, whether a fetch knows that it was the last) only what
//! it promises is compared. A failing seed is printed; `check(seed, steps)` plays it again.

use crate::make::*;
use crate::story::{Author, POOLS};
use pushpull::model::*;
use pushpull::store::{Answer, Fetch, FinishCursor, Query, Select, Word};
use std::collections::BTreeMap;

struct Story {
    author: Author,
    memory: Subject,
    sqlite: Subject,
}

impl Story {
    fn new(seed: u64) -> Story {
        let author = Author::new(seed);
        let mut story = Story { author, memory: Subject::memory(), sqlite: Subject::sqlite() };
        story.recover(false);
        story
    }

    fn step(&mut self) {
        self.author.now += self.author.dice.roll(40);
        match self.author.dice.roll(20) {
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
        self.author.now += 2;
        let now = Wall(self.author.now);
        let left = if crash { self.memory.crash(now) } else { self.memory.store.recover().expect("memory") };
        let right = if crash { self.sqlite.crash(now) } else { self.sqlite.store.recover().expect("a file") };
        assert_eq!(left, right, "recovered");
        self.author.recovered(&left);
    }

    fn group(&mut self) {
        let records = self.author.group(&mut self.memory);
        let left = self.memory.apply(records.clone());
        let right = self.sqlite.apply(records.clone());
        assert_eq!(left, right, "after {records:#?}");
    }

    fn fetch(&mut self) {
        let fetch = Fetch {
            pool: self.author.pool(),
            jobs_max: self.author.dice.pick(&[0, 1, 2, 5, 1_000]).expect("there are limits"),
            bytes_max: self.author.dice.pick(&[0, 1_000, usize::MAX]).expect("there are limits"),
        };
        let left = self.memory.store.fetch(&fetch).expect("memory");
        let right = self.sqlite.store.fetch(&fetch).expect("a file");
        assert_eq!(left.jobs, right.jobs, "{fetch:?}");
        assert!(!right.end || left.end, "it ended too early");
        if left.end && !right.end && fetch.jobs_max > 0 {
            let again = self.sqlite.store.fetch(&fetch).expect("a file");
            assert!(again.jobs.is_empty() && again.end, "there is no end: {again:?}");
        }
        self.author.held.extend(left.jobs.into_iter().map(|(job, _)| job));
    }

    fn rewind(&mut self) {
        let keep = self.author.dice.roll(3);
        let mut back = Vec::new();
        let held = std::mem::take(&mut self.author.held);
        for job in held {
            if self.author.dice.roll(3) < keep {
                self.author.held.push(job);
            } else {
                back.push(job);
            }
        }
        self.memory.store.rewind(&back);
        self.sqlite.store.rewind(&back);
    }

    fn ask(&mut self) {
        for id in self.author.ids() {
            let query = Query::Job(id);
            assert_eq!(self.memory.query(&query), self.sqlite.query(&query));
        }
        let select = self.author.select();
        let query = Query::Counts(select.clone());
        assert_eq!(self.memory.query(&query), self.sqlite.query(&query), "{query:?}");
        let recent = Query::Recent(3);
        assert_eq!(self.memory.query(&recent), self.sqlite.query(&recent));
        let audit = self.sqlite.query(&Query::Audit);
        assert_eq!(self.memory.query(&Query::Audit), audit);
        assert!(matches!(&audit, Answer::Audit { differences, .. } if differences.is_empty()), "{audit:?}");
        let limit = self.author.dice.pick(&[1, 3, 1_000]).expect("there are limits");
        let results = self.author.dice.is(2);
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
