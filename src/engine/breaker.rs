//! When a pool's workers end too soon, again and again: starts are held back, and one at a time is tried.
//!
//! Workers that are ready are left alone. The first one that was started as a probe and stays ready for
//! `restart_reset` proves that all is well again. So a pool slows down by itself and comes back by itself, and never
//! gives up for good.

use crate::model::{Generation, JobId, Mono};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Different jobs that crash their workers in a row, without a success in between, after which it is hardly theirs.
const CRASHED_JOBS_MAX: usize = 10;

/// Counts a pool's bad ends.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Unasked ends of workers that held no job, within the period, oldest first.
    exits: VecDeque<Mono>,
    /// Jobs that crashed a worker since the last success.
    crashed: BTreeSet<JobId>,
    state: State,
}

/// Whether workers may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Nobody, until the next one is tried.
    Open,
    /// This one is being tried.
    Probing(Generation),
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// The worker that is being tried.
    pub(super) fn probe(&self) -> Option<Generation> {
        match self.state {
            State::Closed | State::Open => None,
            State::Probing(worker) => Some(worker),
        }
    }

    /// A worker has ended that should not have. True when this is once too often.
    pub(super) fn on_exit(&mut self, now: Mono, limit: u32, period: Duration) -> bool {
        self.exits.push_back(now);
        while self.exits.front().is_some_and(|at| now.since(*at) > period) {
            self.exits.pop_front();
        }
        self.exits.len() > limit as usize && self.trip()
    }

    /// A job was alone with a worker that died. True when this is one too many.
    pub(super) fn on_crash(&mut self, id: JobId) -> bool {
        self.crashed.insert(id);
        self.crashed.len() >= CRASHED_JOBS_MAX && self.trip()
    }

    pub(super) fn on_success(&mut self) {
        self.crashed.clear();
    }

    /// The next worker to be tried has been started.
    pub(super) fn set_probe(&mut self, worker: Generation) {
        self.state = State::Probing(worker);
    }

    /// The worker that was tried has ended.
    pub(super) fn clear_probe(&mut self) {
        self.state = State::Open;
    }

    pub(super) fn close(&mut self) {
        *self = Breaker::default();
    }

    fn trip(&mut self) -> bool {
        self.crashed.clear();
        let trips = self.state == State::Closed;
        if trips {
            self.state = State::Open;
        }
        trips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn it_trips_once_when_exits_come_too_fast() {
        let mut breaker = Breaker::default();
        assert!(!(0..10).any(|second| breaker.on_exit(at(second), 10, PERIOD)));
        assert!(breaker.on_exit(at(10), 10, PERIOD));
        assert!(breaker.is_open());
        assert!(!breaker.on_exit(at(11), 10, PERIOD), "it is open already");
        breaker.close();
        assert!(!breaker.is_open());
        assert!(!breaker.on_exit(at(12), 10, PERIOD), "it has forgotten the others");
    }

    #[test]
    fn slow_exits_never_trip_it() {
        let mut breaker = Breaker::default();
        assert!(!(0..1_000).any(|n| breaker.on_exit(at(n * 7), 10, PERIOD)));
    }

    #[test]
    fn ten_jobs_that_crash_in_a_row_trip_it_and_one_job_does_not() {
        let mut breaker = Breaker::default();
        assert!(!(0..100).any(|_| breaker.on_crash(JobId(1))));
        assert!(!(2..10).any(|id| breaker.on_crash(JobId(id))));
        breaker.on_success();
        assert!(!(10..19).any(|id| breaker.on_crash(JobId(id))));
        assert!(breaker.on_crash(JobId(19)));
    }
}
