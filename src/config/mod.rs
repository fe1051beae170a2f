//! Every setting and every limit, parsed once into bounded types.
//!
//! A configuration is read whole and checked whole: an error names the file's line, the key and what to write
//! instead, and nothing of it is used. Nothing here reads a file or the environment; the text is an argument.

mod limits;
mod parse;
mod pool;

pub use limits::*;
pub use pool::{Message, OnRestartLimit, PoolSettings, Restart, Spending};

use crate::model::PoolName;
use std::time::Duration;

/// What `pushpulld.toml` says, with the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub daemon: DaemonSettings,
    /// In the order of the file.
    pub pools: Vec<PoolSettings>,
}

/// Settings that are not one pool's.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonSettings {
    /// How long finished jobs are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Bytes of the store above which the oldest finished jobs are forgotten; `None`: no limit.
    pub keep_size: Option<u64>,
    /// Jobs kept, finished ones included.
    pub jobs_max: u64,
    pub batch_jobs_max: u64,
    pub job_bytes_max: usize,
    pub result_bytes_max: usize,
    pub request_bytes_max: usize,
    /// Jobs of one pool in memory.
    pub window_jobs_max: usize,
    /// The same in bytes.
    pub window_bytes_max: usize,
    /// How long running jobs get when the daemon stops; `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// Bytes of one file of a log.
    pub log_max_bytes: u64,
    /// Files of a log besides the one that is written.
    pub log_backups: usize,
    /// The group, a name or a number, that may use the control socket.
    pub control_group: Option<String>,
    /// Stop with status 6 when a pool's command cannot be executed; a run of one file has nothing else to do.
    pub leave_if_not_executable: bool,
}

impl Default for DaemonSettings {
    fn default() -> DaemonSettings {
        DaemonSettings {
            keep: Some(Duration::from_secs(30 * 86_400)),
            keep_size: Some(10 << 30),
            jobs_max: 100_000_000,
            batch_jobs_max: 10_000_000,
            job_bytes_max: 1 << 20,
            result_bytes_max: 1 << 20,
            request_bytes_max: 8 << 20,
            window_jobs_max: 16_384,
            window_bytes_max: 64 << 20,
            drain_timeout: Some(Duration::from_secs(30)),
            log_max_bytes: 50 << 20,
            log_backups: 10,
            control_group: None,
            leave_if_not_executable: false,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// Where, as in `pools.toml:7`.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Config {
    /// Reads a configuration; `cpus` is the number of workers of a pool that does not say.
    ///
    /// # Errors
    /// When `text` is not TOML, has an unknown key, or a value that its key cannot take.
    pub fn parse(text: &str, file: &str, cpus: u32) -> Result<Config, ConfigError> {
        parse::parse(text, file, cpus)
    }

    /// The configuration of a daemon without a file: one pool, `default`, of built-in workers.
    #[must_use]
    pub fn without_file(cpus: u32) -> Config {
        let pools = vec![PoolSettings::new(PoolName::default(), cpus)];
        Config { daemon: DaemonSettings::default(), pools }
    }

    /// The pool that the command line's `-n`, `-m` and `-- COMMAND` are about; it is made if it is missing.
    pub fn default_pool(&mut self, cpus: u32) -> &mut PoolSettings {
        let name = PoolName::default();
        let place = self.pools.iter().position(|pool| pool.name == name).unwrap_or_else(|| {
            self.pools.push(PoolSettings::new(name, cpus));
            self.pools.len() - 1
        });
        &mut self.pools[place]
    }
}
