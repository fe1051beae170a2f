//! When workers start and stop.

use super::chance::doubling;
use super::credit::Credit;
use super::event::{Blow, Death, Effect, Effects};
use super::mutant::Mutant;
use super::stop::Force;
use super::timers::Timer;
use super::worker::{Intent, Phase, Process, Slot, SlotState};
use super::write::Then;
use super::{Engine, Seat};
use crate::config::{ABORT_TIMEOUT, GENERATIONS_PER_COMMIT, KILL_AGAIN, KILLS_MAX, Restart, START_AGAIN};
use crate::model::{Exit, Generation, Mono, Now, Record, WorkerName};
use log::Level;
use std::collections::VecDeque;
use std::time::Duration;

/// The generations that may be used: those that the store knows to be taken.
#[derive(Debug)]
pub(super) struct Generations {
    next: Generation,
    reserved: Generation,
    asked: Generation,
}

impl Generations {
    pub(super) fn new(next: Generation) -> Generations {
        Generations { next, reserved: next, asked: next }
    }

    pub(super) fn take(&mut self) -> Option<Generation> {
        let taken = self.next;
        (taken < self.reserved).then(|| {
            self.next = Generation(taken.0 + 1);
            taken
        })
    }

    fn is_low(&self) -> bool {
        self.asked.0 - self.next.0 < GENERATIONS_PER_COMMIT / 2
    }
}

/// How a worker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// It finishes what it holds, for as long as this allows.
    Drain { until: Option<Mono> },
    /// Its stop signal at once.
    Stop,
    /// SIGABRT at once.
    Abort,
    /// SIGKILL at once.
    Kill,
}

impl Engine {
    /// Has the store know a block of generations before any of them is used.
    pub(super) fn reserve_generations(&mut self, effects: &mut Effects) {
        if self.generations.is_low() {
            let upto = Generation(self.generations.asked.0 + GENERATIONS_PER_COMMIT);
            self.generations.asked = upto;
            let known = if Mutant::ReuseGenerations.is_on() { self.generations.next } else { upto };
            self.write(Record::Generations(known), Then::Reserved(upto), effects);
        }
    }

    pub(super) fn on_reserved(&mut self, now: Now, upto: Generation, effects: &mut Effects) {
        self.generations.reserved = self.generations.reserved.max(upto);
        for pool in 0..self.pools.len() {
            self.fill(now, pool, effects);
        }
    }

    /// Starts workers for a pool's vacant slots, no more at once than `max_unready`.
    pub(super) fn fill(&mut self, now: Now, pool: usize, effects: &mut Effects) {
        if self.is_stopping() {
            return;
        }
        let unready_max = self.pools[pool].settings.max_unready as usize;
        let mut starting = self.pools[pool].starting();
        let wanted = self.pools[pool].slots.len().min(self.pools[pool].settings.workers as usize);
        for slot in 0..wanted {
            if starting >= unready_max {
                break;
            }
            if matches!(self.pools[pool].slots[slot].state, SlotState::Vacant) {
                let Some(generation) = self.generations.take() else {
                    break;
                };
                let slot = u32::try_from(slot).expect("a pool has fewer than 2^32 slots");
                self.start_worker(now, Seat { pool, slot }, generation, effects);
                starting += 1;
            }
        }
        self.reserve_generations(effects);
    }

    pub(super) fn start_worker(
        &mut self,
        now: Now,
        seat: Seat,
        generation: Generation,
        effects: &mut Effects,
    ) {
        let answers_max = self.pools[seat.pool].settings.max_jobs;
        let answers_max = answers_max.map(|jobs| self.chance.a_little_fewer(jobs));
        let pool = &mut self.pools[seat.pool];
        pool.totals.worker_starts += 1;
        let name = WorkerName { pool: pool.settings.name.clone(), slot: seat.slot, generation };
        let until = now.mono + pool.settings.start_timeout;
        let process = Process {
            name: name.clone(),
            settings: pool.settings.clone(),
            pid: None,
            phase: Phase::Starting { until },
            intent: None,
            survivor: None,
            replace: None,
            answers_max,
            heard: now.mono,
            born: now.mono,
            ready_at: None,
            held: VecDeque::new(),
            held_bytes: 0,
            oldest_since: now,
            credit: Credit::new(pool.settings.spending(), pool.settings.is_builtin()),
            answered: 0,
            complaints: 0,
        };
        let slot = &mut pool.slots[seat.slot as usize];
        debug_assert!(slot.process().is_none(), "a slot holds one worker at a time");
        slot.state = SlotState::Filled(Box::new(process));
        self.seats.insert(generation, seat);
        self.timers.set(Timer::Slot(seat.pool, seat.slot), until);
        effects.push(Effect::Spawn(name));
    }

