//! Processes: they start, take jobs, answer, and die.

use super::fate::RESULT_BYTES_MAX;
use super::happening::Happening;
use super::{MS, US, World};
use crate::plan::Fate;
use crate::workers::{Process, Task, Tongue};
use pushpull::config::{Message, Spending};
use pushpull::engine::{Death, Event};
use pushpull::model::{Cause, Exit, Generation, JobId, Json, WorkerName};
use pushpull::wire::pipeline::Report;

impl World {
    pub(super) fn spawn(&mut self, name: &WorkerName) {
        let worker = name.generation;
        if self.faults && self.dice.hits(5) {
            self.later(0, Happening::SpawnFails(worker));
            return;
        }
        let pool = self.config.pools.iter().position(|pool| pool.name == name.pool);
        let pool = pool.expect("workers are started for pools that there are");
        let settings = &self.config.pools[pool];
        let deep = settings.credit != Spending::Fixed(1);
        let tongue = match settings.message {
            _ if settings.is_builtin() => Tongue::BuiltIn,
            Message::Bare => Tongue::Nameless,
            Message::Envelope if self.dice.hits(if deep { 15 } else { 50 }) => Tongue::Nameless,
            Message::Envelope => Tongue::Named,
        };
        let mut process = Process::new(worker, pool, tongue);
        process.stubborn = self.dice.hits(10);
        process.mute = self.faults && self.dice.hits(3);
        if process.mute {
            let dies = self.dice.between(1, 1_500) * MS;
            self.later(dies, Happening::Dies(worker));
        }
        self.processes.insert(worker, process);
        self.later(0, Happening::Spawned(worker));
        if self.faults && self.dice.hits(5) {
            self.kill(worker, Exit::Status(3));
        } else if !self.faults || self.dice.hits(97) {
            let boot = self.dice.between(1, 20) * MS;
            self.later(boot, Happening::Ready(worker));
        }
    }

    fn living(&mut self, worker: Generation) -> Option<&mut Process> {
        self.processes.get_mut(&worker).filter(|process| process.alive)
    }

    pub(super) fn become_ready(&mut self, worker: Generation) -> Result<(), String> {
        if self.living(worker).is_none() {
            return Ok(());
        }
        self.oracles.crew.on_ready(worker);
        self.step(Event::Report { worker, report: Report::Ready })
    }

    pub(super) fn take_job(&mut self, worker: Generation, task: Task) {
        if let Some(process) = self.living(worker) {
            process.queue.push_back(task);
            self.begin_job(worker);
        }
    }

    /// A worker takes its next job, if it is free.
    fn begin_job(&mut self, worker: Generation) {
        let Some(process) = self.living(worker).filter(|process| !process.running && !process.mute) else {
            return;
        };
        let Some(task) = process.queue.front().copied() else {
            return;
        };
        process.running = true;
        process.turn += 1;
        let (turn, tongue) = (process.turn, process.tongue);
        let plan = self.plans.0.get_mut(&task.tag).expect("every job was drawn");
        plan.begun += 1;
        let limit = task.limit.filter(|_| tongue == Tongue::BuiltIn).map(|limit| limit.as_nanos() as u64);
        let took = (plan.fate != Fate::Hang).then_some(plan.took_us * US);
        if let Some(end) = took.into_iter().chain(limit).min() {
            self.later(end, Happening::JobEnds(worker, turn));
        }
    }

    pub(super) fn end_job(&mut self, worker: Generation, turn: u64) {
        let Some(process) = self.living(worker).filter(|process| process.running && process.turn == turn)
        else {
            return;
        };
        let (tongue, task) = (process.tongue, process.queue.pop_front().expect("it ran a job"));
        process.running = false;
        let plan = &self.plans.0[&task.tag];
        let (fate, begun) = (plan.fate, plan.begun);
        let is_over = task
            .limit
            .is_some_and(|limit| fate == Fate::Hang || u128::from(plan.took_us) * 1_000 > limit.as_nanos());
        let result = |text: String| Ok(Json::from(text));
        let verdict = match fate {
            _ if tongue == Tongue::BuiltIn && is_over => Err((Cause::Timeout, true)),
            Fate::Fail => Err((Cause::Exit, true)),
            Fate::GiveUp => Err((Cause::Exit, false)),
            Fate::Flaky(times) if begun <= times => Err((Cause::Signal, true)),
            Fate::Poison => return self.kill(worker, Exit::Signal(11)),
            Fate::Leave(times) if begun <= times => return self.kill(worker, Exit::Status(0)),
            Fate::Big => result(format!("\"{}\"", "x".repeat(RESULT_BYTES_MAX))),
            Fate::Succeed | Fate::Flaky(_) | Fate::Leave(_) | Fate::Hang => result(task.tag.to_string()),
        };
        self.answer(worker, task.id, verdict);
        self.begin_job(worker);
    }

