//! On disk: one `SQLite` file, written by one thread.
//!
//! A group of records is one transaction ([`work`]). What is kept in memory besides are facts that save
//! look-ups ([`Facts`]), which are read again after a failed transaction, and the places up to which jobs were
//! fetched ([`lane`]), which move only after a commit. Nothing in memory is needed to start anew.

mod audit;
mod codec;
mod error;
mod fetch;
mod finish;
mod forget;
mod hidden;
mod known;
mod lane;
mod log;
mod names;
mod probe;
mod query;
mod release;
mod rows;
mod run;
mod schema;
mod submit;
mod visible;
mod work;

use super::{Answer, Applied, Fetch, Fetched, Query, Reader, Record, Recovered, Store, StoreError};
use crate::model::{BatchId, Generation, Job, JobId, PoolName, Wall};
use codec::{num, sql};
use lane::Lanes;
use log::Log;
use names::Names;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use work::{Facts, Work};

/// How long somebody else's lock on the file is waited for, as that of a person with the `sqlite3` tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of discarded submits that are deleted when nothing else waits.
const IDLE_SWEEP_ROWS: usize = 20_000;
/// Pages that may always lie free, 16 MiB of them.
const FREE_PAGES_MIN: i64 = 1_024;
/// Free pages that are given back at a time when nothing else waits, 8 MiB.
const IDLE_FREE_PAGES: i64 = 512;

/// A store in a file.
pub struct SqliteStore {
    path: PathBuf,
    db: Connection,
    /// Which files these are: `jobs.db` and its log.
    files: [Option<FileId>; 2],
    facts: Facts,
    /// A transaction has failed, and the facts could not be read again since.
    is_unsure: bool,
    lanes: Lanes,
    log: Log,
    /// Something was written since the last checkpoint in [`Store::idle`].
    is_behind: bool,
}

