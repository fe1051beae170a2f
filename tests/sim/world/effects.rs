//! What the engine wants done.

use super::happening::Happening;
use super::{MS, US, World};
use crate::disk::Order;
use crate::plan::tag_of;
use crate::workers::Task;
use pushpull::engine::{Blow, Effect, ToWorker};
use pushpull::model::{Exit, Generation};

impl World {
    pub(super) fn perform(&mut self) -> Result<(), String> {
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            self.trace.push(format!("{} {effect:?}", self.now));
            let (oracles, mut seen) = self.watch();
            oracles.on_effect(&effect, &mut seen)?;
            self.do_effect(effect)?;
        }
        self.begin_commit();
        self.oracles.crew.check_step(self.engine.holders())?;
        if let (Some(deadline), None) = (self.engine.next_deadline(), self.left) {
            // A poll is rounded up to whole milliseconds.
            let at = deadline.0.max(self.now).div_ceil(MS) * MS;
            self.at(at, Happening::Deadline);
        }
        Ok(())
    }

    fn do_effect(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn(name) => self.spawn(&name),
            Effect::Kill { worker, with } => self.hit(worker, with),
            Effect::Send { worker, message } => self.send(worker, &message),
            Effect::Write { ticket, record } => self.disk.order(Order::Write(ticket, record)),
            Effect::Fetch(fetch) => self.disk.order(Order::Fetch(fetch)),
            Effect::Rewind(jobs) => self.disk.order(Order::Rewind(jobs)),
            Effect::BeginAnew(pool) => self.disk.order(Order::BeginAnew(pool)),
            Effect::Query { ticket, query, ordered } => {
                if ordered || !self.has_reader {
                    self.disk.order(Order::Query(ticket, query));
                } else {
                    let delay = self.draw_commit_time();
                    self.later(delay, Happening::QuestionRead(ticket, query));
                }
            }
            Effect::Reply { client, reply } => self.hear(client, &reply)?,
            Effect::Exit(status) => {
                self.left = Some(status);
                if !self.ending {
                    self.later(MS, Happening::DaemonStarts);
                }
            }
            Effect::ReadConfig { .. }
            | Effect::Configure(_)
            | Effect::Measure(_)
            | Effect::Forget(_)
            | Effect::Log { .. }
            | Effect::Logs { .. } => {}
        }
        Ok(())
    }

    fn send(&mut self, worker: Generation, message: &ToWorker) {
        let travel = self.now + self.dice.between(20, 300) * US;
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let when = travel.max(process.last_arrival + 1);
        process.last_arrival = when;
        let arrives = match message {
            ToWorker::Job { job, timeout, .. } => {
                Happening::JobArrives(worker, Task { id: job.id, tag: tag_of(job), limit: *timeout })
            }
            ToWorker::Cancel(id) => Happening::CancelArrives(worker, *id),
        };
        self.at(when, arrives);
    }

    fn hit(&mut self, worker: Generation, with: Blow) {
        match with {
            Blow::Stop => {
                let travel = self.dice.between(10, 500) * US;
                self.later(travel, Happening::StopSignalArrives(worker));
            }
            Blow::Abort => self.kill(worker, Exit::Signal(6)),
            Blow::Kill => self.kill(worker, Exit::Signal(9)),
        }
    }

    /// The storekeeper takes up what waits, most often all of it.
    fn begin_commit(&mut self) {
        let waiting = self.disk.waiting();
        if waiting == 0 {
            return;
        }
        let limit = if self.dice.hits(80) { waiting } else { self.dice.between(1, waiting as u64) as usize };
        if self.disk.begin(limit) {
            let durable = self.draw_commit_time();
            let told = durable + self.dice.between(1, 300) * US;
            self.later(durable, Happening::DiskSyncs);
            self.later(told, Happening::DiskDone);
        }
    }

    pub(super) fn draw_commit_time(&mut self) -> u64 {
        US * if self.dice.hits(90) { self.dice.between(100, 2_000) } else { self.dice.between(5_000, 40_000) }
    }

    pub(super) fn sync_disk(&mut self) -> Result<(), String> {
        for (record, applied) in self.disk.sync() {
            let (oracles, mut seen) = self.watch();
            oracles.on_durable(&record, &applied, &mut seen)?;
        }
        Ok(())
    }

    pub(super) fn end_commit(&mut self) -> Result<(), String> {
        for event in self.disk.finish() {
            let (oracles, mut seen) = self.watch();
            oracles.on_told(&event, &mut seen);
            self.step(event)?;
        }
        // Nothing is at work now: a daemon that has left has no storekeeper.
        if self.left.is_none() {
            self.begin_commit();
        }
        Ok(())
    }
}
