//! The daemon's lives: it is killed, told to stop, started again, perhaps with another configuration.

use super::fate::draw_step;
use super::happening::Happening;
use super::{MS, US, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::oracles::Asked;
use pushpull::config::Config;
use pushpull::engine::{Effects, Engine, Event, Identity};
use pushpull::model::Now;
use pushpull::wire::request::Request;

/// How somebody tells the daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Signal,
    Shutdown,
    ShutdownNow,
}

impl World {
    pub(super) fn stop(&mut self, stop: Stop) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        self.oracles.pauses.stopping = true;
        match stop {
            Stop::Signal => self.step(Event::Stop),
            Stop::Shutdown => self.request(Asked::Shutdown, Request::Shutdown { now: false }),
            Stop::ShutdownNow => self.request(Asked::Shutdown, Request::Shutdown { now: true }),
        }
    }

    /// The daemon is killed: its workers with it, and what was not committed.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        let committed = if self.dice.hits(50) { usize::MAX } else { self.dice.between(0, 20) as usize };
        self.end_disk(committed)?;
        self.boot()
    }

    /// The daemon has left as it was told to, and somebody starts it.
    pub(super) fn start_again(&mut self) -> Result<(), String> {
        match self.left {
            Some(0) => {}
            // What it could not write is done again.
            Some(6) if self.disk.was_broken => {}
            status => return Err(format!("the daemon left with status {status:?}")),
        }
        self.end_disk(usize::MAX)?;
        self.boot()
    }

    fn end_disk(&mut self, committed: usize) -> Result<(), String> {
        for (record, applied) in self.disk.crash(committed) {
            let (oracles, mut seen) = self.watch();
            oracles.on_durable(&record, &applied, &mut seen)?;
        }
        Ok(())
    }

    fn boot(&mut self) -> Result<(), String> {
        self.left = None;
        self.processes.clear();
        self.queue.retain(|_, happening| happening.is_outside());
        if self.faults && self.dice.hits(20) {
            // The wall clock was set meanwhile.
            self.wall_offset += draw_step(&mut self.dice);
        }
        if self.faults && self.dice.hits(20) {
            // What killed it kills it again.
            let soon = self.dice.between(10_000, 14_000) * US;
            self.later(soon, Happening::DaemonCrashes);
        }
        self.now += 10 * MS;
        self.config = self.draw_change();
        let now = self.clock();
        self.engine = boot(&self.config, &mut self.disk, now, &mut self.dice);
        self.effects = Effects::default();
        let (oracles, mut seen) = self.watch();
        oracles.on_boot(&mut seen)?;
        self.trace.push(format!("{} starts", self.now));
        self.engine.start(now, &mut self.effects);
        self.perform()?;
        self.request(Asked::Status, Request::Status)?;
        self.request(Asked::Audit, Request::Audit)
    }

    /// The administrator has changed the configuration, and mends it sooner or later.
    fn draw_change(&mut self) -> Config {
        let mut config = self.whole.clone();
        if !self.faults || config.pools.len() < 2 || self.dice.hits(60) {
            return config;
        }
        let place = self.dice.between(1, config.pools.len() as u64 - 1) as usize;
        if self.dice.hits(50) {
            config.pools.remove(place);
        } else {
            let pool = &mut config.pools[place];
            pool.command = if pool.is_builtin() { Some(vec!["worker".to_owned()]) } else { None };
        }
        config
    }
}

pub fn boot(config: &Config, disk: &mut Disk, now: Now, dice: &mut Dice) -> Engine {
    let identity = Identity { version: "0".to_owned(), pid: 1 };
    Engine::new(config.clone(), disk.recover(now.wall), identity, now, dice.between(0, u64::MAX >> 20))
}
