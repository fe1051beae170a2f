//! A changed configuration, taken over while everything runs.

use super::{Scene, explained, is_refused};
use pushpull::config::{Config, PoolSettings, Spending};
use pushpull::engine::Event;
use pushpull::model::{Exit, Generation, JobId, PoolName};
use pushpull::wire::control::{Code, StatusReply};
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Subject};
use std::time::Duration;

/// A pool of one worker of its own.
fn pool(name: &str) -> PoolSettings {
    let name = PoolName::new(name).expect("a good name");
    let mut pool = PoolSettings::new(name, 1);
    pool.command = Some(vec!["worker".to_owned()]);
    pool.credit = Spending::Fixed(1);
    pool
}

fn config(pools: Vec<PoolSettings>) -> Config {
    Config { pools, ..Config::without_file(1) }
}

impl Scene {
    fn of(pools: Vec<PoolSettings>) -> Scene {
        Scene::new(|before| before.pools = pools)
    }

    /// Somebody asks for a reload, and this is what is read.
    fn reload(&mut self, result: Result<Config, &str>) -> Reply {
        let client = self.ask(Request::Reload);
        assert_eq!(self.reading.pop(), Some(Some(client)));
        let result = result.map(Box::new).map_err(str::to_owned);
        self.step(Event::Configured { client: Some(client), result });
        self.commit();
        match self.replies_to(client)[..] {
            [reply] => reply.clone(),
            ref other => panic!("{other:?}"),
        }
    }

    fn take_over(&mut self, pools: Vec<PoolSettings>) {
        assert_eq!(self.reload(Ok(config(pools))), Reply::Done);
    }

