//! Each rule of the store, stated once and run against every store.

use crate::make::*;
use pushpull::model::*;
use pushpull::store::{Answer, Fetch, FinishCursor, Query, Record, Select, StoreError, Word};
use std::sync::Arc;

/// Makes one test for each store of every rule.
macro_rules! rules {
    ($($name:ident)*) => {
        mod memory { $(#[test] fn $name() { super::$name(crate::make::Subject::memory()); })* }
        mod sqlite { $(#[test] fn $name() { super::$name(crate::make::Subject::sqlite()); })* }
    };
}

rules! {
    a_new_store_knows_nothing
    jobs_are_visible_with_the_last_chunk_only
    a_submit_that_was_not_completed_is_gone_after_a_crash
    a_discarded_submit_leaves_nothing
    a_resend_of_a_complete_submit_changes_nothing
    a_chunk_of_a_submit_that_is_not_there_is_refused
    a_chunk_behind_a_refused_one_is_refused_too
    a_known_key_stands_as_its_old_job
    a_submit_joins_the_newest_unfinished_batch_of_its_name
    higher_priority_goes_first_then_lower_id
    no_job_is_given_out_twice
    a_rewound_job_comes_again_in_its_turn
    a_fetch_stops_at_its_bytes
    a_late_submit_with_lower_ids_is_still_fetched
    the_first_outcome_of_a_round_wins
    a_charged_job_keeps_its_place
    a_late_success_counts_what_was_charged_meanwhile
    a_delayed_job_waits_for_its_time
    a_retried_job_opens_a_new_round
    a_success_starts_those_that_wait
    a_failure_cancels_those_that_wait_and_a_retry_brings_them_back
    labels_name_keys_first_then_names
    removing_a_failed_predecessor_cancels_those_that_wait
    an_emptied_batch_is_forgotten_with_its_key
    the_oldest_finished_jobs_expire_first
    size_makes_jobs_expire
    finished_jobs_come_in_order_of_finishing
    what_is_not_kept_is_not_found
    a_crash_loses_nothing_and_repeats_nothing
    a_page_has_no_more_rows_than_its_limit
}

fn select(words: Vec<Word>) -> Select {
    Select { words, ..Select::default() }
}

fn pages_of_finished(subject: &mut Subject, words: &[Word]) -> Vec<u64> {
    let mut after = FinishCursor::default();
    let mut ids = Vec::new();
    loop {
        match subject.query(&Query::Finished { select: select(words.to_vec()), after, limit: 2 }) {
            Answer::Finished { rows, next, end } => {
                ids.extend(rows.iter().map(|row| row.job.id.0));
                after = next;
                if end {
                    return ids;
                }
            }
            other => panic!("not a page: {other:?}"),
        }
    }
}

fn a_new_store_knows_nothing(mut subject: Subject) {
    let recovered = subject.store.recover().expect("a new store");
    assert_eq!((recovered.next_job, recovered.next_batch), (JobId(1), BatchId(1)));
    assert_eq!(recovered.next_generation, Generation(1));
    assert!(recovered.counts.is_empty() && recovered.paused.is_empty() && !recovered.releases);
    assert!(subject.fetch("default", 1).end);
    assert_eq!(subject.apply(Vec::new()), pushpull::store::Applied::default());
}

fn jobs_are_visible_with_the_last_chunk_only(mut subject: Subject) {
    let applied = subject.apply(vec![chunk(1, Some(head(None, false)), vec![job(1, 1), job(2, 1)], false)]);
    assert_eq!(applied.chunks, [ChunkFate::Staged]);
    assert!(applied.moves.is_empty() && applied.visible.is_empty());
    assert!(subject.fetch_all("default").is_empty());
    assert_eq!(subject.query(&Query::Job(JobId(1))), Answer::NotFound { what: "1".into() });
    assert_eq!(subject.counts(vec![Word::All]).total(), 0);

    let applied = subject.apply(vec![chunk(1, None, vec![job(3, 1)], true)]);
    let submitted = Submitted { batch: BatchId(1), jobs: 3, known: 0, ids: vec![(JobId(1), JobId(3))] };
    assert_eq!(applied.chunks, [ChunkFate::Visible(submitted)]);
    assert_eq!(applied.visible.get(&PoolName::default()), Some(&0));
    assert_eq!(applied.moves.iter().map(|moved| moved.jobs).sum::<u64>(), 3);
    assert_eq!(subject.fetch_all("default"), [1, 2, 3]);
}

fn a_submit_that_was_not_completed_is_gone_after_a_crash(mut subject: Subject) {
    subject.apply(vec![submit(1, vec![job(1, 1)])]);
    subject.apply(vec![chunk(2, Some(head(Some("b"), false)), vec![job(2, 2), delayed(3, 2, 5)], false)]);
    let recovered = subject.crash(Wall(5_000));
    assert_eq!(recovered.next_job, JobId(4), "ids are not used again");
    assert_eq!(recovered.next_batch, BatchId(3));
    assert!(recovered.next_due.is_empty());
    assert_eq!(subject.fetch_all("default"), [1]);
    let named = Query::Counts(select(vec![Word::Named("b".into())]));
    assert_eq!(subject.query(&named), Answer::NotFound { what: "@b".into() });
    let applied = subject.apply(vec![chunk(2, None, vec![job(4, 2)], true)]);
    assert_eq!(applied.chunks, [ChunkFate::Missing]);
}

fn a_discarded_submit_leaves_nothing(mut subject: Subject) {
    subject
        .apply(vec![chunk(1, Some(head(None, false)), vec![job(1, 1)], false), Record::Discard(BatchId(1))]);
    subject.store.idle();
    assert_eq!(subject.counts(vec![Word::All]).total(), 0);
    assert_eq!(subject.query(&Query::Job(JobId(1))), Answer::NotFound { what: "1".into() });
    let applied =
        subject.apply(vec![keyed_chunk("key-1", 2, Some(head(None, false)), vec![job(2, 2)], true)]);
    assert!(matches!(applied.chunks[..], [ChunkFate::Visible(_)]), "its key is free again");
    assert_eq!(subject.fetch_all("default"), [2]);
}

fn a_resend_of_a_complete_submit_changes_nothing(mut subject: Subject) {
    let first = subject.apply(vec![submit(1, vec![job(1, 1), job(2, 1)])]);
    let [ChunkFate::Visible(submitted)] = &first.chunks[..] else { panic!("not visible") };
    for last in [true, false] {
        let again = keyed_chunk("key-1", 2, Some(head(None, false)), vec![job(3, 2)], last);
        let applied = subject.apply(vec![again]);
        let digest = 1_u128 << 70 | 7;
        assert_eq!(applied.chunks, [ChunkFate::Repeated { digest, submitted: submitted.clone() }]);
        let known = Some((digest, submitted.clone()));
        assert_eq!(subject.query(&Query::Submit("key-1".into())), Answer::Submit(known));
        assert!(applied.moves.is_empty());
    }
    assert_eq!(subject.counts(vec![Word::All]).total(), 2);
}

fn a_chunk_of_a_submit_that_is_not_there_is_refused(mut subject: Subject) {
    let applied = subject.apply(vec![chunk(1, None, vec![job(1, 1)], true)]);
    assert_eq!(applied.chunks, [ChunkFate::Missing]);
    assert_eq!(subject.counts(vec![Word::All]).total(), 0);
}

fn a_chunk_behind_a_refused_one_is_refused_too(mut subject: Subject) {
    let applied = subject.apply(vec![
        chunk(1, Some(head(None, false)), vec![job(1, 1)], false),
        chunk(1, None, vec![job(2, 1), waiting(3, 1, &[77])], false),
        chunk(1, None, vec![job(4, 1)], true),
    ]);
    let unknown = ChunkFate::Unknown { position: 1, after: After::Id(JobId(77)) };
    assert_eq!(applied.chunks, [ChunkFate::Staged, unknown, ChunkFate::Missing]);
    assert_eq!(subject.counts(vec![Word::All]).total(), 0);
}

fn a_known_key_stands_as_its_old_job(mut subject: Subject) {
    let keyed = |id, batch, key: &str| Job { key: Some(key.into()), ..job(id, batch) };
    subject.apply(vec![submit(1, vec![keyed(1, 1, "a"), job(2, 1)])]);
    let applied = subject.apply(vec![
        chunk(2, Some(head(None, false)), vec![keyed(3, 2, "b"), keyed(4, 2, "a"), keyed(5, 2, "b")], false),
        chunk(2, None, vec![keyed(6, 2, "b"), keyed(7, 2, "c")], true),
    ]);
    let ids = [3, 1, 3, 3, 7].map(|id| (JobId(id), JobId(id))).to_vec();
    let submitted = Submitted { batch: BatchId(2), jobs: 5, known: 3, ids };
    assert_eq!(applied.chunks, [ChunkFate::Staged, ChunkFate::Visible(submitted)]);
    assert_eq!(subject.fetch_all("default"), [1, 2, 3, 7]);
    assert_eq!(subject.counts(vec![Word::Batch(BatchId(2))]).total(), 2);
}

fn a_submit_joins_the_newest_unfinished_batch_of_its_name(mut subject: Subject) {
    let named = |batch, id, index| {
        chunk(batch, Some(head(Some("n"), true)), vec![Job { index, ..job(id, batch) }], true)
    };
    subject.apply(vec![named(1, 1, 0), named(2, 2, 0)]);
    let row = subject.row(2);
    assert_eq!((row.job.batch, row.job.index), (BatchId(1), 1));
    let old = Job { batch: BatchId(1), ..job(1, 1) };
    let younger = Job { batch: BatchId(1), ..job(2, 1) };
    subject.apply(vec![finish(&old, State::Succeeded), finish(&younger, State::Succeeded), named(3, 3, 0)]);
    let row = subject.row(3);
    assert_eq!((row.job.batch, row.job.index), (BatchId(3), 0), "a finished batch is not joined");
    assert_eq!(subject.counts(vec![Word::Batch(BatchId(1))]).total(), 2);
    assert_eq!(subject.counts(vec![Word::Named("n".into())]).total(), 1);
}

fn higher_priority_goes_first_then_lower_id(mut subject: Subject) {
    let ranked = |id, priority| Job { priority, ..job(id, 1) };
    let jobs = vec![ranked(1, 0), ranked(2, -1000), ranked(3, 1000), ranked(4, 0), ranked(5, 1000)];
    let applied = subject.apply(vec![submit(1, jobs)]);
    assert_eq!(applied.visible.get(&PoolName::default()), Some(&1000));
    assert_eq!(subject.fetch_all("default"), [3, 5, 1, 4, 2]);
}

fn no_job_is_given_out_twice(mut subject: Subject) {
    subject.apply(vec![submit(1, (1..=5).map(|id| job(id, 1)).collect())]);
    assert_eq!(subject.fetch("default", 2).jobs.len(), 2);
    subject.apply(vec![submit(2, vec![job(6, 2)])]);
    assert_eq!(subject.fetch_all("default"), [3, 4, 5, 6]);
    assert!(subject.fetch_all("default").is_empty());
}

fn a_rewound_job_comes_again_in_its_turn(mut subject: Subject) {
    subject.apply(vec![submit(1, (1..=6).map(|id| job(id, 1)).collect())]);
    let held: Vec<Arc<Job>> = subject.fetch("default", 5).jobs.into_iter().map(|(job, _)| job).collect();
    subject.apply(vec![charge(&held[3], Standing { attempts: 1, ..Standing::default() }, 10, None)]);
    assert_eq!(subject.fetch("default", 1).jobs[0].0.id, JobId(4));
    subject.store.rewind(&held[2..4]);
    assert_eq!(subject.fetch_all("default"), [3, 4, 6]);
}

fn a_fetch_stops_at_its_bytes(mut subject: Subject) {
    let large = |id| Job { work: Work::Data(format!("\"{}\"", "x".repeat(1_000)).into()), ..job(id, 1) };
    subject.apply(vec![submit(1, (1..=5).map(large).collect())]);
    let mut fetch = |bytes_max| {
        let fetch = Fetch { pool: PoolName::default(), jobs_max: 10, bytes_max };
        subject.store.fetch(&fetch).expect("the file can be read").jobs.len()
    };
    assert_eq!(fetch(0), 1, "at least one");
    assert_eq!(fetch(2 * large(1).weight()), 2);
    assert_eq!(fetch(usize::MAX), 2);
}

fn a_late_submit_with_lower_ids_is_still_fetched(mut subject: Subject) {
    subject.apply(vec![chunk(1, Some(head(None, false)), vec![job(1, 1), job(2, 1)], false)]);
    subject.apply(vec![submit(2, vec![job(3, 2), job(4, 2)])]);
    assert_eq!(subject.fetch_all("default"), [3, 4]);
    subject.apply(vec![chunk(1, None, vec![job(5, 1)], true)]);
    assert_eq!(subject.fetch_all("default"), [1, 2, 5]);
}

fn the_first_outcome_of_a_round_wins(mut subject: Subject) {
    subject.apply(vec![submit(1, vec![job(1, 1)])]);
    let applied = subject.apply(vec![
        finish(&job(1, 1), State::Failed),
        finish(&job(1, 1), State::Succeeded),
        finish(&job(9, 1), State::Succeeded),
        Record::Finish(outcome(&job(1, 1), State::Succeeded, 1, 3)),
    ]);
    assert_eq!(applied.finishes, [true, false, false, false]);
    assert_eq!(subject.state(1), State::Failed);
    assert_eq!(subject.counts(vec![Word::All])[State::Failed], 1);
}

fn a_late_success_counts_what_was_charged_meanwhile(mut subject: Subject) {
    subject.apply(vec![submit(1, vec![job(1, 1)])]);
    for attempts in 1..=2 {
        let standing = Standing { attempts, ..Standing::default() };
        subject.apply(vec![charge(&job(1, 1), standing, 10, Some(500))]);
    }
    subject.apply(vec![finish(&job(1, 1), State::Succeeded)]);
    let Answer::Job { row, attempts } = subject.query(&Query::Job(JobId(1))) else { panic!("not a job") };
    assert_eq!((row.state, attempts.len()), (State::Succeeded, 2));
    assert_eq!(row.outcome.map(|outcome| outcome.standing.attempts), Some(3));
}

fn a_charged_job_keeps_its_place(mut subject: Subject) {
    subject.apply(vec![submit(1, (1..=4).map(|id| job(id, 1)).collect())]);
    subject.fetch("default", 2);
    let standing = Standing { attempts: 1, crashes: 1, alone: true, ..Standing::default() };
    let applied = subject.apply(vec![charge(&job(2, 1), standing, 10, None)]);
    assert!(applied.visible.contains_key("default") && applied.moves.is_empty());
    let next = subject.fetch("default", 1).jobs;
    assert_eq!((next[0].0.id, next[0].1), (JobId(2), standing));
    let applied = subject.apply(vec![charge(&job(1, 1), standing, 10, Some(500))]);
    assert_eq!(applied.moves[0].to, Some(State::Delayed));
    subject.apply(vec![finish(&job(3, 1), State::Succeeded), charge(&job(3, 1), standing, 10, None)]);
    assert_eq!(subject.fetch_all("default"), [4]);
    let Answer::Job { attempts, .. } = subject.query(&Query::Job(JobId(2))) else { panic!("not a job") };
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].0, standing);
    let Answer::Job { attempts, .. } = subject.query(&Query::Job(JobId(3))) else { panic!("not a job") };
    assert!(attempts.is_empty(), "its round had ended");
}

fn a_delayed_job_waits_for_its_time(mut subject: Subject) {
    let applied = subject.apply(vec![submit(1, vec![delayed(1, 1, 500), delayed(2, 1, 300), job(3, 1)])]);
    assert_eq!(applied.moves.len(), 2);
    assert_eq!(subject.row(1).due, Some(Wall(1_500)));
    assert_eq!(subject.fetch_all("default"), [3]);
    let recovered = subject.crash(Wall(1_100));
    assert_eq!(recovered.next_due.get("default"), Some(&Wall(1_300)));
    let promote = |now, limit| Record::Promote { pool: PoolName::default(), now: Wall(now), limit };
    let applied =
        subject.apply(vec![promote(1_299, 9), promote(1_500, 1), promote(1_500, 9), promote(1_500, 9)]);
    assert_eq!(applied.next_due, [Some(Wall(1_300)), Some(Wall(1_500)), None, None]);
    assert_eq!(subject.fetch_all("default"), [1, 2, 3], "they have their ids' places");
}

fn a_retried_job_opens_a_new_round(mut subject: Subject) {
    subject.apply(vec![submit(1, vec![job(1, 1), job(2, 1)])]);
    subject.fetch_all("default");
    subject.apply(vec![finish(&job(1, 1), State::Failed), finish(&job(2, 1), State::Succeeded)]);
    let ids = [1, 2, 3].map(JobId).to_vec();
    let applied = subject.apply(vec![Record::Retry { ids }]);
    assert_eq!(applied.changed, [vec![JobId(1)]]);
    let next = subject.fetch("default", 5).jobs;
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].0.id, next[0].1), (JobId(1), Standing { round: 1, ..Standing::default() }));
    let late = subject.apply(vec![finish(&job(1, 1), State::Succeeded)]);
    assert_eq!(late.finishes, [false], "of the round before");
    subject.apply(vec![Record::Finish(outcome(&job(1, 1), State::Succeeded, 1, 9_000))]);
    let Answer::Job { row, attempts } = subject.query(&Query::Job(JobId(1))) else { panic!("not a job") };
    assert_eq!((row.state, attempts.len()), (State::Succeeded, 1));
    assert_eq!((attempts[0].0.round, attempts[0].1.cause), (0, Cause::Exit));
    assert_eq!(pages_of_finished(&mut subject, &[Word::All]), [2, 1], "only the current end counts");
}

