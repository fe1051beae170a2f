//! How workers start, stop, and are replaced.

use super::{Scene, all, explained};
use pushpull::config::{Restart, Spending};
use pushpull::engine::Event;
use pushpull::model::{Exit, Generation, JobId, Json, PoolName};
use pushpull::wire::pipeline::Report;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Restarted, Subject, Verb};
use std::time::Duration;

#[test]
fn a_command_that_cannot_be_executed_is_not_tried_again_at_once() {
    let mut scene = Scene::new(|config| config.pools[0].restart_delay = Duration::ZERO);
    for _ in 0..3 {
        let worker = scene.spawned.remove(0);
        scene.step(Event::SpawnFailed { worker, error: "no such file".to_owned() });
        assert!(scene.spawned.is_empty(), "a start that fails at once would be repeated without end");
        scene.pass(100);
        assert_eq!(scene.spawned.len(), 1);
    }
}

#[test]
fn without_restarts_a_failed_start_makes_room_for_the_next_slot() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 2;
        config.pools[0].max_unready = 1;
        config.pools[0].restart = Restart::Never;
    });
    let worker = scene.spawned.remove(0);
    scene.step(Event::SpawnFailed { worker, error: "no such file".to_owned() });
    assert_eq!(scene.spawned.len(), 1, "the other slot's turn");
}

#[test]
fn a_bare_worker_holds_one_job_unless_its_credit_is_set() {
    let mut scene = Scene::new(|config| {
        config.pools[0].credit = Spending::Auto;
        config.pools[0].message = pushpull::config::Message::Bare;
    });
    scene.submit("a", &[r#"{"data":1}"#; 8]);
    scene.commit();
    let worker = scene.ready();
    for answered in 1..=4 {
        scene.step(Event::Report { worker, report: Report::Result { id: None, data: Json::from("1") } });
        scene.commit();
        assert_eq!(scene.sent.len(), answered + 1, "its answers name no job");
    }
}

#[test]
fn the_built_in_worker_gets_its_time_to_end_a_cancelled_command() {
    let mut scene = Scene::new(|config| config.pools[0].command = None);
    scene.submit("a", &[r#"{"run":"sleep 9"}"#]);
    scene.commit();
    scene.ready();
    let id = scene.sent[0].1;
    scene.ask(Request::Act { verb: Verb::Cancel, select: all(), reason: None });
    scene.commit();
    assert_eq!(scene.cancels, [id]);
    scene.pass(9_000);
    assert_eq!(scene.hits, 0, "its command has ten seconds after TERM");
    scene.pass(20_000);
    assert_eq!(scene.hits, 1);
}

#[test]
fn a_pool_opens_when_the_slots_that_are_left_are_ready() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 2;
        config.pools[0].min_ready = 2;
        config.pools[0].max_unready = 2;
        config.pools[0].restart = Restart::Never;
    });
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    scene.ready();
    let worker = scene.spawned.remove(0);
    scene.step(Event::SpawnFailed { worker, error: "no such file".to_owned() });
    assert_eq!(scene.sent.len(), 1, "the second slot stays empty for good");
}

#[test]
fn what_lay_there_in_time_beats_its_own_timeout_and_a_stopped_daemon_blames_nobody() {
    let mut scene = Scene::new(|config| config.pools[0].timeout = Some(Duration::from_secs(10)));
    scene.submit("a", &[r#"{"data":1}"#, r#"{"data":2}"#]);
    scene.commit();
    let worker = scene.ready();
    // The daemon is stopped for twenty seconds, and finds the answer when it goes on.
    scene.ms += 20_000;
    scene.succeed(worker, JobId(1));
    scene.freeze(0);
    scene.commit();
    assert_eq!(scene.hits, 0);
    // Stopped again, and this time the worker is still at it: it gets its ten seconds anew, and no more.
    scene.freeze(20_000);
    assert_eq!(scene.hits, 0);
    scene.pass(9_000);
    assert_eq!(scene.hits, 0);
    scene.pass(1_500);
    assert_eq!(scene.hits, 1);
}

/// Ends every worker that was started, at once and without a job, until nobody starts any more.
fn end_all(scene: &mut Scene) -> usize {
    let mut ended = 0;
    while let Some(worker) = scene.spawned.pop() {
        scene.step(Event::Spawned { worker, pid: 1 });
        scene.exit_of(worker, Exit::Status(1));
        ended += 1;
    }
    ended
}

#[test]
fn a_pool_whose_workers_end_too_often_tries_one_at_a_time_until_one_stays() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 3;
        config.pools[0].max_unready = 3;
        config.pools[0].restart_delay = Duration::ZERO;
        config.pools[0].restart_delay_max = Duration::from_secs(30);
    });
    let mut ended = 0;
    for _ in 0..20 {
        ended += end_all(&mut scene);
        scene.pass(1);
    }
    assert!(
        (11..14).contains(&ended),
        "the eleventh end is one too many, but others may have begun: {ended}"
    );
    let mut probes = 0;
    for _ in 0..120 {
        scene.pass(1_000);
        assert!(scene.spawned.len() <= 1, "one at a time");
        probes += end_all(&mut scene);
    }
    assert!((3..=5).contains(&probes), "{probes} probes in two minutes");
    while scene.spawned.is_empty() {
        scene.pass(1_000);
    }
    scene.ready();
    for _ in 0..9 {
        scene.pass(1_000);
    }
    assert!(scene.spawned.is_empty(), "it has not stayed for long enough");
    scene.pass(1_500);
    assert_eq!(scene.spawned.len(), 2, "the others start as well");
}

