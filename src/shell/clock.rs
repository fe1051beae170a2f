//! Both clocks.

use crate::model::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock that nobody sets goes on while the machine sleeps, so that a delay of an hour is over an hour later on
/// everybody's watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Duration,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { origin: since_boot() }
    }

    pub(super) fn now(&self) -> Now {
        let mono = u64::try_from(since_boot().saturating_sub(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // The engine takes zero for "never": begin a second later.
        Now { mono: Mono(mono + 1_000_000_000), wall: Wall(u64::try_from(wall).unwrap_or(u64::MAX)) }
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).expect("Linux has this clock since 2.6.39")
}
