//! Cases that the dice do not throw, played step by step.

mod asking;
mod jobs;
mod reload;
mod stuck;
mod submits;
mod workers;

use crate::disk::{Disk, Order};
use pushpull::config::{Config, PoolSettings, Spending};
use pushpull::engine::{Client, Death, Effect, Effects, Engine, Event, Identity, ToWorker};
use pushpull::model::{Exit, Generation, JobId, Json, Mono, Now, PoolName, Select, Wall, Word};
use pushpull::wire::control::Code;
use pushpull::wire::pipeline::Report;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Subject, Submission};

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
    /// Who wants the configuration read again.
    reading: Vec<Option<Client>>,
    /// What was taken over.
    configured: Vec<Config>,
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
        let recovered = disk.recover(at(1_000).wall);
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
            reading: Vec::new(),
            configured: Vec::new(),
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
                Effect::BeginAnew(pool) => self.disk.order(Order::BeginAnew(pool)),
                Effect::Query { ticket, query, .. } => self.disk.order(Order::Query(ticket, query)),
                Effect::Reply { client, reply } => self.replies.push((client, reply)),
                Effect::Exit(status) => self.exit = Some(status),
                Effect::ReadConfig { client } => self.reading.push(client),
                Effect::Configure(config) => self.configured.push(*config),
                Effect::Measure(_) | Effect::Forget(_) | Effect::Log { .. } | Effect::Logs { .. } => {}
            }
        }
    }

    /// The storekeeper does all that it was asked.
    fn commit(&mut self) {
        while self.disk.begin(usize::MAX) {
            self.end_group();
        }
    }

    fn end_group(&mut self) {
        for event in self.disk.finish() {
            self.step(event);
        }
    }

    /// Time passes, and the daemon looks at its timers all the while.
    fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            self.freeze((end - self.ms).min(1_000));
        }
    }

    /// Time passes that the daemon does not notice; then it looks at its timers.
    fn freeze(&mut self, ms: u64) {
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

/// What `explain` says.
fn explained(scene: &mut Scene, subject: Subject) -> serde_json::Value {
    let client = scene.ask(Request::Explain(subject));
    scene.commit();
    match scene.replies_to(client)[..] {
        [Reply::Object(json)] => serde_json::from_str(json).expect("JSON"),
        ref other => panic!("{other:?}"),
    }
}
