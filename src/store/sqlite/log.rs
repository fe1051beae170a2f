//! When the write-ahead log is written back, and how long it may get.
//!
//! `SQLite` itself writes it back, without waiting for anybody, with the commit that takes it above a bound, and
//! begins it anew when no reader needs it any more. A reader that always happens to be there at that moment would
//! let it grow: at twice the bound it is waited for, shortly. Only one who keeps a single view open for long, as
//! an audit or a person's tool, lets it grow further, until that view ends.

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The log is written back when it reaches this size.
const LOG_BYTES_MAX: u64 = 40 << 20;
/// Or this part of the space that is free.
const FREE_PART: u64 = 4;
/// But never sooner, lest every commit writes everything twice.
const LOG_BYTES_MIN: u64 = 1 << 20;
/// How long readers are waited for when the log is twice as long as it should be.
const READERS_PATIENCE: Duration = Duration::from_millis(50);

pub(super) const PAGE_BYTES: u64 = 16_384;

/// The size at which to write back the log, on a file system with so many bytes free.
pub(super) fn bound(free: u64) -> u64 {
    (free / FREE_PART).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
}

/// Watches the length of one store's log.
pub(super) struct Log {
    path: PathBuf,
    /// Somebody has set the bound by hand.
    fixed: Option<u64>,
    /// What `SQLite` was told last.
    bound: u64,
    /// Readers are waited for when the file is longer than this.
    patience_at: u64,
}

impl Log {
    /// Of the store at `path`.
    pub(super) fn new(path: &Path) -> Log {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        Log { path: name.into(), fixed: None, bound: 0, patience_at: 0 }
    }

    pub(super) fn fix(&mut self, bytes: u64) {
        self.fixed = Some(bytes);
    }

    /// To be called now and then, best before a commit.
    pub(super) fn adjust(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let bound = self.fixed.unwrap_or_else(|| bound(free_bytes(&self.path)));
        // Another program's files come and go: small changes are not worth a word.
        if bound.abs_diff(self.bound) > self.bound / 8 {
            db.pragma_update(None, "wal_autocheckpoint", pages(bound))?;
            db.pragma_update(None, "journal_size_limit", super::sql(bound))?;
            self.bound = bound;
            self.patience_at = 2 * bound;
        }
        Ok(())
    }

    /// To be called after a commit: waits for readers, if the log is far too long.
    pub(super) fn restrain(&mut self, db: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
        let length = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        if length <= 2 * self.bound {
            self.patience_at = 2 * self.bound;
        } else if length > self.patience_at {
            db.busy_timeout(READERS_PATIENCE)?;
            let done = super::checkpoint(db, "TRUNCATE");
            db.busy_timeout(busy_timeout)?;
            // Whoever is still there is not waited for with every commit.
            self.patience_at = length + self.bound;
            done?;
        }
        Ok(())
    }
}

fn pages(bytes: u64) -> i64 {
    super::sql((bytes / PAGE_BYTES).max(1))
}

/// What there is to use in the directory of this file; plenty, if the system does not say.
fn free_bytes(path: &Path) -> u64 {
    let directory = path.parent().unwrap_or(Path::new("."));
    nix::sys::statvfs::statvfs(directory)
        .map_or(u64::MAX, |found| found.blocks_available().saturating_mul(found.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_may_take_forty_mebibytes_or_a_quarter_of_what_is_free() {
        assert_eq!(bound(u64::MAX), 40 << 20);
        assert_eq!(bound(160 << 20), 40 << 20);
        assert_eq!(bound(100 << 20), 25 << 20);
        assert_eq!(bound(8 << 20), 2 << 20);
        assert_eq!(bound(0), 1 << 20);
    }

    #[test]
    fn a_reader_in_a_long_view_is_not_waited_for_again_and_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        let db = Connection::open(&path).expect("a new file");
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").expect("a table");
        let reader = Connection::open(&path).expect("the same file");
        reader.execute_batch("BEGIN; SELECT * FROM t").expect("a view");
        let mut log = Log::new(&path);
        log.fix(PAGE_BYTES);
        log.adjust(&db).expect("bounds");
        let grow = |log: &mut Log| {
            db.execute("INSERT INTO t VALUES (zeroblob(100000))", []).expect("written");
            log.restrain(&db, Duration::ZERO).expect("restrained");
            std::fs::metadata(&log.path).expect("it is there").len()
        };
        let length = grow(&mut log);
        assert!(length > 2 * PAGE_BYTES, "the reader holds it");
        assert_eq!(log.patience_at, length + PAGE_BYTES);
        assert!(grow(&mut log) > length);
        reader.execute_batch("COMMIT").expect("the view ends");
        assert_eq!(grow(&mut log), 0, "it was emptied");
    }
}
