//! How long finished jobs are kept: by age (`keep`) and by the size of the store (`keep_size`).
//!
//! The oldest go first, a bounded number per commit, so that a great clean-up holds nobody up. Looks are timed by
//! what happens: soon after jobs have finished, rarely when none did, never when there is nothing to forget.

use super::Engine;
use super::event::Effects;
use super::timers::Timer;
use super::write::Then;
use crate::config::{EXPIRE_AGAIN_MAX, EXPIRE_AGAIN_MIN, EXPIRE_IDLE_MAX, EXPIRE_JOBS_MAX};
use crate::model::{Applied, Now, Record, Wall};
use std::time::Duration;

/// Why finished jobs are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Age,
    Size,
}

/// The forgetting of finished jobs.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// A record of it is on its way.
    expiring: bool,
    /// Jobs have finished since the last look.
    pub(super) news: bool,
    /// Jobs forgotten since the start.
    expired: u64,
    /// When the last were forgotten for their size.
    size_reached: Option<Wall>,
    /// When the last were forgotten at all.
    last: Option<Wall>,
}

impl Keeping {
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    pub(super) fn last(&self) -> Option<Wall> {
        self.last
    }

    /// When jobs were last forgotten before their age, because of the size of the store.
    pub(super) fn size_reached(&self) -> Option<Wall> {
        self.size_reached
    }
}

impl Engine {
    /// Sets the next look, if there is anything that may have to be forgotten.
    pub(super) fn expect_expiry(&mut self, now: Now) {
        if self.keeping.expiring || (self.settings.keep.is_none() && self.settings.keep_size.is_none()) {
            return;
        }
        let pause = match (self.keeping.news, self.keeps_finished()) {
            (true, _) => self.expiry_pause(EXPIRE_AGAIN_MAX),
            (false, true) => self.expiry_pause(EXPIRE_IDLE_MAX),
            (false, false) => return,
        };
        self.timers.set_if_sooner(Timer::Expire, now.mono + pause);
    }

    /// A tenth of `keep`, within bounds: nobody minds a job that is kept a tenth longer.
    fn expiry_pause(&self, longest: Duration) -> Duration {
        self.settings.keep.map_or(longest, |keep| (keep / 10).clamp(EXPIRE_AGAIN_MIN, longest))
    }

    fn keeps_finished(&self) -> bool {
        let pools = self.pools.iter().map(|pool| &pool.counts).chain(self.orphans.values());
        pools.map(crate::model::Counts::finished).sum::<u64>() > 0
    }

    pub(super) fn on_expiry_due(&mut self, now: Now, effects: &mut Effects) {
        if self.is_stopping() || self.keeping.expiring {
            return;
        }
        self.keeping.news = false;
        let first = if self.settings.keep.is_some() { Reason::Age } else { Reason::Size };
        self.expire(now, first, effects);
    }

    fn expire(&mut self, now: Now, reason: Reason, effects: &mut Effects) {
        let (before, bytes_max) = match reason {
            Reason::Age => {
                let keep = self.settings.keep.unwrap_or(Duration::MAX);
                (self.steady_wall(now).before(keep), u64::MAX)
            }
            Reason::Size => (Wall(0), self.settings.keep_size.unwrap_or(u64::MAX)),
        };
        self.keeping.expiring = true;
        let record = Record::Expire { before, bytes_max, limit: EXPIRE_JOBS_MAX };
        self.write(record, Then::Expired(reason), effects);
    }

    pub(super) fn on_expired(&mut self, now: Now, reason: Reason, applied: &Applied, effects: &mut Effects) {
        let jobs = applied.changed.first().map_or(0, Vec::len);
        self.keeping.expiring = false;
        if jobs > 0 {
            self.keeping.expired += jobs as u64;
            self.keeping.last = Some(now.wall);
            if reason == Reason::Size {
                self.keeping.size_reached = Some(now.wall);
            }
        }
        if self.is_stopping() {
            return;
        }
        match reason {
            _ if jobs >= EXPIRE_JOBS_MAX => self.expire(now, reason, effects),
            Reason::Age if self.settings.keep_size.is_some() => self.expire(now, Reason::Size, effects),
            Reason::Age | Reason::Size => self.expect_expiry(now),
        }
    }

    /// Jobs have finished: they are to be forgotten some day.
    pub(super) fn note_for_expiry(&mut self, now: Now) {
        if !self.keeping.news {
            self.keeping.news = true;
            self.expect_expiry(now);
        }
    }
}
