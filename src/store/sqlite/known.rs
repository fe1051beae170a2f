//! What a complete submit was told, for its repetition.

use super::codec::{get_id, num};
use crate::model::{BatchId, Submitted};
use rusqlite::{Connection, OptionalExtension};

/// The digest and the reply of the complete submit that has this key.
pub(super) fn complete(db: &Connection, key: &str) -> rusqlite::Result<Option<(u128, Submitted)>> {
    let find = "SELECT id FROM submit WHERE key = ?1 AND state = 1";
    let submit: Option<i64> = db.prepare_cached(find)?.query_row([key], |row| row.get(0)).optional()?;
    submit.map(|submit| Ok((digest(db, submit)?, submitted(db, submit)?))).transpose()
}

pub(super) fn digest(db: &Connection, submit: i64) -> rusqlite::Result<u128> {
    let find = "SELECT digest FROM submit WHERE id = ?1";
    let digest: Option<Vec<u8>> = db.prepare_cached(find)?.query_row([submit], |row| row.get(0))?;
    let digest = digest.and_then(|digest| <[u8; 16]>::try_from(digest).ok()).unwrap_or_default();
    Ok(u128::from_be_bytes(digest))
}

/// A submit's reply. The submit is kept.
pub(super) fn submitted(db: &Connection, submit: i64) -> rusqlite::Result<Submitted> {
    let find = "SELECT batch, jobs, known FROM submit WHERE id = ?1";
    let mut submitted = db.prepare_cached(find)?.query_row([submit], |row| {
        let (jobs, known) = (num(row.get(1)?), num(row.get(2)?));
        Ok(Submitted { batch: BatchId(num(row.get(0)?)), jobs, known, ids: Vec::new() })
    })?;
    let find = "SELECT first_id, last_id FROM span WHERE submit = ?1 ORDER BY seq";
    let mut spans = db.prepare_cached(find)?;
    let mut rows = spans.query([submit])?;
    while let Some(row) = rows.next()? {
        let (first, last) = (get_id(row, 0)?, get_id(row, 1)?);
        match submitted.ids.last_mut() {
            Some((_, end)) if end.0 + 1 == first.0 => *end = last,
            Some(_) | None => submitted.ids.push((first, last)),
        }
    }
    Ok(submitted)
}
