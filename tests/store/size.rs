//! What hours of work leave on disk: no more than what is kept, whatever came and went.

use crate::make::*;
use pushpull::model::*;
use pushpull::store::{Answer, Query, Record, Select, Store, Word};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LOG_BYTES_MAX: u64 = 1 << 20;
const ROUNDS: u64 = 60;
const JOBS: u64 = 100;

fn file(subject: &Subject) -> PathBuf {
    let Place::File(dir) = &subject.place else { panic!("it lies in a file") };
    dir.path().join("jobs.db")
}

/// Rows by table, without those that are there for good.
fn rows(subject: &Subject) -> Vec<(String, i64)> {
    let tool = rusqlite::Connection::open(file(subject)).expect("a database");
    let find = "SELECT name FROM sqlite_schema WHERE type = 'table'
        AND name NOT IN ('meta', 'state', 'pool', 'sqlite_sequence') ORDER BY name";
    let mut find = tool.prepare(find).expect("a query");
    let names = find.query_map([], |row| row.get::<_, String>(0)).expect("tables");
    let count = |name: String| {
        let count = tool.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0));
        (name, count.expect("a number"))
    };
    names.map(|name| count(name.expect("a name"))).collect()
}

/// Jobs of every kind come, end and are forgotten.
fn round(subject: &mut Subject, round: u64) {
    let (batch, first) = (round + 1, round * JOBS + 1);
    let context = Arc::new(Context {
        environment: Some(format!("{{\"ROUND\":\"{round}\"}}").into()),
        directory: Some("/".into()),
    });
    let make = |at: u64| {
        let id = first + at;
        let job = match at {
            0..10 => waiting(id, batch, &[first + 20]),
            10..15 => delayed(id, batch, 500),
            _ => job(id, batch),
        };
        Job { index: at, key: Some(format!("k{id}").into()), context: Some(Arc::clone(&context)), ..job }
    };
    let jobs: Vec<Job> = (0..JOBS).map(make).collect();
    // An open submit is discarded in each round as well.
    let lost = Job { id: JobId(1_000_000 + round), ..job(0, 900_000 + round) };
    subject.apply(vec![
        submit(batch, jobs.clone()),
        chunk(900_000 + round, Some(head(None, false)), vec![lost], false),
        Record::Discard(BatchId(900_000 + round)),
    ]);
    let standing = Standing { attempts: 1, ..Standing::default() };
    subject.apply(jobs[30..40].iter().map(|job| charge(job, standing, 1_500, None)).collect());
    let end = |job: &Job| {
        let state = if job.id.0 % 3 == 0 { State::Failed } else { State::Succeeded };
        finish(job, state)
    };
    subject.apply(jobs[10..].iter().map(end).collect());
    subject.apply(vec![Record::Release { now: Wall(2_000), limit: 100 }]);
    subject.apply(jobs[..10].iter().map(end).collect());
    subject.apply(vec![Record::Expire { before: Wall(u64::MAX), bytes_max: u64::MAX, limit: 1_000 }]);
    subject.apply(vec![Record::Release { now: Wall(2_000), limit: 100 }]);
    subject.store.idle();
}

#[test]
fn what_is_forgotten_leaves_nothing_in_any_table_and_its_pages_are_used_again() {
    let mut subject = Subject::sqlite();
    let mut sizes = Vec::new();
    for number in 0..ROUNDS {
        round(&mut subject, number);
        sizes.push(std::fs::metadata(file(&subject)).expect("it is there").len());
    }
    let early = sizes[..10].iter().max().expect("rounds");
    let late = sizes.last().expect("rounds");
    assert!(late <= &(early + 16 * 16_384), "the file grows: {sizes:?}");
    // Up to a thousand rows of discarded submits go with each commit.
    subject.apply(vec![Record::Generations(Generation(1))]);
    let left: Vec<(String, i64)> = rows(&subject).into_iter().filter(|(_, rows)| *rows > 0).collect();
    // Runs are trimmed after some thousand ends, counters of the pools stay.
    let odd: Vec<_> = left.iter().filter(|(name, _)| name != "run" && name != "counter").collect();
    assert!(odd.is_empty(), "rows of nobody: {odd:?}");
    assert!(left.iter().all(|(_, rows)| *rows <= 10), "{left:?}");
}

#[test]
fn disk_space_comes_back_when_much_is_forgotten() {
    let mut subject = Subject::sqlite();
    let large = |id| Job { work: Work::Data(format!("\"{}\"", "x".repeat(100_000)).into()), ..job(id, 1) };
    let jobs: Vec<Job> = (1..=600).map(large).collect();
    subject.apply(vec![submit(1, jobs.clone())]);
    subject.apply(jobs.iter().map(|job| finish(job, State::Succeeded)).collect());
    subject.store.idle();
    let size = |subject: &Subject| std::fs::metadata(file(subject)).expect("it is there").len();
    let full = size(&subject);
    assert!(full > 60_000_000, "{full}");
    subject.apply(vec![Record::Expire { before: Wall(u64::MAX), bytes_max: u64::MAX, limit: 1_000 }]);
    for next in 2..20 {
        subject.store.idle();
        subject.apply(vec![Record::Generations(Generation(next))]);
    }
    assert!(size(&subject) < 24 << 20, "{} of {full} bytes are left", size(&subject));
}

#[test]
fn the_log_stays_short_although_somebody_reads_all_the_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("jobs.db");
    let mut store = pushpull::store::SqliteStore::open(&path, Wall(0)).expect("a new store");
    store.bound_log(LOG_BYTES_MAX);
    let mut reader = store.reader().expect("it can be opened").expect("a file has readers");
    let mut subject = Subject { store: Box::new(store), place: Place::File(dir) };
    subject.apply(vec![submit(1, (1..=500).map(|id| job(id, 1)).collect())]);
    let stop = Arc::new(AtomicBool::new(false));
    let reading = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let select = Select { words: vec![Word::All], ..Select::default() };
            let mut pages = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let query =
                    Query::Jobs { select: select.clone(), after: JobId(0), limit: 500, results: true };
                let answer = reader.query(&query).expect("readable");
                assert!(matches!(answer, Answer::Jobs { .. }));
                pages += 1;
            }
            pages
        }
    });
    let mut longest = 0;
    for number in 5..65 {
        round(&mut subject, number);
        let log = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |found| found.len());
        longest = longest.max(log);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reading.join().expect("it reads to the end") > 0);
    assert!(longest < 8 * LOG_BYTES_MAX, "the log had {longest} bytes");
}

#[test]
fn an_audit_that_is_not_wanted_any_more_ends() {
    let mut subject = Subject::sqlite();
    subject.apply(vec![submit(1, vec![job(1, 1)])]);
    let stop = Arc::new(AtomicBool::new(false));
    let auditor = subject.store.auditor(Arc::clone(&stop)).expect("it can be opened");
    let mut auditor = auditor.expect("a file has auditors");
    let answer = auditor.query(&Query::Audit).expect("readable");
    assert_eq!(answer, subject.query(&Query::Audit));
    stop.store(true, Ordering::Relaxed);
    auditor.query(&Query::Audit).expect_err("it was told to stop");
    stop.store(false, Ordering::Relaxed);
    assert_eq!(auditor.query(&Query::Audit), Ok(answer), "and no view is left open");
}
