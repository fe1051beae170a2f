//! Processes that no signal can end.

use super::{Scene, explained};
use pushpull::engine::{Death, Event};
use pushpull::model::{Exit, Generation, JobId};
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Subject};
use std::time::Duration;

/// Two workers; the job's time is a second.
fn scene() -> (Scene, Generation, Generation) {
    let mut scene = Scene::new(|config| {
        let pool = &mut config.pools[0];
        pool.workers = 2;
        pool.max_unready = 2;
        pool.timeout = Some(Duration::from_secs(1));
        pool.retries = 1;
        pool.backoff = Duration::ZERO;
    });
    scene.submit("k", &[r#"{"data":1}"#]);
    scene.commit();
    let first = scene.ready();
    let second = scene.ready();
    assert_eq!(scene.sent, [(first, JobId(1))]);
    (scene, first, second)
}

fn states(scene: &mut Scene) -> Vec<String> {
    let client = scene.ask(Request::Workers);
    match scene.replies_to(client)[..] {
        [Reply::Workers(rows)] => rows.iter().map(|row| row.state.clone()).collect(),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_that_survives_three_kills_gives_its_job_back_and_its_slot_waits_for_its_end() {
    let (mut scene, first, second) = scene();
    scene.pass(1_000 + 10_000 + 14_000);
    scene.commit();
    assert_eq!((scene.hits, states(&mut scene)[0].as_str()), (4, "killing"), "TERM and three times KILL");
    assert_eq!(scene.sent.len(), 1, "it may still be at it");
    scene.pass(2_000);
    scene.commit();
    scene.pass(1_000);
    scene.commit();
    assert_eq!(scene.sent[1], (second, JobId(1)));
    assert_eq!(states(&mut scene), ["stuck", "busy"]);
    let why = explained(&mut scene, Subject::Worker("default.0".to_owned()));
    assert!(why["text"].as_str().is_some_and(|text| text.contains("survives every SIGKILL")), "{why}");
    scene.succeed(second, JobId(1));
    scene.commit();
    scene.pass(60_000);
    assert!(scene.spawned.is_empty());
    let hits = scene.hits;
    scene.pass(5_000);
    assert_eq!(scene.hits, hits + 1, "it is killed again and again");
    // At last.
    scene.exit_of(first, Exit::Signal(9));
    scene.commit();
    assert_eq!(scene.spawned.len(), 1, "at once: this end was asked for");
    scene.ready();
    assert_eq!(states(&mut scene), ["idle", "idle"]);
}

#[test]
fn what_a_dead_worker_left_is_named_in_the_evidence_and_counts_once() {
    let (mut scene, first, second) = scene();
    let death = Death { survivor: Some(4_242), ..Death::of(Exit::Signal(11)) };
    scene.step(Event::Survived { worker: first, death: death.clone() });
    scene.commit();
    assert_eq!(scene.sent[1], (second, JobId(1)), "charged, and tried elsewhere");
    // Its end comes as a second word about the same.
    scene.exit_of(first, Exit::Signal(11));
    scene.commit();
    scene.step(Event::Survived { worker: second, death });
    scene.commit();
    let facts = explained(&mut scene, Subject::Job(JobId(1)));
    assert_eq!(facts["facts"]["crashes"], 2, "{facts}");
    let client = scene.ask(Request::ShowJob(JobId(1)));
    scene.commit();
    let Some(Reply::Object(record)) = scene.replies_to(client).pop() else { panic!("no record") };
    let record: serde_json::Value = serde_json::from_str(record).expect("JSON");
    assert_eq!(record["history"][0]["evidence"]["survivor_pid"], 4_242, "{record}");
}

#[test]
fn a_stop_does_not_wait_for_what_cannot_be_ended() {
    let (mut scene, _, second) = scene();
    scene.pass(30_000);
    scene.commit();
    scene.pass(1_000);
    scene.commit();
    assert_eq!(states(&mut scene)[0], "stuck");
    scene.succeed(second, JobId(1));
    scene.commit();
    scene.step(Event::Stop);
    assert_eq!(scene.exit, None, "the other one is waited for");
    scene.exit_of(second, Exit::Signal(15));
    scene.commit();
    assert_eq!(scene.exit, Some(0));
}

#[test]
fn a_rolling_restart_goes_past_a_slot_that_is_stuck() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 2;
        config.pools[0].max_unready = 2;
    });
    let first = scene.ready();
    scene.ready();
    scene.ask(Request::Restart { what: pushpull::wire::request::Restarted::Everything, now: false });
    assert_eq!(scene.hits, 1);
    scene.step(Event::Survived {
        worker: first,
        death: Death { survivor: Some(7), ..Death::of(Exit::Signal(15)) },
    });
    assert_eq!(scene.hits, 2, "the second one's turn");
}
