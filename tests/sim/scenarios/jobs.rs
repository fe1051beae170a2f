//! What becomes of jobs.

use super::{Scene, all, explained};
use pushpull::config::Spending;
use pushpull::engine::Event;
use pushpull::model::{Exit, JobId};
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Subject, Verb};

#[test]
fn a_late_success_and_a_fetch_of_the_same_job_cross() {
    let mut scene = Scene::new(|_| {});
    scene.submit("a", &[r#"{"data":1,"timeout":"10ms","retries":1,"backoff":"1ms"}"#]);
    scene.commit();
    let first = scene.ready();
    let id = scene.sent[0].1;
    scene.pass(20);
    scene.exit_of(first, Exit::Signal(15));
    scene.commit();
    // The job has been charged and is due again; the fetch that finds it is under way when the success comes.
    scene.ms += 5;
    scene.step(Event::Tick);
    assert!(scene.disk.begin(usize::MAX));
    scene.end_group();
    assert!(scene.disk.begin(usize::MAX));
    scene.succeed(first, id);
    scene.end_group();
    scene.commit();
    scene.ready();
    assert_eq!(scene.sent.len(), 1, "it has succeeded");
}

#[test]
fn a_better_job_in_the_store_does_not_stop_those_that_go_alone() {
    let mut scene = Scene::new(|config| {
        config.pools[0].credit = Spending::Fixed(2);
        config.daemon.window_bytes_max = 1;
    });
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    scene.submit("b", &[r#"{"data":2}"#]);
    scene.commit();
    let worker = scene.ready();
    scene.commit();
    assert_eq!(scene.sent.len(), 2);
    scene.submit("c", &[r#"{"data":3,"priority":5}"#]);
    scene.exit_of(worker, Exit::Signal(9));
    scene.commit();
    let worker = scene.ready();
    scene.commit();
    assert_eq!(scene.sent.len(), 3, "{:?}", scene.sent);
    let best = scene.sent[2].1;
    scene.succeed(worker, best);
    scene.commit();
    assert_eq!(scene.sent.len(), 4);
}

#[test]
fn jobs_outlive_a_change_of_their_pools_command() {
    let mut before = Scene::new(|_| {});
    before.submit("a", &[r#"{"data":1}"#]);
    before.commit();
    let mut scene = Scene::on(before.disk, |config| config.pools[0].command = None);
    scene.ready();
    scene.commit();
    assert!(scene.sent.is_empty(), "the built-in worker cannot run it");
    let status = scene.ask(Request::Status);
    assert!(
        matches!(scene.replies_to(status)[..], [Reply::Status(status)] if status.warnings.len() == 1),
        "{:?}",
        scene.replies_to(status)
    );
    let cancel = scene.ask(Request::Act { verb: Verb::Cancel, select: all(), reason: None });
    scene.commit();
    assert_eq!(scene.replies_to(cancel).len(), 1);
}

#[test]
fn a_delayed_job_that_was_blocked_when_others_came_due_is_not_forgotten() {
    let mut scene = Scene::new(|_| {});
    let first = r#"{"data":1,"name":"first"}"#;
    let soon = r#"{"data":2,"after":["first"],"delay":"10ms"}"#;
    let later = r#"{"data":3,"after":["first"],"delay":"100ms"}"#;
    scene.submit("a", &[first, soon, later]);
    scene.commit();
    let worker = scene.ready();
    scene.pass(20);
    scene.commit();
    // Both others were blocked when the first of them came due.
    for sent in 0..2 {
        scene.succeed(worker, scene.sent[sent].1);
        scene.commit();
    }
    scene.pass(100);
    scene.commit();
    assert_eq!(scene.sent.len(), 3);
}

#[test]
fn a_frame_that_is_too_large_is_charged_to_a_job_that_was_alone_with_its_worker() {
    let mut scene = Scene::new(|config| {
        config.pools[0].credit = Spending::Fixed(2);
        config.pools[0].max_crashes = 1;
    });
    scene.submit("a", &[r#"{"data":1}"#, r#"{"data":2}"#]);
    scene.commit();
    for window in [&[JobId(1), JobId(2)][..], &[JobId(1)]] {
        let worker = scene.ready();
        let sent: Vec<JobId> = scene.sent.drain(..).map(|(_, id)| id).collect();
        assert_eq!(sent, window);
        let hits = scene.hits;
        scene.step(Event::TooLarge { worker, bytes: 100_000_000 });
        assert_eq!(scene.hits, hits + 1, "it is killed");
        scene.exit_of(worker, Exit::Signal(9));
        scene.commit();
    }
    let first = explained(&mut scene, Subject::Job(JobId(1)));
    assert!(first["text"].as_str().is_some_and(|text| text.contains("frame of 100000000 bytes")), "{first}");
    let worker = scene.ready();
    assert_eq!(scene.sent, [(worker, JobId(2))]);
    scene.succeed(worker, JobId(2));
    scene.commit();
    let second = explained(&mut scene, Subject::Job(JobId(2)));
    assert!(second["text"].as_str().is_some_and(|text| text.contains("succeeded")), "{second}");
}
