//! What the daemon says of itself: `ping`, `status`, `workers`.

use super::Engine;
use super::pool::Pool;
use super::worker::{Slot, SlotState};
use crate::config::CHUNK_JOBS_MAX;
use crate::model::{Counts, Exit, JobId, Now, State};
use crate::wire::control::{
    LastExit, Limits, PerSecond, PingReply, PoolStatus, StatusReply, VoidReports, WorkerRow,
};
use crate::wire::timestamp;
use std::time::Duration;

/// How long `status` tells that jobs were forgotten for the size of the store.
const SIZE_REACHED_SHOWN: Duration = Duration::from_secs(3_600);

impl Engine {
    pub(super) fn ping(&self) -> PingReply {
        PingReply {
            version: self.identity.version.clone(),
            pid: self.identity.pid,
            limits: Limits {
                request_bytes_max: self.settings.request_bytes_max as u64,
                chunk_jobs_max: CHUNK_JOBS_MAX as u64,
                batch_jobs_max: self.settings.batch_jobs_max,
                job_bytes_max: self.settings.job_bytes_max as u64,
            },
        }
    }

    /// How things stand, in a line for a service manager.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let workers: usize = self.pools.iter().map(Pool::ready).sum();
        let running: u64 = self.pools.iter().map(Pool::running).sum();
        let waiting: u64 = self.pools.iter().map(|pool| pool.counts[State::Queued]).sum();
        let s = if workers == 1 { "" } else { "s" };
        let stage = match (self.is_stopping(), self.is_draining()) {
            (true, _) => "stopping, ",
            (false, true) => "draining, ",
            (false, false) => "",
        };
        format!("{stage}{workers} worker{s}, {running} running, {} queued", waiting.saturating_sub(running))
    }

    pub(super) fn status(&mut self, now: Now) -> StatusReply {
        let warnings = self.warnings(now);
        // Jobs are submitted by this clock.
        let steady = self.steady_wall(now);
        let mut jobs = Counts::default();
        for counts in self.orphans.values() {
            jobs.add(counts);
        }
        let mut pools = Vec::with_capacity(self.order.len());
        for place in 0..self.pools.len() {
            jobs.add(&self.counts_with_running(place));
        }
        for place in self.order.clone() {
            let counts = self.counts_with_running(place);
            let oldest = self.oldest_queued(place);
            let pool = &mut self.pools[place];
            pools.push(PoolStatus {
                name: pool.settings.name.to_string(),
                paused: pool.paused,
                workers: pool.worker_counts(),
                jobs: counts.into(),
                oldest_queued_s: oldest.map(|submitted| steady.since(submitted).as_secs_f64()),
                per_second: PerSecond { finished: pool.rate.per_second(now.mono.0) },
            });
        }
        StatusReply {
            version: self.identity.version.clone(),
            pid: self.identity.pid,
            uptime_s: now.mono.since(self.started.mono).as_secs_f64(),
            draining: self.is_draining() || self.is_stopping(),
            jobs: jobs.into(),
            expired: self.keeping.expired(),
            expired_at: self.keeping.last().map(timestamp::render),
            void_reports: VoidReports {
                late: self.tally.late,
                refused: self.tally.refused,
                malformed: self.tally.malformed,
            },
            warnings,
            pools,
        }
    }

    /// A pool's stored counts, with those that run told apart from those that wait.
    pub(super) fn counts_with_running(&self, place: usize) -> Counts {
        let pool = &self.pools[place];
        let mut counts = pool.counts;
        // A job whose charge is being written still counts as queued in the store, and is not with a worker.
        let running = pool.running().min(counts[State::Queued]);
        counts[State::Queued] -= running;
        counts[State::Running] = running;
        counts
    }

    /// When the oldest waiting job was submitted. The lowest id of the window is as good as the oldest: ids rise
    /// with time.
    fn oldest_queued(&self, place: usize) -> Option<crate::model::Wall> {
        let oldest: JobId = self.pools[place].window.ids().min()?;
        self.jobs.get(&oldest).map(|live| live.job.submitted)
    }

    /// What is unhealthy, a line each with what to do next.
    pub(super) fn warnings(&self, now: Now) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(trouble) = &self.writes.trouble {
            warnings.push(format!("{trouble}: nothing is started until it works again"));
        }
        if let Some(at) = self.keeping.size_reached().filter(|at| now.wall.since(*at) < SIZE_REACHED_SHOWN) {
            warnings.push(format!(
                "finished jobs are forgotten early, the last {} s ago: the store has reached keep_size; raise it, or fetch results sooner",
                now.wall.since(at).as_secs()
            ));
        }
        for pool in self.live_pools() {
            let name = &pool.settings.name;
            if let Some(error) = &pool.start_error {
                warnings.push(format!("pool {name}: workers do not start: {error}"));
            } else if !self.is_stopping() && pool.ready() == 0 && pool.settings.workers > 0 {
                warnings.push(format!("pool {name}: no worker is ready; see pushpullctl workers"));
            }
            if let Some(warning) = self.unsuited_warning(pool) {
                warnings.push(warning);
            }
            if pool.breaker.is_open() {
                warnings.push(format!(
                    "pool {name}: its workers end too often, and only one at a time is tried: see pushpullctl workers, mend them, then pushpullctl restart {name}"
                ));
            }
            for process in pool.slots.iter().filter_map(Slot::process) {
                if let Some(pid) = process.survivor {
                    warnings.push(format!(
                        "pool {name}: process {pid} of worker {} survives every SIGKILL; its jobs were given back, and its place is filled when it is gone: see cat /proc/{pid}/stack",
                        process.name
                    ));
                }
            }
            if pool.paused {
                warnings.push(format!("pool {name} is paused: pushpullctl resume {name}"));
            }
        }
        warnings.extend(self.orphan_warnings());
        warnings
    }

    /// Jobs whose pool is not configured wait until it is again.
    pub(super) fn orphan_warnings(&self) -> impl Iterator<Item = String> + '_ {
        let gone = self.pools.iter().filter(|pool| pool.gone);
        let gone = gone.map(|pool| (&pool.settings.name, &pool.counts));
        let waiting = gone.chain(&self.orphans).filter(|(_, counts)| counts.unfinished() > 0);
        waiting.map(|(name, counts)| {
            let waiting = counts.unfinished();
            format!(
                "{waiting} jobs wait for pool {name}, which is not configured: add [pools.{name}] and reload, or cancel them: pushpullctl cancel --pool {name}"
            )
        })
    }

    /// Jobs that their pool cannot run wait until it can.
    pub(super) fn unsuited_warning(&self, pool: &Pool) -> Option<String> {
        if !pool.unsuited {
            return None;
        }
        let name = &pool.settings.name;
        // What has been fetched is known: everything else that is queued was found unfit, once all has been looked at.
        let in_memory = self.jobs.values().filter(|live| live.job.pool == *name).count() as u64;
        let unfit = pool.counts[State::Queued].saturating_sub(in_memory);
        let many = match (pool.is_all_fetched(), unfit) {
            (true, 0) => return None,
            (true, unfit) => format!("{unfit} jobs"),
            (false, _) => "jobs".to_owned(),
        };
        let (kind, cure) = if pool.settings.is_builtin() {
            ("data", "give the pool a command")
        } else {
            ("run", "remove the pool's command")
        };
        Some(format!(
            "pool {name} has {many} with {kind}, which its workers cannot run: {cure} and reload, or cancel them"
        ))
    }

    pub(super) fn worker_rows(&self, now: Now) -> Vec<WorkerRow> {
        let mut rows = Vec::new();
        let gone = self.pools.iter().filter(|pool| pool.gone);
        for pool in self.live_pools().chain(gone) {
            for (at, slot) in pool.slots.iter().enumerate() {
                rows.push(worker_row(now, pool.settings.name.as_str(), at, slot));
            }
        }
        rows
    }
}

