//! The daemon's own limit of descriptors.
//!
//! libzmq aborts the process when it runs out of descriptors while it accepts a connection. So the limit is raised
//! as far as it goes, and pools that cannot fit are refused at start. Workers get the limit that the daemon got.

use super::program::Limit;
use crate::config::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Two sockets with their connections, two pipes and a pidfd, with some room.
const DESCRIPTORS_PER_WORKER: u64 = 16;
/// Store, control socket with its clients, log.
const DESCRIPTORS_OF_DAEMON: u64 = 256;
/// More is of no use, and some systems allow a billion.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// The pools have more workers than the daemon can have descriptors for.
#[derive(Debug, thiserror::Error)]
#[error(
    "{workers} workers need about {needed} descriptors, and the limit is {limit}. Raise it (ulimit -n, LimitNOFILE=), or configure fewer workers"
)]
pub struct TooManyWorkers {
    workers: u64,
    needed: u64,
    limit: u64,
}

/// Raises the limit; returns the one that there was, for workers.
///
/// # Errors
/// When the pools cannot fit.
pub fn raise_nofile(config: &Config) -> Result<Limit, TooManyWorkers> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1_024, 1_024));
    let inherited = Limit { soft, hard };
    let wanted = hard.min(DESCRIPTORS_MAX).max(soft);
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    check_room(config, limit)?;
    Ok(inherited)
}

/// Whether a changed configuration has room, too.
///
/// # Errors
/// When the pools cannot fit.
pub fn check(config: &Config) -> Result<(), TooManyWorkers> {
    check_room(config, getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft))
}

fn check_room(config: &Config, limit: u64) -> Result<(), TooManyWorkers> {
    let workers: u64 = config.pools.iter().map(|pool| u64::from(pool.workers)).sum();
    let needed = DESCRIPTORS_OF_DAEMON.min(limit / 2) + workers * DESCRIPTORS_PER_WORKER;
    if needed > limit { Err(TooManyWorkers { workers, needed, limit }) } else { Ok(()) }
}
