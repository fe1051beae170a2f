//! How fast the stores are. Run in release: `cargo test --release --test store -- --ignored --nocapture speed`.

use crate::make::*;
use pushpull::model::*;
use std::time::Instant;

const JOBS: u64 = 300_000;
const COMMIT: u64 = 1_000;

fn measure(mut subject: Subject, what: &str) {
    let start = Instant::now();
    let chunks = JOBS / COMMIT;
    for n in 0..chunks {
        let jobs = (n * COMMIT + 1..=(n + 1) * COMMIT).map(|id| job(id, 1)).collect();
        subject.apply(vec![chunk(1, (n == 0).then(|| head(None, false)), jobs, n + 1 == chunks)]);
    }
    let submitted = start.elapsed();
    loop {
        let fetched = subject.fetch("default", usize::try_from(COMMIT).expect("small"));
        let done = fetched.jobs.iter().map(|(job, _)| finish(job, State::Succeeded)).collect();
        subject.apply(done);
        if fetched.end {
            break;
        }
    }
    let total = start.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = JOBS as f64 / total.as_secs_f64();
    eprintln!("{what}: {JOBS} jobs, submitted in {submitted:?}, done in {total:?}: {rate:.0} jobs/s");
    assert_eq!(subject.counts(vec![pushpull::store::Word::All])[State::Succeeded], JOBS);
}

#[test]
#[ignore = "a measurement"]
fn speed_of_sqlite() {
    measure(Subject::sqlite(), "sqlite");
}

#[test]
#[ignore = "a measurement"]
fn speed_of_memory() {
    measure(Subject::memory(), "memory");
}

/// How long an audit lasts, and what it takes of memory, beside a million jobs, half of them done.
#[test]
#[ignore = "a measurement"]
fn speed_of_an_audit() {
    const MANY: u64 = 1_000_000;
    let mut subject = Subject::sqlite();
    let chunks = MANY / COMMIT;
    for n in 0..chunks {
        let jobs = (n * COMMIT + 1..=(n + 1) * COMMIT).map(|id| job(id, 1)).collect();
        subject.apply(vec![chunk(1, (n == 0).then(|| head(None, false)), jobs, n + 1 == chunks)]);
        if n >= chunks / 2 {
            let ids = (n - chunks / 2) * COMMIT + 1..=(n - chunks / 2 + 1) * COMMIT;
            subject.apply(ids.map(|id| finish(&job(id, 1), State::Succeeded)).collect());
        }
    }
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        status.lines().find(|line| line.starts_with("VmRSS")).map(str::to_owned)
    };
    let mut auditor =
        subject.store.auditor(std::sync::Arc::default()).expect("opened").expect("there is one");
    let before = resident();
    let start = Instant::now();
    let answer = auditor.query(&pushpull::store::Query::Audit).expect("readable");
    eprintln!("audit of {MANY} jobs: {:?}; before {before:?}, after {:?}", start.elapsed(), resident());
    assert!(
        matches!(answer, pushpull::store::Answer::Audit { counts, .. } if counts.total() == MANY),
        "{answer:?}"
    );
}