    pub(super) fn on_spawned(&mut self, worker: Generation, pid: u32) {
        if let Some(seat) = self.seats.get(&worker) {
            self.pools[seat.pool].start_error = None;
        }
        if let Some(process) = self.process_mut(worker) {
            process.pid = Some(pid);
        }
    }

    pub(super) fn on_spawn_failed(
        &mut self,
        now: Now,
        worker: Generation,
        error: String,
        effects: &mut Effects,
    ) {
        let Some(seat) = self.seats.remove(&worker) else {
            return;
        };
        effects.log(Level::Error, format!("{} did not start: {error}", self.worker_text(seat, worker)));
        let pool = &mut self.pools[seat.pool];
        pool.start_error = Some(error);
        pool.slots[seat.slot as usize].state = SlotState::Vacant;
        if self.settings.leave_if_not_executable {
            self.exit_status = 6;
            self.stop_all(now, Force::Stop, effects);
            return;
        }
        let pool = &mut self.pools[seat.pool];
        // A command that cannot be executed will hardly be executable a moment later: no free first try.
        let slot = &mut pool.slots[seat.slot as usize];
        slot.failures = slot.failures.max(1);
        slot.replacing = false;
        self.back_off(now, seat, START_AGAIN, effects);
        self.hold_if_open(now, seat, worker, true);
        if self.pools[seat.pool].settings.restart == Restart::Never {
            self.fill(now, seat.pool, effects);
        }
    }

    /// The worker says that both of its sockets are connected.
    pub(super) fn on_ready(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let Some(&seat) = self.seats.get(&worker) else {
            return;
        };
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        match process.phase {
            Phase::Starting { .. } => {
                process.phase = Phase::Ready;
                process.ready_at = Some(now.mono);
                self.timers.clear(Timer::Slot(seat.pool, seat.slot));
                self.pools[seat.pool].slots[seat.slot as usize].replacing = false;
                if self.pools[seat.pool].breaker.is_open() {
                    let stable = now.mono + self.pools[seat.pool].settings.restart_reset;
                    self.timers.set(Timer::Stable(worker), stable);
                }
                self.set_limits(now, worker);
            }
            Phase::Ready
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Stuck { .. } => return,
        }
        self.open_if_ready(seat.pool, effects);
        self.fill(now, seat.pool, effects);
        self.replace_next(now, seat.pool, effects);
    }

    /// Lets dispatch begin when enough workers are ready: `min_ready`, or all that there will ever be.
    pub(super) fn open_if_ready(&mut self, place: usize, effects: &mut Effects) {
        let pool = &mut self.pools[place];
        let lost = pool.slots.iter().filter(|slot| slot.is_lost()).count();
        let enough = (pool.settings.min_ready as usize).min(pool.slots.len() - lost);
        if !pool.open && pool.ready() >= enough {
            pool.open = true;
            effects.log(Level::Info, format!("pool {} is ready", pool.settings.name));
        }
        self.dirty.insert(place);
    }

    /// Stops a worker. The intent of its first signal stays; haste only grows.
    pub(super) fn stop_worker(
        &mut self,
        now: Now,
        worker: Generation,
        intent: Intent,
        haste: Haste,
        effects: &mut Effects,
    ) {
        if Mutant::SendStopping.is_on() && matches!(haste, Haste::Drain { .. }) {
            return;
        }
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        // A worker that drains has had no signal yet: what its own job does wrong is told apart from that.
        let is_its_own = matches!(intent, Intent::Timeout(_) | Intent::Hung | Intent::TooLarge(_));
        if is_its_own && matches!(process.phase, Phase::Draining { .. }) {
            process.intent = Some(intent);
        }
        process.intent.get_or_insert(intent);
        match (haste, process.phase) {
            (Haste::Drain { until }, Phase::Ready) if !process.held.is_empty() => {
                process.phase = Phase::Draining { until };
                self.arm_slot_timer(worker);
            }
            (Haste::Abort, Phase::Starting { .. } | Phase::Ready | Phase::Draining { .. }) => {
                self.abort_worker(now, worker, effects);
            }
            (Haste::Drain { .. } | Haste::Stop, Phase::Starting { .. } | Phase::Ready)
            | (Haste::Stop, Phase::Draining { .. }) => self.begin_stopping(now, worker, effects),
            (
                Haste::Kill,
                Phase::Starting { .. } | Phase::Ready | Phase::Draining { .. } | Phase::Stopping { .. },
            ) => self.kill_worker(now, worker, 1, effects),
            (
                Haste::Drain { .. },
                Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Killing { .. } | Phase::Stuck { .. },
            )
            | (
                Haste::Stop | Haste::Abort,
                Phase::Stopping { .. } | Phase::Killing { .. } | Phase::Stuck { .. },
            )
            | (Haste::Kill, Phase::Killing { .. } | Phase::Stuck { .. }) => {}
        }
    }

