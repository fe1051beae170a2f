//! The end of everything that a finished command left behind.
//!
//! The worker runs one command at a time and adopts what its descendants leave behind. So once the command itself
//! is reaped, every child of the worker is a leftover: whatever session or group it made for itself. Killing the
//! children brings up theirs, as the next children; when there are none, nothing is left. A living child is
//! awaited through SIGCHLD.

use super::process::{self, Look};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a sweep waits for what it has killed. Only a process of another user or one that hangs in the kernel
/// takes longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause before another look when a child lives that no list showed.
const ANOTHER_LOOK: Duration = Duration::from_millis(1);

/// Children that outlived an earlier sweep. They stay children, so their numbers stay theirs.
pub type Stubborn = BTreeSet<Pid>;

/// A sweep that has begun.
#[derive(Debug)]
pub struct Sweep {
    give_up_at: Instant,
    look_again_at: Option<Instant>,
    max_rss_kib: u64,
}

/// How a sweep ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Swept {
    /// The most memory resident in one of the leftovers.
    pub max_rss_kib: u64,
    /// Those that live on.
    pub survivors: Vec<Pid>,
}

impl Sweep {
    #[must_use]
    pub fn begin(now: Instant) -> Sweep {
        Sweep { give_up_at: now + PATIENCE, look_again_at: None, max_rss_kib: 0 }
    }

    /// Kills and reaps what there is; the end of the sweep, if it has come.
    pub fn turn(&mut self, now: Instant, stubborn: &mut Stubborn) -> Option<Swept> {
        self.look_again_at = None;
        loop {
            match process::look_for_ended() {
                Look::Ended(child) => {
                    stubborn.remove(&child);
                    let reaped = process::reap(child);
                    self.max_rss_kib = self.max_rss_kib.max(reaped.map_or(0, |reaped| reaped.max_rss_kib));
                }
                Look::None => return Some(self.end(Vec::new())),
                Look::AllLive => break,
            }
        }
        let mut living = process::children().unwrap_or_default();
        living.retain(|child| !stubborn.contains(child));
        if living.is_empty() && !stubborn.is_empty() {
            return Some(self.end(Vec::new()));
        }
        if now >= self.give_up_at {
            stubborn.extend(&living);
            return Some(self.end(living));
        }
        if living.is_empty() {
            self.look_again_at = Some(now + ANOTHER_LOOK);
        }
        living.into_iter().for_each(process::kill_child);
        None
    }

    /// When the next turn is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.look_again_at.unwrap_or(self.give_up_at)
    }

    fn end(&self, survivors: Vec<Pid>) -> Swept {
        Swept { max_rss_kib: self.max_rss_kib, survivors }
    }
}
