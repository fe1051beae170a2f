//! The last chunk of a submit, which makes its jobs visible all at once.

use super::codec::{STAGED, get_wall, num, sql, state_code};
use super::hidden::Hidden;
use super::submit::Open;
use super::work::Work;
use crate::model::{BatchId, JobId, State};
use crate::store::end::{End, Passing};
use std::collections::BTreeMap;

/// Ids between two jobs of a run that may belong to others of the same chunk.
pub(super) const RUN_GAP_MAX: u64 = 64;

/// The plain jobs of a chunk as ranges by pool and priority.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<(i64, i16), Vec<Run>>);

/// Jobs of one pool and priority between two ids, and how many they are.
struct Run {
    first: JobId,
    last: JobId,
    jobs: u64,
    /// The place of `last` in the chunk.
    position: usize,
}

impl Runs {
    /// Adds the job at this position of its chunk. A gap is bridged only where the chunk itself fills it, so that
    /// nothing between can belong to another submit.
    pub(super) fn add(&mut self, pool: i64, priority: i16, id: JobId, position: usize) {
        let runs = self.0.entry((pool, priority)).or_default();
        match runs.last_mut() {
            Some(run)
                if id.0 - run.last.0 <= RUN_GAP_MAX + 1
                    && id.0 - run.last.0 == (position - run.position) as u64 =>
            {
                run.last = id;
                run.jobs += 1;
                run.position = position;
            }
            Some(_) | None => runs.push(Run { first: id, last: id, jobs: 1, position }),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (i64, i16, &Run)> {
        self.0.iter().flat_map(|((pool, priority), runs)| runs.iter().map(|run| (*pool, *priority, run)))
    }
}

impl Work<'_> {
    /// Keeps a chunk's runs until its submit is complete.
    pub(super) fn stage(&mut self, open: &Open, runs: &Runs) -> rusqlite::Result<()> {
        for (pool, priority, run) in runs.iter() {
            let key = (open.id, pool, priority);
            let (first, last) = (sql(run.first.0), sql(run.last.0));
            let extended = self.run(
                "UPDATE stage SET last_id = ?5, jobs = jobs + ?6
                 WHERE submit = ?1 AND pool = ?2 AND priority = ?3 AND last_id = ?4",
                (key.0, key.1, key.2, first - 1, last, sql(run.jobs)),
            )?;
            if extended == 0 {
                let insert = "INSERT INTO stage VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                self.run(insert, (key.0, key.1, key.2, first, last, sql(run.jobs)))?;
            }
        }
        Ok(())
    }

    /// Makes a submit visible. `runs` are its last chunk's; if it is whole, there was no other.
    pub(super) fn complete(
        &mut self,
        open: &Open,
        digest: u128,
        runs: &Runs,
        is_whole: bool,
    ) -> rusqlite::Result<()> {
        self.run("UPDATE submit SET state = 1, digest = ?2 WHERE id = ?1", (open.id, digest.to_be_bytes()))?;
        self.run("UPDATE batch SET visible = 1 WHERE id = ?1", [open.batch])?;
        self.facts.labels.remove(&open.id);
        self.facts.hidden = None;
        let hidden = self.hidden()?;
        if is_whole {
            for (pool, priority, run) in runs.iter() {
                self.reveal(open, (pool, priority), (run.first, run.last), run.jobs, &hidden)?;
            }
        } else {
            self.stage(open, runs)?;
            let find = "SELECT pool, priority, first_id, last_id, jobs FROM stage WHERE submit = ?1
                ORDER BY pool, priority, last_id";
            let staged = self.all(find, [open.id], |row| {
                let range = (JobId(num(row.get(2)?)), JobId(num(row.get(3)?)));
                Ok(((row.get(0)?, row.get(1)?), range, num(row.get(4)?)))
            })?;
            for (class, range, jobs) in staged {
                self.reveal(open, class, range, jobs, &hidden)?;
            }
            self.run("DELETE FROM stage WHERE submit = ?1", [open.id])?;
        }
        self.reveal_others(open)
    }

    fn reveal(
        &mut self,
        open: &Open,
        (pool, priority): (i64, i16),
        (first, last): (JobId, JobId),
        jobs: u64,
        hidden: &Hidden,
    ) -> rusqlite::Result<()> {
        self.add_run((pool, priority), (first.0, last.0), |from, to| hidden.touches(from, to, open.id))?;
        let name = self.facts.names.pool(self.db, pool)?;
        self.turn.moved(&name, BatchId(num(open.batch)), None, Some(State::Queued), jobs);
        self.turn.visible(&name, priority);
        self.shifts.runs.push((name, priority, first, last));
        Ok(())
    }

    /// Makes the jobs visible that are not plain.
    fn reveal_others(&mut self, open: &Open) -> rusqlite::Result<()> {
        let find =
            "SELECT side.id, pool, priority, due FROM span JOIN side ON side.id BETWEEN first_id AND last_id
            WHERE submit = ?1 AND known = 0 AND side.state = ?2 AND last_id <= ?3";
        let staged = self.all(find, (open.id, STAGED, i64::MAX), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, get_wall(row, 3)?.is_some()))
        })?;
        for (id, pool, priority, is_delayed) in staged {
            self.chase(id)?;
            let state = if self.is_waiting(id)? {
                State::Blocked
            } else if is_delayed {
                State::Delayed
            } else {
                State::Queued
            };
            self.run("UPDATE side SET state = ?2 WHERE id = ?1", (id, state_code(state)))?;
            let name = self.facts.names.pool(self.db, pool)?;
            self.turn.moved(&name, BatchId(num(open.batch)), None, Some(state), 1);
            if state == State::Queued {
                self.enqueued(JobId(num(id)), &name, priority);
            }
        }
        Ok(())
    }

    /// Catches up with ends of predecessors that came before this job was visible.
    fn chase(&mut self, after: i64) -> rusqlite::Result<()> {
        if !self.facts.has_edges {
            return Ok(());
        }
        let find = "SELECT edge.before, outcome.state, job.id IS NOT NULL FROM edge
            LEFT JOIN outcome ON outcome.id = edge.before LEFT JOIN job ON job.id = edge.before WHERE edge.after = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, bool>(2)?))
        };
        for (before, outcome, is_kept) in self.all(find, [after], read)? {
            let pending = self.pending(before)?;
            let end = match outcome {
                Some(state) if state == state_code(State::Succeeded) => End::Succeeded,
                Some(_) => End::Failed,
                None if is_kept => continue,
                None if pending.is_some_and(|passing| passing.end == End::Succeeded) => End::Succeeded,
                None => End::Gone,
            };
            if end == End::Succeeded {
                self.run("DELETE FROM edge WHERE before = ?1 AND after = ?2", (before, after))?;
            } else {
                self.set_passing(before, Passing::back_to(end, JobId(num(after)), pending))?;
            }
        }
        Ok(())
    }
}
