//! Which jobs are in memory.
//!
//! A pool's window holds the best of its waiting jobs, no more than its limits allow; the rest lie in the store. It
//! is filled up when it has run half empty, ahead of need. A submit of better jobs evicts the worst.

use super::event::{Effect, Effects};
use super::mutant::Mutant;
use super::timers::Timer;
use super::write::Then;
use super::{Engine, Live, Place};
use crate::config::{PROMOTE_JOBS_MAX, RELEASE_JOBS_MAX};
use crate::model::{Fetch, Fetched, Job, Now, PoolName, Record, StoreError, Wall};
use log::Level;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// See [`Mutant::PromoteEarly`].
const PROMOTE_EARLY: Duration = Duration::from_secs(3_600);

impl Engine {
    /// Asks for more jobs when the window has run half empty and there may be more.
    pub(super) fn fetch_if_low(&mut self, place: usize, effects: &mut Effects) {
        let (jobs_max, bytes_max) = (self.settings.window_jobs_max, self.settings.window_bytes_max);
        let stopping = self.is_stopping();
        let pool = &mut self.pools[place];
        // Jobs that go alone came from workers' windows: they are few, and must not keep better ones out.
        let is_low = pool.window.together() * 2 <= jobs_max && pool.window.bytes() * 2 <= bytes_max;
        let is_behind = pool.window.best_priority().is_some_and(|priority| !pool.is_best(priority));
        if pool.fetching || pool.more.is_none() || !(is_low || is_behind) || stopping || pool.gone {
            return;
        }
        pool.fetching = true;
        effects.push(Effect::Fetch(Fetch {
            pool: pool.settings.name.clone(),
            jobs_max: jobs_max.saturating_sub(pool.window.together()).max(1)
                * if Mutant::FetchTwice.is_on() { 2 } else { 1 },
            bytes_max: bytes_max.saturating_sub(pool.window.bytes()).max(1),
        }));
    }

    pub(super) fn on_fetched(
        &mut self,
        now: Now,
        pool: &PoolName,
        result: Result<Fetched, StoreError>,
        effects: &mut Effects,
    ) {
        let Some(place) = self.pool_place(pool) else {
            return;
        };
        self.dirty.insert(place);
        let fetched = match result {
            Ok(fetched) => fetched,
            Err(error) => {
                let more = self.pools[place].more;
                self.pools[place].end_fetch(more);
                effects.log(Level::Error, format!("pool {pool}: jobs cannot be read: {error}"));
                self.on_store_trouble(now, &error, effects);
                return;
            }
        };
        // The best come first: what is left is no better than the last.
        let last = fetched.jobs.last().map_or(self.pools[place].more, |(job, _)| Some(job.priority));
        self.pools[place].end_fetch(last.filter(|_| !fetched.end));
        let mut unsuited = false;
        for (job, standing) in fetched.jobs {
            // The pool was another when it was submitted: it waits in the store for a daemon that can run it.
            if !self.pools[place].settings.can_run(&job.work) && !Mutant::RunUnsuited.is_on() {
                unsuited = true;
                continue;
            }
            // After an eviction the store may give again what is in memory, and a cancel may be on its way.
            if self.jobs.contains_key(&job.id) || self.cancelling.contains(&job.id) {
                continue;
            }
            let is_held = self.void.contains_key(&job.id) && !Mutant::RunTwice.is_on();
            if !is_held {
                self.pools[place].window.insert(&job, &standing);
            }
            let place = if is_held { Place::Parked } else { Place::Waiting };
            self.jobs.insert(job.id, Live { job, standing, deliveries: 0, place });
        }
        if unsuited && !self.pools[place].unsuited {
            self.pools[place].unsuited = true;
            if let Some(warning) = self.unsuited_warning(&self.pools[place]) {
                effects.log(Level::Warn, warning);
            }
        }
    }

    /// The store has jobs for this pool that it had not before, the best of them of this priority.
    pub(super) fn on_visible(&mut self, pool: &PoolName, priority: i16, effects: &mut Effects) {
        let Some(place) = self.pool_place(pool) else {
            return;
        };
        self.pools[place].set_more(priority);
        let last = self.pools[place].window.last_together();
        if last.is_some_and(|(Reverse(worst), _)| worst < priority) && !Mutant::IgnorePriority.is_on() {
            self.evict_worse(place, priority, effects);
        }
        self.dirty.insert(place);
    }

    /// Makes room for better jobs: the jobs of lower priority go back to the store, which gives them out again in
    /// their turn.
    fn evict_worse(&mut self, place: usize, priority: i16, effects: &mut Effects) {
        let room = self.settings.window_jobs_max / 2;
        let mut evicted: Vec<Arc<Job>> = Vec::new();
        while self.pools[place].window.together() > room || self.is_heavy(place) {
            match self.pools[place].window.last_together() {
                Some((Reverse(worst), id)) if worst < priority => {
                    let Some(live) = self.jobs.remove(&id) else {
                        unreachable!("a job in a window is in memory");
                    };
                    self.pools[place].window.remove(&live.job);
                    evicted.push(live.job);
                }
                Some(_) | None => break,
            }
        }
        if !evicted.is_empty() {
            effects.push(Effect::Rewind(evicted));
        }
    }

    fn is_heavy(&self, place: usize) -> bool {
        self.pools[place].window.bytes() > self.settings.window_bytes_max / 2
    }

    /// A pool's next delayed job is due then.
    pub(super) fn due_at(&mut self, now: Now, place: usize, due: Wall) {
        let when = now.mono + due.since(self.steady_wall(now));
        self.timers.set_if_sooner(Timer::Due(place), when);
    }

    pub(super) fn on_due(&mut self, now: Now, place: usize, effects: &mut Effects) {
        if self.is_stopping() {
            return;
        }
        let pool = self.pools[place].settings.name.clone();
        let ahead = if Mutant::PromoteEarly.is_on() { PROMOTE_EARLY } else { Duration::ZERO };
        let record = Record::Promote { pool, now: self.steady_wall(now) + ahead, limit: PROMOTE_JOBS_MAX };
        self.write(record, Then::Promoted(place), effects);
    }

    /// Passes ends of jobs on to their successors, if any wait.
    pub(super) fn release_ends(&mut self, now: Now, effects: &mut Effects) {
        if self.writes.releases && !self.writes.releasing && !Mutant::NeverRelease.is_on() {
            self.writes.releasing = true;
            let record = Record::Release { now: self.steady_wall(now), limit: RELEASE_JOBS_MAX };
            self.write(record, Then::Released, effects);
        }
    }

    /// The wall clock as it would stand if nobody had set it since the daemon started: delays go by it.
    pub(super) fn steady_wall(&self, now: Now) -> Wall {
        if Mutant::DelayByWall.is_on() {
            return now.wall;
        }
        self.started.wall + now.mono.since(self.started.mono)
    }
}