impl SqliteStore {
    /// Opens the file, or makes it. `now` is for delays: if the wall clock was set back, none lasts longer than
    /// it was asked to.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is damaged, another program's or a newer version's; it is not touched.
    pub fn open(path: &Path, now: Wall) -> Result<SqliteStore, StoreError> {
        probe::probe(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        // A start that fails is to leave the log where it is.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        prepare(&db)?;
        let application = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        probe::check_identity(application, version)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        if version == 0 {
            create(&mut db)?;
        }
        let mut facts = start(&mut db, now)?;
        let lanes = Lanes::load(&db, &mut facts.names)?;
        let mut log = Log::new(path);
        log.adjust(&db)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let (path, files) = (path.to_owned(), files(path));
        Ok(SqliteStore { path, db, files, facts, is_unsure: false, lanes, log, is_behind: true })
    }

    /// What is written to a file without a name is gone with this process.
    fn check_files(&self) -> Result<(), StoreError> {
        if files(&self.path) == self.files {
            return Ok(());
        }
        let path = self.path.display();
        Err(StoreError::Io(format!("{path} or its -wal file was moved or removed; put it back")))
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is damaged.
    pub fn check(&self) -> Result<(), StoreError> {
        let checked = probe::check_pages(&self.db);
        if checked.is_err() {
            // Nothing more is to be written into it.
            self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        checked
    }

    /// Writes back the log at this many bytes, whatever space there is.
    pub fn bound_log(&mut self, bytes: u64) {
        self.log.fix(bytes);
    }

    /// Gives the file system some of the pages back that are free, if they are a large part of the file. A smaller
    /// part will be used again.
    fn give_back(&self) -> rusqlite::Result<()> {
        let count = |name: &str| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let free = count("freelist_count")?;
        if free > FREE_PAGES_MIN && free > count("page_count")? / 4 {
            // Each page is a step of its own.
            let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({IDLE_FREE_PAGES})"))?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        Ok(())
    }

    /// Reads the facts again that a failed transaction has left uncertain.
    fn make_sure(&mut self) -> Result<(), StoreError> {
        if self.is_unsure {
            self.facts = Facts::load(&self.db)?;
            self.is_unsure = false;
        }
        Ok(())
    }

    /// Runs one transaction and then moves the fetches' places accordingly.
    fn transact(
        &mut self,
        act: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<()>,
    ) -> Result<Applied, StoreError> {
        self.check_files()?;
        self.make_sure()?;
        self.log.adjust(&self.db)?;
        let result: rusqlite::Result<_> = (|| {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            let mut work = Work::new(&self.db, &mut self.facts);
            act(&mut work)?;
            let done = work.finish()?;
            self.db.execute_batch("COMMIT")?;
            Ok(done)
        })();
        match result {
            Ok((applied, shifts)) => {
                self.is_behind = true;
                self.lanes.shift(shifts);
                // The records are on disk: what fails here is tried again with the next ones.
                let _ = self.log.restrain(&self.db, BUSY_TIMEOUT);
                Ok(applied)
            }
            Err(error) => {
                // SQLite has already rolled back after some errors; then this one only says so.
                let _ = self.db.execute_batch("ROLLBACK");
                self.is_unsure = true;
                // If this fails too, it is tried again before anything else.
                let _ = self.make_sure();
                Err(error.into())
            }
        }
    }
}

/// A file's device and number.
type FileId = (u64, u64);

/// Which files are there by the names that `SQLite` has opened.
fn files(path: &Path) -> [Option<FileId>; 2] {
    let log = path.with_extension("db-wal");
    [path, &log].map(|path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino())))
}

/// What holds for every connection that writes.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(256);
    db.pragma_update(None, "page_size", sql(log::PAGE_BYTES))?;
    // Says nothing to a file that is there. It costs 1 to 3 % of SQLite's time, and disk space can come back.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -32_768)?;
    db.pragma_update(None, "temp_store", "MEMORY")
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(schema::TABLES)?;
    transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", schema::VERSION)?;
    transaction.commit()?;
    // So that the marks stand in the file itself, where the next start looks for them.
    checkpoint(db, "TRUNCATE")
}

fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// Discards unfinished submits, and shortens delays if the clock was set back.
fn start(db: &mut Connection, now: Wall) -> rusqlite::Result<Facts> {
    let clock: i64 = db.query_row("SELECT clock FROM meta", [], |row| row.get(0))?;
    let transaction = db.transaction()?;
    transaction.execute("UPDATE submit SET state = 3, key = NULL WHERE state IN (0, 2)", [])?;
    transaction.execute("DELETE FROM stage", [])?;
    transaction.execute(
        "DELETE FROM batch WHERE visible = 0 AND id IN (SELECT batch FROM submit WHERE state = 3)",
        [],
    )?;
    transaction.execute(forget::FORGET_HIDDEN_EDGES, [])?;
    let now = sql(now.0);
    if now < clock {
        let shorten = "UPDATE side SET due = ?1 + pause WHERE due - pause > ?1";
        transaction.execute(shorten, [now])?;
    }
    transaction.commit()?;
    Facts::load(db)
}

impl Store for SqliteStore {
    fn recover(&mut self) -> Result<Recovered, StoreError> {
        let db = &self.db;
        let mut recovered = db.query_row(
            "SELECT next_job, next_batch, next_generation, EXISTS (SELECT 1 FROM passing) FROM meta",
            [],
            |row| {
                Ok(Recovered {
                    next_job: JobId(num(row.get(0)?)),
                    next_batch: BatchId(num(row.get(1)?)),
                    next_generation: Generation(num(row.get(2)?)),
                    releases: row.get(3)?,
                    ..Recovered::default()
                })
            },
        )?;
        let mut pools = db.prepare(
            "SELECT id, paused, (SELECT min(due) FROM side WHERE pool = pool.id AND state = 1) FROM pool ORDER BY name",
        )?;
        let mut rows = pools.query([])?;
        while let Some(row) = rows.next()? {
            let name = self.facts.names.pool(db, row.get(0)?)?;
            if row.get(1)? {
                recovered.paused.push(name.clone());
            }
            if let Some(due) = codec::get_wall(row, 2)? {
                recovered.next_due.insert(name, due);
            }
        }
        let mut counters =
            db.prepare("SELECT pool, state, jobs FROM counter WHERE batch = 0 AND jobs > 0")?;
        let mut rows = counters.query([])?;
        while let Some(row) = rows.next()? {
            let name = self.facts.names.pool(db, row.get(0)?)?;
            recovered.counts.entry(name).or_default()[codec::get_state(row, 1)?] = num(row.get(2)?);
        }
        Ok(recovered)
    }

