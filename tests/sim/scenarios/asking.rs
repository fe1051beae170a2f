//! What clients are told, how jobs are forgotten, and how the daemon leaves.

use super::{Scene, all, at, explained, is_refused};
use pushpull::config::Spending;
use pushpull::engine::{Client, Effect, Event};
use pushpull::model::{
    Answer, BatchId, BatchRow, Counts, Exit, FinishCursor, JobId, PoolName, Select, State, StoreError, Wall,
    Word,
};
use pushpull::wire::control::Code;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{ListCursor, Request, Subject, Verb};
use std::time::Duration;

#[test]
fn nothing_runs_is_an_answer() {
    let mut scene = Scene::new(|_| {});
    let select = Select { states: vec![State::Running], ..all() };
    let client = scene.ask(Request::List { select: Some(select), after: ListCursor::default(), limit: 10 });
    scene.commit();
    assert!(
        matches!(scene.replies_to(client)[..], [Reply::Records { records, .. }] if records.is_empty()),
        "{:?}",
        scene.replies
    );
}

#[test]
fn a_drain_does_not_wait_for_a_paused_pool() {
    let mut scene = Scene::new(|_| {});
    scene.ask(Request::Pause { pool: None, paused: true });
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    let worker = scene.ready();
    scene.commit();
    scene.ask(Request::Drain);
    scene.commit();
    scene.exit_of(worker, Exit::Signal(15));
    scene.commit();
    assert_eq!(scene.exit, Some(0));
}

#[test]
fn a_cancel_that_cannot_be_written_is_answered_before_the_daemon_leaves() {
    let mut scene = Scene::new(|_| {});
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    let worker = scene.ready();
    scene.disk.broken = Some(StoreError::NoSpace);
    let cancel = scene.ask(Request::Act { verb: Verb::Cancel, select: all(), reason: None });
    scene.commit();
    scene.step(Event::Stop);
    scene.exit_of(worker, Exit::Signal(15));
    scene.commit();
    assert_eq!(scene.exit, Some(6));
    assert!(is_refused(&scene.replies_to(cancel), Code::NoSpace), "{:?}", scene.replies);
}