fn worker_row(now: Now, pool: &str, at: usize, slot: &Slot) -> WorkerRow {
    let last_exit = slot.last_exit.map(|(exit, when)| {
        let (exit, signal) = match exit {
            Exit::Status(status) => (Some(status), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        LastExit { exit, signal, at: timestamp::render(when) }
    });
    let process = slot.process();
    let state = match (&slot.state, process) {
        (_, Some(process)) => process.state(),
        (SlotState::Backoff, None) => "backoff",
        (SlotState::Held, None) => "held",
        (SlotState::Retired, None) => "retired",
        (SlotState::Vacant | SlotState::Filled(_), None) => "vacant",
    };
    let worker = process.map_or_else(|| format!("{pool}.{at}"), |process| process.name.to_string());
    WorkerRow {
        worker,
        pool: pool.to_owned(),
        slot: u32::try_from(at).expect("a pool has fewer than 2^32 slots"),
        generation: process.map_or(0, |process| process.generation().0),
        pid: process.and_then(|process| process.pid),
        state: state.to_owned(),
        held: process.map_or(0, |process| process.held.iter().filter(|held| !held.void).count() as u64),
        jobs_done: process.map_or(0, |process| process.answered),
        restarts: slot.restarts,
        age_s: process.map_or(0.0, |process| now.mono.since(process.born).as_secs_f64()),
        rss_kib: None,
        last_exit,
    }
}
