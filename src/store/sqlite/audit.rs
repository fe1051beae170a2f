//! Proves that the sums match: every kept job stands in exactly one state, the counters say the same as the rows,
//! and every waiting job lies where a fetch finds it.

use super::codec::{get_state, num, sql};
use super::hidden::Hidden;
use crate::model::{Answer, Counts, State};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Differences that are spelled out.
const DIFFERENCES_SHOWN: usize = 100;

/// Jobs by batch, pool and state.
type Sums = BTreeMap<(u64, i64, State), u64>;

/// Looks through everything, in the transaction that the caller has begun.
pub(super) fn audit(db: &Connection, hidden: &Hidden) -> rusqlite::Result<Answer> {
    let mut audit = Audit { db, differences: Vec::new(), hushed: 0 };
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
    fn rows(&mut self, hidden: &Hidden) -> rusqlite::Result<Sums> {
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

    fn outcomes_without_jobs(&mut self) -> rusqlite::Result<()> {
        let text = "SELECT id FROM outcome WHERE id NOT IN (SELECT id FROM job) LIMIT ?1";
        let db = self.db;
        let mut find = db.prepare(text)?;
        let mut found = find.query([sql(DIFFERENCES_SHOWN as u64)])?;
        while let Some(row) = found.next()? {
            let id = num(row.get(0)?);
            self.differ(format!("there is an outcome for job {id}, which is not kept"));
        }
        Ok(())
    }
}