#[test]
fn finished_jobs_are_kept_as_long_as_was_said() {
    let mut scene = Scene::new(|config| {
        config.daemon.keep = Some(Duration::from_secs(60));
        config.pools[0].credit = Spending::Fixed(1_000);
    });
    let jobs = vec![r#"{"data":1}"#; 1_500];
    scene.submit("a", &jobs);
    scene.submit("b", &jobs);
    scene.commit();
    let worker = scene.ready();
    while !scene.sent.is_empty() {
        for (_, id) in std::mem::take(&mut scene.sent) {
            scene.succeed(worker, id);
        }
        scene.commit();
    }
    let kept = |scene: &mut Scene| {
        let client = scene.ask(Request::Status);
        match scene.replies_to(client)[..] {
            [Reply::Status(status)] => (status.jobs.total(), status.expired),
            ref other => panic!("{other:?}"),
        }
    };
    for _ in 0..59 {
        scene.pass(1_000);
        scene.commit();
    }
    assert_eq!(kept(&mut scene), (3_000, 0), "none is forgotten early");
    for _ in 0..8 {
        scene.pass(1_000);
        scene.commit();
    }
    assert_eq!(kept(&mut scene), (0, 3_000), "all are forgotten, though no commit forgets as many");
    assert_eq!(scene.engine.next_deadline(), None, "nothing is left to look for");
}

#[test]
fn results_pass_over_whole_pages_of_jobs_that_are_not_meant() {
    let mut scene = Scene::new(|_| {});
    let delayed = vec![r#"{"data":1,"delay":"1h"}"#; 2_000];
    for key in ["a", "b", "c", "d", "e", "f"] {
        scene.submit(key, &delayed);
        scene.commit();
    }
    scene.ask(Request::Act { verb: Verb::Cancel, select: all(), reason: None });
    scene.commit();
    scene.submit("good", &[r#"{"data":2}"#]);
    scene.commit();
    let worker = scene.ready();
    let id = scene.sent[0].1;
    scene.succeed(worker, id);
    scene.commit();
    let select = Select { states: vec![State::Succeeded], ..all() };
    let (after, timeout) = (FinishCursor::default(), Duration::from_secs(60));
    let client = scene.ask(Request::Results { select, after, limit: 10, timeout });
    scene.commit();
    match scene.replies_to(client)[..] {
        [Reply::Records { records, .. }] => assert_eq!(records.len(), 1),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_drain_does_not_wait_for_jobs_that_no_worker_can_run() {
    let mut scene = Scene::new(|_| {});
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    let mut scene = Scene::on(scene.disk, |config| config.pools[0].command = None);
    let client = scene.ask(Request::Status);
    match scene.replies_to(client)[..] {
        [Reply::Status(status)] => {
            assert!(status.warnings.iter().any(|text| text.contains("1 jobs with data")), "{status:?}");
        }
        ref other => panic!("{other:?}"),
    }
    scene.ask(Request::Drain);
    let worker = scene.ready();
    scene.exit_of(worker, Exit::Status(0));
    scene.commit();
    assert_eq!(scene.exit, Some(0));
}

#[test]
fn explain_says_why_a_job_does_not_run_or_ended_as_it_did() {
    let mut scene = Scene::new(|config| config.pools[0].max_crashes = 1);
    let why = |scene: &mut Scene, id: u64, words: &str| {
        let said = explained(scene, Subject::Job(JobId(id)));
        assert!(said["text"].as_str().is_some_and(|text| text.contains(words)), "{words:?}: {said}");
    };
    scene.submit(
        "a",
        &[
            r#"{"data":1,"name":"first"}"#,
            r#"{"data":2,"after":["first"]}"#,
            r#"{"data":3,"delay":"1h"}"#,
            r#"{"data":4}"#,
        ],
    );
    scene.commit();
    why(&mut scene, 1, "no worker of pool default is ready");
    why(&mut scene, 2, "waits until \"first\" of its batch has succeeded");
    why(&mut scene, 3, "starts in 1h");
    let pool = Some(PoolName::default());
    scene.ask(Request::Pause { pool: pool.clone(), paused: true });
    scene.commit();
    let worker = scene.ready();
    why(&mut scene, 1, "pushpullctl resume default");
    scene.ask(Request::Pause { pool, paused: false });
    scene.commit();
    scene.pass(3_000);
    why(&mut scene, 1, "runs on worker default.0.1 since 3s, attempt 1");
    why(&mut scene, 4, "the longest at work is default.0.1, for 3s");
    scene.exit_of(worker, Exit::Signal(11));
    scene.commit();
    why(&mut scene, 1, "failed: 1 worker died with this job alone (default.0.1)");
    why(&mut scene, 2, "was cancelled");
    let said = explained(&mut scene, Subject::Job(JobId(1)));
    assert_eq!(said["facts"]["evidence"]["signal"], 11, "{said}");
    let said = explained(&mut scene, Subject::Worker("default.0".to_owned()));
    assert!(said["text"].as_str().is_some_and(|text| text.contains("signal 11")), "{said}");
    let nobody = scene.ask(Request::Explain(Subject::Worker("default.9".to_owned())));
    assert!(is_refused(&scene.replies_to(nobody), Code::NotFound), "{:?}", scene.replies);
}

#[test]
fn the_oldest_finished_jobs_are_forgotten_when_the_store_is_too_large() {
    let mut scene = Scene::new(|config| {
        config.daemon.keep_size = Some(1 << 20);
        config.pools[0].credit = Spending::Fixed(100);
    });
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(50_000));
    scene.submit("a", &[&*large; 40]);
    scene.commit();
    let worker = scene.ready();
    for (_, id) in std::mem::take(&mut scene.sent) {
        scene.succeed(worker, id);
    }
    scene.commit();
    for _ in 0..11 {
        scene.pass(1_000);
        scene.commit();
    }
    let client = scene.ask(Request::Status);
    match scene.replies_to(client)[..] {
        [Reply::Status(status)] => {
            assert!((1..40).contains(&status.expired), "{status:?}");
            assert!(status.warnings.iter().any(|text| text.contains("keep_size")), "{status:?}");
        }
        ref other => panic!("{other:?}"),
    }
    let oldest = scene.ask(Request::ShowJob(JobId(1)));
    let youngest = scene.ask(Request::ShowJob(JobId(40)));
    scene.commit();
    assert!(is_refused(&scene.replies_to(oldest), Code::NotFound));
    assert!(matches!(scene.replies_to(youngest)[..], [Reply::Object(_)]));
}

#[test]
fn a_batch_that_is_removed_while_it_is_looked_up_is_not_taken_for_the_next_one() {
    let mut scene = Scene::new(|_| {});
    let request = Request::ShowBatch(Word::Batch(BatchId(3)));
    scene.engine.step(at(2_000), Event::Request { client: Client(9), request }, &mut scene.effects);
    let counts = Answer::Counts { counts: Counts::default(), batch: Some(BatchId(3)) };
    scene.answer(counts);
    let next = BatchRow {
        batch: BatchId(4),
        name: None,
        key: "k".into(),
        submitted: Wall(1),
        counts: Counts::default(),
    };
    scene.answer(Answer::Batches { rows: vec![next], end: false });
    let replies: Vec<Reply> = scene
        .effects
        .drain()
        .filter_map(|effect| if let Effect::Reply { reply, .. } = effect { Some(reply) } else { None })
        .collect();
    let [Reply::Refused(refusal)] = &replies[..] else { panic!("one refusal: {replies:?}") };
    assert_eq!(refusal.code, Code::NotFound);
    assert!(refusal.message.contains("@3"), "{refusal:?}");
}

impl Scene {
    /// Answers the one question that was asked.
    fn answer(&mut self, answer: Answer) {
        let tickets: Vec<_> = self
            .effects
            .drain()
            .filter_map(|effect| if let Effect::Query { ticket, .. } = effect { Some(ticket) } else { None })
            .collect();
        let [ticket] = tickets[..] else { panic!("one question: {tickets:?}") };
        self.engine.step(at(2_000), Event::Answered { ticket, result: Ok(answer) }, &mut self.effects);
    }
}
