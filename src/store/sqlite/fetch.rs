//! The next waiting jobs of a pool: those of its runs and those of `side`, merged.

use super::codec::{get_id, get_standing, num, sql};
use super::lane::{Lane, Lanes, PoolLanes};
use super::names::Names;
use super::rows::{JOB_COLUMNS, get_job};
use super::work::Facts;
use crate::model::{JobId, Standing};
use crate::store::{Fetch, Fetched};
use rusqlite::{Connection, OptionalExtension};
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) fn fetch(
    db: &Connection,
    facts: &mut Facts,
    lanes: &mut Lanes,
    fetch: &Fetch,
) -> rusqlite::Result<Fetched> {
    let mut basket =
        Basket { fetched: Fetched::default(), jobs_left: fetch.jobs_max, bytes_left: fetch.bytes_max.max(1) };
    let pool = facts.names.find_pool(db, &fetch.pool)?;
    if let Some(number) = pool {
        lanes.refresh(db, &fetch.pool, number)?;
    }
    let (Some(pool), Some((places, given))) = (pool, lanes.pool(&fetch.pool)) else {
        return Ok(Fetched { end: true, ..basket.fetched });
    };
    let mut reading = Reading { db, facts, pool };
    let mut aside = reading.aside(places, given, fetch.jobs_max)?;
    if let Err(error) = reading.fill(places, &mut aside, &mut basket) {
        // Nobody will have these jobs. Those of `side` are not yet booked as given out.
        let lost = basket.fetched.jobs.iter().filter(|(job, _)| !aside.given.contains(&job.id));
        lost.for_each(|(job, _)| lanes.put_back(job));
        return Err(error);
    }
    places.side = aside.place();
    given.extend(aside.given);
    basket.fetched.end = places.side.is_none() && places.lanes.values().all(Lane::is_done);
    Ok(basket.fetched)
}

/// What is being fetched.
struct Basket {
    fetched: Fetched,
    jobs_left: usize,
    bytes_left: usize,
}

impl Basket {
    fn is_full(&self) -> bool {
        self.jobs_left == 0 || self.bytes_left == 0
    }

    fn add(&mut self, job: crate::model::Job, standing: Standing) {
        self.jobs_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(job.weight());
        self.fetched.jobs.push((Arc::new(job), standing));
    }
}

/// Jobs of `side` that come next, in order.
struct Aside {
    waiting: VecDeque<(Reverse<i16>, JobId, Standing)>,
    given: BTreeSet<JobId>,
    /// Where to go on behind those that are waiting here.
    rest: Option<(Reverse<i16>, u64)>,
}

impl Aside {
    /// Gives out those that come before `place`.
    fn give(
        &mut self,
        place: (Reverse<i16>, u64),
        reading: &mut Reading<'_>,
        basket: &mut Basket,
    ) -> rusqlite::Result<()> {
        while let Some((priority, id, standing)) = self.waiting.front().copied() {
            if basket.is_full() || (priority, id.0) >= place {
                break;
            }
            let text = format!("SELECT {JOB_COLUMNS} FROM job WHERE id = ?1");
            let mut find = reading.db.prepare_cached(&text)?;
            let names = &mut reading.facts.names;
            let job = find.query_row([sql(id.0)], |row| get_job(reading.db, names, row))?;
            basket.add(job, standing);
            self.given.insert(id);
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn place(&self) -> Option<(Reverse<i16>, u64)> {
        self.waiting.front().map(|(priority, id, _)| (*priority, id.0)).or(self.rest)
    }
}

/// A look at the file for one pool.
struct Reading<'a> {
    db: &'a Connection,
    facts: &'a mut Facts,
    pool: i64,
}

impl Reading<'_> {
    fn fill(
        &mut self,
        places: &mut PoolLanes,
        aside: &mut Aside,
        basket: &mut Basket,
    ) -> rusqlite::Result<()> {
        let priorities: Vec<Reverse<i16>> = places.lanes.keys().copied().collect();
        for priority in priorities {
            if basket.is_full() {
                return Ok(());
            }
            let lane = places.lanes.get_mut(&priority).expect("the key was just read");
            if lane.is_done() {
                continue;
            }
            aside.give((priority, 0), self, basket)?;
            self.lane(priority, lane, aside, basket)?;
            if lane.is_done() && self.is_gone(priority)? {
                places.lanes.remove(&priority);
            }
        }
        aside.give((Reverse(i16::MIN), u64::MAX), self, basket)
    }