fn release(now: u64) -> Record {
    Record::Release { now: Wall(now), limit: 100 }
}

fn a_success_starts_those_that_wait(mut subject: Subject) {
    let jobs = vec![job(1, 1), job(2, 1), waiting(3, 1, &[1, 2]), waiting(4, 1, &[3])];
    subject.apply(vec![submit(1, jobs)]);
    assert_eq!(subject.fetch_all("default"), [1, 2]);
    let applied = subject.apply(vec![finish(&job(1, 1), State::Succeeded)]);
    assert!(applied.releases);
    let applied = subject.apply(vec![release(1), finish(&job(2, 1), State::Succeeded)]);
    assert!(subject.fetch_all("default").is_empty() && applied.releases);
    let applied = subject.apply(vec![release(2)]);
    assert!(applied.visible.contains_key("default") && !applied.releases);
    assert_eq!(subject.fetch_all("default"), [3]);
    assert_eq!(subject.state(4), State::Blocked);
    subject.apply(vec![submit(2, vec![waiting(5, 2, &[1])])]);
    assert_eq!(subject.fetch_all("default"), [5], "what it waits for has succeeded already");
}

fn a_failure_cancels_those_that_wait_and_a_retry_brings_them_back(mut subject: Subject) {
    let jobs = vec![job(1, 1), waiting(2, 1, &[1]), waiting(3, 1, &[2])];
    subject.apply(vec![submit(1, jobs)]);
    let applied = subject.apply(vec![finish(&job(1, 1), State::Failed), release(50)]);
    assert_eq!(applied.cancelled, [JobId(2), JobId(3)]);
    let outcome_of_3 = subject.row(3).outcome.expect("it ended");
    assert_eq!((outcome_of_3.cause, outcome_of_3.finished), (Some(Cause::Dependency), Wall(50)));
    let late = subject.apply(vec![submit(2, vec![waiting(4, 2, &[1])]), release(60)]);
    assert_eq!(late.cancelled, [JobId(4)]);
    let applied = subject.apply(vec![Record::Retry { ids: vec![JobId(1)] }, release(70)]);
    assert_eq!(applied.changed, [vec![JobId(1)]]);
    assert_eq!([2, 3, 4].map(|id| subject.state(id)), [State::Blocked; 3]);
    subject.apply(vec![Record::Finish(outcome(&job(1, 1), State::Succeeded, 1, 80)), release(90)]);
    assert_eq!([2, 3, 4].map(|id| subject.state(id)), [State::Queued, State::Blocked, State::Queued]);
    assert_eq!(subject.row(2).standing.round, 1);
}

