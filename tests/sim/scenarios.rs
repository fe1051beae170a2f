//! Cases that the dice do not throw, played step by step.

use crate::disk::{Disk, Order};
use pushpull::config::{Config, PoolSettings, Restart, Spending};
use pushpull::engine::{Client, Death, Effect, Effects, Engine, Event, Identity, ToWorker};
use pushpull::model::{Exit, Generation, JobId, Json, Mono, Now, PoolName, Select, State, Wall, Word};
use pushpull::wire::control::Code;
use pushpull::wire::pipeline::Report;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{ListCursor, Request, Submission, Verb};
use std::time::Duration;

/// An engine whose every surrounding thing is moved by hand.
struct Scene {
    engine: Engine,
    effects: Effects,
    disk: Disk,
    ms: u64,
    clients: u64,
    spawned: Vec<Generation>,
    sent: Vec<(Generation, JobId)>,
    cancels: Vec<JobId>,
    hits: u64,
    replies: Vec<(Client, Reply)>,
    exit: Option<u8>,
}

impl Scene {
    fn new(set: impl FnOnce(&mut Config)) -> Scene {
        Scene::on(Disk::new(), set)
    }

    /// A daemon that starts on what an earlier one has left.
    fn on(mut disk: Disk, set: impl FnOnce(&mut Config)) -> Scene {
        let mut pool = PoolSettings::new(PoolName::default(), 1);
        pool.command = Some(vec!["worker".to_owned()]);
        pool.credit = Spending::Fixed(1);
        let mut config = Config::without_file(1);
        config.pools = vec![pool];
        set(&mut config);
        let identity = Identity { version: "0".to_owned(), pid: 1 };
        let recovered = disk.recover();
        let mut scene = Scene {
            engine: Engine::new(config, recovered, identity, at(1_000), 1),
            effects: Effects::default(),
            disk,
            ms: 1_000,
            clients: 0,
            spawned: Vec::new(),
            sent: Vec::new(),
            cancels: Vec::new(),
            hits: 0,
            replies: Vec::new(),
            exit: None,
        };
        scene.engine.start(at(1_000), &mut scene.effects);
        scene.perform();
        scene.commit();
        scene
    }

    fn step(&mut self, event: Event) {
        self.engine.step(at(self.ms), event, &mut self.effects);
        self.perform();
    }

    fn perform(&mut self) {
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Spawn(name) => self.spawned.push(name.generation),
                Effect::Send { worker, message: ToWorker::Job { job, .. } } => {
                    self.sent.push((worker, job.id));
                }
                Effect::Send { message: ToWorker::Cancel(id), .. } => self.cancels.push(id),
                Effect::Kill { .. } => self.hits += 1,
                Effect::Write { ticket, record } => self.disk.order(Order::Write(ticket, record)),
                Effect::Fetch(fetch) => self.disk.order(Order::Fetch(fetch)),
                Effect::Rewind(jobs) => self.disk.order(Order::Rewind(jobs)),
                Effect::Query { ticket, query, .. } => self.disk.order(Order::Query(ticket, query)),
                Effect::Reply { client, reply } => self.replies.push((client, reply)),
                Effect::Exit(status) => self.exit = Some(status),
                Effect::Forget(_) | Effect::Log { .. } => {}
            }
        }
    }

    /// The storekeeper does all that it was asked.
    fn commit(&mut self) {
        while self.disk.begin() {
            self.end_group();
        }
    }

    fn end_group(&mut self) {
        for event in self.disk.finish() {
            self.step(event);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        self.step(Event::Tick);
    }

    fn ask(&mut self, request: Request) -> Client {
        self.clients += 1;
        let client = Client(self.clients);
        self.step(Event::Request { client, request });
        client
    }

    fn submit(&mut self, key: &str, jobs: &[&str]) -> Client {
        self.ask(chunk(key, 0, true, jobs))
    }

    fn replies_to(&self, client: Client) -> Vec<&Reply> {
        self.replies.iter().filter(|(to, _)| *to == client).map(|(_, reply)| reply).collect()
    }

    /// The next worker that was started is ready.
    fn ready(&mut self) -> Generation {
        let worker = self.spawned.remove(0);
        self.step(Event::Spawned { worker, pid: 1 });
        self.step(Event::Report { worker, report: Report::Ready });
        worker
    }

    fn succeed(&mut self, worker: Generation, id: JobId) {
        let report = Report::Result { id: Some(id), data: Json::from("1") };
        self.step(Event::Report { worker, report });
    }

    fn exit_of(&mut self, worker: Generation, exit: Exit) {
        let death = Death {
            exit,
            max_rss_kib: 1,
            last_output: Vec::new(),
            perhaps_out_of_memory: false,
            survivor: None,
        };
        self.step(Event::Exited { worker, death });
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(1_700_000_000_000 + ms) }
}

fn chunk(key: &str, chunk: u64, last: bool, jobs: &[&str]) -> Request {
    Request::Submit(Box::new(Submission {
        key: Some(key.into()),
        chunk,
        last,
        jobs: jobs.iter().map(|json| Json::from(*json)).collect(),
        ..Submission::default()
    }))
}

fn all() -> Select {
    Select { words: vec![Word::All], ..Select::default() }
}

fn is_refused(replies: &[&Reply], code: Code) -> bool {
    matches!(replies, [Reply::Refused(refusal)] if refusal.code == code)
}

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
    assert!(scene.disk.begin());
    scene.end_group();
    assert!(scene.disk.begin());
    scene.succeed(first, id);
    scene.end_group();
    scene.commit();
    scene.ready();
    assert_eq!(scene.sent.len(), 1, "it has succeeded");
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
fn who_waits_for_a_chunk_is_answered_when_the_submit_begins_again() {
    let mut scene = Scene::new(|_| {});
    scene.ask(chunk("a", 0, false, &[r#"{"data":1}"#]));
    scene.commit();
    let waiting = scene.ask(chunk("a", 1, true, &[r#"{"data":2}"#]));
    let again = scene.ask(chunk("a", 0, false, &[r#"{"data":1}"#]));
    scene.commit();
    assert!(is_refused(&scene.replies_to(waiting), Code::ChunkExpected), "{:?}", scene.replies);
    assert_eq!(scene.replies_to(again).len(), 1);
}

#[test]
fn another_submit_under_a_key_that_is_being_written_is_a_conflict() {
    let mut scene = Scene::new(|_| {});
    let first = scene.submit("a", &[r#"{"data":1}"#]);
    let same = scene.submit("a", &[r#"{"data":1}"#]);
    let other = scene.submit("a", &[r#"{"data":2}"#]);
    scene.commit();
    for client in [first, same] {
        assert!(matches!(scene.replies_to(client)[..], [Reply::Submitted(_)]), "{:?}", scene.replies);
    }
    assert!(is_refused(&scene.replies_to(other), Code::KeyConflict), "its jobs were not taken");
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
fn a_cancel_that_cannot_be_written_is_answered_before_the_daemon_leaves() {
    let mut scene = Scene::new(|_| {});
    scene.submit("a", &[r#"{"data":1}"#]);
    scene.commit();
    let worker = scene.ready();
    scene.disk.broken = true;
    let cancel = scene.ask(Request::Act { verb: Verb::Cancel, select: all(), reason: None });
    scene.commit();
    scene.step(Event::Stop);
    scene.exit_of(worker, Exit::Signal(15));
    scene.commit();
    assert_eq!(scene.exit, Some(6));
    assert!(is_refused(&scene.replies_to(cancel), Code::NoSpace), "{:?}", scene.replies);
}
