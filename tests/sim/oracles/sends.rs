//! Who may be sent what, and when.

use super::crew::{Held, Ledger};
use super::{Oracles, Seen};
use pushpull::config::{CREDIT_MAX, PoolSettings, Spending};
use pushpull::model::{Generation, Job, JobId, Row, State};
use std::time::Duration;

/// A better job may wait this long behind worse ones: it must be fetched first.
pub const FETCH_PATIENCE_NS: u64 = 200_000_000;

impl Oracles {
    pub(super) fn on_send(
        &mut self,
        worker: Generation,
        job: &Job,
        attempt: u32,
        timeout: Option<Duration>,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let id = job.id;
        let row = seen.disk.row(id).ok_or_else(|| format!("job {id} is sent, and no such job is kept"))?;
        self.check_state(&row, seen)?;
        self.check_daemon(job, seen)?;
        if attempt != row.standing.attempts + 1 {
            return Err(format!("job {id} is sent as attempt {attempt}: {:?}", row.standing));
        }
        let pool = seen.home(job).ok_or_else(|| format!("job {id} is sent to workers that cannot run it"))?;
        let limit = seen.plans.of(job).limit(pool).filter(|_| pool.is_builtin());
        if timeout != limit {
            return Err(format!("job {id} is sent with the limit {timeout:?}, not {limit:?}"));
        }
        self.check_worker(worker, &row, pool)?;
        let alone = self.jobs.alone.contains_key(&id);
        let ledger = self.crew.workers.get_mut(&worker).expect("it was just checked");
        if ledger.held.is_empty() {
            ledger.oldest_since = seen.now.mono;
        }
        ledger.held.push(Held { id, standing: row.standing, alone, void: false });
        self.jobs.on_taken(id);
        self.window.on_gone(id);
        self.window.check()
    }

    /// It is queued, due, unblocked, and nothing of it is on its way to the disk.
    fn check_state(&self, row: &Row, seen: &Seen) -> Result<(), String> {
        let id = row.job.id;
        for (other, ledger) in &self.crew.workers {
            if ledger.held.iter().any(|held| held.id == id) {
                return Err(format!("job {id} is sent while worker {} is at it", other.0));
            }
        }
        if self.jobs.charging.values().any(|charged| *charged == id) {
            return Err(format!("job {id} is sent again before its crash charge is durable"));
        }
        // An outcome that the engine has not heard of yet cannot stop it.
        let is_news = self.jobs.is_ending(id) || !seen.disk.is_told();
        if row.state.is_finished() && !is_news {
            return Err(format!("job {id} is sent although it has its outcome"));
        }
        if matches!(row.state, State::Delayed | State::Blocked) {
            return Err(format!("job {id} is sent although it is {}", row.state.as_str()));
        }
        if self.clocks.is_early(id, seen.now) {
            return Err(format!("job {id} is sent before it is due"));
        }
        // Who waits for a job that was removed is cancelled, and may be retried without it.
        let has_passed =
            |before: &JobId| self.jobs.succeeded.contains(before) || self.jobs.removed.contains(before);
        let before = self.jobs.before.get(&id).into_iter().flatten();
        if let Some(before) = before.copied().find(|before| !has_passed(before)) {
            return Err(format!("job {id} is sent before job {before} has succeeded"));
        }
        match self.jobs.better(&row.job, seen.now.mono.0) {
            Some(better) => Err(format!("job {id} is sent although the better job {better} waits")),
            None => Ok(()),
        }
    }

    /// Nothing is begun in a paused pool, by a daemon that stops, or while outcomes cannot be written.
    fn check_daemon(&self, job: &Job, seen: &Seen) -> Result<(), String> {
        let id = job.id;
        if self.pauses.is_paused(&job.pool) {
            return Err(format!("job {id} is sent although pool {} is paused", job.pool));
        }
        if self.pauses.stopping {
            return Err(format!("job {id} is sent although the daemon stops"));
        }
        if let Some(ticket) = self.jobs.refused.first().filter(|_| seen.disk.broken.is_some()) {
            return Err(format!("job {id} is sent although {ticket:?} could not be written"));
        }
        Ok(())
    }

    fn check_worker(&self, worker: Generation, row: &Row, pool: &PoolSettings) -> Result<(), String> {
        let (id, job) = (row.job.id, &row.job);
        let ledger = self.crew.workers.get(&worker).ok_or("a job is sent to a worker that is gone")?;
        if ledger.name.pool != job.pool || !ledger.ready || ledger.hit {
            return Err(format!("job {id} is sent to worker {}, which is not ready for it", worker.0));
        }
        let alone = self.jobs.alone.contains_key(&id);
        let is_solo = ledger.held.iter().any(|held| held.alone);
        if (alone || is_solo) && !ledger.held.is_empty() {
            return Err(format!("job {id} goes to worker {}, which is not alone with one job", worker.0));
        }
        let cap = match pool.spending() {
            Spending::Fixed(credit) => credit as usize,
            Spending::Auto if pool.is_builtin() => 2,
            Spending::Auto => CREDIT_MAX as usize,
        };
        if ledger.held.len() >= cap {
            return Err(format!("worker {} holds {} jobs and gets another", worker.0, ledger.held.len()));
        }
        self.check_suspects(row, pool)?;
        self.check_share(id, ledger)
    }

    /// Jobs that crashed a worker may fill at most half of a pool's workers, at least one.
    fn check_suspects(&self, row: &Row, pool: &PoolSettings) -> Result<(), String> {
        if row.standing.crashes == 0 {
            return Ok(());
        }
        let is_suspected = |ledger: &&Ledger| {
            ledger.name.pool == pool.name && ledger.held.iter().any(|held| held.standing.crashes > 0)
        };
        let suspected = self.crew.workers.values().filter(is_suspected).count();
        let most = (pool.workers as usize / 2).max(1);
        if suspected < most {
            return Ok(());
        }
        Err(format!(
            "{suspected} workers of {} are with suspects, and job {} is sent to another",
            pool.workers, row.job.id
        ))
    }

    /// No window is filled while another worker is idle; those kept free for jobs that go alone aside.
    fn check_share(&self, id: JobId, ledger: &Ledger) -> Result<(), String> {
        let pool = &ledger.name.pool;
        if ledger.held.is_empty() || self.jobs.alone.values().any(|other| other == pool) {
            return Ok(());
        }
        let is_idle =
            |other: &&Ledger| other.name.pool == *pool && other.ready && !other.hit && other.held.is_empty();
        match self.crew.workers.values().find(is_idle) {
            None => Ok(()),
            Some(idle) => {
                Err(format!("job {id} goes to {}, which is busy, while {} is idle", ledger.name, idle.name))
            }
        }
    }
}