fn labels_name_keys_first_then_names(mut subject: Subject) {
    let label = |id, text: &str| Job { after: vec![After::Label(text.into())], ..job(id, 1) };
    let named = |id, name: &str| Job { name: Some(name.into()), ..job(id, 1) };
    let keyed = |id, key: &str| Job { key: Some(key.into()), ..job(id, 1) };
    subject.apply(vec![
        chunk(
            1,
            Some(head(None, false)),
            vec![named(1, "a"), named(2, "a"), named(3, "k"), keyed(4, "k")],
            false,
        ),
        chunk(1, None, vec![label(5, "a"), label(6, "k")], true),
    ]);
    assert_eq!(subject.fetch_all("default"), [1, 2, 3, 4]);
    subject.apply(vec![
        finish(&job(4, 1), State::Succeeded),
        finish(&job(1, 1), State::Succeeded),
        release(9),
    ]);
    assert_eq!(subject.fetch_all("default"), [6]);
    subject.apply(vec![finish(&job(2, 1), State::Succeeded), release(9)]);
    assert_eq!(subject.fetch_all("default"), [5]);
    let applied = subject.apply(vec![submit(2, vec![job(7, 2), Job { batch: BatchId(2), ..label(8, "a") }])]);
    let after = After::Label("a".into());
    assert_eq!(
        applied.chunks,
        [ChunkFate::Unknown { position: 1, after }],
        "labels are of this submit alone"
    );
    assert_eq!(subject.query(&Query::Job(JobId(7))), Answer::NotFound { what: "7".into() });
}

