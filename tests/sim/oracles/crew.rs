//! What is known of each worker from the messages that passed, and who may be blamed for what.
//!
//! Whatever ends an attempt - an answer, a death, a time limit - grants a [`Licence`]: one charge or outcome of one
//! job. A charge or outcome without a licence is wrong, and so is a licence that nobody uses.

use super::Seen;
use super::jobs::Jobs;
use super::pauses::Pauses;
use crate::world::fate::RESULT_BYTES_MAX;
use pushpull::config::{CANCEL_GRACE, DELIVERIES_MAX};
use pushpull::model::{Cause, Exit, Generation, JobId, Mono, Now, PoolName, Standing, State, WorkerName};
use pushpull::wire::pipeline::Report;
use std::collections::BTreeMap;

/// A job that a worker was sent and has not answered.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: JobId,
    /// As it stood on disk when it was sent.
    pub standing: Standing,
    pub alone: bool,
    /// Its outcome is recorded or on its way.
    pub void: bool,
}

/// A living worker.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub name: WorkerName,
    pub born: Mono,
    pub ready: bool,
    pub held: Vec<Held>,
    /// When the oldest of these became the oldest.
    pub oldest_since: Mono,
    /// When the oldest was cancelled, or became the oldest as such.
    pub void_since: Mono,
    /// The daemon has signalled it.
    pub hit: bool,
    /// It was hit because this job took too long.
    pub hit_for: Option<JobId>,
}

