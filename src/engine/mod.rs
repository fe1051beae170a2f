//! What the daemon decides: events in, effects out, time passed in.
//!
//! [`Engine::step`] takes one [`Event`] and answers with [`Effect`]s; it is total, cannot block and cannot fail. The
//! engine knows no clock, thread, socket, file, environment or randomness of its own, so the simulator in
//! `tests/sim` runs this very code against an invented world.
//!
//! | module | decides |
//! |---|---|
//! | `lifecycle`, `worker` | when workers start and stop |
//! | `replace`, `breaker`, `watchdog` | when they are replaced, held back, or hung |
//! | `reload` | what a changed configuration changes |
//! | `dispatch`, `window`, `credit` | who gets which job |
//! | `report`, `settle` | what an answer or a worker's end means for its jobs |
//! | `fetch` | which jobs are in memory |
//! | `write` | what is told once it is durable |
//! | `submit`, `intake` | how jobs enter |
//! | `keep` | when finished jobs are forgotten |
//! | `ask`, `wait`, `act`, `status`, `explain`, `metrics` | what clients are told, and what they change |
//! | `stop` | how everything ends |

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod act;
mod ask;
mod breaker;
mod chance;
mod credit;
mod dispatch;
mod event;
mod explain;
mod fetch;
mod intake;
mod keep;
mod lifecycle;
mod metrics;
mod mutant;
mod pool;
mod reload;
mod replace;
mod report;
mod settle;
mod status;
mod stop;
mod submit;
mod timers;
mod wait;
mod watchdog;
mod window;
mod worker;
mod write;

pub use event::{Blow, Client, Death, Effect, Effects, Event, Ticket, ToWorker};
pub use mutant::Mutant;

use crate::config::{Config, DaemonSettings, PAUSED_MIN};
use crate::model::{Counts, Generation, Job, JobId, Mono, Now, PoolName, Recovered, Standing};
use chance::Chance;
use pool::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use timers::{Timer, Timers};

/// Who the daemon is, for replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub version: String,
    pub pid: u32,
}

/// Everything that the daemon decides with.
#[derive(Debug)]
pub struct Engine {
    identity: Identity,
    settings: DaemonSettings,
    started: Now,
    chance: Chance,
    timers: Timers,
    /// Every pool that has been configured since the start: a place in this list never changes its meaning.
    pools: Vec<Pool>,
    /// The places of those that are configured, in the file's order.
    order: Vec<usize>,
    /// Counts of kept jobs whose pool has not been configured since the start.
    orphans: BTreeMap<PoolName, Counts>,
    /// Pools of that kind that are paused.
    paused_orphans: BTreeSet<PoolName>,
    /// Where each living worker sits.
    seats: BTreeMap<Generation, Seat>,
    /// Workers that are gone but whose results may still come in.
    late: BTreeMap<Generation, settle::Departed>,
    /// Every job in memory stands here, in exactly one place.
    jobs: BTreeMap<JobId, Live>,
    /// Jobs that are not in memory and whose cancel is being written.
    cancelling: BTreeSet<JobId>,
    /// Jobs that a worker still holds although their round has ended elsewhere.
    void: BTreeMap<JobId, Generation>,
    writes: write::Writes,
    asks: ask::Asks,
    acts: act::Acts,
    submits: submit::Submits,
    keeping: keep::Keeping,
    generations: lifecycle::Generations,
    stage: stop::Stage,
    /// What the daemon leaves with if nothing worse happens.
    exit_status: u8,
    tally: Tally,
    /// Pools that may have something to send.
    dirty: BTreeSet<usize>,
}

/// A living worker's place: its pool's and its slot's.
#[derive(Clone, Copy, Debug)]
struct Seat {
    pool: usize,
    slot: u32,
}

/// A job in memory.
#[derive(Clone, Debug)]
struct Live {
    job: Arc<Job>,
    standing: Standing,
    /// Deliveries to workers that left without an answer.
    deliveries: u32,
    place: Place,
}

