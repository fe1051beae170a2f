//! Which pools are paused, and whether the daemon drains or stops.

use super::Asked;
use pushpull::config::Config;
use pushpull::engine::Client;
use pushpull::model::PoolName;
use pushpull::wire::reply::Reply;
use std::collections::BTreeMap;

/// What was asked of a pool, and what was acknowledged, by the numbers of the requests.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    begun: u64,
    begun_done: u64,
    ended: u64,
    ended_done: u64,
}

#[derive(Debug, Default)]
pub struct Pauses {
    pools: BTreeMap<PoolName, Pause>,
    /// Requests under way, with the pools that they mean.
    open: BTreeMap<Client, (bool, Vec<PoolName>)>,
    pub draining: bool,
    /// A drain was asked for since the start: it may have been over, and the daemon stopping, before it was ended.
    pub has_drained: bool,
    pub stopping: bool,
}

impl Pauses {
    pub fn on_request(&mut self, client: Client, asked: &Asked, config: &Config) {
        match asked {
            Asked::Drain if !self.stopping => (self.draining, self.has_drained) = (true, true),
            Asked::Pause { pool, paused } => {
                // During a drain it ends only that; but the drain may be over, and the daemon about to stop.
                let ends_drain = self.draining && !*paused && pool.is_none();
                self.draining &= *paused || pool.is_some() || self.stopping;
                let is_meant = |name: &PoolName| pool.as_ref().is_none_or(|pool| pool == name);
                let names = config.pools.iter().map(|pool| pool.name.clone()).filter(is_meant);
                let names: Vec<PoolName> = names.collect();
                for name in &names {
                    let pool = self.pools.entry(name.clone()).or_default();
                    *(if *paused { &mut pool.begun } else { &mut pool.ended }) = client.0;
                }
                if !ends_drain {
                    self.open.insert(client, (*paused, names));
                }
            }
            _ => {}
        }
    }

    pub fn on_reply(&mut self, client: Client, reply: &Reply) {
        if let (Some((paused, names)), Reply::Done) = (self.open.remove(&client), reply) {
            for name in names {
                let pool = self.pools.entry(name).or_default();
                let done = if paused { &mut pool.begun_done } else { &mut pool.ended_done };
                *done = client.0.max(*done);
            }
        }
    }

    /// A pause was acknowledged, and nobody has asked for its end.
    pub fn is_paused(&self, pool: &PoolName) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.begun_done > pool.ended)
    }

    /// A pause was asked for, and no resume after it was acknowledged.
    pub fn may_be_paused(&self, pool: &PoolName) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.begun > pool.ended_done)
    }

    pub fn on_boot(&mut self) {
        self.open.clear();
        self.draining = false;
        self.has_drained = false;
        self.stopping = false;
    }
}
