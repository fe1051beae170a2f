//! How far jobs were fetched.
//!
//! Each pool and priority is a lane: ids below its place were looked at. What becomes visible or is put back
//! below that place is noted as a range of its own, so that nothing is given out twice. Jobs with a row in
//! `side` come in the order of that table's index; there too is a place, which steps back to a job that is
//! queued before it, and the jobs that were given out are kept by id: no more than are held in memory anyway.

use super::codec::get_id;
use super::names::Names;
use crate::model::{Job, JobId, PoolName};
use rusqlite::Connection;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What a transaction means for the places.
#[derive(Default)]
pub(super) struct Shifts {
    /// New runs.
    pub(super) runs: Vec<(PoolName, i16, JobId, JobId)>,
    /// Jobs that are queued in `side`.
    pub(super) queued: Vec<(PoolName, i16, JobId)>,
    /// Jobs that left the queue of `side`, or may be given out from it again.
    pub(super) gone: Vec<JobId>,
}

/// The places of all pools.
#[derive(Default)]
pub(super) struct Lanes {
    pools: BTreeMap<PoolName, PoolLanes>,
    /// Jobs of `side` that were given out.
    pub(super) given: BTreeSet<JobId>,
}

/// The places of a pool.
#[derive(Default)]
pub(super) struct PoolLanes {
    pub(super) lanes: BTreeMap<Reverse<i16>, Lane>,
    /// From here on `side` is to be looked at; `None`: nothing there waits.
    pub(super) side: Option<(Reverse<i16>, u64)>,
    /// All this is to be forgotten before the next fetch.
    is_stale: bool,
}

/// The place of a pool and priority.
#[derive(Default)]
pub(super) struct Lane {
    /// Ids below were looked at.
    pub(super) upto: u64,
    /// Nothing waits at or above `upto`.
    pub(super) is_at_end: bool,
    /// Ranges below `upto` that are to be looked at nevertheless, by their first id.
    pub(super) late: BTreeMap<u64, u64>,
}

impl Lane {
    pub(super) fn is_done(&self) -> bool {
        self.is_at_end && self.late.is_empty()
    }

    fn add_late(&mut self, first: u64, last: u64) {
        let before = self.late.range(..first).next_back().map(|(start, end)| (*start, *end));
        if let Some((start, end)) = before.filter(|(_, end)| end + 1 >= first) {
            self.late.insert(start, end.max(last));
        } else {
            let end = self.late.get(&first).copied().unwrap_or(last);
            self.late.insert(first, end.max(last));
        }
    }
}

impl Lanes {
    pub(super) fn load(db: &Connection, names: &mut Names) -> rusqlite::Result<Lanes> {
        let mut lanes = Lanes::default();
        let mut find = db.prepare("SELECT DISTINCT pool, priority FROM run")?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let pool = lanes.pools.entry(names.pool(db, row.get(0)?)?).or_default();
            pool.lanes.insert(Reverse(row.get(1)?), Lane::default());
        }
        let mut find = db.prepare(
            "SELECT id FROM pool WHERE EXISTS (SELECT 1 FROM side WHERE side.pool = pool.id AND side.state = 0)",
        )?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let pool = lanes.pools.entry(names.pool(db, row.get(0)?)?).or_default();
            pool.side = Some((Reverse(i16::MAX), 0));
        }
        Ok(lanes)
    }

    pub(super) fn pool(&mut self, pool: &PoolName) -> Option<(&mut PoolLanes, &mut BTreeSet<JobId>)> {
        Some((self.pools.get_mut(pool)?, &mut self.given))
    }

    /// Has everything of a pool given out again. Takes effect with the next fetch, which has the file at hand.
    pub(super) fn begin_anew(&mut self, pool: &PoolName) {
        if let Some(places) = self.pools.get_mut(pool) {
            places.is_stale = true;
        }
    }

    /// Does what [`Lanes::begin_anew`] was told. `number` is the pool's in the file.
    pub(super) fn refresh(&mut self, db: &Connection, pool: &PoolName, number: i64) -> rusqlite::Result<()> {
        let Some(places) = self.pools.get_mut(pool).filter(|places| places.is_stale) else {
            return Ok(());
        };
        let mut fresh = PoolLanes::default();
        let mut find = db.prepare("SELECT DISTINCT priority FROM run WHERE pool = ?1")?;
        let mut rows = find.query([number])?;
        while let Some(row) = rows.next()? {
            fresh.lanes.insert(Reverse(row.get(0)?), Lane::default());
        }
        let mut find = db.prepare("SELECT id FROM side WHERE pool = ?1 AND state = 0")?;
        let mut rows = find.query([number])?;
        while let Some(row) = rows.next()? {
            fresh.side = Some((Reverse(i16::MAX), 0));
            self.given.remove(&get_id(row, 0)?);
        }
        *places = fresh;
        Ok(())
    }

    /// Follows a transaction that is durable.
    pub(super) fn shift(&mut self, shifts: Shifts) {
        for id in shifts.gone {
            self.given.remove(&id);
        }
        for (pool, priority, first, last) in shifts.runs {
            let lane = self.entry(pool).lanes.entry(Reverse(priority)).or_default();
            if first.0 < lane.upto {
                lane.add_late(first.0, last.0.min(lane.upto - 1));
            }
            if last.0 >= lane.upto {
                lane.is_at_end = false;
            }
        }
        for (pool, priority, id) in shifts.queued {
            self.step_back(pool, priority, id);
        }
    }

    /// A job was given out and is to be given out again.
    pub(super) fn put_back(&mut self, job: &Job) {
        if self.given.remove(&job.id) {
            self.step_back(job.pool.clone(), job.priority, job.id);
        } else if let Some(lane) = self.entry(job.pool.clone()).lanes.get_mut(&Reverse(job.priority)) {
            if job.id.0 < lane.upto {
                lane.add_late(job.id.0, job.id.0);
            }
        }
    }

    fn step_back(&mut self, pool: PoolName, priority: i16, id: JobId) {
        let place = (Reverse(priority), id.0);
        let side = &mut self.entry(pool).side;
        *side = Some(side.map_or(place, |so_far| so_far.min(place)));
    }

    fn entry(&mut self, pool: PoolName) -> &mut PoolLanes {
        self.pools.entry(pool).or_default()
    }
}