/// Where a job in memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In its pool's window.
    Waiting,
    /// With this worker.
    Held(Generation),
    /// A charge against it is being written; then it goes on.
    Charging,
    /// Its outcome is being written.
    Ending,
    /// A worker is still at it from the round before: the job waits until that is over, so that it never runs
    /// twice at the same time.
    Parked,
}

/// What happened that changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Answers for a round that has its outcome.
    late: u64,
    /// Answers for jobs that their sender does not hold.
    refused: u64,
    /// Messages that are no reports.
    malformed: u64,
}

impl Engine {
    /// An engine for what a store recovered. `seed` feeds the jitter.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, identity: Identity, now: Now, seed: u64) -> Engine {
        let mut engine = Engine {
            identity,
            settings: config.daemon,
            started: now,
            chance: Chance::new(seed),
            timers: Timers::default(),
            order: (0..config.pools.len()).collect(),
            pools: config.pools.into_iter().map(Pool::new).collect(),
            orphans: BTreeMap::new(),
            paused_orphans: BTreeSet::new(),
            seats: BTreeMap::new(),
            late: BTreeMap::new(),
            jobs: BTreeMap::new(),
            cancelling: BTreeSet::new(),
            void: BTreeMap::new(),
            writes: write::Writes::default(),
            asks: ask::Asks::default(),
            acts: act::Acts::default(),
            submits: submit::Submits::new(&recovered),
            keeping: keep::Keeping::default(),
            generations: lifecycle::Generations::new(recovered.next_generation),
            stage: stop::Stage::Serving { draining: false },
            exit_status: 0,
            tally: Tally::default(),
            dirty: BTreeSet::new(),
        };
        engine.adopt(recovered, now);
        engine
    }

    /// Takes over what the store knew.
    fn adopt(&mut self, recovered: Recovered, now: Now) {
        for (name, counts) in recovered.counts {
            match self.pool_place(&name) {
                Some(place) => {
                    self.pools[place].counts = counts;
                    self.pools[place].more = Some(i16::MAX);
                }
                None => {
                    self.orphans.insert(name, counts);
                }
            }
        }
        for (name, due) in recovered.next_due {
            if let Some(place) = self.pool_place(&name) {
                self.timers.set(Timer::Due(place), now.mono + due.since(now.wall));
            }
        }
        for name in recovered.paused {
            match self.pool_place(&name) {
                Some(place) => self.pools[place].paused = true,
                None => {
                    self.paused_orphans.insert(name);
                }
            }
        }
        self.writes.releases = recovered.releases;
    }

    /// Begins: the first effects. Called once, before the first step.
    pub fn start(&mut self, now: Now, effects: &mut Effects) {
        self.reserve_generations(effects);
        for place in 0..self.pools.len() {
            self.fetch_if_low(place, effects);
        }
        self.release_ends(now, effects);
        self.expect_expiry(now);
        for warning in self.orphan_warnings() {
            effects.log(log::Level::Warn, warning);
        }
    }

    /// Takes one event. Total: cannot fail, cannot block.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::Request { client, request } => self.on_request(now, client, request, effects),
            Event::Report { worker, report } => self.on_report(now, worker, report, effects),
            Event::Malformed { worker, what } => self.on_malformed(worker, &what, effects),
            Event::TooLarge { worker, bytes } => self.on_too_large(now, worker, bytes, effects),
            Event::Spawned { worker, pid } => self.on_spawned(worker, pid),
            Event::SpawnFailed { worker, error } => self.on_spawn_failed(now, worker, error, effects),
            Event::Exited { worker, death } => self.on_exited(now, worker, &death, effects),
            Event::Survived { worker, death } => self.give_up_on(now, worker, &death, effects),
            Event::Written { ticket, result } => self.on_written(now, ticket, result, effects),
            Event::Fetched { pool, result } => self.on_fetched(now, &pool, result, effects),
            Event::Answered { ticket, result } => self.on_answered(now, ticket, result, effects),
            Event::Measured { worker, rss_kib } => self.on_measured(now, worker, rss_kib, effects),
            Event::Stop => self.on_stop_signal(now, effects),
            Event::Hangup => self.on_reload(None, effects),
            Event::Configured { client, result } => self.on_configured(now, client, result, effects),
            Event::Tick => self.on_tick(now, effects),
        }
        while let Some(place) = self.dirty.pop_first() {
            self.dispatch(now, place, effects);
        }
        self.end_drain_if_done(now, effects);
        self.leave_if_settled(now, effects);
    }

    /// When [`Engine::step`] wants to be called even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    /// Whatever is due. What happened before the tick has been told before it: an answer that lay there in time beats
    /// its own timeout, however late the daemon is to read it.
    fn on_tick(&mut self, now: Now, effects: &mut Effects) {
        if self.timers.next_deadline().is_some_and(|due| now.mono.since(due) >= PAUSED_MIN) {
            self.grant_fresh_windows(now, effects);
        }
        while let Some(timer) = self.timers.next_due(now.mono) {
            self.on_timer(now, timer, effects);
        }
    }

    fn on_timer(&mut self, now: Now, timer: Timer, effects: &mut Effects) {
        match timer {
            Timer::Slot(pool, slot) => self.on_slot_timer(now, pool, slot, effects),
            Timer::Oldest(worker) => self.on_oldest_timer(now, worker, effects),
            Timer::Late(worker) => {
                self.late.remove(&worker);
                effects.push(Effect::Forget(worker));
            }
            Timer::Due(pool) => self.on_due(now, pool, effects),
            Timer::WriteAgain => self.write_again(effects),
            Timer::Silence(batch) => self.on_silence(batch, effects),
            Timer::Wait(client) => self.on_wait_over(client, effects),
            Timer::Look(client) => self.look_again(now, client, effects),
            Timer::Age(worker) => self.want_replaced(now, worker, worker::Intent::Recycle, effects),
            Timer::Measure(pool) => self.measure(now, pool, effects),
            Timer::Probe(pool) => self.start_probe(now, pool, effects),
            Timer::Stable(worker) => self.on_stable(now, worker, effects),
            Timer::Watchdog(worker) => self.on_watchdog(now, worker, effects),
            Timer::Expire => self.on_expiry_due(now, effects),
            Timer::Drain => self.on_drain_timeout(now, effects),
        }
    }

    /// A pool that is or was configured.
    fn pool_place(&self, name: &PoolName) -> Option<usize> {
        self.pools.iter().position(|pool| pool.settings.name == *name)
    }

    /// A pool that is configured.
    fn live_pool(&self, name: &PoolName) -> Option<usize> {
        self.pool_place(name).filter(|place| !self.pools[*place].gone)
    }

    /// The pools that are configured, in the file's order.
    fn live_pools(&self) -> impl Iterator<Item = &Pool> {
        self.order.iter().map(|place| &self.pools[*place])
    }

    fn process(&self, worker: Generation) -> Option<&worker::Process> {
        let seat = self.seats.get(&worker)?;
        self.pools[seat.pool].slots[seat.slot as usize].process()
    }

    fn process_mut(&mut self, worker: Generation) -> Option<&mut worker::Process> {
        let seat = self.seats.get(&worker)?;
        self.pools[seat.pool].slots[seat.slot as usize].process_mut()
    }

    /// Which worker holds each running job. For tests of the engine's accounting.
    pub fn holders(&self) -> impl Iterator<Item = (JobId, Generation)> + '_ {
        self.jobs.iter().filter_map(|(id, live)| match live.place {
            Place::Held(worker) => Some((*id, worker)),
            Place::Waiting | Place::Charging | Place::Ending | Place::Parked => None,
        })
    }
}
