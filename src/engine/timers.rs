//! Every deadline of the engine, one per purpose.
//!
//! Setting a timer replaces the former one, so nothing stale can fire.

use super::event::Client;
use crate::model::{BatchId, Generation, Mono};
use std::collections::{BTreeMap, BTreeSet};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A slot's state has lasted long enough: pool and slot by place.
    Slot(usize, u32),
    /// A worker's oldest job has taken too long, or has been cancelled for long enough.
    Oldest(Generation),
    /// A dead worker's results need not be read any longer.
    Late(Generation),
    /// A worker is old enough to be replaced.
    Age(Generation),
    /// A busy worker has perhaps been silent for too long.
    Watchdog(Generation),
    /// A worker that became ready while starts are held back has been so for long enough.
    Stable(Generation),
    /// The next of a pool's starts that are held back is tried.
    Probe(usize),
    /// How much memory a pool's workers have is looked at.
    Measure(usize),
    /// A pool's next delayed job is due.
    Due(usize),
    /// Records that could not be written are tried again.
    WriteAgain,
    /// A submit's client has been silent for too long.
    Silence(BatchId),
    /// A waiting request gets its reply, whatever it is.
    Wait(Client),
    /// A waiting request may look at the store again.
    Look(Client),
    /// Finished jobs may have been kept for long enough.
    Expire,
    /// Running jobs have had their time.
    Drain,
}

/// Deadlines, soonest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Mono, Timer)>,
    at: BTreeMap<Timer, Mono>,
}

impl Timers {
    /// Has `timer` fire at `when`, and not at any other time.
    pub(super) fn set(&mut self, timer: Timer, when: Mono) {
        self.clear(timer);
        self.at.insert(timer, when);
        self.queue.insert((when, timer));
    }

    /// Has `timer` fire at `when` or sooner.
    pub(super) fn set_if_sooner(&mut self, timer: Timer, when: Mono) {
        if self.at.get(&timer).is_none_or(|at| when < *at) {
            self.set(timer, when);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// Batches whose client is waited for.
    pub(super) fn silent_batches(&self) -> Vec<BatchId> {
        let batches = self.at.keys().filter_map(|timer| match timer {
            Timer::Silence(batch) => Some(*batch),
            _ => None,
        });
        batches.collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.queue.first().map(|(when, _)| *when)
    }

    /// Takes the first timer that is due at `now`.
    pub(super) fn next_due(&mut self, now: Mono) -> Option<Timer> {
        let (when, timer) = *self.queue.first()?;
        if when > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_once_at_its_last_setting() {
        let mut timers = Timers::default();
        timers.set(Timer::Drain, Mono(5));
        timers.set(Timer::WriteAgain, Mono(7));
        timers.set(Timer::Drain, Mono(9));
        timers.set_if_sooner(Timer::WriteAgain, Mono(8));
        assert_eq!(timers.next_deadline(), Some(Mono(7)));
        assert_eq!(timers.next_due(Mono(6)), None);
        assert_eq!(timers.next_due(Mono(9)), Some(Timer::WriteAgain));
        assert_eq!(timers.next_due(Mono(9)), Some(Timer::Drain));
        assert_eq!(timers.next_due(Mono(9)), None);
        assert_eq!(timers.next_deadline(), None);
    }
}
