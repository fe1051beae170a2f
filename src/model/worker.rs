//! Which process: a slot of a pool, filled by one generation after another.

use super::PoolName;
use std::fmt;

/// One counter for the whole daemon, never reused, also not across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A worker, `pool.slot.generation`, as in `default.3.17`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName {
    pub pool: PoolName,
    pub slot: u32,
    pub generation: Generation,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.pool, self.slot, self.generation.0)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Its exit status, 0 to 255.
    Status(i32),
    /// The number of the signal that killed it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal} ({})", signal_name(signal)),
        }
    }
}

/// A signal's name without its `SIG`, as in `SEGV`; its number for those that have none.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}
