//! What the daemon says of itself: `ping`, `status`, `workers`.

use super::Engine;
use super::worker::{Slot, SlotState};
use crate::config::CHUNK_JOBS_MAX;
use crate::model::{Counts, Exit, JobId, Now, State};
use crate::wire::control::{LastExit, Limits, PerSecond, PingReply, PoolStatus, StatusReply, WorkerRow};
use crate::wire::timestamp;

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

    pub(super) fn status(&mut self, now: Now) -> StatusReply {
        let warnings = self.warnings();
        let mut jobs = Counts::default();
        for counts in self.orphans.values() {
            jobs.add(counts);
        }
        let mut pools = Vec::with_capacity(self.pools.len());
        for place in 0..self.pools.len() {
            let counts = self.counts_with_running(place);
            jobs.add(&counts);
            let oldest = self.oldest_queued(place);
            let pool = &mut self.pools[place];
            pools.push(PoolStatus {
                name: pool.settings.name.to_string(),
                paused: pool.paused,
                workers: pool.worker_counts(),
                jobs: counts.into(),
                oldest_queued_s: oldest.map(|submitted| now.wall.since(submitted).as_secs_f64()),
                per_second: PerSecond { finished: pool.rate.per_second(now.mono.0) },
            });
        }
        StatusReply {
            version: self.identity.version.clone(),
            pid: self.identity.pid,
            uptime_s: now.mono.since(self.started.mono).as_secs_f64(),
            draining: self.is_draining() || self.is_stopping(),
            jobs: jobs.into(),
            warnings,
            pools,
        }
    }

    /// A pool's stored counts, with those that run told apart from those that wait.
    fn counts_with_running(&self, place: usize) -> Counts {
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
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(trouble) = &self.writes.trouble {
            warnings.push(format!("{trouble}: nothing is started until it works again"));
        }
        for pool in &self.pools {
            let name = &pool.settings.name;
            if let Some(error) = &pool.start_error {
                warnings.push(format!("pool {name}: workers do not start: {error}"));
            } else if !self.is_stopping() && pool.ready() == 0 && pool.settings.workers > 0 {
                warnings.push(format!("pool {name}: no worker is ready; see pushpullctl workers"));
            }
            if pool.unsuited {
                let (kind, cure) = if pool.settings.is_builtin() {
                    ("data", "give the pool a command")
                } else {
                    ("run", "remove the pool's command")
                };
                warnings.push(format!(
                    "pool {name} has jobs with {kind}, which its workers cannot run: {cure} and restart, or cancel them"
                ));
            }
            if pool.paused {
                warnings.push(format!("pool {name} is paused: pushpullctl resume {name}"));
            }
        }
        for (name, counts) in &self.orphans {
            let waiting = counts.unfinished();
            if waiting > 0 {
                warnings.push(format!(
                    "{waiting} jobs wait for pool {name}, which is not configured: add [pools.{name}] and restart, or cancel them: pushpullctl cancel --pool {name}"
                ));
            }
        }
        warnings
    }

    pub(super) fn worker_rows(&self, now: Now) -> Vec<WorkerRow> {
        let mut rows = Vec::new();
        for pool in &self.pools {
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