#[test]
fn ten_different_jobs_that_crash_in_a_row_hold_starts_back_and_one_job_does_not() {
    let crashing = |different: bool| {
        let mut scene = Scene::new(|config| config.pools[0].max_crashes = if different { 1 } else { 1_000 });
        let jobs = if different { 30 } else { 1 };
        scene.submit("a", &vec![r#"{"data":1}"#; jobs]);
        scene.commit();
        let mut crashes = 0;
        while crashes < 25 && !scene.spawned.is_empty() {
            let worker = scene.ready();
            scene.exit_of(worker, Exit::Signal(11));
            scene.commit();
            crashes += 1;
        }
        crashes
    };
    assert_eq!(crashing(true), 10);
    assert_eq!(crashing(false), 25);
}

#[test]
fn workers_are_replaced_after_their_jobs_one_at_a_time() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 2;
        config.pools[0].max_unready = 2;
        config.pools[0].max_jobs = Some(3);
    });
    let mut workers = vec![scene.ready(), scene.ready()];
    scene.submit("a", &[r#"{"data":1}"#; 12]);
    scene.commit();
    let mut done = 0;
    while done < 12 {
        let (worker, id) = scene.sent.remove(0);
        let hits = scene.hits;
        scene.succeed(worker, id);
        done += 1;
        scene.commit();
        assert!(scene.hits <= hits + 1);
        if scene.hits > hits {
            assert_eq!(workers.len(), 2, "the one before is not replaced yet");
            workers.retain(|one| *one != worker);
            scene.exit_of(worker, Exit::Status(0));
            workers.push(scene.ready());
        }
        scene.commit();
    }
    assert!(scene.hits >= 3, "{} were replaced", scene.hits);
}

#[test]
fn old_and_large_workers_are_replaced() {
    let mut scene = Scene::new(|config| {
        config.pools[0].max_age = Some(Duration::from_secs(100));
        config.pools[0].max_rss = Some(1 << 20);
    });
    let worker = scene.ready();
    let mut age = 0;
    while scene.hits == 0 {
        scene.pass(1_000);
        age += 1;
    }
    assert!((80..=101).contains(&age), "replaced after {age} s");
    scene.exit_of(worker, Exit::Signal(15));
    let worker = scene.ready();
    scene.step(Event::Measured { worker, rss_kib: 1_024 });
    assert_eq!(scene.hits, 1);
    scene.step(Event::Measured { worker, rss_kib: 1_025 });
    assert_eq!(scene.hits, 2);
}

#[test]
fn a_restart_replaces_a_few_at_a_time_and_a_scale_keeps_the_first() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 4;
        config.pools[0].max_unready = 4;
        config.pools[0].max_unavailable = 2;
    });
    let mut old: Vec<Generation> = (0..4).map(|_| scene.ready()).collect();
    let client = scene.ask(Request::Restart { what: Restarted::Everything, now: false });
    assert_eq!(scene.replies_to(client), [&Reply::Done]);
    assert_eq!(scene.hits, 2);
    for ended in 1..=4 {
        scene.exit_of(old.remove(0), Exit::Signal(15));
        assert_eq!(scene.hits, 2.max((ended + 1).min(4)), "the next is stopped when a successor is ready");
        scene.ready();
    }
    assert_eq!(scene.hits, 4);
    scene.ask(Request::Scale { pool: PoolName::default(), workers: 1 });
    assert_eq!(scene.hits, 7);
    let client = scene.ask(Request::Workers);
    match scene.replies_to(client)[..] {
        [Reply::Workers(rows)] => assert_eq!(rows[0].state, "idle", "{rows:?}"),
        ref other => panic!("{other:?}"),
    }
    scene.ask(Request::Scale { pool: PoolName::default(), workers: 6 });
    assert_eq!(scene.spawned.len(), 2, "the three that go still have their slots");
}

