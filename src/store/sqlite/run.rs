//! Ranges of visible jobs: joined where they meet, and trimmed where nothing in them waits any more.
//!
//! The runs of one pool and priority never overlap. A run may span ids of others, but no id of its own pool and
//! priority that is not visible yet. Trimming is put off and bounded; it only saves a restart the walk over
//! what is done.

use super::codec::{num, sql};
use super::visible::RUN_GAP_MAX;
use super::work::Work;

/// Trim a pool's runs after this many ends of its jobs.
const TRIM_ENDS: u64 = 4_096;
/// Ids that are looked at in one piece.
const TRIM_BLOCK: i64 = 4_096;
/// Pieces that are looked at in one go.
const TRIM_BLOCKS_MAX: usize = 8;
/// Unfinished jobs that are cut out of a piece as runs of their own.
const TRIM_CUTS_MAX: u32 = 64;

/// A run as it lies in its table.
#[derive(Clone, Copy)]
struct Lying {
    pool: i64,
    priority: i16,
    first: i64,
    last: i64,
}

impl Work<'_> {
    /// Adds a run, or extends the one before it. `is_hidden` says whether a range has ids that may become visible
    /// later.
    pub(super) fn add_run(
        &mut self,
        (pool, priority): (i64, i16),
        (first, last): (u64, u64),
        is_hidden: impl Fn(u64, u64) -> bool,
    ) -> rusqlite::Result<()> {
        let find = "SELECT last_id FROM run WHERE pool = ?1 AND priority = ?2 AND last_id < ?3
            ORDER BY last_id DESC LIMIT 1";
        let before = self.one(find, (pool, priority, sql(first)), |row| row.get(0))?;
        let adjoins = |end: i64| {
            let end = num(end);
            first - end == 1 || (first - end <= RUN_GAP_MAX + 1 && !is_hidden(end + 1, first - 1))
        };
        match before.filter(|end| adjoins(*end)) {
            Some(end) => self.run(
                "UPDATE run SET last_id = ?4 WHERE pool = ?1 AND priority = ?2 AND last_id = ?3",
                (pool, priority, end, sql(last)),
            )?,
            None => {
                self.run("INSERT INTO run VALUES (?1, ?2, ?3, ?4)", (pool, priority, sql(last), sql(first)))?
            }
        };
        Ok(())
    }

    /// Trims runs of pools in which enough has ended.
    pub(super) fn trim_runs(&mut self) -> rusqlite::Result<()> {
        let ripe = |(pool, ends): (&i64, &u64)| (*ends >= TRIM_ENDS).then_some(*pool);
        let ripe: Vec<i64> = self.facts.ends.iter().filter_map(ripe).collect();
        for pool in ripe {
            self.facts.ends.insert(pool, 0);
            self.trim_pool(pool)?;
        }
        Ok(())
    }

    /// Goes on where the last time ended, and begins anew at the end.
    fn trim_pool(&mut self, pool: i64) -> rusqlite::Result<()> {
        for _ in 0..TRIM_BLOCKS_MAX {
            let place = self.facts.trimmed.get(&pool).copied().unwrap_or((i64::MIN, i64::MIN));
            let find = "SELECT priority, first_id, last_id FROM run
                WHERE pool = ?1 AND (priority, last_id) > (?2, ?3) ORDER BY priority, last_id LIMIT 1";
            let run = self.one(find, (pool, place.0, place.1), |row| {
                Ok(Lying { pool, priority: row.get(0)?, first: row.get(1)?, last: row.get(2)? })
            })?;
            let Some(run) = run else {
                self.facts.trimmed.remove(&pool);
                return Ok(());
            };
            if !self.trim_block(run)? {
                self.facts.trimmed.insert(pool, (i64::from(run.priority), run.last));
            }
        }
        Ok(())
    }

    /// Cuts off the first piece of a run, if hardly anything in it waits.
    fn trim_block(&mut self, run: Lying) -> rusqlite::Result<bool> {
        let end = run.last.min(run.first + TRIM_BLOCK - 1);
        let count = "SELECT (SELECT count(*) FROM outcome WHERE id BETWEEN ?1 AND ?2)
            + (SELECT count(*) FROM side WHERE id BETWEEN ?1 AND ?2)";
        let settled = self.one(count, [run.first, end], |row| row.get::<_, i64>(0))?.unwrap_or(0);
        let mut waiting = Vec::new();
        if settled < end - run.first + 1 {
            let find = "SELECT id FROM job WHERE id BETWEEN ?1 AND ?2 AND pool = ?3 AND priority = ?4
                AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = job.id)
                AND NOT EXISTS (SELECT 1 FROM side WHERE side.id = job.id) ORDER BY id LIMIT ?5";
            let limit = TRIM_CUTS_MAX + 1;
            waiting =
                self.all(find, (run.first, end, run.pool, run.priority, limit), |row| row.get::<_, i64>(0))?;
            if waiting.len() > TRIM_CUTS_MAX as usize
                || waiting.first() == Some(&run.first) && run.first == run.last
            {
                return Ok(false);
            }
        }
        let delete = "DELETE FROM run WHERE pool = ?1 AND priority = ?2 AND last_id = ?3";
        self.run(delete, (run.pool, run.priority, run.last))?;
        let insert = "INSERT INTO run VALUES (?1, ?2, ?3, ?4)";
        if end < run.last {
            self.run(insert, (run.pool, run.priority, run.last, end + 1))?;
        }
        let mut cuts: Vec<(i64, i64)> = Vec::new();
        for id in waiting {
            match cuts.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                Some(_) | None => cuts.push((id, id)),
            }
        }
        for (first, last) in cuts {
            self.run(insert, (run.pool, run.priority, last, first))?;
        }
        Ok(true)
    }
}
