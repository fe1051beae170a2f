//! Pools and contexts, which rows name by number.

use super::codec::digest;
use crate::model::{Context, PoolName};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Contexts that are kept in memory. Few are in use at a time, and each can be long.
const CONTEXTS_MAX: usize = 64;

/// What was looked up before. A number never changes its meaning: pools are not deleted, and numbers of contexts
/// are not used again.
#[derive(Default)]
pub(super) struct Names {
    pools: BTreeMap<i64, PoolName>,
    numbers: BTreeMap<PoolName, i64>,
    contexts: BTreeMap<i64, Arc<Context>>,
}

impl Names {
    pub(super) fn pool(&mut self, db: &Connection, number: i64) -> rusqlite::Result<PoolName> {
        if let Some(name) = self.pools.get(&number) {
            return Ok(name.clone());
        }
        let text: Box<str> = db
            .prepare_cached("SELECT name FROM pool WHERE id = ?1")?
            .query_row([number], |row| row.get(0))?;
        let name = PoolName::new(&text).ok_or_else(|| super::codec::bad_column(0, "not a pool's name"))?;
        self.note_pool(&name, number);
        Ok(name)
    }

    /// A pool's number, if it has one.
    pub(super) fn find_pool(&mut self, db: &Connection, name: &PoolName) -> rusqlite::Result<Option<i64>> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(Some(*number));
        }
        let mut find = db.prepare_cached("SELECT id FROM pool WHERE name = ?1")?;
        let number = find.query_row([name.as_str()], |row| row.get(0)).optional()?;
        if let Some(number) = number {
            self.note_pool(name, number);
        }
        Ok(number)
    }

    /// A pool's number, made if it has none.
    pub(super) fn pool_number(&mut self, db: &Connection, name: &PoolName) -> rusqlite::Result<i64> {
        if let Some(number) = self.find_pool(db, name)? {
            return Ok(number);
        }
        db.prepare_cached("INSERT INTO pool (name) VALUES (?1)")?.execute([name.as_str()])?;
        let number = db.last_insert_rowid();
        self.note_pool(name, number);
        Ok(number)
    }

    fn note_pool(&mut self, name: &PoolName, number: i64) {
        self.pools.insert(number, name.clone());
        self.numbers.insert(name.clone(), number);
    }

    pub(super) fn context(&mut self, db: &Connection, number: i64) -> rusqlite::Result<Arc<Context>> {
        if let Some(context) = self.contexts.get(&number) {
            return Ok(Arc::clone(context));
        }
        let mut find = db.prepare_cached("SELECT environment, directory FROM context WHERE id = ?1")?;
        let context = find.query_row([number], |row| {
            Ok(Arc::new(Context { environment: row.get(0)?, directory: row.get(1)? }))
        })?;
        self.note_context(number, &context);
        Ok(context)
    }

    /// A context's number, made if it has none.
    pub(super) fn context_number(
        &mut self,
        db: &Connection,
        context: &Arc<Context>,
    ) -> rusqlite::Result<i64> {
        let alike = |(_, other): &(&i64, &Arc<Context>)| Arc::ptr_eq(other, context);
        if let Some((number, _)) = self.contexts.iter().find(alike) {
            return Ok(*number);
        }
        let (environment, directory) = (context.environment.as_deref(), context.directory.as_deref());
        let digest = digest([environment, directory]);
        let mut find = db.prepare_cached(
            "SELECT id FROM context WHERE digest = ?1 AND environment IS ?2 AND directory IS ?3",
        )?;
        let found = find.query_row((digest, environment, directory), |row| row.get(0)).optional()?;
        let number = if let Some(number) = found {
            number
        } else {
            db.prepare_cached("INSERT INTO context (digest, environment, directory) VALUES (?1, ?2, ?3)")?
                .execute((digest, environment, directory))?;
            db.last_insert_rowid()
        };
        self.note_context(number, context);
        Ok(number)
    }

    fn note_context(&mut self, number: i64, context: &Arc<Context>) {
        if self.contexts.len() >= CONTEXTS_MAX {
            self.contexts.clear();
        }
        self.contexts.insert(number, Arc::clone(context));
    }

    /// A context's row is gone.
    pub(super) fn forget_context(&mut self, number: i64) {
        self.contexts.remove(&number);
    }
}