    fn status(&mut self) -> StatusReply {
        let client = self.ask(Request::Status);
        match self.replies_to(client)[..] {
            [Reply::Status(status)] => (**status).clone(),
            ref other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, worker: Generation) {
        self.exit_of(worker, Exit::Signal(15));
        self.commit();
    }
}

#[test]
fn what_cannot_be_read_changes_nothing_and_says_why() {
    let mut scene = Scene::of(vec![pool("a")]);
    scene.ready();
    let reply = scene.reload(Err("pushpulld.toml:3: unknown key \"wokers\""));
    assert!(is_refused(&[&reply], Code::BadRequest));
    let Reply::Refused(refusal) = reply else { panic!("it was refused") };
    assert!(refusal.message.contains("wokers") && refusal.message.contains("stays"), "{refusal:?}");
    assert!(scene.configured.is_empty());
    assert_eq!(scene.hits, 0);
}

#[test]
fn nobody_is_replaced_for_what_can_change_at_once() {
    let mut scene = Scene::of(vec![pool("a")]);
    let worker = scene.ready();
    let changed = PoolSettings { max_crashes: 7, stop_timeout: Duration::from_secs(1), ..pool("a") };
    scene.take_over(vec![changed]);
    assert_eq!((scene.hits, scene.spawned.len()), (0, 0));
    // The new number of crashes counts for the job that runs.
    scene.submit("k", &[r#"{"data":1,"pool":"a"}"#]);
    scene.commit();
    scene.exit_of(worker, Exit::Signal(9));
    scene.commit();
    for _ in 0..5 {
        let worker = scene.ready();
        scene.exit_of(worker, Exit::Signal(9));
        scene.commit();
    }
    let facts = explained(&mut scene, Subject::Job(JobId(1)));
    assert_eq!(facts["facts"]["crashes"], 6, "{facts}");
}

#[test]
fn only_the_pool_that_changed_is_replaced_and_one_worker_at_a_time() {
    let two = |name: &str| PoolSettings { workers: 2, max_unready: 2, ..pool(name) };
    let mut scene = Scene::of(vec![two("a"), two("b")]);
    let workers: Vec<Generation> = (0..4).map(|_| scene.ready()).collect();
    let changed = PoolSettings { umask: Some(0o27), ..two("b") };
    scene.take_over(vec![two("a"), changed]);
    assert_eq!(scene.hits, 1);
    scene.end(workers[2]);
    assert_eq!((scene.hits, scene.spawned.len()), (1, 1));
    scene.ready();
    assert_eq!(scene.hits, 2, "the next one's turn comes when the first one's successor is ready");
    scene.end(workers[3]);
    scene.ready();
    scene.pass(60_000);
    assert_eq!((scene.hits, scene.spawned.len()), (2, 0));
}

#[test]
fn a_second_reload_in_the_midst_of_the_first_spares_whom_it_fits() {
    let two = |name: &str| PoolSettings { workers: 2, max_unready: 2, ..pool(name) };
    let mut scene = Scene::of(vec![two("a")]);
    let workers: Vec<Generation> = (0..2).map(|_| scene.ready()).collect();
    scene.take_over(vec![PoolSettings { nice: Some(3), ..two("a") }]);
    assert_eq!(scene.hits, 1);
    // Back to what it was: the second worker fits again, the first is on its way out.
    scene.take_over(vec![two("a")]);
    scene.end(workers[0]);
    scene.ready();
    scene.pass(60_000);
    assert_eq!((scene.hits, scene.spawned.len()), (1, 0));
}

#[test]
fn a_running_job_is_finished_first_and_its_worker_gets_nothing_behind_it() {
    let mut scene = Scene::of(vec![pool("a")]);
    let worker = scene.ready();
    scene.submit("k", &[r#"{"data":1,"pool":"a"}"#, r#"{"data":2,"pool":"a"}"#]);
    scene.commit();
    scene.take_over(vec![PoolSettings { environment: vec![("A".to_owned(), "1".to_owned())], ..pool("a") }]);
    assert_eq!(scene.hits, 0, "it has a job");
    scene.succeed(worker, JobId(1));
    scene.commit();
    assert_eq!((scene.hits, scene.sent.len()), (1, 1));
    scene.end(worker);
    let next = scene.ready();
    assert_eq!(scene.sent[1], (next, JobId(2)));
}

#[test]
fn the_jobs_of_a_pool_that_is_gone_wait_until_it_is_there_again() {
    let mut scene = Scene::of(vec![pool("a"), pool("b")]);
    let workers: Vec<Generation> = (0..2).map(|_| scene.ready()).collect();
    scene.submit("k", &[r#"{"data":1,"pool":"b"}"#, r#"{"data":2,"pool":"b"}"#]);
    scene.commit();
    scene.take_over(vec![pool("a")]);
    scene.succeed(workers[1], JobId(1));
    scene.commit();
    scene.end(workers[1]);
    assert_eq!((scene.sent.len(), scene.spawned.len()), (1, 0));
    let status = scene.status();
    assert_eq!(status.pools.len(), 1);
    assert!(status.warnings.iter().any(|warning| warning.contains("pool b")), "{:?}", status.warnings);
    assert_eq!((status.jobs.queued, status.jobs.succeeded), (1, 1));
    let why = explained(&mut scene, Subject::Job(JobId(2)));
    assert_eq!(why["facts"]["reason"], "pool_gone", "{why}");
    let refused = scene.submit("l", &[r#"{"data":3,"pool":"b"}"#]);
    scene.commit();
    assert!(is_refused(&scene.replies_to(refused), Code::BadJob));

    scene.take_over(vec![pool("b"), pool("a")]);
    let next = scene.ready();
    assert_eq!(scene.sent[1], (next, JobId(2)));
    let names: Vec<String> = scene.status().pools.iter().map(|pool| pool.name.clone()).collect();
    assert_eq!(names, ["b", "a"], "in the order of the file");
}

#[test]
fn a_new_pool_finds_the_jobs_that_waited_for_it_and_is_paused_if_it_was() {
    let mut scene = Scene::of(vec![pool("a"), pool("b")]);
    scene.submit("k", &[r#"{"data":1,"pool":"b"}"#, r#"{"data":2,"pool":"b","delay":5}"#]);
    scene.ask(Request::Pause { pool: PoolName::new("b"), paused: true });
    scene.commit();
    let disk = std::mem::replace(&mut scene.disk, crate::disk::Disk::new());
    let mut scene = Scene::on(disk, |before| before.pools = vec![pool("a")]);
    scene.ready();
    scene.pass(10_000);
    scene.take_over(vec![pool("a"), pool("b")]);
    scene.ready();
    scene.commit();
    assert!(scene.sent.is_empty(), "it is still paused");
    scene.ask(Request::Pause { pool: PoolName::new("b"), paused: false });
    scene.pass(1);
    scene.commit();
    let worker = scene.sent[0].0;
    scene.succeed(worker, JobId(1));
    scene.commit();
    assert_eq!(scene.sent.len(), 2, "the delayed one is due as well");
}

#[test]
fn jobs_that_a_pool_could_not_run_come_back_when_it_can() {
    let mut scene = Scene::of(vec![pool("a")]);
    scene.submit("k", &[r#"{"data":1,"pool":"a"}"#, r#"{"data":2,"pool":"a"}"#]);
    scene.commit();
    let worker = scene.ready();
    // The pool becomes one of built-in workers while a job runs and another waits.
    let builtin = PoolSettings { command: None, ..pool("a") };
    scene.take_over(vec![builtin]);
    scene.exit_of(worker, Exit::Signal(9));
    scene.commit();
    let next = scene.ready();
    scene.submit("l", &[r#"{"run":"true","pool":"a"}"#]);
    scene.commit();
    assert_eq!(scene.sent.last(), Some(&(next, JobId(3))), "{:?}", scene.sent);
    let status = scene.status();
    assert!(
        status.warnings.iter().any(|warning| warning.contains("2 jobs with data")),
        "{:?}",
        status.warnings
    );
    let why = explained(&mut scene, Subject::Job(JobId(2)));
    assert_eq!(why["facts"]["reason"], "pool_changed", "{why}");
    scene.succeed(next, JobId(3));
    scene.commit();

    scene.take_over(vec![pool("a")]);
    scene.end(next);
    let last = scene.ready();
    for id in [1, 2] {
        assert_eq!(scene.sent.last(), Some(&(last, JobId(id))));
        scene.succeed(last, JobId(id));
        scene.commit();
    }
    assert_eq!(scene.status().jobs.succeeded, 3);
}

#[test]
fn a_reload_mends_a_pool_whose_starts_were_held_back() {
    let mut scene = Scene::of(vec![pool("a")]);
    for _ in 0..40 {
        if let Some(worker) = scene.spawned.pop() {
            scene.step(Event::SpawnFailed { worker, error: "no such file".to_owned() });
        }
        scene.pass(1_000);
    }
    while let Some(worker) = scene.spawned.pop() {
        scene.step(Event::SpawnFailed { worker, error: "no such file".to_owned() });
    }
    assert!(scene.spawned.is_empty());
    let mended = PoolSettings { command: Some(vec!["/bin/worker".to_owned()]), ..pool("a") };
    scene.take_over(vec![mended]);
    assert_eq!(scene.spawned.len(), 1, "it is tried at once");
    scene.ready();
    assert!(scene.status().warnings.is_empty(), "{:?}", scene.status().warnings);
}

#[test]
fn a_hangup_reloads_and_a_daemon_that_stops_does_not() {
    let mut scene = Scene::of(vec![pool("a")]);
    let worker = scene.ready();
    scene.step(Event::Hangup);
    assert_eq!(scene.reading.pop(), Some(None));
    scene.submit("k", &[r#"{"data":1,"pool":"a"}"#]);
    scene.commit();
    scene.step(Event::Stop);
    let client = scene.ask(Request::Reload);
    assert!(is_refused(&scene.replies_to(client), Code::WrongState));
    scene.step(Event::Hangup);
    assert!(scene.reading.is_empty());
    scene.succeed(worker, JobId(1));
    scene.end(worker);
    assert_eq!(scene.exit, Some(0));
}
