//! Which ids belong to submits that are not complete, or were discarded and not yet deleted.

use super::codec::num;
use rusqlite::Connection;

/// Inclusive ranges, ascending, with their submit.
pub(super) struct Hidden(Vec<(u64, u64, i64)>);

impl Hidden {
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Hidden> {
        let find = "SELECT first_id, last_id, submit FROM submit JOIN span ON span.submit = submit.id
            WHERE submit.state <> 1 AND span.known = 0 ORDER BY last_id";
        let read = |row: &rusqlite::Row<'_>| Ok((num(row.get(0)?), num(row.get(1)?), row.get(2)?));
        Ok(Hidden(db.prepare_cached(find)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?))
    }

    /// The last id of the hidden range that this id lies in.
    pub(super) fn end_of(&self, id: u64) -> Option<u64> {
        self.at(id).map(|(_, last, _)| *last)
    }

    /// The submit that hides this id.
    pub(super) fn submit_of(&self, id: u64) -> Option<i64> {
        self.at(id).map(|(_, _, submit)| *submit)
    }

    /// Whether a submit hides an id of this inclusive range, other than `own`.
    pub(super) fn touches(&self, first: u64, last: u64, own: i64) -> bool {
        let from = self.0.partition_point(|(_, end, _)| *end < first);
        self.0[from..].iter().take_while(|(start, _, _)| *start <= last).any(|(_, _, submit)| *submit != own)
    }

    fn at(&self, id: u64) -> Option<&(u64, u64, i64)> {
        let from = self.0.partition_point(|(_, last, _)| *last < id);
        self.0.get(from).filter(|(first, _, _)| *first <= id)
    }
}
