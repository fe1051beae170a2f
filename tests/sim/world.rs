//! The world: time, processes, messages, the disk and clients, around the real engine.
//!
//! Everything that will happen lies in one queue by its time. The world takes the next thing, lets the engine step,
//! and turns the engine's effects into more things to happen.

use crate::clients::Submit;
use crate::disk::{Disk, Order};
use crate::oracles::Oracles;
use crate::plan::{Dice, Fate, Plans};
use crate::workers::Process;
use pushpull::config::{Config, PoolSettings, Spending};
use pushpull::engine::{Blow, Client, Death, Effect, Effects, Engine, Event, Identity, ToWorker};
use pushpull::model::{Exit, Generation, Job, JobId, Json, Mono, Now, PoolName, Select, Wall, Word};
use pushpull::wire::pipeline::Report;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::{Request, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Happening {
    Spawned(Generation),
    SpawnFails(Generation),
    Ready(Generation),
    JobArrives(Generation, JobId, u64),
    JobEnds(Generation),
    AnswerArrives(Generation, Report),
    /// The process is gone; the daemon has read what there was to read.
    ExitSeen(Generation, Exit),
    StopSignalArrives(Generation),
    DiskDone,
    ClientSends(usize),
    Cancel,
    /// Somebody kills a worker.
    Murder,
    DaemonCrashes,
    DaemonStops,
    DaemonStarts,
    DiskBreaks,
    DiskHeals,
    Deadline,
}

pub struct World {
    dice: Dice,
    config: Config,
    now: u64,
    /// The wall clock is this far ahead of the other one; it is set now and then.
    wall_offset: u64,
    engine: Engine,
    effects: Effects,
    disk: Disk,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    processes: BTreeMap<Generation, Process>,
    plans: Plans,
    submits: Vec<Submit>,
    cancels: u64,
    next_client: u64,
    faults: bool,
    left: Option<u8>,
    /// The last stop: nobody starts the daemon again.
    ending: bool,
    waiting: Option<Client>,
    done: bool,
    oracles: Oracles,
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let mut pool = PoolSettings::new(PoolName::default(), 2);
        pool.command = Some(vec!["worker".to_owned()]);
        pool.workers = dice.between(1, 4) as u32;
        pool.max_unready = dice.between(1, 4) as u32;
        pool.credit =
            if dice.hits(50) { Spending::Auto } else { Spending::Fixed(dice.between(1, 20) as u32) };
        pool.max_crashes = dice.between(1, 3) as u32;
        pool.restart_delay = Duration::from_millis(10);
        pool.restart_delay_max = Duration::from_millis(200);
        pool.stop_timeout = Duration::from_millis(50);
        pool.start_timeout = Duration::from_millis(500);
        let mut config = Config::without_file(2);
        config.pools = vec![pool];
        config.daemon.window_jobs_max = dice.between(4, 60) as usize;
        config.daemon.drain_timeout = Some(Duration::from_millis(100));
        let mut disk = Disk::new();
        let now = SECOND;
        let wall_offset = 1_700_000_000 * SECOND;
        let engine = boot(&config, &mut disk, clock(now, wall_offset), &mut dice);
        let max_crashes = config.pools[0].max_crashes;
        let mut world = World {
            dice,
            config,
            now,
            wall_offset,
            engine,
            effects: Effects::default(),
            disk,
            queue: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            plans: Plans::default(),
            submits: Vec::new(),
            cancels: 0,
            next_client: 0,
            faults: true,
            left: None,
            ending: false,
            waiting: None,
            done: false,
            oracles: Oracles::new(max_crashes),
            trace: Vec::new(),
        };
        world.prepare();
        world
    }

    /// Draws the clients' submits and the faults.
    fn prepare(&mut self) {
        for number in 0..self.dice.between(1, 5) {
            let mut submit = Submit {
                key: format!("submit-{number}"),
                chunks: Vec::new(),
                tags: Vec::new(),
                at: 0,
                client: None,
            };
            for _ in 0..self.dice.between(1, 3) {
                let mut chunk = Vec::new();
                for _ in 0..self.dice.between(1, 40) {
                    let (tag, json) = self.plans.draw(&mut self.dice);
                    submit.tags.push(tag);
                    chunk.push(json);
                }
                submit.chunks.push(chunk);
            }
            self.submits.push(submit);
            let at = self.dice.between(0, 300) * MS;
            self.later(at, Happening::ClientSends(number as usize));
        }
        for _ in 0..self.dice.between(0, 6) {
            let at = self.dice.between(1, 800) * MS;
            self.later(at, Happening::Murder);
        }
        for _ in 0..self.dice.between(0, 2) {
            let at = self.dice.between(1, 800) * MS;
            self.later(at, Happening::DaemonCrashes);
        }
        for _ in 0..self.dice.between(0, 2) {
            let at = self.dice.between(1, 800) * MS;
            self.later(at, Happening::DaemonStops);
        }
        for _ in 0..self.dice.between(0, 3) {
            let at = self.dice.between(1, 800) * MS;
            self.later(at, Happening::Cancel);
        }
        if self.dice.hits(30) {
            let at = self.dice.between(1, 500) * MS;
            self.later(at, Happening::DiskBreaks);
            let until = at + self.dice.between(1, 2_000) * MS;
            self.later(until, Happening::DiskHeals);
        }
    }

    /// Runs until everything has finished, or an oracle speaks.
    pub fn run(&mut self) -> Result<(), String> {
        self.engine.start(self.clock(), &mut self.effects);
        self.perform()?;
        // With faults, then without: everything must finish.
        self.run_until(2 * SECOND + self.now, false)?;
        self.faults = false;
        self.disk.broken = false;
        self.run_until(600 * SECOND + self.now, true)?;
        self.oracles.check_end(&self.plans, &mut self.disk, &self.submits)?;
        self.check_slots()?;
        self.stop_and_leave()
    }

    fn run_until(&mut self, end: u64, until_done: bool) -> Result<(), String> {
        loop {
            if until_done && self.all_acknowledged() {
                if self.done {
                    return Ok(());
                }
                self.ask_to_wait()?;
            }
            let Some((&(at, sequence), _)) = self.queue.first_key_value() else {
                return if until_done { Err(self.stalled()) } else { Ok(()) };
            };
            if at > end {
                return if until_done { Err(self.stalled()) } else { Ok(()) };
            }
            let happening = self.queue.remove(&(at, sequence)).expect("it was just seen");
            self.now = self.now.max(at);
            self.happen(happening)?;
        }
    }

    fn stalled(&mut self) -> String {
        format!(
            "after {} s not everything has finished: {}",
            self.now / SECOND,
            self.oracles.unfinished(&mut self.disk)
        )
    }

    fn all_acknowledged(&self) -> bool {
        self.submits.iter().all(|submit| self.oracles.is_acknowledged(&submit.key))
    }

    /// A client waits for everything; its reply ends the run.
    fn ask_to_wait(&mut self) -> Result<(), String> {
        if self.waiting.is_some() {
            return Ok(());
        }
        let client = self.client();
        self.waiting = Some(client);
        let select = Select { words: vec![Word::All], ..Select::default() };
        self.step(Event::Request {
            client,
            request: Request::Wait { select, timeout: Duration::from_secs(3_000) },
        })
    }

    fn check_slots(&mut self) -> Result<(), String> {
        // Whoever is in backoff comes back within the longest delay.
        self.run_until(self.now + 2 * SECOND, false)?;
        let wanted = self.config.pools[0].workers as usize;
        let ready = self.processes.values().filter(|process| process.alive).count();
        if ready == wanted { Ok(()) } else { Err(format!("{ready} of {wanted} slots are filled at the end")) }
    }

    fn stop_and_leave(&mut self) -> Result<(), String> {
        self.ending = true;
        self.step(Event::Stop)?;
        self.run_until(self.now + 60 * SECOND, false)?;
        match self.left {
            Some(0) => Ok(()),
            Some(status) => Err(format!("the daemon left with status {status}")),
            None => Err("the daemon did not leave".to_owned()),
        }
    }

    fn clock(&self) -> Now {
        clock(self.now, self.wall_offset)
    }

    fn later(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn client(&mut self) -> Client {
        self.next_client += 1;
        Client(self.next_client)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        self.trace.push(format!("{} {happening:?}", self.now));
        match happening {
            Happening::Spawned(worker) => self.step(Event::Spawned { worker, pid: worker.0 as u32 }),
            Happening::SpawnFails(worker) => {
                self.oracles.on_spawn_failed(worker);
                self.step(Event::SpawnFailed { worker, error: "cannot execute worker".to_owned() })
            }
            Happening::Ready(worker) => {
                if self.is_alive(worker) {
                    self.step(Event::Report { worker, report: Report::Ready })?;
                }
                Ok(())
            }
            Happening::JobArrives(worker, id, tag) => {
                if let Some(process) = self.processes.get_mut(&worker).filter(|process| process.alive) {
                    process.queue.push_back((id, tag));
                    self.begin_job(worker);
                }
                Ok(())
            }
            Happening::JobEnds(worker) => {
                self.end_job(worker);
                Ok(())
            }
            Happening::AnswerArrives(worker, report) => {
                let late = self.oracles.on_report(worker, &report, &mut self.disk);
                self.step(Event::Report { worker, report })?;
                late.map_or(Ok(()), |id| self.oracles.check_late_success(id))
            }
            Happening::ExitSeen(worker, exit) => self.see_exit(worker, exit),
            Happening::StopSignalArrives(worker) => {
                if self.processes.get(&worker).is_some_and(|process| process.alive && !process.stubborn) {
                    let exit = if self.dice.hits(50) { Exit::Status(0) } else { Exit::Signal(15) };
                    self.kill(worker, exit);
                }
                Ok(())
            }
            Happening::DiskDone => {
                for event in self.disk.finish() {
                    self.oracles.on_disk(self.now, &event, &mut self.disk);
                    self.step(event)?;
                }
                self.begin_commit();
                Ok(())
            }
            Happening::ClientSends(number) => self.send_submit(number),
            Happening::Cancel => self.cancel(),
            Happening::Murder => {
                let living: Vec<Generation> = self
                    .processes
                    .values()
                    .filter(|process| process.alive)
                    .map(|process| process.generation)
                    .collect();
                if self.faults && !living.is_empty() {
                    let victim = living[self.dice.between(0, living.len() as u64 - 1) as usize];
                    self.kill(victim, Exit::Signal(9));
                }
                Ok(())
            }
            Happening::DaemonCrashes => {
                if self.faults {
                    self.crash()
                } else {
                    Ok(())
                }
            }
            Happening::DaemonStops => {
                if self.faults {
                    self.step(Event::Stop)
                } else {
                    Ok(())
                }
            }
            Happening::DaemonStarts => self.start_again(),
            Happening::DiskBreaks => {
                self.disk.broken = self.faults;
                self.disk.was_broken |= self.faults;
                Ok(())
            }
            Happening::DiskHeals => {
                self.disk.broken = false;
                Ok(())
            }
            Happening::Deadline => {
                if self.left.is_none() && self.engine.next_deadline().is_some_and(|at| at.0 <= self.now) {
                    self.step(Event::Tick)?;
                }
                Ok(())
            }
        }
    }

    fn is_alive(&self, worker: Generation) -> bool {
        self.processes.get(&worker).is_some_and(|process| process.alive)
    }

    /// A worker takes its next job, if it is free.
    fn begin_job(&mut self, worker: Generation) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let Some((_, tag)) = process.queue.front().copied().filter(|_| !process.running) else {
            return;
        };
        process.running = true;
        let plan = self.plans.0.get_mut(&tag).expect("every job was drawn");
        plan.begun += 1;
        let took = plan.took_us * US;
        self.later(took, Happening::JobEnds(worker));
    }

    fn end_job(&mut self, worker: Generation) {
        let Some(process) = self.processes.get_mut(&worker).filter(|process| process.alive) else {
            return;
        };
        let (id, tag) = process.queue.pop_front().expect("it ran a job");
        process.running = false;
        let plan = self.plans.0[&tag].clone();
        let error = match plan.fate {
            Fate::Fail => Some("it always fails"),
            Fate::Flaky(times) if plan.begun <= times => Some("not yet"),
            Fate::Poison => return self.kill(worker, Exit::Signal(11)),
            Fate::Leave(times) if plan.begun <= times => return self.kill(worker, Exit::Status(0)),
            Fate::Succeed | Fate::Flaky(_) | Fate::Leave(_) => None,
        };
        let report = match error {
            None => Report::Result { id: Some(id), data: Json::from(tag.to_string()) },
            Some(error) => Report::Error {
                id: Some(id),
                error: error.into(),
                detail: None,
                retry: true,
                cause: None,
                data: None,
            },
        };
        let travel = self.dice.between(20, 400) * US;
        self.later(travel, Happening::AnswerArrives(worker, report));
        self.begin_job(worker);
    }

    /// A process dies. Of the answers on their way some are lost, some come before the daemon sees the exit, and
    /// some come after.
    fn kill(&mut self, worker: Generation, exit: Exit) {
        let Some(process) = self.processes.get_mut(&worker).filter(|process| process.alive) else {
            return;
        };
        process.alive = false;
        process.queue.clear();
        let seen = self.now + self.dice.between(50, 3_000) * US;
        let on_their_way: Vec<(u64, u64)> = self
            .queue
            .iter()
            .filter(
                |(_, happening)| matches!(happening, Happening::AnswerArrives(from, _) if *from == worker),
            )
            .map(|(key, _)| *key)
            .collect();
        for key in on_their_way {
            let answer = self.queue.remove(&key).expect("it was just seen");
            match self.dice.between(1, 10) {
                1..=3 => {}
                4..=8 => {
                    self.sequence += 1;
                    self.queue.insert((key.0.min(seen - 1), self.sequence), answer);
                }
                _ => {
                    self.sequence += 1;
                    let late = seen + self.dice.between(1, 900) * MS;
                    self.queue.insert((late, self.sequence), answer);
                }
            }
        }
        self.sequence += 1;
        self.queue.insert((seen, self.sequence), Happening::ExitSeen(worker, exit));
    }

    fn see_exit(&mut self, worker: Generation, exit: Exit) -> Result<(), String> {
        let was_hit = self.processes.remove(&worker).is_some_and(|process| process.was_hit);
        self.oracles.on_exit(worker, exit, was_hit);
        let death = Death {
            exit,
            max_rss_kib: 1_000,
            last_output: Vec::new(),
            perhaps_out_of_memory: false,
            survivor: None,
        };
        self.step(Event::Exited { worker, death })
    }

    /// A client says what it has not heard an answer to, again and again.
    fn send_submit(&mut self, number: usize) -> Result<(), String> {
        if self.oracles.is_acknowledged(&self.submits[number].key) {
            return Ok(());
        }
        let client = self.client();
        self.submits[number].client = Some(client);
        let request = Request::Submit(Box::new(self.submits[number].request()));
        let patience = self.dice.between(50, 400) * MS;
        self.later(patience, Happening::ClientSends(number));
        self.step(Event::Request { client, request })
    }

    fn cancel(&mut self) -> Result<(), String> {
        let from = self.dice.between(1, 100);
        let words = vec![Word::Ids(JobId(from), JobId(from + self.dice.between(1, 5)))];
        let select = Select { words, ..Select::default() };
        self.cancels += 1;
        let client = self.client();
        self.step(Event::Request {
            client,
            request: Request::Act { verb: Verb::Cancel, select, reason: None },
        })
    }

    /// The daemon is killed: its workers with it, and what was not committed.
    fn crash(&mut self) -> Result<(), String> {
        self.disk.crash(self.dice.between(0, 20) as usize);
        self.oracles.on_crash();
        self.boot()
    }

    /// The daemon has left as it was told to, and somebody starts it.
    fn start_again(&mut self) -> Result<(), String> {
        match self.left.take() {
            Some(0) => {}
            // What it could not write is done again.
            Some(6) if self.disk.was_broken => {}
            status => return Err(format!("the daemon left with status {status:?}")),
        }
        self.disk.crash(usize::MAX);
        self.oracles.on_restart();
        self.boot()
    }

    fn boot(&mut self) -> Result<(), String> {
        self.left = None;
        self.processes.clear();
        self.queue.retain(|_, happening| {
            matches!(
                happening,
                Happening::ClientSends(_)
                    | Happening::Cancel
                    | Happening::Murder
                    | Happening::DaemonCrashes
                    | Happening::DaemonStops
                    | Happening::DiskBreaks
                    | Happening::DiskHeals
            )
        });
        self.waiting = None;
        for submit in &mut self.submits {
            submit.client = None;
        }
        // The wall clock may have been set meanwhile.
        if self.dice.hits(20) {
            self.wall_offset += self.dice.between(0, 100) * MS;
        }
        self.now += 10 * MS;
        self.engine = boot(&self.config, &mut self.disk, clock(self.now, self.wall_offset), &mut self.dice);
        self.effects = Effects::default();
        self.engine.start(self.clock(), &mut self.effects);
        self.perform()
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        self.engine.step(self.clock(), event, &mut self.effects);
        self.perform()
    }

    fn perform(&mut self) -> Result<(), String> {
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            self.trace.push(format!("{} {effect:?}", self.now));
            self.oracles.on_effect(self.now, &effect, &self.plans, &mut self.disk)?;
            self.do_effect(effect)?;
        }
        self.begin_commit();
        self.oracles.check_holders(self.engine.holders())?;
        if let (Some(deadline), None) = (self.engine.next_deadline(), self.left) {
            // A poll is rounded up to whole milliseconds.
            let at = deadline.0.max(self.now).div_ceil(MS) * MS;
            self.later(at - self.now, Happening::Deadline);
        }
        Ok(())
    }

    fn do_effect(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn(name) => self.spawn(name.generation),
            Effect::Kill { worker, with } => self.hit(worker, with),
            Effect::Send { worker, message } => {
                if let ToWorker::Job { job, .. } = message {
                    let travel = self.dice.between(20, 300) * US;
                    self.later(travel, Happening::JobArrives(worker, job.id, tag_of(&job)));
                }
            }
            Effect::Write { ticket, record } => self.disk.order(Order::Write(ticket, record)),
            Effect::Fetch(fetch) => self.disk.order(Order::Fetch(fetch)),
            Effect::Rewind(jobs) => self.disk.order(Order::Rewind(jobs)),
            Effect::Query { ticket, query, .. } => self.disk.order(Order::Query(ticket, query)),
            Effect::Reply { client, reply } => self.hear(client, &reply)?,
            Effect::Exit(status) => {
                self.left = Some(status);
                if !self.ending {
                    self.later(MS, Happening::DaemonStarts);
                }
            }
            Effect::Forget(_) | Effect::Log { .. } => {}
        }
        Ok(())
    }

    fn spawn(&mut self, worker: Generation) {
        if self.faults && self.dice.hits(5) {
            self.later(0, Happening::SpawnFails(worker));
            return;
        }
        let stubborn = self.dice.hits(10);
        self.processes.insert(worker, Process::new(worker, stubborn));
        self.later(0, Happening::Spawned(worker));
        if self.faults && self.dice.hits(5) {
            self.kill(worker, Exit::Status(3));
        } else if !self.faults || self.dice.hits(97) {
            let boot = self.dice.between(1, 20) * MS;
            self.later(boot, Happening::Ready(worker));
        }
    }

    fn hit(&mut self, worker: Generation, with: Blow) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.was_hit = true;
        }
        match with {
            Blow::Stop => {
                let travel = self.dice.between(10, 500) * US;
                self.later(travel, Happening::StopSignalArrives(worker));
            }
            Blow::Kill => self.kill(worker, Exit::Signal(9)),
        }
    }

    fn begin_commit(&mut self) {
        if self.disk.begin() {
            let took = if self.dice.hits(90) {
                self.dice.between(100, 2_000)
            } else {
                self.dice.between(5_000, 40_000)
            };
            self.later(took * US, Happening::DiskDone);
        }
    }

    fn hear(&mut self, client: Client, reply: &Reply) -> Result<(), String> {
        if self.waiting == Some(client) {
            match reply {
                Reply::Wait(wait) if wait.done => self.done = true,
                Reply::Wait(_) => self.waiting = None,
                other => return Err(format!("a wait was answered with {other:?}")),
            }
        }
        let Some(number) = self.submits.iter().position(|submit| submit.client == Some(client)) else {
            return Ok(());
        };
        match reply {
            Reply::Expect(chunk) => {
                self.submits[number].at = *chunk as usize;
                self.later(0, Happening::ClientSends(number));
                Ok(())
            }
            Reply::Submitted(submitted) => {
                let submit = self.submits[number].clone();
                self.oracles.on_acknowledged(&submit, submitted, &mut self.disk)
            }
            Reply::Refused(refusal) => {
                // Begin again: from the chunk that it asks for, else from the first.
                self.submits[number].at = refusal.expect.unwrap_or(0) as usize;
                Ok(())
            }
            other => Err(format!("a submit was answered with {other:?}")),
        }
    }
}

fn boot(config: &Config, disk: &mut Disk, now: Now, dice: &mut Dice) -> Engine {
    let identity = Identity { version: "0".to_owned(), pid: 1 };
    Engine::new(config.clone(), disk.recover(), identity, now, dice.between(0, u64::MAX >> 20))
}

fn clock(now: u64, wall_offset: u64) -> Now {
    Now { mono: Mono(now), wall: Wall((now + wall_offset) / MS) }
}

/// The number in a job's data.
pub fn tag_of(job: &Arc<Job>) -> u64 {
    job.work.json().parse().expect("the data of every job is a number")
}
