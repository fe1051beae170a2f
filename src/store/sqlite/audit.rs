//! Proves that the sums match: every kept job stands in exactly one state, the counters say the same as the rows,
//! and every waiting job lies where a fetch finds it.

use super::codec::{get_state, num};
use super::hidden::Hidden;
use crate::model::{Answer, Counts, State};
use crate::store::StoreError;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Differences that are spelled out.
const DIFFERENCES_SHOWN: usize = 100;
/// Ids that are looked at before it is asked whether to go on.
const PIECE_IDS: i64 = 100_000;

/// Jobs by batch, pool and state.
type Sums = BTreeMap<(u64, i64, State), u64>;

/// Looks through everything, in the transaction that the caller has begun.
pub(super) fn audit(db: &Connection, hidden: &Hidden, stop: &AtomicBool) -> Result<Answer, StoreError> {
    let mut audit = Audit { db, stop, differences: Vec::new(), hushed: 0 };
    let rows = audit.rows(hidden)?;
    let counters = audit.counters()?;
    audit.compare(&rows, &counters)?;
    audit.outcomes_without_jobs()?;
    let mut counts = Counts::default();
    for ((batch, _, state), jobs) in &rows {
        if *batch != 0 {
            counts[*state] += jobs;
        }
    }
    Ok(Answer::Audit { counts, differences: audit.finish() })
}

struct Audit<'a> {
    db: &'a Connection,
    stop: &'a AtomicBool,
    differences: Vec<String>,
    hushed: u64,
}

impl Audit<'_> {
    fn differ(&mut self, text: String) {
        if self.differences.len() < DIFFERENCES_SHOWN {
            self.differences.push(text);
        } else {
            self.hushed += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.hushed > 0 {
            self.differences.push(format!("and {} more differences", self.hushed));
        }
        self.differences
    }

    /// Counts the rows themselves, batch 0 being the whole pool.
    fn rows(&mut self, hidden: &Hidden) -> Result<Sums, StoreError> {
        let text = "SELECT job.id, job.batch, job.pool, coalesce(outcome.state, side.state, 0),
                outcome.id IS NOT NULL AND side.id IS NOT NULL,
                outcome.id IS NOT NULL OR side.id IS NOT NULL OR EXISTS (
                    SELECT 1 FROM run WHERE run.pool = job.pool AND run.priority = job.priority
                        AND run.last_id >= job.id AND run.first_id <= job.id)
            FROM job LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN side ON side.id = job.id ORDER BY job.id";
        let db = self.db;
        let mut find = db.prepare(text)?;
        let mut found = find.query([])?;
        let mut sums = Sums::new();
        while let Some(row) = found.next()? {
            self.go_on()?;
            let id = num(row.get(0)?);
            if hidden.end_of(id).is_some() {
                continue;
            }
            let (batch, pool, state) = (num(row.get(1)?), row.get(2)?, get_state(row, 3)?);
            *sums.entry((batch, pool, state)).or_default() += 1;
            *sums.entry((0, pool, state)).or_default() += 1;
            if row.get(4)? {
                self.differ(format!("job {id} has an outcome and waits as well"));
            }
            if !row.get::<_, bool>(5)? {
                self.differ(format!("job {id} waits where no fetch finds it"));
            }
        }
        Ok(sums)
    }

    fn counters(&self) -> rusqlite::Result<Sums> {
        let mut find = self.db.prepare("SELECT batch, pool, state, jobs FROM counter WHERE jobs > 0")?;
        let mut found = find.query([])?;
        let mut sums = Sums::new();
        while let Some(row) = found.next()? {
            sums.insert((num(row.get(0)?), row.get(1)?, get_state(row, 2)?), num(row.get(3)?));
        }
        Ok(sums)
    }

    fn compare(&mut self, rows: &Sums, counters: &Sums) -> rusqlite::Result<()> {
        let keys: std::collections::BTreeSet<_> = rows.keys().chain(counters.keys()).collect();
        for key in keys {
            let (kept, counted) = (rows.get(key).unwrap_or(&0), counters.get(key).unwrap_or(&0));
            if kept != counted {
                let (batch, pool, state) = key;
                let find = "SELECT name FROM pool WHERE id = ?1";
                let pool: String = self.db.query_row(find, [pool], |row| row.get(0))?;
                let whose = if *batch == 0 {
                    format!("pool {pool}")
                } else {
                    format!("batch @{batch} in pool {pool}")
                };
                self.differ(format!("{whose}: {kept} jobs are {state}, and the counter says {counted}"));
            }
        }
        Ok(())
    }

    /// Looks in pieces, so that it can be stopped in between.
    fn outcomes_without_jobs(&mut self) -> Result<(), StoreError> {
        let db = self.db;
        let text = "SELECT id FROM outcome WHERE id BETWEEN ?1 AND ?2 AND id NOT IN (SELECT id FROM job)";
        let mut find = db.prepare(text)?;
        let mut next = db.prepare("SELECT min(id) FROM outcome WHERE id >= ?1")?;
        let mut from = i64::MIN;
        while let Some(first) = next.query_row([from], |row| row.get::<_, Option<i64>>(0))? {
            self.go_on()?;
            let last = first.saturating_add(PIECE_IDS);
            let mut found = find.query([first, last])?;
            while let Some(row) = found.next()? {
                let id = num(row.get(0)?);
                self.differ(format!("there is an outcome for job {id}, which is not kept"));
            }
            if last == i64::MAX {
                break;
            }
            from = last + 1;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), StoreError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Io("the audit was broken off, for the daemon stops".to_owned()));
        }
        Ok(())
    }
}