fn removing_a_failed_predecessor_cancels_those_that_wait(mut subject: Subject) {
    subject.apply(vec![
        submit(1, vec![job(1, 1), waiting(2, 1, &[1])]),
        finish(&job(1, 1), State::Failed),
        release(5),
    ]);
    subject.apply(vec![Record::Retry { ids: vec![JobId(2)] }]);
    assert_eq!(subject.state(2), State::Blocked);
    let applied = subject.apply(vec![Record::Remove { ids: vec![JobId(1), JobId(2)] }, release(6)]);
    assert_eq!(applied.changed, [vec![JobId(1)]]);
    assert_eq!(applied.cancelled, [JobId(2)]);
    subject.apply(vec![Record::Retry { ids: vec![JobId(2)] }]);
    assert_eq!(subject.state(2), State::Queued, "it waits for nothing that is kept");
}

fn an_emptied_batch_is_forgotten_with_its_key(mut subject: Subject) {
    let context = Some(Arc::new(Context { environment: None, directory: Some("/d".into()) }));
    subject.apply(vec![submit(1, vec![Job { context, ..job(1, 1) }, job(2, 1)])]);
    subject
        .apply(vec![finish(&job(1, 1), State::Succeeded), Record::Remove { ids: vec![JobId(1), JobId(2)] }]);
    assert_eq!(subject.counts(vec![Word::Batch(BatchId(1))]).total(), 1);
    subject.apply(vec![finish(&job(2, 1), State::Cancelled), Record::Remove { ids: vec![JobId(2)] }]);
    let query = Query::Counts(select(vec![Word::Batch(BatchId(1))]));
    assert_eq!(subject.query(&query), Answer::NotFound { what: "@1".into() });
    let applied =
        subject.apply(vec![keyed_chunk("key-1", 2, Some(head(None, false)), vec![job(3, 2)], true)]);
    assert!(matches!(applied.chunks[..], [ChunkFate::Visible(_)]));
}