    fn aside(&self, places: &PoolLanes, given: &BTreeSet<JobId>, limit: usize) -> rusqlite::Result<Aside> {
        let mut aside = Aside { waiting: VecDeque::new(), given: BTreeSet::new(), rest: None };
        let Some((Reverse(priority), from)) = places.side else { return Ok(aside) };
        let mut find = self.db.prepare_cached(
            "SELECT id, round, attempts, crashes, alone, priority FROM side WHERE pool = ?1 AND state = 0
             AND (-priority, id) >= (?2, ?3) ORDER BY -priority, id",
        )?;
        let mut rows = find.query((self.pool, -i32::from(priority), sql(from)))?;
        while let Some(row) = rows.next()? {
            let (id, priority) = (get_id(row, 0)?, Reverse(row.get(5)?));
            if given.contains(&id) {
                continue;
            }
            if aside.waiting.len() == limit {
                aside.rest = Some((priority, id.0));
                break;
            }
            aside.waiting.push_back((priority, id, get_standing(row, 1)?));
        }
        Ok(aside)
    }

    /// Gives out a lane's jobs, and those of `side` that come between.
    fn lane(
        &mut self,
        priority: Reverse<i16>,
        lane: &mut Lane,
        aside: &mut Aside,
        basket: &mut Basket,
    ) -> rusqlite::Result<()> {
        while let Some((&first, &last)) = lane.late.first_key_value() {
            let rest = self.range(priority, (first, last), aside, basket)?;
            lane.late.remove(&first);
            if let Some(rest) = rest {
                lane.late.insert(rest, last);
                return Ok(());
            }
        }
        while !lane.is_at_end {
            let find = "SELECT first_id, last_id FROM run WHERE pool = ?1 AND priority = ?2 AND last_id >= ?3
                ORDER BY last_id LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| Ok((num(row.get(0)?), num(row.get(1)?)));
            let mut find = self.db.prepare_cached(find)?;
            let Some((first, last)) =
                find.query_row((self.pool, priority.0, sql(lane.upto)), read).optional()?
            else {
                lane.is_at_end = true;
                return Ok(());
            };
            lane.upto = lane.upto.max(first);
            if let Some(rest) = self.range(priority, (lane.upto, last), aside, basket)? {
                lane.upto = rest;
                return Ok(());
            }
            lane.upto = last + 1;
        }
        Ok(())
    }

    /// Gives out a range's jobs. If the basket is full before its end, answers where to go on.
    fn range(
        &mut self,
        priority: Reverse<i16>,
        (first, last): (u64, u64),
        aside: &mut Aside,
        basket: &mut Basket,
    ) -> rusqlite::Result<Option<u64>> {
        let text = format!(
            "SELECT {JOB_COLUMNS} FROM job WHERE id BETWEEN ?1 AND ?2 AND pool = ?3 AND priority = ?4
             AND (id > ?5 OR NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = job.id))
             AND (id > ?6 OR NOT EXISTS (SELECT 1 FROM side WHERE side.id = job.id)) ORDER BY id"
        );
        let (outcome_top, side_top) = (self.facts.outcome_top, self.facts.side_top);
        let mut find = self.db.prepare_cached(&text)?;
        let mut rows = find.query((sql(first), sql(last), self.pool, priority.0, outcome_top, side_top))?;
        while let Some(row) = rows.next()? {
            let id = get_id(row, 0)?;
            aside.give((priority, id.0), self, basket)?;
            if basket.is_full() {
                return Ok(Some(id.0));
            }
            let names: &mut Names = &mut self.facts.names;
            basket.add(get_job(self.db, names, row)?, Standing::default());
        }
        Ok(None)
    }

    /// Whether a pool and priority have no runs any more.
    fn is_gone(&self, priority: Reverse<i16>) -> rusqlite::Result<bool> {
        let mut find =
            self.db.prepare_cached("SELECT 1 FROM run WHERE pool = ?1 AND priority = ?2 LIMIT 1")?;
        Ok(find.query_row((self.pool, priority.0), |_| Ok(())).optional()?.is_none())
    }
}
