//! The settings of one pool.

use crate::model::{PoolName, Work};
use std::path::PathBuf;
use std::time::Duration;

/// What the messages of a pool's workers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The worker protocol: `{"type":"job","id":17,"attempt":1,"data":ANY}`.
    Envelope,
    /// The job's data alone, as the ancestor of this program sends it.
    Bare,
}

/// Whether a worker that ended unasked is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    Never,
}

/// What happens when a pool's workers end too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRestartLimit {
    /// Starts are held back, and one worker at a time is tried.
    Probe,
    /// The daemon stops, with status 6.
    Exit,
}

/// How many unanswered jobs a worker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// As many as make a few milliseconds of work.
    Auto,
    Fixed(u32),
}

/// One table `[pools.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    pub name: PoolName,
    /// `None`: the built-in worker.
    pub command: Option<Vec<String>>,
    pub workers: u32,
    pub message: Message,
    pub credit: Spending,
    /// Default of its jobs: limit for one attempt.
    pub timeout: Option<Duration>,
    /// Default of its jobs: further attempts after a failure.
    pub retries: u32,
    /// Default of its jobs: first pause before a retry.
    pub backoff: Duration,
    /// Crashes after which a job fails.
    pub max_crashes: u32,
    /// Dispatch begins when so many workers are ready.
    pub min_ready: u32,
    /// No more than this many are starting at once.
    pub max_unready: u32,
    /// From start until ready.
    pub start_timeout: Duration,
    /// Signal number.
    pub stop_signal: i32,
    /// From `stop_signal` to SIGKILL.
    pub stop_timeout: Duration,
    pub restart: Restart,
    pub restart_delay: Duration,
    pub restart_delay_max: Duration,
    /// A worker that was ready for so long is stable.
    pub restart_reset: Duration,
    /// Unasked ends within `restart_limit_period` that are too many; `None`: 10, or 3 for each worker if that is more.
    pub restart_limit: Option<u32>,
    pub restart_limit_period: Duration,
    /// `None`: probe, and in a run of one file exit.
    pub on_restart_limit: Option<OnRestartLimit>,
    /// A worker that has answered so many jobs is replaced.
    pub max_jobs: Option<u64>,
    /// So has one that has been ready for so long.
    pub max_age: Option<Duration>,
    /// So has one with so much resident memory, in bytes.
    pub max_rss: Option<u64>,
    /// No more workers than this are being replaced at once.
    pub max_unavailable: u32,
    /// A busy worker that says nothing for so long is hung.
    pub watchdog: Option<Duration>,
    pub directory: Option<PathBuf>,
    /// Added to the daemon's environment.
    pub environment: Vec<(String, String)>,
    pub umask: Option<u32>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub nice: Option<i32>,
    pub limit_nofile: Option<u64>,
    pub limit_core: Option<u64>,
    pub limit_as: Option<u64>,
    pub limit_nproc: Option<u64>,
}

impl PoolSettings {
    /// A pool of which nothing is said but its name.
    #[must_use]
    pub fn new(name: PoolName, cpus: u32) -> PoolSettings {
        PoolSettings {
            name,
            command: None,
            workers: cpus,
            message: Message::Envelope,
            credit: Spending::Auto,
            timeout: None,
            retries: 0,
            backoff: Duration::from_secs(1),
            max_crashes: 3,
            min_ready: 1,
            max_unready: cpus,
            start_timeout: Duration::from_secs(30),
            stop_signal: nix::libc::SIGTERM,
            stop_timeout: Duration::from_secs(10),
            restart: Restart::Always,
            restart_delay: Duration::from_millis(100),
            restart_delay_max: Duration::from_secs(30),
            restart_reset: Duration::from_secs(10),
            restart_limit: None,
            restart_limit_period: Duration::from_secs(60),
            on_restart_limit: None,
            max_jobs: None,
            max_age: None,
            max_rss: None,
            max_unavailable: 1,
            watchdog: None,
            directory: None,
            environment: Vec::new(),
            umask: None,
            user: None,
            group: None,
            nice: None,
            limit_nofile: None,
            limit_core: None,
            limit_as: None,
            limit_nproc: None,
        }
    }

    /// How many unanswered jobs a worker may hold. Bare answers name no job, so they are taken in order: more than
    /// one job at a time is for those who say that theirs do come in order.
    #[must_use]
    pub fn spending(&self) -> Spending {
        match (self.message, self.credit) {
            (Message::Bare, Spending::Auto) => Spending::Fixed(1),
            (Message::Bare | Message::Envelope, said) => said,
        }
    }

    /// Whether a worker that was started with these settings is as good as one that is started with `other`. If not, a
    /// change of one into the other replaces it.
    #[must_use]
    pub fn starts_alike(&self, other: &PoolSettings) -> bool {
        let as_other = PoolSettings {
            workers: other.workers,
            timeout: other.timeout,
            retries: other.retries,
            backoff: other.backoff,
            max_crashes: other.max_crashes,
            min_ready: other.min_ready,
            max_unready: other.max_unready,
            start_timeout: other.start_timeout,
            stop_signal: other.stop_signal,
            stop_timeout: other.stop_timeout,
            restart: other.restart,
            restart_delay: other.restart_delay,
            restart_delay_max: other.restart_delay_max,
            restart_reset: other.restart_reset,
            restart_limit: other.restart_limit,
            restart_limit_period: other.restart_limit_period,
            on_restart_limit: other.on_restart_limit,
            max_jobs: other.max_jobs,
            max_age: other.max_age,
            max_rss: other.max_rss,
            max_unavailable: other.max_unavailable,
            watchdog: other.watchdog,
            ..self.clone()
        };
        as_other == *other
    }

    /// `restart_limit`, or its default.
    #[must_use]
    pub fn exits_max(&self) -> u32 {
        self.restart_limit.unwrap_or_else(|| self.workers.saturating_mul(3).max(10))
    }

    /// Whether the pool's workers can do this kind of work.
    #[must_use]
    pub fn can_run(&self, work: &Work) -> bool {
        match work {
            Work::Run(_) => self.is_builtin(),
            Work::Data(_) => !self.is_builtin(),
        }
    }

    /// Whether the pool runs commands with the built-in worker.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.command.is_none()
    }
}