    fn apply(&mut self, records: &[Arc<Record>]) -> Result<Applied, StoreError> {
        self.transact(|work| {
            for record in records {
                work.record(record)?;
            }
            work.trim_runs()?;
            work.sweep(work::SWEEP_ROWS)?;
            Ok(())
        })
    }

    fn fetch(&mut self, fetch: &Fetch) -> Result<Fetched, StoreError> {
        self.make_sure()?;
        Ok(fetch::fetch(&self.db, &mut self.facts, &mut self.lanes, fetch)?)
    }

    fn rewind(&mut self, jobs: &[Arc<Job>]) {
        for job in jobs {
            self.lanes.put_back(job);
        }
    }

    fn begin_anew(&mut self, pool: &PoolName) {
        self.lanes.begin_anew(pool);
    }

    fn query(&mut self, query: &Query) -> Result<Answer, StoreError> {
        self.make_sure()?;
        query::answer(&self.db, &mut self.facts.names, query, &AtomicBool::new(false))
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(Some(Box::new(SqliteReader::open(&self.path, Arc::default())?)))
    }

    fn auditor(&self, stop: Arc<AtomicBool>) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(Some(Box::new(SqliteReader::open(&self.path, stop)?)))
    }

    fn idle(&mut self) {
        if self.facts.is_sweeping {
            // What fails here is tried again, and said by the next commit.
            let _ = self.transact(|work| work.sweep(IDLE_SWEEP_ROWS));
        } else if self.is_behind {
            // What fails here as well is tried again.
            let _ = self.give_back();
            self.is_behind = checkpoint(&self.db, "PASSIVE").is_err();
        }
    }
}

/// The handle of people's questions.
struct SqliteReader {
    db: Connection,
    names: Names,
    /// Set when an answer that takes long is not wanted any more.
    stop: Arc<AtomicBool>,
}

impl SqliteReader {
    fn open(path: &Path, stop: Arc<AtomicBool>) -> rusqlite::Result<SqliteReader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.pragma_update(None, "cache_size", -4_096)?;
        Ok(SqliteReader { db, names: Names::default(), stop })
    }
}