fn the_oldest_finished_jobs_expire_first(mut subject: Subject) {
    subject.apply(vec![submit(1, (1..=5).map(|id| job(id, 1)).collect())]);
    for (id, at) in [(3, 10), (1, 20), (5, 30), (2, 40)] {
        subject.apply(vec![Record::Finish(outcome(&job(id, 1), State::Succeeded, 0, at))]);
    }
    let expire = |before, limit| Record::Expire { before: Wall(before), bytes_max: u64::MAX, limit };
    let applied = subject.apply(vec![expire(35, 2), expire(35, 9), expire(35, 9)]);
    assert_eq!(applied.changed, [vec![JobId(3), JobId(1)], vec![JobId(5)], vec![]]);
    assert_eq!(subject.counts(vec![Word::All]).total(), 2);
    let empty = submit(2, Vec::new());
    let applied = subject.apply(vec![empty, expire(999, 9), expire(1_001, 9)]);
    assert!(matches!(applied.chunks[..], [ChunkFate::Visible(_)]));
    let query = Query::Counts(select(vec![Word::Batch(BatchId(2))]));
    assert_eq!(subject.query(&query), Answer::NotFound { what: "@2".into() });
}

fn size_makes_jobs_expire(mut subject: Subject) {
    let large = |id| Job { work: Work::Data(format!("\"{}\"", "x".repeat(20_000)).into()), ..job(id, 1) };
    subject.apply(vec![submit(1, (1..=200).map(large).collect())]);
    subject.apply((1..=150).map(|id| finish(&large(id), State::Succeeded)).collect());
    let applied = subject.apply(vec![Record::Expire { before: Wall(0), bytes_max: 2_000_000, limit: 1_000 }]);
    let removed = &applied.changed[0];
    assert!(removed.len() > 90, "{} removed", removed.len());
    assert_eq!(removed[..3], [JobId(1), JobId(2), JobId(3)]);
    let applied = subject.apply(vec![Record::Expire { before: Wall(0), bytes_max: u64::MAX, limit: 1_000 }]);
    assert!(applied.changed[0].is_empty());
}

