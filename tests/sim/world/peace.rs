//! The end: faults stop, and everything must finish.

use super::asking::all;
use super::{MS, SECOND, World};
use crate::oracles::Asked;
use pushpull::engine::Event;
use pushpull::model::PoolName;
use pushpull::wire::request::Request;
use std::time::Duration;

/// Everything must have finished so long after the last fault.
const PATIENCE: u64 = 120 * SECOND;

impl World {
    pub(super) fn make_peace(&mut self) -> Result<(), String> {
        self.faults = false;
        self.disk.broken = None;
        self.run_until(self.now + SECOND)?;
        let mends = self.dice.hits(80);
        if mends && self.config != self.whole {
            self.oracles.pauses.stopping = true;
            self.step(Event::Stop)?;
        }
        self.run_until(self.now + 2 * SECOND)?;
        if self.oracles.pauses.draining {
            self.resume_all()?;
        }
        if self.dice.hits(80) {
            self.resume_all()?;
        }
        self.wait_for_the_end()?;
        let (oracles, mut seen) = self.watch();
        oracles.check_end(&mut seen)?;
        self.check_slots()?;
        self.check_silence()?;
        self.stop_and_leave()
    }

    /// Goes on until all that can finish has finished, and has been told to who follows.
    fn wait_for_the_end(&mut self) -> Result<(), String> {
        let end = self.now + PATIENCE;
        loop {
            self.run_until(self.now + 100 * MS)?;
            let (oracles, mut seen) = self.watch();
            let unfinished = oracles.unfinished(&mut seen);
            if unfinished.is_empty() && self.followed_all() {
                break;
            }
            if self.now > end {
                return Err(format!(
                    "after {} s not everything has finished: {unfinished}",
                    self.now / SECOND
                ));
            }
        }
        self.followed = true;
        let (_, seen) = self.watch();
        let is_done = seen.disk.counts(&all()).unfinished() == 0;
        let asked = if is_done { Asked::Wait(all()) } else { Asked::Browse };
        self.request(asked, Request::Wait { select: all(), timeout: Duration::from_secs(3) })?;
        self.run_until(self.now + 10 * SECOND)
    }

    /// The follower's pages have reached the end of the log.
    fn followed_all(&mut self) -> bool {
        let (oracles, mut seen) = self.watch();
        oracles.desk.has_followed(&mut seen)
    }

    fn check_slots(&mut self) -> Result<(), String> {
        for (place, pool) in self.config.pools.iter().enumerate() {
            let fills = |process: &&crate::workers::Process| process.alive && process.pool == place;
            let filled = self.processes.values().filter(fills).count();
            if filled != pool.workers as usize {
                let (name, wanted): (&PoolName, u32) = (&pool.name, pool.workers);
                return Err(format!("{filled} of {wanted} slots of pool {name} are filled at the end"));
            }
        }
        Ok(())
    }

    /// Submits whose clients vanished are forgotten after a while.
    fn check_silence(&mut self) -> Result<(), String> {
        self.run_until(self.now + 70 * SECOND)?;
        for number in 0..self.submits.len() {
            let submit = &mut self.submits[number];
            if submit.vanishes.is_some_and(|chunk| chunk > 0 && chunk < submit.said.len()) {
                submit.at = submit.vanishes.expect("it was just seen");
                let said = submit.request();
                self.request(Asked::Forgotten(number), Request::Submit(Box::new(said)))?;
            }
        }
        self.request(Asked::Status, Request::Status)?;
        self.request(Asked::Audit, Request::Audit)?;
        // Whoever is refused without end would ask again in the very last moment.
        self.quiet = true;
        self.run_until(self.now + SECOND)?;
        let (oracles, mut seen) = self.watch();
        oracles.desk.check_silence()?;
        oracles.check_end(&mut seen)
    }

    fn stop_and_leave(&mut self) -> Result<(), String> {
        self.ending = true;
        self.oracles.pauses.stopping = true;
        self.step(Event::Stop)?;
        self.run_until(self.now + 60 * SECOND)?;
        match self.left {
            Some(0) => Ok(()),
            Some(status) => Err(format!("the daemon left with status {status}")),
            None => Err("the daemon did not leave".to_owned()),
        }
    }
}