    fn answer(&mut self, worker: Generation, id: JobId, verdict: Result<Json, (Cause, bool)>) {
        let tongue = self.processes[&worker].tongue;
        let id = (tongue != Tongue::Nameless).then_some(id);
        let report = match verdict {
            Ok(data) => Report::Result { id, data },
            Err((cause, retry)) => {
                // What others than the built-in worker say of causes is not believed.
                let cause = (tongue == Tongue::BuiltIn || self.dice.hits(20)).then_some(cause);
                Report::Error { id, error: "it failed".into(), detail: None, retry, cause, data: None }
            }
        };
        let travel = self.now + self.dice.between(20, 400) * US;
        let process = self.processes.get_mut(&worker).expect("it was just seen");
        let when = if id.is_none() { travel.max(process.last_answer + 1) } else { travel };
        process.last_answer = when;
        if id.is_some() && self.faults && self.dice.hits(4) {
            let again = when + self.dice.between(1, 30_000) * US;
            self.at(again, Happening::AnswerArrives(worker, report.clone()));
        }
        self.at(when, Happening::AnswerArrives(worker, report));
        if self.faults && self.dice.hits(3) {
            let later = self.dice.between(1, 3_000) * US;
            let strange = if self.dice.hits(50) {
                Happening::StrangeAnswer(worker)
            } else {
                Happening::Chatter(worker)
            };
            self.later(later, strange);
        }
    }

    /// The built-in worker lets go of a job, waiting or running, and says so.
    pub(super) fn let_go(&mut self, worker: Generation, id: JobId) {
        let Some(process) = self.living(worker) else {
            return;
        };
        let Some(place) = process.queue.iter().position(|task| task.id == id) else {
            return;
        };
        if place == 0 && process.mute {
            return;
        }
        process.queue.remove(place);
        if place == 0 {
            process.running = false;
            process.turn += 1;
        }
        self.answer(worker, id, Err((Cause::Cancelled, false)));
        self.begin_job(worker);
    }

    pub(super) fn hear_worker(&mut self, worker: Generation, report: Report) -> Result<(), String> {
        let (oracles, mut seen) = self.watch();
        oracles.on_report(worker, &report, &mut seen);
        self.step(Event::Report { worker, report })
    }

    pub(super) fn answer_strangely(&mut self, worker: Generation) -> Result<(), String> {
        if self.living(worker).is_none() {
            return Ok(());
        }
        let id = JobId(self.dice.between(1, 150));
        if self.oracles.crew.holds(worker, id) {
            return Ok(());
        }
        let report = if self.dice.hits(50) {
            Report::Result { id: Some(id), data: Json::from("0") }
        } else {
            let error = "strange".into();
            Report::Error { id: Some(id), error, detail: None, retry: true, cause: None, data: None }
        };
        self.hear_worker(worker, report)
    }

    pub(super) fn chatter(&mut self, worker: Generation) -> Result<(), String> {
        let what = self.dice.between(0, 2);
        match what {
            0 => self.step(Event::Malformed { worker, what: "nonsense".to_owned() }),
            1 => self.step(Event::Report { worker, report: Report::Heartbeat }),
            _ => {
                let id = Some(JobId(self.dice.between(1, 150)));
                let report = Report::Progress { id, percent: Some(40.0), note: None };
                self.step(Event::Report { worker, report })
            }
        }
    }

    pub(super) fn take_stop_signal(&mut self, worker: Generation) {
        if self.living(worker).is_some_and(|process| !process.stubborn) {
            let exit = if self.dice.hits(50) { Exit::Status(0) } else { Exit::Signal(15) };
            self.kill(worker, exit);
        }
    }

    pub(super) fn murder(&mut self) {
        let living: Vec<Generation> = self
            .processes
            .values()
            .filter(|process| process.alive)
            .map(|process| process.generation)
            .collect();
        if self.faults && !living.is_empty() {
            let victim = self.dice.pick(&living);
            self.kill(victim, Exit::Signal(9));
        }
    }

    /// A process dies. Of the answers on their way some are lost, some come before the daemon sees the exit, and
    /// some come after. Of answers that name no job the last ones are lost.
    pub(super) fn kill(&mut self, worker: Generation, exit: Exit) {
        let Some(process) = self.living(worker) else {
            return;
        };
        process.alive = false;
        process.queue.clear();
        let is_nameless = process.tongue == Tongue::Nameless;
        let seen = self.now + self.dice.between(50, 3_000) * US;
        let mine = |(_, happening): &(&(u64, u64), &Happening)| matches!(happening, Happening::AnswerArrives(from, _) if *from == worker);
        let on_their_way: Vec<(u64, u64)> = self.queue.iter().filter(mine).map(|(key, _)| *key).collect();
        let (mut lost, mut latest) = (false, 0);
        for key in on_their_way {
            let answer = self.queue.remove(&key).expect("it was just seen");
            let when = match self.dice.between(1, 10) {
                1..=3 => {
                    lost = is_nameless;
                    continue;
                }
                _ if lost => continue,
                4..=8 => key.0.min(seen - 1),
                _ => seen + self.dice.between(1, 1_100) * MS,
            };
            let when = if is_nameless { when.max(latest) } else { when };
            latest = when;
            self.at(when, answer);
        }
        self.at(seen, Happening::ExitSeen(worker, exit));
    }

    pub(super) fn see_exit(&mut self, worker: Generation, exit: Exit) -> Result<(), String> {
        self.processes.remove(&worker);
        self.oracles.on_exit(worker, exit);
        let death = Death {
            exit,
            max_rss_kib: 1_000,
            last_output: vec![last_words(worker)],
            perhaps_out_of_memory: false,
            survivor: None,
        };
        self.step(Event::Exited { worker, death })
    }
}

/// What a worker wrote before its death.
pub fn last_words(worker: Generation) -> String {
    format!("the last words of worker {}", worker.0)
}