fn finished_jobs_come_in_order_of_finishing(mut subject: Subject) {
    subject.apply(vec![
        submit(1, (1..=3).map(|id| job(id, 1)).collect()),
        submit(2, vec![job(4, 2), job(5, 2)]),
    ]);
    let done = |id, batch| finish(&job(id, batch), State::Succeeded);
    subject.apply(vec![done(3, 1), done(4, 2)]);
    subject.apply(vec![done(1, 1), done(5, 2), done(2, 1)]);
    assert_eq!(pages_of_finished(&mut subject, &[Word::All]), [3, 4, 1, 5, 2]);
    assert_eq!(pages_of_finished(&mut subject, &[Word::Batch(BatchId(2))]), [4, 5]);
    assert_eq!(pages_of_finished(&mut subject, &[Word::Ids(JobId(2), JobId(3))]), [3, 2]);
    subject.apply(vec![submit(3, vec![job(6, 3)]), done(6, 3)]);
    assert_eq!(pages_of_finished(&mut subject, &[Word::Last]), [6]);
}

fn what_is_not_kept_is_not_found(mut subject: Subject) {
    let mut ask = |words: Vec<Word>| {
        let query = Query::Ids { select: select(words), after: JobId(0), limit: 10 };
        match subject.query(&query) {
            Answer::NotFound { what } => what,
            Answer::Ids { stubs, end, .. } => format!("{} {end}", stubs.len()),
            other => panic!("not ids: {other:?}"),
        }
    };
    let single = |id| Word::Ids(JobId(id), JobId(id));
    assert_eq!(ask(vec![single(17)]), "17");
    assert_eq!(ask(vec![single(17), single(18)]), "0 true");
    assert_eq!(ask(vec![Word::Ids(JobId(3), JobId(9))]), "0 true");
    assert_eq!(ask(vec![Word::Batch(BatchId(3))]), "@3");
    assert_eq!(ask(vec![single(17), Word::Named("n".into())]), "@n");
    assert_eq!(ask(vec![Word::Last]), "@last");
    assert_eq!(ask(vec![Word::All]), "0 true");
    assert_eq!(ask(Vec::new()), "0 true");
}