    pub(super) fn begin_stopping(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let Some(&seat) = self.seats.get(&worker) else {
            return;
        };
        let until = now.mono + self.pools[seat.pool].settings.stop_timeout;
        if let Some(process) = self.process_mut(worker) {
            process.phase = Phase::Stopping { until };
        }
        self.timers.clear(Timer::Oldest(worker));
        self.arm_slot_timer(worker);
        effects.push(Effect::Kill { worker, with: Blow::Stop });
    }

    fn abort_worker(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        if let Some(process) = self.process_mut(worker) {
            process.phase = Phase::Stopping { until: now.mono + ABORT_TIMEOUT };
        }
        self.timers.clear(Timer::Oldest(worker));
        self.arm_slot_timer(worker);
        effects.push(Effect::Kill { worker, with: Blow::Abort });
    }

    fn kill_worker(&mut self, now: Now, worker: Generation, kills: u32, effects: &mut Effects) {
        let until = now.mono + KILL_AGAIN;
        if let Some(process) = self.process_mut(worker) {
            process.phase =
                if kills > KILLS_MAX { Phase::Stuck { until } } else { Phase::Killing { until, kills } };
        }
        self.timers.clear(Timer::Oldest(worker));
        self.arm_slot_timer(worker);
        effects.push(Effect::Kill { worker, with: Blow::Kill });
    }

    /// Has the slot's timer fire when its phase has lasted long enough.
    pub(super) fn arm_slot_timer(&mut self, worker: Generation) {
        let Some(&seat) = self.seats.get(&worker) else {
            return;
        };
        let timer = Timer::Slot(seat.pool, seat.slot);
        let until = self.process(worker).and_then(|process| match process.phase {
            Phase::Ready => None,
            Phase::Draining { until } => until,
            Phase::Starting { until }
            | Phase::Stopping { until }
            | Phase::Killing { until, .. }
            | Phase::Stuck { until } => Some(until),
        });
        match until {
            Some(until) => self.timers.set(timer, until),
            None => self.timers.clear(timer),
        }
    }

    pub(super) fn on_slot_timer(&mut self, now: Now, pool: usize, slot: u32, effects: &mut Effects) {
        let process = match &self.pools[pool].slots[slot as usize].state {
            SlotState::Vacant | SlotState::Held | SlotState::Retired => return,
            SlotState::Backoff => {
                self.pools[pool].slots[slot as usize].state = SlotState::Vacant;
                self.fill(now, pool, effects);
                return;
            }
            SlotState::Filled(process) => process,
        };
        let (worker, phase) = (process.generation(), process.phase);
        match phase {
            Phase::Starting { .. } => {
                let text = self.worker_text(Seat { pool, slot }, worker);
                effects.log(Level::Error, format!("{text} was not ready in time and is killed"));
                self.stop_worker(now, worker, Intent::StartTimeout, Haste::Kill, effects);
            }
            Phase::Ready => {}
            Phase::Draining { .. } => self.begin_stopping(now, worker, effects),
            Phase::Stopping { .. } => self.kill_worker(now, worker, 1, effects),
            Phase::Killing { kills, .. } => {
                let pid = process.pid;
                self.kill_worker(now, worker, kills + 1, effects);
                if kills == KILLS_MAX {
                    let death = Death { survivor: pid, ..Death::of(Exit::Signal(9)) };
                    self.give_up_on(now, worker, &death, effects);
                }
            }
            Phase::Stuck { .. } => self.kill_worker(now, worker, KILLS_MAX + 1, effects),
        }
    }