/// Why a job may be charged or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Success,
    /// After its worker's end.
    LateSuccess,
    Failure {
        cause: Cause,
        retry: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Licence {
    pub id: JobId,
    pub worker: Generation,
    /// As it stood when it was sent.
    pub standing: Standing,
    pub why: Why,
    /// It must be used in this very step.
    pub must: bool,
}

#[derive(Debug, Default)]
pub struct Crew {
    pub workers: BTreeMap<Generation, Ledger>,
    /// What dead workers held, while the daemon still listens for their last answers.
    departed: BTreeMap<Generation, Vec<Held>>,
    licences: Vec<Licence>,
    /// How often each job was the oldest of a worker that left without an answer.
    deliveries: BTreeMap<JobId, u32>,
    /// Jobs that were in the window of a worker that died with several.
    pub scattered: Vec<(JobId, PoolName)>,
}

impl Crew {
    pub fn on_spawn(&mut self, name: &WorkerName, now: Now) {
        let ledger = Ledger {
            name: name.clone(),
            born: now.mono,
            ready: false,
            held: Vec::new(),
            oldest_since: now.mono,
            void_since: now.mono,
            hit: false,
            hit_for: None,
        };
        self.workers.insert(name.generation, ledger);
    }

    pub fn on_spawn_failed(&mut self, worker: Generation) {
        self.workers.remove(&worker);
    }

    pub fn on_ready(&mut self, worker: Generation) {
        if let Some(ledger) = self.workers.get_mut(&worker) {
            ledger.ready = true;
        }
    }

    pub fn holds(&self, worker: Generation, id: JobId) -> bool {
        let held = self.workers.get(&worker).map(|ledger| &ledger.held).or(self.departed.get(&worker));
        held.is_some_and(|held| held.iter().any(|held| held.id == id))
    }

    /// Whether a living worker has not answered this job.
    pub fn is_held(&self, id: JobId) -> bool {
        self.workers.values().any(|ledger| ledger.held.iter().any(|held| held.id == id))
    }

    /// Jobs of this pool that workers hold and that have no outcome.
    pub fn running(&self, pool: Option<&PoolName>) -> u64 {
        let meant = self.workers.values().filter(|ledger| pool.is_none_or(|pool| ledger.name.pool == *pool));
        meant.flat_map(|ledger| &ledger.held).filter(|held| !held.void).count() as u64
    }

    /// A job's round has ended elsewhere, or is cancelled: nobody's answer counts any longer.
    pub fn on_void(&mut self, id: JobId, now: Now) {
        for ledger in self.workers.values_mut() {
            for (place, held) in ledger.held.iter_mut().enumerate() {
                if held.id == id && !held.void {
                    held.void = true;
                    if place == 0 {
                        ledger.void_since = now.mono;
                    }
                }
            }
        }
    }

    /// The built-in worker is told to let go of a job: only of one that no longer counts.
    pub fn on_let_go(&self, worker: Generation, id: JobId) -> Result<(), String> {
        let ledger = self.workers.get(&worker).ok_or("a worker that is gone is told to let go of a job")?;
        match ledger.held.iter().find(|held| held.id == id) {
            Some(_) => Ok(()),
            None => Err(format!("worker {} is told to let go of job {id}, which it does not hold", worker.0)),
        }
    }

    /// A slow but living worker is never robbed of its job: a signal has a reason.
    pub fn on_hit(
        &mut self,
        worker: Generation,
        pauses: &Pauses,
        jobs: &Jobs,
        seen: &Seen,
    ) -> Result<(), String> {
        let Some(ledger) = self.workers.get_mut(&worker) else {
            return Ok(());
        };
        if ledger.hit {
            return Ok(());
        }
        ledger.hit = true;
        let pool = seen.pool(&ledger.name.pool).ok_or("a worker of a pool that is gone")?;
        let now = seen.now.mono;
        let Some(oldest) = ledger.held.first() else {
            let is_late = !ledger.ready && now.since(ledger.born) >= pool.start_timeout;
            return if pauses.stopping || pauses.draining || is_late {
                Ok(())
            } else {
                Err(format!("the idle worker {} is stopped", worker.0))
            };
        };
        let limit = jobs.tags.get(&oldest.id).and_then(|tag| seen.plans.0[tag].limit(pool));
        // Its time may be over while its worker drains, whatever for.
        if !oldest.void && limit.is_some_and(|limit| now.since(ledger.oldest_since) >= limit) {
            ledger.hit_for = Some(oldest.id);
            return Ok(());
        }
        // A drain that is done ends the daemon, whoever is still at what was cancelled.
        let is_drained = pauses.draining && ledger.held.iter().all(|held| held.void);
        if pauses.stopping || is_drained {
            return Ok(());
        }
        if oldest.void {
            let waited = now.since(ledger.void_since);
            let is_over = waited >= CANCEL_GRACE;
            return if is_over {
                Ok(())
            } else {
                Err(format!("worker {} is stopped for a cancel at once", worker.0))
            };
        }
        Err(format!("worker {} is stopped, and its job {} has not exceeded its limit", worker.0, oldest.id))
    }

    /// A worker says something; what follows may be charged or recorded.
    pub fn on_report(&mut self, worker: Generation, report: &Report, jobs: &Jobs, seen: &mut Seen) {
        let (id, why) = match report {
            Report::Result { id, data } if data.len() > RESULT_BYTES_MAX => {
                (*id, Why::Failure { cause: Cause::Error, retry: false })
            }
            Report::Result { id, .. } => (*id, Why::Success),
            Report::Error { id, retry, cause, .. } => {
                let is_builtin = self.workers.get(&worker).is_some_and(|ledger| {
                    seen.pool(&ledger.name.pool).is_some_and(pushpull::config::PoolSettings::is_builtin)
                });
                let cause = cause.filter(|_| is_builtin).unwrap_or(Cause::Error);
                (*id, Why::Failure { cause, retry: *retry })
            }
            Report::Ready | Report::Progress { .. } | Report::Heartbeat => return,
        };
        if let Some(ledger) = self.workers.get_mut(&worker) {
            let Some(place) = place(&ledger.held, id) else {
                return;
            };
            let held = ledger.held.remove(place);
            if place == 0 {
                ledger.oldest_since = seen.now.mono;
                ledger.void_since = seen.now.mono;
            }
            if !held.void {
                self.grant(&held, worker, why, true);
            }
        } else if let Some(departed) = self.departed.get_mut(&worker) {
            let Some(place) = place(departed, id) else {
                return;
            };
            let held = departed.remove(place);
            if why == Why::Success && !held.void {
                let row = seen.disk.row(held.id);
                let is_open = row.is_some_and(|row| {
                    !row.state.is_finished()
                        && row.standing.round == held.standing.round
                        && row.state != State::Blocked
                });
                let must = is_open && !jobs.is_ending(held.id) && seen.disk.is_told();
                self.grant(&held, worker, Why::LateSuccess, must);
            }
        }
    }

    fn grant(&mut self, held: &Held, worker: Generation, why: Why, must: bool) {
        self.licences.push(Licence { id: held.id, worker, standing: held.standing, why, must });
    }

    /// Takes a licence for this.
    pub fn take(&mut self, id: JobId, worker: Generation, fits: impl Fn(Why) -> bool) -> Option<Licence> {
        let fits = |licence: &Licence| licence.id == id && licence.worker == worker && fits(licence.why);
        let place = self.licences.iter().position(fits)?;
        Some(self.licences.swap_remove(place))
    }

    pub fn on_exit(&mut self, worker: Generation, exit: Exit, stopping: bool) {
        let Some(ledger) = self.workers.remove(&worker) else {
            return;
        };
        let is_clean = exit == Exit::Status(0);
        let failure = |cause| Why::Failure { cause, retry: cause != Cause::Lost };
        for (place, held) in ledger.held.iter().enumerate().filter(|(_, held)| !held.void) {
            if ledger.hit || stopping {
                if ledger.hit_for == Some(held.id) {
                    self.grant(held, worker, failure(Cause::Timeout), true);
                }
            } else if is_clean {
                if place == 0 {
                    let deliveries = self.deliveries.entry(held.id).or_default();
                    *deliveries += 1;
                    if *deliveries >= DELIVERIES_MAX {
                        self.grant(held, worker, failure(Cause::Lost), true);
                    }
                }
            } else if ledger.held.len() == 1 {
                self.grant(held, worker, failure(Cause::Crash), true);
            } else {
                self.scattered.push((held.id, ledger.name.pool.clone()));
            }
        }
        self.departed.insert(worker, ledger.held);
    }

    pub fn on_forget(&mut self, worker: Generation) {
        self.departed.remove(&worker);
    }

    /// A job is no longer in the engine's memory, which counts deliveries.
    pub fn on_left_memory(&mut self, id: JobId) {
        self.deliveries.remove(&id);
    }

    /// The step is over: what was granted has been used, and the engine believes what is true.
    pub fn check_step(&mut self, holders: impl Iterator<Item = (JobId, Generation)>) -> Result<(), String> {
        for licence in std::mem::take(&mut self.licences) {
            if licence.must {
                let Licence { id, worker, why, .. } = licence;
                return Err(format!("{why:?} of job {id} with worker {} has no consequence", worker.0));
            }
        }
        for (id, worker) in holders {
            let holds = |ledger: &Ledger| ledger.held.iter().any(|held| held.id == id);
            if !self.workers.get(&worker).is_some_and(holds) {
                return Err(format!(
                    "job {id} is believed to be with worker {}, which does not hold it",
                    worker.0
                ));
            }
        }
        Ok(())
    }

    pub fn on_boot(&mut self) {
        *self = Crew::default();
    }
}

/// Which of these jobs is answered for.
fn place(held: &[Held], id: Option<JobId>) -> Option<usize> {
    match id {
        None => (!held.is_empty()).then_some(0),
        Some(id) => held.iter().position(|held| held.id == id),
    }
}
