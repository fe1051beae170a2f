//! Workers that hang, and a daemon that was itself stopped.
//!
//! The watchdog is opt-in: a busy worker that sends nothing for `watchdog` is aborted. But silence proves nothing when
//! the daemon was not there to listen: after a suspend or a SIGSTOP every worker gets all of its time anew.

use super::Engine;
use super::event::Effects;
use super::lifecycle::Haste;
use super::timers::Timer;
use super::worker::{Intent, Phase};
use crate::config::{LATE_RESULTS, SUBMIT_SILENCE};
use crate::model::{Generation, Mono, Now};
use log::Level;

impl Engine {
    /// A worker has got its first job, or has said something.
    pub(super) fn hear(&mut self, now: Now, worker: Generation) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let settings = &self.pools[seat.pool].settings;
        // The built-in worker runs commands, which say nothing; a job's timeout is their limit.
        let Some(watchdog) = settings.watchdog.filter(|_| !settings.is_builtin()) else {
            return;
        };
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        process.heard = now.mono;
        if !process.held.is_empty() && !self.timers.is_set(Timer::Watchdog(worker)) {
            self.timers.set(Timer::Watchdog(worker), now.mono + watchdog);
        }
    }

    pub(super) fn on_watchdog(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let Some(watchdog) = self.pools[seat.pool].settings.watchdog else {
            return;
        };
        let Some(process) = self.process(worker).filter(|process| !process.held.is_empty()) else {
            return;
        };
        let due = process.heard + watchdog;
        if due > now.mono {
            self.timers.set(Timer::Watchdog(worker), due);
            return;
        }
        let text = self.worker_text(seat, worker);
        effects.log(Level::Error, format!("{text} has said nothing for {watchdog:?} and is aborted"));
        self.stop_worker(now, worker, Intent::Hung, Haste::Abort, effects);
    }

    /// The daemon has not looked at its timers for so long that it must have been stopped itself.
    pub(super) fn grant_fresh_windows(&mut self, now: Now, effects: &mut Effects) {
        let late = self.timers.next_deadline().map_or(0.0, |due| now.mono.since(due).as_secs_f64());
        effects.log(
            Level::Warn,
            format!("the daemon was stopped for {late:.0} s or more: workers get all of their time anew"),
        );
        let workers: Vec<Generation> = self.seats.keys().copied().collect();
        for worker in workers {
            self.refresh_phase(now, worker);
            if let Some(process) = self.process_mut(worker) {
                process.heard = now.mono;
            }
            if self.timers.is_set(Timer::Oldest(worker)) {
                self.set_oldest_timer(now, worker);
            }
        }
        let late: Vec<Generation> = self.late.keys().copied().collect();
        for worker in late {
            self.timers.set(Timer::Late(worker), now.mono + LATE_RESULTS);
        }
        for batch in self.timers.silent_batches() {
            self.timers.set(Timer::Silence(batch), now.mono + SUBMIT_SILENCE);
        }
    }

    fn refresh_phase(&mut self, now: Now, worker: Generation) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let settings = &self.pools[seat.pool].settings;
        let (start, stop) = (now.mono + settings.start_timeout, now.mono + settings.stop_timeout);
        let drain: Option<Mono> = self.settings.drain_timeout.map(|timeout| now.mono + timeout);
        if let Some(process) = self.process_mut(worker) {
            match &mut process.phase {
                Phase::Starting { until } => *until = start,
                Phase::Draining { until: Some(until) } => *until = drain.unwrap_or(*until),
                Phase::Stopping { until } => *until = stop,
                Phase::Ready
                | Phase::Draining { until: None }
                | Phase::Killing { .. }
                | Phase::Stuck { .. } => {}
            }
        }
        self.arm_slot_timer(worker);
    }
}