    /// Whether an exit counts against its slot: unasked, without jobs, and no clean exit after some work.
    pub(super) fn counts_against_slot(process: &Process, clean: bool) -> bool {
        match process.intent {
            // It counted when it was given up, by what it held.
            None if process.survivor.is_some() => false,
            None => process.held.is_empty() && !(clean && process.answered > 0),
            Some(Intent::StartTimeout) => true,
            Some(Intent::TooLarge(_)) => process.held.is_empty(),
            Some(
                Intent::Shutdown
                | Intent::Scale
                | Intent::Recycle
                | Intent::Reload
                | Intent::Admin
                | Intent::Hung
                | Intent::Timeout(_)
                | Intent::Cancel,
            ) => false,
        }
    }

    /// Decides when a slot that has become vacant is filled again: after a pause if its worker's end counts against it,
    /// and not at once if it was a bad end while starts are held back.
    pub(super) fn refill(
        &mut self,
        now: Now,
        seat: Seat,
        process: &Process,
        counts: bool,
        is_bad: bool,
        effects: &mut Effects,
    ) {
        let pool = &mut self.pools[seat.pool];
        let reset = pool.settings.restart_reset;
        let slot = &mut pool.slots[seat.slot as usize];
        slot.restarts += 1;
        if process.ready_at.is_some_and(|ready| now.mono.since(ready) >= reset) {
            slot.failures = 0;
        }
        if counts {
            self.back_off(now, seat, Duration::ZERO, effects);
        } else if process.intent.is_none() && pool.settings.restart == Restart::Never {
            self.retire(seat, effects);
        }
        self.hold_if_open(now, seat, process.generation(), is_bad);
        self.drop_surplus(seat.pool);
        self.fill(now, seat.pool, effects);
        self.replace_next(now, seat.pool, effects);
    }

    /// While starts are held back, a slot whose worker ended badly waits like the others.
    fn hold_if_open(&mut self, now: Now, seat: Seat, worker: Generation, is_bad: bool) {
        let pool = &mut self.pools[seat.pool];
        if !pool.breaker.is_open() {
            return;
        }
        let was_probe = pool.breaker.probe() == Some(worker);
        if was_probe {
            pool.breaker.clear_probe();
        }
        let slot = &mut pool.slots[seat.slot as usize];
        if is_bad && matches!(slot.state, SlotState::Vacant | SlotState::Backoff) {
            slot.state = SlotState::Held;
            self.timers.clear(Timer::Slot(seat.pool, seat.slot));
        }
        if was_probe
            || !self.timers.is_set(Timer::Probe(seat.pool)) && self.pools[seat.pool].breaker.probe().is_none()
        {
            self.expect_probe(now, seat.pool);
        }
    }

    /// Puts the next start of a slot off: not at all the first time, then longer and longer, and by `least`.
    fn back_off(&mut self, now: Now, seat: Seat, least: Duration, effects: &mut Effects) {
        let pool = &mut self.pools[seat.pool];
        if pool.settings.restart == Restart::Never {
            self.retire(seat, effects);
            return;
        }
        let (limit, period) = (pool.settings.exits_max(), pool.settings.restart_limit_period);
        let slot: &mut Slot = &mut pool.slots[seat.slot as usize];
        let failures = slot.failures;
        slot.failures = failures.saturating_add(1);
        if failures > 0 {
            let pause = doubling(pool.settings.restart_delay, failures, pool.settings.restart_delay_max);
            let until = now.mono + self.chance.jitter(pause).max(least);
            slot.state = SlotState::Backoff;
            self.timers.set(Timer::Slot(seat.pool, seat.slot), until);
        }
        if self.pools[seat.pool].breaker.on_exit(now.mono, limit, period) {
            self.hold_back(now, seat.pool, effects);
        }
    }

    /// `restart = "never"`: the slot stays empty.
    fn retire(&mut self, seat: Seat, effects: &mut Effects) {
        let pool = &mut self.pools[seat.pool];
        pool.slots[seat.slot as usize].state = SlotState::Retired;
        let text = format!("{}.{} stays empty: restart is \"never\"", pool.settings.name, seat.slot);
        effects.log(Level::Warn, text);
        self.open_if_ready(seat.pool, effects);
    }

    /// A worker's name for the log.
    pub(super) fn worker_text(&self, seat: Seat, worker: Generation) -> String {
        format!("{}.{}.{}", self.pools[seat.pool].settings.name, seat.slot, worker.0)
    }
}
