//! A changed configuration, taken over while everything runs.
//!
//! The shell reads it and checks it whole; what comes here can be used. Each pool's settings are compared with those
//! that each of its workers was started with, so that a second reload in the midst of a rolling restart is nothing
//! special: workers that differ are replaced, `max_unavailable` at a time, and one that fits again is left alone.
//! Everything else holds from now on, defaults of jobs from each job's next attempt.
//!
//! A pool that is gone keeps its place, its counts and its jobs; they wait until it is configured again.

use super::event::{Client, Effect, Effects};
use super::pool::Pool;
use super::timers::Timer;
use super::worker::{Intent, Phase, Process, Slot};
use super::{Engine, Place};
use crate::config::{Config, PoolSettings};
use crate::model::{Generation, JobId, Now};
use crate::wire::control::{Code, Refusal};
use crate::wire::reply::Reply;
use log::Level;
use std::sync::Arc;

impl Engine {
    /// HUP, or somebody asks.
    pub(super) fn on_reload(&mut self, client: Option<Client>, effects: &mut Effects) {
        if self.is_stopping() {
            let refusal = Refusal::new(Code::WrongState, "the daemon is stopping and reads no configuration");
            match client {
                Some(client) => effects.reply(client, Reply::Refused(Box::new(refusal))),
                None => effects.log(Level::Warn, refusal.message),
            }
            return;
        }
        effects.push(Effect::ReadConfig { client });
    }

    /// The configuration has been read again.
    pub(super) fn on_configured(
        &mut self,
        now: Now,
        client: Option<Client>,
        result: Result<Box<Config>, String>,
        effects: &mut Effects,
    ) {
        let reply = match result {
            Ok(config) => {
                effects.push(Effect::Configure(config.clone()));
                self.configure(now, *config, effects);
                effects.log(Level::Info, "the configuration has been read again");
                for warning in self.orphan_warnings() {
                    effects.log(Level::Warn, warning);
                }
                Reply::Done
            }
            Err(why) => {
                let message = format!("{why}; the configuration stays as it was");
                effects.log(Level::Error, format!("reload: {message}"));
                Reply::Refused(Box::new(Refusal::new(Code::BadRequest, message)))
            }
        };
        if let Some(client) = client {
            effects.reply(client, reply);
        }
    }

    fn configure(&mut self, now: Now, config: Config, effects: &mut Effects) {
        self.settings = config.daemon;
        let before = std::mem::take(&mut self.order);
        for settings in config.pools {
            let place = match self.pool_place(&settings.name) {
                Some(place) => {
                    self.change_pool(now, place, settings, effects);
                    place
                }
                None => self.add_pool(now, settings, effects),
            };
            self.order.push(place);
        }
        for place in before {
            if !self.order.contains(&place) {
                self.drop_pool(now, place, effects);
            }
        }
        if !self.is_stopping() {
            self.expect_expiry(now);
        }
    }

    fn add_pool(&mut self, now: Now, settings: PoolSettings, effects: &mut Effects) -> usize {
        let place = self.pools.len();
        let mut pool = Pool::new(settings);
        pool.counts = self.orphans.remove(&pool.settings.name).unwrap_or_default();
        pool.paused = self.paused_orphans.remove(&pool.settings.name);
        pool.more = Some(i16::MAX);
        self.pools.push(pool);
        self.begin_pool(now, place, effects);
        place
    }

    /// Starts workers, and has the store asked which delayed jobs are due.
    fn begin_pool(&mut self, now: Now, place: usize, effects: &mut Effects) {
        self.timers.set(Timer::Due(place), now.mono);
        self.dirty.insert(place);
        self.fill(now, place, effects);
    }

