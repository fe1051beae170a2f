//! How everything ends.
//!
//! Order: refuse, workers, last outcomes written, waiting replies; the shell then closes sockets and frees locks.

use super::Engine;
use super::event::{Effect, Effects};
use super::lifecycle::Haste;
use super::timers::Timer;
use super::worker::{Intent, Slot, SlotState};
use crate::model::{Generation, Now};
use log::Level;

/// How far the daemon is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Draining: no submits, and a stop when all is worked off.
    Serving { draining: bool },
    /// Workers are being stopped, with this much haste.
    Stopping(Force),
    /// [`Effect::Exit`] has been said.
    Left,
}

/// How much haste: each further signal raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Force {
    /// Running jobs may finish.
    Drain,
    /// Workers get their stop signal.
    Stop,
    /// Workers are killed.
    Kill,
}

impl Engine {
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        match self.stage {
            Stage::Serving { .. } => false,
            Stage::Stopping(_) | Stage::Left => true,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stage == Stage::Serving { draining: true }
    }

    pub(super) fn set_draining(&mut self, draining: bool) {
        if let Stage::Serving { .. } = self.stage {
            self.stage = Stage::Serving { draining };
        }
    }

    /// TERM or INT: the first lets running jobs finish, the second does not, the third kills.
    pub(super) fn on_stop_signal(&mut self, now: Now, effects: &mut Effects) {
        match self.stage {
            Stage::Serving { .. } => {
                let running: u64 = self.pools.iter().map(super::pool::Pool::running).sum();
                if running > 0 {
                    let jobs = if running == 1 { "job" } else { "jobs" };
                    effects.log(
                        Level::Warn,
                        format!("finishing {running} running {jobs}; Ctrl-C again stops them"),
                    );
                }
                self.stop_all(now, Force::Drain, effects);
            }
            Stage::Stopping(Force::Drain) => self.stop_all(now, Force::Stop, effects),
            Stage::Stopping(Force::Stop | Force::Kill) => self.stop_all(now, Force::Kill, effects),
            Stage::Left => {}
        }
    }

    /// Begins to stop, or goes on with more haste.
    pub(super) fn stop_all(&mut self, now: Now, force: Force, effects: &mut Effects) {
        match self.stage {
            Stage::Stopping(already) if already >= force => return,
            Stage::Left => return,
            Stage::Serving { .. } | Stage::Stopping(_) => {}
        }
        self.stage = Stage::Stopping(force);
        let until = self.settings.drain_timeout.map(|timeout| now.mono + timeout);
        let haste = match force {
            Force::Drain => {
                if let Some(until) = until {
                    self.timers.set(Timer::Drain, until);
                }
                // The pool's own deadline is the daemon's: one clock ends all drains.
                Haste::Drain { until: None }
            }
            Force::Stop => Haste::Stop,
            Force::Kill => Haste::Kill,
        };
        let workers: Vec<Generation> = self.seats.keys().copied().collect();
        for worker in workers {
            self.stop_worker(now, worker, Intent::Shutdown, haste, effects);
        }
        for (place, pool) in self.pools.iter_mut().enumerate() {
            for (at, slot) in pool.slots.iter_mut().enumerate() {
                if matches!(slot.state, SlotState::Backoff | SlotState::Held) {
                    slot.state = SlotState::Vacant;
                    let at = u32::try_from(at).expect("a pool has fewer than 2^32 slots");
                    self.timers.clear(Timer::Slot(place, at));
                }
            }
        }
    }

    pub(super) fn on_drain_timeout(&mut self, now: Now, effects: &mut Effects) {
        self.stop_all(now, Force::Stop, effects);
    }

    /// Leaves when the workers are gone, what they did is durable, and who waits for it has been told.
    pub(super) fn leave_if_settled(&mut self, now: Now, effects: &mut Effects) {
        let Stage::Stopping(_) = self.stage else {
            return;
        };
        let processes = self.pools.iter().flat_map(|pool| &pool.slots).filter_map(Slot::process);
        // What no SIGKILL ends is not waited for: the next daemon finds it.
        let workers = processes.filter(|process| process.survivor.is_none()).count();
        let unwritten = !self.writes.is_empty();
        if workers > 0 || self.writes.are_under_way() {
            return;
        }
        if self.writes.trouble.is_none() {
            self.tell_last_news(now, effects);
        }
        // The store answers every question, if only with an error.
        if !self.asks.pending.is_empty() {
            return;
        }
        self.stage = Stage::Left;
        self.dismiss_acts(effects);
        self.dismiss_waiters(effects);
        if unwritten {
            effects.log(
                Level::Error,
                "some outcomes could not be written; their jobs run again after a restart",
            );
        }
        effects.push(Effect::Exit(if unwritten { 6 } else { self.exit_status }));
    }

    /// Ends a drain when nothing is queued in pools that are not paused and nothing runs.
    pub(super) fn end_drain_if_done(&mut self, now: Now, effects: &mut Effects) {
        if !self.is_draining() || !self.writes.is_empty() {
            return;
        }
        let left: usize = self.pools.iter().filter(|pool| pool.rests()).map(|pool| pool.window.len()).sum();
        if self.jobs.len() > left {
            return;
        }
        // Jobs that their pool cannot run stay in the store, and are not waited for.
        if self.pools.iter().all(|pool| pool.rests() || pool.is_worked_off()) {
            effects.log(Level::Info, "drained: everything queued is worked off");
            self.stop_all(now, Force::Drain, effects);
        }
    }
}