fn a_crash_loses_nothing_and_repeats_nothing(mut subject: Subject) {
    subject.apply(vec![
        submit(1, (1..=10).map(|id| job(id, 1)).collect()),
        Record::Pause { pool: pool_name("gpu"), paused: true },
        Record::Generations(Generation(40)),
    ]);
    assert_eq!(subject.fetch("default", 6).jobs.len(), 6);
    subject.apply(vec![finish(&job(2, 1), State::Succeeded), finish(&job(5, 1), State::Failed)]);
    let recovered = subject.crash(Wall(9_000));
    assert_eq!(recovered.next_generation, Generation(40));
    assert_eq!(recovered.paused, [pool_name("gpu")]);
    assert_eq!(recovered.counts["default"][State::Queued], 8);
    assert_eq!(subject.fetch_all("default"), [1, 3, 4, 6, 7, 8, 9, 10]);
}

fn a_page_has_no_more_rows_than_its_limit(mut subject: Subject) {
    subject.apply(vec![submit(1, (1..=2_500).map(|id| job(id, 1)).collect())]);
    let mut after = JobId(0);
    let mut sizes = Vec::new();
    loop {
        let query = Query::Jobs { select: select(vec![Word::All]), after, limit: usize::MAX, results: false };
        let Answer::Jobs { rows, next, end } = subject.query(&query) else { panic!("not jobs") };
        sizes.push(rows.len());
        after = next;
        if end {
            break;
        }
    }
    assert_eq!(sizes, [1_000, 1_000, 500]);
    let fetched: Result<_, StoreError> =
        subject.store.fetch(&Fetch { pool: PoolName::default(), jobs_max: 2_500, bytes_max: usize::MAX });
    assert_eq!(fetched.expect("the file can be read").jobs.len(), 2_500);
}
