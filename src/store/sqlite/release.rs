//! Passing ends of jobs on to those that wait for them.

use super::codec::{STAGED, get_id, get_standing, num, sql, state_code};
use super::work::Work;
use crate::model::{BatchId, JobId, State, Wall};
use crate::store::end::{self, Act, End, Passing, Successor};

const FIRST: &str = "SELECT before, what, reopens, upto FROM passing ORDER BY before LIMIT 1";

impl Work<'_> {
    pub(super) fn release(&mut self, now: Wall, limit: usize) -> rusqlite::Result<()> {
        self.see(now);
        let mut left = limit;
        while let Some((before, passing)) = self.one(FIRST, [], |row| Ok((row.get(0)?, get_passing(row)?)))? {
            let Some(after) = self.successor(before, sql(passing.upto.0))? else {
                self.run("DELETE FROM passing WHERE before = ?1", [before])?;
                continue;
            };
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            self.run("UPDATE passing SET upto = ?2 WHERE before = ?1", (before, after))?;
            let step = passing.to(self.stands(after)?);
            if !step.keep_edge {
                self.run("DELETE FROM edge WHERE before = ?1 AND after = ?2", (before, after))?;
            }
            match step.act {
                Act::Nothing => {}
                Act::Start => self.start(after, now)?,
                Act::Cancel => self.cancel_dependent(before, after, now)?,
                Act::Reopen => {
                    if !self.has_failed_predecessor(after)? {
                        self.reopen(after)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes an end that others wait for.
    pub(super) fn pass_on(&mut self, id: i64, end: End) -> rusqlite::Result<()> {
        if self.facts.has_edges && self.successor(id, 0)?.is_some() {
            let pending = self.pending(id)?;
            self.set_passing(id, Passing::new(end, pending))?;
        }
        Ok(())
    }

    pub(super) fn pending(&self, before: i64) -> rusqlite::Result<Option<Passing>> {
        self.one("SELECT before, what, reopens, upto FROM passing WHERE before = ?1", [before], get_passing)
    }

    pub(super) fn set_passing(&self, before: i64, passing: Passing) -> rusqlite::Result<()> {
        let what = match passing.end {
            End::Succeeded => 0,
            End::Failed => 1,
            End::Retried => 2,
            End::Gone => 3,
        };
        self.run(
            "INSERT OR REPLACE INTO passing VALUES (?1, ?2, ?3, ?4)",
            (before, what, passing.reopens, sql(passing.upto.0)),
        )?;
        Ok(())
    }

    /// The first job above `upto` that waits for this one.
    pub(super) fn successor(&self, before: i64, upto: i64) -> rusqlite::Result<Option<i64>> {
        let find = "SELECT after FROM edge WHERE before = ?1 AND after > ?2 ORDER BY after LIMIT 1";
        self.one(find, (before, upto), |row| row.get(0))
    }

    /// Whether a job's predecessors have not all passed on their success.
    pub(super) fn is_waiting(&self, after: i64) -> rusqlite::Result<bool> {
        if !self.facts.has_edges {
            return Ok(false);
        }
        Ok(self.one("SELECT 1 FROM edge WHERE after = ?1 LIMIT 1", [after], |_| Ok(()))?.is_some())
    }

    fn has_failed_predecessor(&self, after: i64) -> rusqlite::Result<bool> {
        let find = "SELECT 1 FROM edge JOIN outcome ON outcome.id = edge.before
            WHERE edge.after = ?1 AND outcome.state <> ?2 LIMIT 1";
        Ok(self.one(find, (after, state_code(State::Succeeded)), |_| Ok(()))?.is_some())
    }

    fn stands(&self, after: i64) -> rusqlite::Result<Successor> {
        let side = self.one("SELECT state FROM side WHERE id = ?1", [after], |row| row.get::<_, i64>(0))?;
        if let Some(state) = side {
            return Ok(if state == STAGED {
                Successor::Staged
            } else if state == state_code(State::Blocked) {
                Successor::Blocked
            } else {
                Successor::Other
            });
        }
        let find = "SELECT cause = 'dependency' FROM outcome WHERE id = ?1";
        let is_dependent = self.one(find, [after], |row| row.get::<_, Option<bool>>(0))?.flatten();
        Ok(if is_dependent == Some(true) { Successor::Dependent } else { Successor::Other })
    }

    fn start(&mut self, id: i64, now: Wall) -> rusqlite::Result<()> {
        if self.is_waiting(id)? {
            return Ok(());
        }
        let find = "SELECT batch, pool, priority, due FROM side WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<i64>>(3)?))
        };
        let (batch, pool, priority, due) = self.one(find, [id], read)?.expect("a blocked job is set aside");
        let due = due.filter(|due| *due > sql(now.0));
        let to = if due.is_some() { State::Delayed } else { State::Queued };
        self.run("UPDATE side SET state = ?2, due = ?3 WHERE id = ?1", (id, state_code(to), due))?;
        let pool = self.facts.names.pool(self.db, pool)?;
        self.turn.moved(&pool, BatchId(num(batch)), Some(State::Blocked), Some(to), 1);
        if to == State::Queued {
            self.enqueued(JobId(num(id)), &pool, priority);
        }
        Ok(())
    }

    fn cancel_dependent(&mut self, before: i64, after: i64, now: Wall) -> rusqlite::Result<()> {
        let find = "SELECT id, batch, pool, round, attempts, crashes, alone FROM side WHERE id = ?1";
        let (id, batch, pool, standing) = self
            .one(find, [after], |row| Ok((get_id(row, 0)?, row.get(1)?, row.get(2)?, get_standing(row, 3)?)))?
            .expect("a blocked job is set aside");
        let pool = self.facts.names.pool(self.db, pool)?;
        let outcome =
            end::dependency_outcome(id, BatchId(num(batch)), pool, standing, JobId(num(before)), now);
        assert!(self.finish_job(&outcome)?, "a blocked job has no outcome");
        self.turn.applied.cancelled.push(id);
        Ok(())
    }
}

fn get_passing(row: &rusqlite::Row<'_>) -> rusqlite::Result<Passing> {
    let end = match row.get(1)? {
        0 => End::Succeeded,
        1 => End::Failed,
        2 => End::Retried,
        3 => End::Gone,
        4_i64.. | i64::MIN..0 => return Err(super::codec::bad_column(1, "no end has this number")),
    };
    Ok(Passing { end, reopens: row.get(2)?, upto: get_id(row, 3)? })
}
