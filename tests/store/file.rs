//! What only a store in a file can do: be damaged, be somebody else's, be read beside, and lag behind a clock.

use crate::make::*;
use pushpull::model::*;
use pushpull::store::{Answer, Query, Select, SqliteStore, Store, StoreError, Word};
use std::fs;
use std::path::Path;

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, Wall(0))
}

/// Opening must be refused and must leave the directory as it was.
fn assert_refused_untouched(path: &Path) {
    let before = fs::read(path).expect("the file is there");
    assert!(matches!(open(path), Err(StoreError::Refused(_))));
    assert_eq!(fs::read(path).expect("the file is there"), before);
    let files = fs::read_dir(path.parent().expect("it lies in a directory")).expect("readable").count();
    assert_eq!(files, 1, "nothing was put beside it");
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("jobs.db");
    fs::write(&path, b"not a database").expect("written");
    assert_refused_untouched(&path);
    fs::write(&path, [7; 5_000]).expect("written");
    assert_refused_untouched(&path);
}

#[test]
fn a_file_of_a_newer_version_or_another_program_is_refused_and_left_alone() {
    for (at, bytes) in [(60, 2_i32.to_be_bytes()), (68, 99_i32.to_be_bytes())] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("jobs.db");
        drop(open(&path).expect("a new store"));
        let mut file = fs::read(&path).expect("the file is there");
        file[at..at + 4].copy_from_slice(&bytes);
        fs::write(&path, file).expect("written");
        assert_refused_untouched(&path);
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("jobs.db");
    fs::write(&path, b"").expect("written");
    open(&path).expect("a new store").recover().expect("a new store");
}

#[test]
fn a_clock_that_was_set_back_does_not_prolong_delays() {
    let mut subject = Subject::sqlite();
    subject.apply(vec![submit(1, vec![delayed(1, 1, 500)])]);
    assert_eq!(subject.crash(Wall(1_200)).next_due.get("default"), Some(&Wall(1_500)));
    assert_eq!(subject.crash(Wall(100)).next_due.get("default"), Some(&Wall(600)));
}

#[test]
fn a_reader_sees_what_is_durable_and_blocks_nobody() {
    let mut subject = Subject::sqlite();
    let mut reader = subject.store.reader().expect("it can be opened").expect("a file has readers");
    let query = Query::Counts(Select { words: vec![Word::All], ..Select::default() });
    let mut total = || match reader.query(&query).expect("readable") {
        Answer::Counts { counts, .. } => counts.total(),
        other => panic!("not counts: {other:?}"),
    };
    assert_eq!(total(), 0);
    subject.apply(vec![submit(1, vec![Job { pool: pool_name("gpu"), ..job(1, 1) }])]);
    assert_eq!(total(), 1);
    subject.store.idle();
    subject.apply(vec![submit(2, vec![job(2, 2)])]);
    assert_eq!(total(), 2);
    let dropped = reader.query(&Query::Job(JobId(1))).expect("readable");
    assert!(matches!(dropped, Answer::Job { .. }));
}

#[test]
fn people_can_read_the_jobs_with_any_tool() {
    let mut subject = Subject::sqlite();
    subject.apply(vec![submit(1, vec![job(1, 1), delayed(2, 1, 500), waiting(3, 1, &[1])])]);
    subject.apply(vec![finish(&job(1, 1), State::Failed)]);
    let Place::File(dir) = &subject.place else { panic!("it lies in a file") };
    let tool = rusqlite::Connection::open(dir.path().join("jobs.db")).expect("a database");
    let mut find = tool
        .prepare("SELECT state, pool, coalesce(cause, ''), submitted FROM jobs ORDER BY id")
        .expect("a view");
    let rows = find.query_map([], |row| {
        Ok(format!(
            "{} {} {} {}",
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?
        ))
    });
    let rows: Vec<String> = rows.expect("readable").map(|row| row.expect("text")).collect();
    let at = "1970-01-01T00:00:01.000Z";
    let expected = [
        format!("failed default exit {at}"),
        format!("delayed default  {at}"),
        format!("blocked default  {at}"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn single_submits_share_a_run_and_done_runs_are_trimmed() {
    let mut subject = Subject::sqlite();
    let pool = |id| if id % 6 == 0 { pool_name("gpu") } else { PoolName::default() };
    for first in (1..=6_000).step_by(20) {
        let single = |id| submit(id, vec![Job { pool: pool(id), ..job(id, id) }]);
        subject.apply((first..first + 20).map(single).collect());
    }
    let Place::File(dir) = &subject.place else { panic!("it lies in a file") };
    let tool = rusqlite::Connection::open(dir.path().join("jobs.db")).expect("a database");
    let runs = || -> Vec<(i64, i64)> {
        let mut find = tool.prepare("SELECT first_id, last_id FROM run ORDER BY first_id").expect("a table");
        find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("rows")
            .map(|row| row.expect("a row"))
            .collect()
    };
    assert_eq!(runs(), [(1, 5_999), (6, 6_000)]);
    // One job is long; everything else of the first pool ends, a second pool's jobs stay.
    let done = |id: u64| finish(&Job { batch: BatchId(id), ..job(id, id) }, State::Succeeded);
    for first in (1..6_000).step_by(500) {
        let ids = (first..first + 500).filter(|id| id % 6 != 0 && *id != 7);
        subject.apply(ids.map(done).collect());
    }
    assert_eq!(runs(), [(6, 6_000), (7, 7), (4_097, 5_999)], "the long job is a run of its own");
    subject.crash(Wall(9_000));
    assert_eq!(subject.fetch_all("default"), [7]);
    assert_eq!(subject.fetch("gpu", 5_000).jobs.len(), 1_000);
}