#[test]
fn a_worker_that_says_nothing_is_aborted_and_its_job_charged() {
    let mut scene = Scene::new(|config| {
        config.pools[0].watchdog = Some(Duration::from_secs(5));
        config.pools[0].max_crashes = 1;
    });
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    let worker = scene.ready();
    for _ in 0..4 {
        for _ in 0..4 {
            scene.pass(1_000);
        }
        scene.step(Event::Report { worker, report: Report::Heartbeat });
    }
    assert_eq!(scene.hits, 0, "it has spoken in time");
    for _ in 0..5 {
        scene.pass(1_000);
    }
    assert_eq!(scene.hits, 1);
    scene.exit_of(worker, Exit::Signal(6));
    scene.commit();
    let said = explained(&mut scene, Subject::Job(JobId(1)));
    assert_eq!(said["facts"]["cause"], "crash", "{said}");
}

#[test]
fn a_restart_does_not_replace_whom_it_has_just_started() {
    let mut scene = Scene::new(|config| {
        config.pools[0].workers = 3;
        config.pools[0].max_unready = 3;
        config.pools[0].restart_delay = Duration::from_secs(60);
    });
    // Each ends twice: the second time its slot is left empty for a while.
    for _ in 0..2 {
        for worker in std::mem::take(&mut scene.spawned) {
            scene.step(Event::Spawned { worker, pid: 1 });
            scene.exit_of(worker, Exit::Status(1));
        }
    }
    assert!(scene.spawned.is_empty());
    scene.ask(Request::Restart { what: Restarted::Everything, now: true });
    assert_eq!((scene.spawned.len(), scene.hits), (3, 0));
}

#[test]
fn a_job_that_takes_too_long_is_charged_also_while_its_worker_drains() {
    let mut scene = Scene::new(|_| {});
    scene.submit("a", &[r#"{"data":1,"timeout":"5s"}"#]);
    scene.commit();
    let worker = scene.ready();
    scene.ask(Request::Restart { what: Restarted::Everything, now: false });
    assert_eq!(scene.hits, 0, "it may finish what it holds");
    scene.pass(5_000);
    assert_eq!(scene.hits, 1);
    scene.exit_of(worker, Exit::Signal(15));
    scene.commit();
    let said = explained(&mut scene, Subject::Job(JobId(1)));
    assert_eq!(said["facts"]["cause"], "timeout", "{said}");
}