impl Reader for SqliteReader {
    fn query(&mut self, query: &Query) -> Result<Answer, StoreError> {
        // One view of the file for all of a page; ended with it, for an open reader lets the log grow: while an
        // audit lasts, by everything that is written meanwhile.
        self.db.execute_batch("BEGIN")?;
        let answer = query::answer(&self.db, &mut self.names, query, &self.stop);
        let ended = self.db.execute_batch("COMMIT");
        if ended.is_err() {
            // Else the view would stay, and so would all later answers.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchHead, Chunk, ChunkFate, PoolName, Work};

    fn chunk(batch: u64, bytes: usize) -> Arc<Record> {
        let job = Job {
            id: JobId(batch),
            batch: BatchId(batch),
            index: 0,
            pool: PoolName::default(),
            priority: 0,
            name: None,
            key: None,
            work: Work::Data(format!("\"{}\"", "x".repeat(bytes)).into()),
            policy: None,
            context: None,
            after: Vec::new(),
            submitted: Wall(5),
        };
        let head = BatchHead { name: None, join: false, submitted: Wall(5), context: None };
        let key = batch.to_string().into();
        let (head, jobs) = (Some(head), vec![Arc::new(job)]);
        Arc::new(Record::Chunk(Chunk { batch: BatchId(batch), key, head, jobs, last: Some(1) }))
    }

    #[test]
    fn a_full_disk_refuses_a_group_whole_and_service_returns_by_itself() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = SqliteStore::open(&dir.path().join("jobs.db"), Wall(0)).expect("a new store");
        store.apply(&[chunk(1, 10)]).expect("there is room");
        let pages: i64 = store.db.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a number");
        store.db.pragma_update(None, "max_page_count", pages).expect("a limit");
        assert_eq!(store.apply(&[chunk(2, 10), chunk(3, 100_000)]), Err(StoreError::NoSpace));
        let everything = Fetch { pool: PoolName::default(), jobs_max: 9, bytes_max: usize::MAX };
        let fetched = store.fetch(&everything).expect("the file can be read");
        assert_eq!((fetched.jobs.len(), fetched.end), (1, true));
        store.db.pragma_update(None, "max_page_count", 1_000_000).expect("no limit");
        let applied = store.apply(&[chunk(2, 10), chunk(3, 100_000)]).expect("there is room again");
        assert!(applied.chunks.iter().all(|fate| matches!(fate, ChunkFate::Visible(_))));
        assert_eq!(store.fetch(&everything).expect("the file can be read").jobs.len(), 2);
    }

    #[test]
    fn a_failed_group_leaves_no_trace_though_the_file_cannot_even_be_read_then() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("jobs.db");
        let mut store = SqliteStore::open(&path, Wall(0)).expect("a new store");
        let mut record = Arc::unwrap_or_clone(chunk(1, 10));
        let late = PoolName::new("late").expect("a name");
        if let Record::Chunk(chunk) = &mut record {
            let job = Arc::make_mut(&mut chunk.jobs[0]);
            job.pool = late.clone();
        }
        let records = [Arc::new(record)];
        let other = Connection::open(&path).expect("it is there");
        other.execute_batch("ALTER TABLE meta RENAME TO away").expect("nobody writes");
        assert!(matches!(store.apply(&records), Err(StoreError::Io(_))));
        other.execute_batch("ALTER TABLE away RENAME TO meta").expect("nobody writes");
        store.apply(&records).expect("all is as it was");
        drop(store);
        let mut store = SqliteStore::open(&path, Wall(0)).expect("a good store");
        assert_eq!(store.recover().expect("it can be read").counts[&late].unfinished(), 1);
        let everything = Fetch { pool: late, jobs_max: 9, bytes_max: usize::MAX };
        assert_eq!(store.fetch(&everything).expect("it can be read").jobs.len(), 1);
    }

    #[test]
    fn nothing_is_written_to_a_file_that_has_no_name_any_more() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("jobs.db");
        let mut store = SqliteStore::open(&path, Wall(0)).expect("a new store");
        for name in ["jobs.db", "jobs.db-wal"] {
            let (here, there) = (dir.path().join(name), dir.path().join("there"));
            std::fs::rename(&here, &there).expect("it is there");
            assert!(matches!(store.apply(&[chunk(1, 10)]), Err(StoreError::Io(_))), "{name}");
            std::fs::rename(&there, &here).expect("it is there");
        }
        store.apply(&[chunk(1, 10)]).expect("all is as it was");
    }

    #[test]
    fn damage_that_is_met_later_refuses_and_says_so() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("jobs.db");
        let mut store = SqliteStore::open(&path, Wall(0)).expect("a new store");
        store.apply(&[chunk(1, 10)]).expect("there is room");
        drop(store);
        let mut file = std::fs::read(&path).expect("the file is there");
        file[16_384..].fill(0xAA);
        std::fs::write(&path, &file).expect("written");
        assert!(matches!(SqliteStore::open(&path, Wall(0)), Err(StoreError::Refused(_))));
    }
}
