//! Workers that are replaced by plan: because of their age, their jobs or their memory, or because somebody said so.
//!
//! No more than `max_unavailable` of a pool at once: a slot counts from the moment in which its worker begins to
//! drain until its successor is ready. So a program that no longer starts costs one slot, not the pool.

use super::ask::{no_pool, no_worker};
use super::event::{Client, Effect, Effects};
use super::lifecycle::Haste;
use super::timers::Timer;
use super::worker::{Intent, Phase, Process, Slot, SlotState};
use super::{Engine, Seat};
use crate::config::{MEASURE_AGAIN, OnRestartLimit};
use crate::model::{Generation, Now, PoolName};
use crate::wire::reply::Reply;
use crate::wire::request::Restarted;
use log::Level;
use std::sync::Arc;

impl Engine {
    /// Has a worker replaced, as soon as no others are in the way.
    pub(super) fn want_replaced(
        &mut self,
        now: Now,
        worker: Generation,
        intent: Intent,
        effects: &mut Effects,
    ) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        if let Some(process) = self.process_mut(worker) {
            process.replace.get_or_insert(intent);
        }
        self.replace_next(now, seat.pool, effects);
    }

    /// Begins to replace workers that are to be, as many as may be missing.
    pub(super) fn replace_next(&mut self, now: Now, pool: usize, effects: &mut Effects) {
        let until = self.settings.drain_timeout.map(|timeout| now.mono + timeout);
        while let Some((worker, intent)) = self.next_to_replace(pool) {
            self.stop_worker(now, worker, intent, Haste::Drain { until }, effects);
        }
    }

    fn next_to_replace(&mut self, pool: usize) -> Option<(Generation, Intent)> {
        if self.is_stopping() {
            return None;
        }
        let pool = &mut self.pools[pool];
        let missing = pool.slots.iter().filter(|slot| slot.replacing).count();
        if missing >= pool.settings.max_unavailable as usize {
            return None;
        }
        pool.slots.iter_mut().find_map(|slot| {
            let process = slot.process()?;
            let intent = process.replace.filter(|_| process.intent.is_none())?;
            let worker = process.generation();
            slot.replacing = true;
            Some((worker, intent))
        })
    }

    /// Draws a new worker's own limits and sets their timers.
    pub(super) fn set_limits(&mut self, now: Now, worker: Generation) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let settings = &self.pools[seat.pool].settings;
        let (max_age, max_rss) = (settings.max_age, settings.max_rss);
        if let Some(age) = max_age {
            let age = self.chance.a_little_less(age);
            self.timers.set(Timer::Age(worker), now.mono + age);
        }
        if max_rss.is_some() && !self.timers.is_set(Timer::Measure(seat.pool)) {
            self.timers.set(Timer::Measure(seat.pool), now.mono + MEASURE_AGAIN);
        }
    }

    /// Asks how much memory a pool's workers have.
    pub(super) fn measure(&mut self, now: Now, pool: usize, effects: &mut Effects) {
        let workers: Vec<Generation> =
            self.pools[pool].slots.iter().filter_map(Slot::process).map(Process::generation).collect();
        if self.pools[pool].settings.max_rss.is_some() && !workers.is_empty() {
            effects.push(Effect::Measure(workers));
            self.timers.set(Timer::Measure(pool), now.mono + MEASURE_AGAIN);
        }
    }

    pub(super) fn on_measured(&mut self, now: Now, worker: Generation, rss_kib: u64, effects: &mut Effects) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let limit = self.pools[seat.pool].settings.max_rss;
        let is_new = self.process(worker).is_some_and(|process| process.replace.is_none());
        if limit.is_some_and(|limit| rss_kib > limit / 1_024) && is_new {
            let text = self.worker_text(seat, worker);
            effects.log(Level::Info, format!("{text} has {rss_kib} KiB, more than max_rss, and is replaced"));
            self.want_replaced(now, worker, Intent::Recycle, effects);
        }
    }

    /// Somebody wants workers replaced: a pool's, all, or one.
    pub(super) fn on_restart(
        &mut self,
        now: Now,
        client: Client,
        what: &Restarted,
        at_once: bool,
        effects: &mut Effects,
    ) {
        let reply = match what {
            Restarted::Everything => {
                for pool in self.order.clone() {
                    self.restart_pool(now, pool, at_once, effects);
                }
                Reply::Done
            }
            Restarted::Pool(name) => match self.live_pool(name) {
                Some(pool) => {
                    self.restart_pool(now, pool, at_once, effects);
                    Reply::Done
                }
                None => no_pool(name),
            },
            Restarted::Worker(name) => match self.find_slot(name) {
                Some((pool, slot)) => {
                    self.restart_slot(now, pool, slot, at_once, effects);
                    Reply::Done
                }
                None => no_worker(name),
            },
        };
        effects.reply(client, reply);
    }

    fn restart_pool(&mut self, now: Now, pool: usize, at_once: bool, effects: &mut Effects) {
        self.pools[pool].breaker.close();
        self.timers.clear(Timer::Probe(pool));
        // First those that are there: whoever starts now is new already.
        for slot in 0..self.pools[pool].slots.len() {
            self.restart_worker(now, pool, slot, at_once, effects);
        }
        self.let_all_start(pool);
        self.fill(now, pool, effects);
    }

    /// Forgets whatever keeps slots of a pool empty.
    pub(super) fn let_all_start(&mut self, pool: usize) {
        for slot in 0..self.pools[pool].slots.len() {
            self.pools[pool].slots[slot].failures = 0;
            self.let_start(pool, slot);
        }
    }

    fn restart_slot(&mut self, now: Now, pool: usize, at: usize, at_once: bool, effects: &mut Effects) {
        self.restart_worker(now, pool, at, at_once, effects);
        self.let_start(pool, at);
        self.fill(now, pool, effects);
    }

    /// Replaces a slot's worker, if it has one.
    fn restart_worker(&mut self, now: Now, pool: usize, at: usize, at_once: bool, effects: &mut Effects) {
        let slot = &mut self.pools[pool].slots[at];
        slot.failures = 0;
        let Some(worker) = slot.process().map(Process::generation) else {
            return;
        };
        if at_once {
            self.stop_worker(now, worker, Intent::Admin, Haste::Stop, effects);
        } else {
            self.want_replaced(now, worker, Intent::Admin, effects);
        }
    }

    /// Forgets whatever keeps a slot empty.
    fn let_start(&mut self, pool: usize, at: usize) {
        let slot = &mut self.pools[pool].slots[at];
        match slot.state {
            SlotState::Filled(_) | SlotState::Vacant => {}
            SlotState::Backoff | SlotState::Held | SlotState::Retired => {
                slot.state = SlotState::Vacant;
                let number = u32::try_from(at).expect("a pool has fewer than 2^32 slots");
                self.timers.clear(Timer::Slot(pool, number));
            }
        }
    }

    /// Somebody wants a pool to have so many workers.
    pub(super) fn on_scale(
        &mut self,
        now: Now,
        client: Client,
        name: &PoolName,
        workers: u32,
        effects: &mut Effects,
    ) {
        let reply = match self.live_pool(name) {
            Some(pool) => {
                self.scale(now, pool, workers, Intent::Scale, effects);
                Reply::Done
            }
            None => no_pool(name),
        };
        effects.reply(client, reply);
    }

    /// Adds slots, or empties the last ones: their workers finish what they hold.
    pub(super) fn scale(&mut self, now: Now, place: usize, workers: u32, why: Intent, effects: &mut Effects) {
        let pool = &mut self.pools[place];
        Arc::make_mut(&mut pool.settings).workers = workers;
        if pool.slots.len() < workers as usize {
            pool.slots.resize_with(workers as usize, Slot::default);
        }
        let surplus: Vec<Generation> = pool.slots[workers as usize..]
            .iter_mut()
            .filter_map(|slot| {
                slot.replacing = false;
                slot.process().map(Process::generation)
            })
            .collect();
        let until = self.settings.drain_timeout.map(|timeout| now.mono + timeout);
        for worker in surplus {
            self.stop_worker(now, worker, why, Haste::Drain { until }, effects);
        }
        self.drop_surplus(place);
        self.fill(now, place, effects);
        self.open_if_ready(place, effects);
    }

    /// Forgets empty slots at the end that are not wanted.
    pub(super) fn drop_surplus(&mut self, place: usize) {
        let pool = &mut self.pools[place];
        while pool.slots.len() > pool.settings.workers as usize {
            if pool.slots.last().is_none_or(|slot| slot.process().is_some()) {
                return;
            }
            pool.slots.pop();
            let slot = u32::try_from(pool.slots.len()).expect("a pool has fewer than 2^32 slots");
            self.timers.clear(Timer::Slot(place, slot));
        }
    }

    /// Starts are held back from now on, and one worker at a time is tried.
    pub(super) fn hold_back(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let pool = &mut self.pools[place];
        let settings = &pool.settings;
        effects.log(
            Level::Error,
            format!(
                "pool {}: its workers end too often; starts are held back, and one is tried every {} s",
                settings.name,
                settings.restart_delay_max.as_secs_f64()
            ),
        );
        let leave = settings.on_restart_limit.unwrap_or(if self.settings.leave_if_not_executable {
            OnRestartLimit::Exit
        } else {
            OnRestartLimit::Probe
        });
        if leave == OnRestartLimit::Exit {
            self.exit_status = 6;
            self.stop_all(now, super::stop::Force::Drain, effects);
            return;
        }
        for (at, slot) in pool.slots.iter_mut().enumerate() {
            if matches!(slot.state, SlotState::Backoff | SlotState::Vacant) {
                slot.state = SlotState::Held;
                let at = u32::try_from(at).expect("a pool has fewer than 2^32 slots");
                self.timers.clear(Timer::Slot(place, at));
            }
        }
        self.expect_probe(now, place);
    }

    pub(super) fn expect_probe(&mut self, now: Now, place: usize) {
        let pause = self.pools[place].settings.restart_delay_max;
        let pause = self.chance.jitter(pause);
        self.timers.set(Timer::Probe(place), now.mono + pause);
    }

    /// Tries one of the slots that are held back; if there is none any more, all is well.
    pub(super) fn start_probe(&mut self, now: Now, place: usize, effects: &mut Effects) {
        if self.is_stopping() || !self.pools[place].breaker.is_open() {
            return;
        }
        let pool = &mut self.pools[place];
        let Some(at) = pool.slots.iter().position(|slot| matches!(slot.state, SlotState::Held)) else {
            self.let_go(now, place, effects);
            return;
        };
        let Some(generation) = self.generations.take() else {
            self.reserve_generations(effects);
            self.expect_probe(now, place);
            return;
        };
        self.pools[place].breaker.set_probe(generation);
        let slot = u32::try_from(at).expect("a pool has fewer than 2^32 slots");
        self.start_worker(now, Seat { pool: place, slot }, generation, effects);
        self.reserve_generations(effects);
    }

    /// A worker that became ready while starts are held back has stayed so.
    pub(super) fn on_stable(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let is_ready = self.process(worker).is_some_and(|process| matches!(process.phase, Phase::Ready));
        if let Some(seat) = self.seats.get(&worker).copied().filter(|_| is_ready) {
            if self.pools[seat.pool].breaker.is_open() {
                self.let_go(now, seat.pool, effects);
            }
        }
    }

    /// Starts are no longer held back.
    fn let_go(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let pool = &mut self.pools[place];
        pool.breaker.close();
        effects.log(Level::Warn, format!("pool {}: workers start again", pool.settings.name));
        for slot in &mut pool.slots {
            slot.failures = 0;
            if matches!(slot.state, SlotState::Held) {
                slot.state = SlotState::Vacant;
            }
        }
        self.timers.clear(Timer::Probe(place));
        self.fill(now, place, effects);
    }
}
