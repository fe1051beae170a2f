//! A story that is told to a store on a watched disk, with what the store must know after each of its steps.

use crate::disk::{Disk, Event, Fault};
use crate::make::{Subject, job, pool_name, submit};
use crate::story::{Author, POOLS};
use crate::vfs::{lock, watch};
use pushpull::model::*;
use pushpull::store::{
    Answer, Fetch, FinishCursor, MemoryStore, Query, Record, Select, SqliteStore, Store, StoreError, Word,
};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Later than every time in a story, for a clock set back shortens delays.
pub const LATE: Wall = Wall(10_000_000);
/// Pages of the log at which a checkpoint is made.
const LOG_PAGES_MAX: u64 = 40;

pub struct Tale {
    pub author: Author,
    pub disk: Arc<Mutex<Disk>>,
    /// What a store must say that was opened again after so many steps.
    pub expected: Vec<String>,
    directory: tempfile::TempDir,
    pub store: Option<SqliteStore>,
    /// Told the same.
    known: Subject,
    mirror: MemoryStore,
}

impl Tale {
    /// Begins one with a new store.
    pub fn begin(seed: u64, is_deaf: bool) -> Tale {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = watch(directory.path());
        lock(&disk).is_deaf = is_deaf;
        let (known, mirror) = (Subject::memory(), MemoryStore::new());
        let author = Author::new(seed);
        let mut tale = Tale { author, disk, expected: Vec::new(), directory, store: None, known, mirror };
        tale.expect();
        tale.open().expect("a new store");
        tale
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("jobs.db")
    }

    /// Opens the store, again if need be.
    pub fn open(&mut self) -> Result<(), StoreError> {
        self.store = None;
        let mut store = SqliteStore::open(&self.path(), LATE)?;
        store.bound_log(LOG_PAGES_MAX * 16_384);
        let found = store.recover()?;
        self.known.store.recover()?;
        self.mirror.recover()?;
        self.author.recovered(&found);
        self.store = Some(store);
        Ok(())
    }

    /// Something happens.
    pub fn step(&mut self) {
        self.author.now += self.author.dice.roll(40);
        match self.author.dice.roll(20) {
            0 => self.open().expect("opened again"),
            1..=2 => self.store().idle(),
            3..=5 => self.fetch(),
            6 => {
                let group = self.large();
                self.told(&group).expect("written");
            }
            _ => {
                let group = self.group();
                self.told(&group).expect("written");
            }
        }
    }

    pub fn group(&mut self) -> Vec<Arc<Record>> {
        self.author.group(&mut self.known).into_iter().map(Arc::new).collect()
    }

    /// Tells a group; if it was taken, it must be there from now on.
    pub fn told(&mut self, group: &[Arc<Record>]) -> Result<(), StoreError> {
        let applied = self.store().apply(group)?;
        assert_eq!(self.known.store.apply(group).expect("memory"), applied);
        self.mirror.apply(group).expect("memory");
        self.expect();
        let done = self.expected.len() - 1;
        lock(&self.disk).events.push(Event::Told(done));
        Ok(())
    }

    pub fn store(&mut self) -> &mut SqliteStore {
        self.store.as_mut().expect("it is open")
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        lock(&self.disk).fault = fault;
    }

    /// What the store says when it is opened again.
    pub fn found(&mut self) -> String {
        self.store = None;
        look(&self.path()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Several pages at once, and rows that take more than one.
    fn large(&mut self) -> Vec<Arc<Record>> {
        let (batch, first) = (self.author.next_batch, self.author.next_job);
        let many = 1 + self.author.dice.roll(60);
        self.author.next_batch += 1;
        self.author.next_job += many;
        let bytes = usize::try_from(self.author.dice.roll(20_000)).expect("small");
        let work = || Work::Data(format!("\"{}\"", "x".repeat(bytes / 10)).into());
        let mut jobs: Vec<Job> =
            (0..many).map(|at| Job { index: at, work: work(), ..job(first + at, batch) }).collect();
        jobs[0].work = Work::Data(format!("\"{}\"", "y".repeat(bytes * 3)).into());
        vec![Arc::new(submit(batch, jobs))]
    }

    fn fetch(&mut self) {
        for pool in POOLS {
            let fetch = Fetch { pool: pool_name(pool), jobs_max: 5, bytes_max: usize::MAX };
            let fetched = self.known.store.fetch(&fetch).expect("memory");
            self.author.held.extend(fetched.jobs.into_iter().map(|(job, _)| job));
        }
    }

    fn expect(&mut self) {
        let mut opened_again = self.mirror.clone();
        let found = opened_again.recover().expect("memory");
        let said = format!("{found:?}\n{}", describe(&mut opened_again).expect("memory"));
        self.expected.push(said);
    }
}

/// Opens the store at this path, and checks all that can be checked of it alone.
///
/// # Errors
/// What is wrong with it.
pub fn look(path: &Path) -> Result<String, String> {
    let mut store = SqliteStore::open(path, LATE).map_err(|error| format!("not opened: {error}"))?;
    let found = store.recover().map_err(|error| format!("not recovered: {error}"))?;
    let said = describe(&mut store).map_err(|error| format!("not read: {error}"))?;
    drop(store);
    let db = rusqlite::Connection::open(path).map_err(|error| error.to_string())?;
    let verdict: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|error| format!("integrity: {error}"))?;
    if verdict != "ok" {
        return Err(format!("integrity: {verdict}"));
    }
    Ok(format!("{found:?}\n{said}"))
}

/// Everything that a store says.
fn describe(store: &mut dyn Store) -> Result<String, StoreError> {
    let mut text = String::new();
    let mut say = |what: &dyn std::fmt::Debug| writeln!(text, "{what:?}").expect("text grows");
    let all = Select { words: vec![Word::All], ..Select::default() };
    say(&store.query(&Query::Counts(all.clone()))?);
    say(&store.query(&Query::Audit)?);
    say(&store.query(&Query::Recent(20))?);
    say(&store.query(&Query::Batches { after: BatchId(0), limit: 1_000 })?);
    let mut after = JobId(0);
    loop {
        let query = Query::Jobs { select: all.clone(), after, limit: 1_000, results: true };
        let Answer::Jobs { rows, next, end } = store.query(&query)? else { panic!("not jobs") };
        for row in rows {
            say(&store.query(&Query::Job(row.job.id))?);
        }
        after = next;
        if end {
            break;
        }
    }
    let mut after = FinishCursor::default();
    loop {
        let query = Query::Finished { select: all.clone(), after, limit: 1_000 };
        let Answer::Finished { rows, next, end } = store.query(&query)? else { panic!("not ends") };
        for row in &rows {
            say(&row.job.id);
        }
        after = next;
        if end {
            break;
        }
    }
    for pool in POOLS {
        let fetch = Fetch { pool: pool_name(pool), jobs_max: 7, bytes_max: usize::MAX };
        loop {
            let fetched = store.fetch(&fetch)?;
            for job in &fetched.jobs {
                say(job);
            }
            if fetched.end {
                break;
            }
        }
    }
    Ok(text)
}

/// How often the stories are to be multiplied.
pub fn cases() -> u64 {
    std::env::var("PUSHPULL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1)
}