    fn change_pool(&mut self, now: Now, place: usize, settings: PoolSettings, effects: &mut Effects) {
        let pool = &mut self.pools[place];
        let was_gone = std::mem::take(&mut pool.gone);
        let changed = *pool.settings != settings;
        if !changed && !was_gone {
            return;
        }
        let was_builtin = pool.settings.is_builtin();
        let starts_alike = pool.settings.starts_alike(&settings);
        let (workers, is_builtin) = (settings.workers, settings.is_builtin());
        let settings_before = std::mem::replace(&mut pool.settings, Arc::new(settings));
        if !starts_alike {
            // Whatever kept workers from starting may be mended.
            pool.start_error = None;
            pool.breaker.close();
            self.timers.clear(Timer::Probe(place));
            self.let_all_start(place);
        }
        if was_builtin != is_builtin {
            self.change_kind(place, effects);
        }
        self.mark_changed(place);
        self.change_limits(now, place, &settings_before);
        if was_gone {
            self.pools[place].open = false;
            self.begin_pool(now, place, effects);
        }
        self.scale(now, place, workers, Intent::Scale, effects);
        self.replace_next(now, place, effects);
    }

    /// Jobs that this pool's workers cannot run leave memory; those that the store was left with because of that are
    /// fetched again.
    fn change_kind(&mut self, place: usize, effects: &mut Effects) {
        let settings = self.pools[place].settings.clone();
        self.pools[place].unsuited = false;
        let unfit: Vec<JobId> = self.pools[place]
            .window
            .ids()
            .filter(|id| self.jobs.get(id).is_some_and(|live| !settings.can_run(&live.job.work)))
            .collect();
        for id in unfit {
            if let Some(live) = self.jobs.get(&id) {
                self.pools[place].window.remove(&live.job);
            }
            self.leave_to_store(place, id);
        }
        effects.push(Effect::BeginAnew(settings.name.clone()));
        self.pools[place].set_more(i16::MAX);
        self.dirty.insert(place);
    }

    /// A waiting job that its pool cannot run stays where it is kept anyway.
    pub(super) fn leave_to_store(&mut self, place: usize, id: JobId) {
        if self.jobs.get(&id).is_some_and(|live| live.place == Place::Waiting) {
            self.jobs.remove(&id);
            self.pools[place].unsuited = true;
        }
    }

    /// Workers that were started with other settings are to be replaced, and no others for that reason.
    fn mark_changed(&mut self, place: usize) {
        let pool = &mut self.pools[place];
        for process in pool.slots.iter_mut().filter_map(Slot::process_mut) {
            let fits = process.settings.starts_alike(&pool.settings);
            match process.replace {
                Some(Intent::Reload) if fits => process.replace = None,
                None if !fits => process.replace = Some(Intent::Reload),
                Some(_) | None => {}
            }
        }
    }

    /// Limits of workers that are there already: those that changed are drawn anew.
    fn change_limits(&mut self, now: Now, place: usize, before: &PoolSettings) {
        let settings = self.pools[place].settings.clone();
        let workers: Vec<Generation> =
            self.pools[place].slots.iter().filter_map(Slot::process).map(Process::generation).collect();
        for worker in workers {
            if settings.max_jobs != before.max_jobs {
                let answers_max = settings.max_jobs.map(|jobs| self.chance.a_little_fewer(jobs));
                if let Some(process) = self.process_mut(worker) {
                    process.answers_max = answers_max;
                }
            }
            let is_ready = self.process(worker).is_some_and(|process| matches!(process.phase, Phase::Ready));
            if is_ready && settings.max_age != before.max_age {
                self.timers.clear(Timer::Age(worker));
            }
            if is_ready && (settings.max_age != before.max_age || settings.max_rss != before.max_rss) {
                self.set_limits(now, worker);
            }
            if settings.watchdog != before.watchdog {
                self.timers.clear(Timer::Watchdog(worker));
                self.hear(now, worker);
            }
        }
    }

    /// Its workers finish what they hold, and what waits goes on waiting.
    fn drop_pool(&mut self, now: Now, place: usize, effects: &mut Effects) {
        self.pools[place].gone = true;
        self.pools[place].breaker.close();
        self.timers.clear(Timer::Probe(place));
        self.scale(now, place, 0, Intent::Reload, effects);
    }
}
