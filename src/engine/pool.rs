//! A pool: its settings, its workers and the part of its queue that is in memory.

use super::breaker::Breaker;
use super::metrics::Totals;
use super::window::Window;
use super::worker::{Phase, Slot, SlotState};
use crate::config::PoolSettings;
use crate::model::Counts;
use crate::wire::control::WorkerCounts;
use std::sync::Arc;

/// One pool of the configuration.
#[derive(Debug)]
pub(super) struct Pool {
    /// Shared with the workers that were started with them.
    pub(super) settings: Arc<PoolSettings>,
    /// It is no longer configured: its last workers go, and its jobs wait until it is again.
    pub(super) gone: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) window: Window,
    /// What the store holds. A running job counts as queued here.
    pub(super) counts: Counts,
    pub(super) paused: bool,
    /// Enough workers have been ready once: dispatch has begun.
    pub(super) open: bool,
    /// A fetch is under way.
    pub(super) fetching: bool,
    /// The store may have jobs that are not in the window, none of them of a higher priority than this.
    pub(super) more: Option<i16>,
    /// The highest priority among those that the store has got since the fetch under way was asked for.
    more_since_fetch: Option<i16>,
    /// Jobs were found in the store that this pool cannot run; they stay there.
    pub(super) unsuited: bool,
    /// Why the last start failed, until one succeeds.
    pub(super) start_error: Option<String>,
    pub(super) rate: Rate,
    pub(super) totals: Totals,
    pub(super) breaker: Breaker,
}

impl Pool {
    pub(super) fn new(settings: PoolSettings) -> Pool {
        let slots = (0..settings.workers).map(|_| Slot::default()).collect();
        Pool {
            settings: Arc::new(settings),
            gone: false,
            slots,
            window: Window::default(),
            counts: Counts::default(),
            paused: false,
            open: false,
            fetching: false,
            more: None,
            more_since_fetch: None,
            unsuited: false,
            start_error: None,
            rate: Rate::default(),
            totals: Totals::default(),
            breaker: Breaker::default(),
        }
    }

    /// The store has got something new for this pool, of this priority at most.
    pub(super) fn set_more(&mut self, priority: i16) {
        self.more = self.more.max(Some(priority));
        if self.fetching {
            self.more_since_fetch = self.more_since_fetch.max(Some(priority));
        }
    }

    /// A fetch has ended. `left` is the highest priority that the store can still have had then.
    pub(super) fn end_fetch(&mut self, left: Option<i16>) {
        self.fetching = false;
        self.more = left.max(self.more_since_fetch.take());
    }

    /// Whether nothing is left that its workers could run.
    pub(super) fn is_worked_off(&self) -> bool {
        self.window.len() == 0 && self.is_all_fetched()
    }

    /// Whether the store has nothing more for its workers.
    pub(super) fn is_all_fetched(&self) -> bool {
        self.more.is_none() && !self.fetching
    }

    /// Whether its jobs are to wait, whatever its workers do.
    pub(super) fn rests(&self) -> bool {
        self.paused || self.gone
    }

    /// Whether a job of this priority may be sent: nothing better may lie in the store.
    pub(super) fn is_best(&self, priority: i16) -> bool {
        self.more.is_none_or(|more| priority >= more)
    }

    /// Workers that are ready, busy or not.
    pub(super) fn ready(&self) -> usize {
        self.in_phase(|phase| matches!(phase, Phase::Ready))
    }

    /// Workers that have been started and are not yet ready.
    pub(super) fn starting(&self) -> usize {
        self.in_phase(|phase| matches!(phase, Phase::Starting { .. }))
    }

    fn in_phase(&self, is: impl Fn(Phase) -> bool) -> usize {
        self.slots.iter().filter_map(Slot::process).filter(|process| is(process.phase)).count()
    }

    /// Jobs that a worker holds and that have no outcome.
    pub(super) fn running(&self) -> u64 {
        let held = self.slots.iter().filter_map(Slot::process).flat_map(|process| &process.held);
        held.filter(|held| !held.void).count() as u64
    }

    pub(super) fn worker_counts(&self) -> WorkerCounts {
        let busy = self.slots.iter().filter_map(Slot::process).filter(|process| !process.held.is_empty());
        let backoff =
            self.slots.iter().filter(|slot| matches!(slot.state, SlotState::Backoff | SlotState::Held));
        WorkerCounts {
            wanted: u64::from(self.settings.workers),
            ready: self.ready() as u64,
            busy: busy.count() as u64,
            starting: self.starting() as u64,
            backoff: backoff.count() as u64,
        }
    }
}

/// Jobs finished per second, over the last ten full seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    second: u64,
    counts: [u64; Rate::SECONDS],
}

impl Rate {
    const SECONDS: usize = 11;

    /// Counts `jobs` in the second that `now_ns` lies in.
    pub(super) fn add(&mut self, now_ns: u64, jobs: u64) {
        self.turn_to(now_ns);
        self.counts[place(self.second)] += jobs;
    }

    pub(super) fn per_second(&mut self, now_ns: u64) -> f64 {
        self.turn_to(now_ns);
        let running = place(self.second);
        let full: u64 = self.counts.iter().enumerate().filter(|(at, _)| *at != running).map(|(_, n)| n).sum();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = full as f64 / (Rate::SECONDS - 1) as f64;
        rate
    }

    fn turn_to(&mut self, now_ns: u64) {
        let second = now_ns / 1_000_000_000;
        let passed = second.saturating_sub(self.second).min(Rate::SECONDS as u64);
        for step in 1..=passed {
            self.counts[place(self.second + step)] = 0;
        }
        if passed == Rate::SECONDS as u64 {
            self.counts = [0; Rate::SECONDS];
        }
        self.second = self.second.max(second);
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % Rate::SECONDS as u64).expect("a remainder below eleven fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_ten_full_seconds() {
        let second = 1_000_000_000;
        let mut rate = Rate::default();
        rate.add(100 * second, 50);
        assert!(rate.per_second(100 * second).abs() < 1e-9, "the running second is not full");
        assert!((rate.per_second(101 * second) - 5.0).abs() < 1e-9);
        assert!((rate.per_second(110 * second) - 5.0).abs() < 1e-9);
        assert!(rate.per_second(111 * second).abs() < 1e-9);
        rate.add(500 * second, 10);
        assert!((rate.per_second(501 * second) - 1.0).abs() < 1e-9);
    }
}
