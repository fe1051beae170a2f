//! Whether a file is one that we can go on with, found out without changing anything.
//!
//! `SQLite` changes what it opens: it plays back logs, and tidies up when it closes. So a file is first looked at
//! as plain bytes, then through a connection that may only read. Damage that lies deeper than that is met
//! later, and refuses then what meets it.

use super::schema::{APPLICATION_ID, VERSION};
use crate::store::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files up to this size are read from end to end before they are used.
const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// Everything that a start needs: each table is there, with its columns, and its first page can be read.
const NEEDED: [&str; 8] = [
    "SELECT next_job, next_batch, next_generation, finishes, clock FROM meta WHERE one = 1",
    "SELECT id, name, paused FROM pool LIMIT 1",
    "SELECT id, key, submitted, visible, kept FROM batch LIMIT 1",
    "SELECT id, ticket, state, digest FROM submit LIMIT 1",
    "SELECT id, batch, pool, work FROM job ORDER BY id DESC LIMIT 1",
    "SELECT id, state, finished, result, finish FROM outcome ORDER BY id DESC LIMIT 1",
    "SELECT pool, priority, first_id, last_id, (SELECT count(*) FROM side WHERE state = 1) FROM run LIMIT 1",
    "SELECT batch, pool, state, jobs, (SELECT max(seq) FROM finish) FROM counter LIMIT 1",
];

/// Looks at the file of a store; it may be missing.
///
/// # Errors
/// [`StoreError::Refused`] with the reason.
pub(super) fn probe(path: &Path) -> Result<(), StoreError> {
    let log = beside(path, "-wal");
    let has_log = length(&log)? > 0;
    match kind(path, has_log)? {
        Kind::New => return Ok(()),
        Kind::Ours => {}
    }
    if length(&beside(path, "-journal"))? > 0 {
        // The power failed while the file was made; SQLite undoes that as it opens it.
        return Ok(());
    }
    if has_log {
        check_log(&log)?;
    }
    let size = length(path)?;
    let db = open(path, has_log)?;
    // A table or a column that is not there.
    let refuse = |error: rusqlite::Error| match error.sqlite_error() {
        Some(found) if found.extended_code == ffi::SQLITE_ERROR => {
            StoreError::Refused(format!("the store is damaged: {error}"))
        }
        Some(_) | None => error.into(),
    };
    let version: i32 = db.query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))?;
    if version == 0 {
        // Its first start did not get far.
        return Ok(());
    }
    for needed in NEEDED {
        let mut find = db.prepare(needed).map_err(refuse)?;
        find.query([]).and_then(|mut rows| rows.next().map(|_| ())).map_err(refuse)?;
    }
    if size <= WHOLE_BYTES_MAX { check_pages(&db) } else { Ok(()) }
}

/// Reads every page.
///
/// # Errors
/// [`StoreError::Refused`] if one of them is damaged.
pub(super) fn check_pages(db: &Connection) -> Result<(), StoreError> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else if verdict.contains("get the page") || verdict.contains("get page") {
        // The disk did not give it; what it holds may be good.
        Err(StoreError::Io(verdict))
    } else {
        Err(StoreError::Refused(format!("the store is damaged: {verdict}")))
    }
}

/// Whether these are the marks of a file that this program can use; both are 0 before it was first written.
pub(super) fn check_identity(application: i32, version: i32) -> Result<(), StoreError> {
    match (application, version) {
        (0, 0) | (APPLICATION_ID, 1..=VERSION) => Ok(()),
        (APPLICATION_ID, _) => refuse("it was written by a newer version of pushpulld"),
        _ => refuse("it is a database of another program"),
    }
}

enum Kind {
    /// Missing, empty, or never written to its end.
    New,
    Ours,
}

/// What the first bytes say.
fn kind(path: &Path, has_log: bool) -> Result<Kind, StoreError> {
    let io = |error: std::io::Error| StoreError::Io(format!("{error}. Check its owner and mode"));
    let orphan = "the file is gone, and its log, jobs.db-wal, is still there";
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return refuse("it is not a file"),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && has_log => return refuse(orphan),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Kind::New),
        Err(error) => return Err(io(error)),
    }
    let mut header = Vec::new();
    File::open(path).and_then(|file| file.take(100).read_to_end(&mut header)).map_err(io)?;
    if header.is_empty() {
        return if has_log {
            refuse("the file is empty, and its log, jobs.db-wal, is not")
        } else {
            Ok(Kind::New)
        };
    }
    // The power failed while the file was made: its journal, which is there before it, says that it was empty.
    if header.iter().all(|byte| *byte == 0) && length(&beside(path, "-journal"))? > 0 {
        return Ok(Kind::New);
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return refuse("it is damaged, or not a file of pushpulld");
    }
    check_identity(number(&header, 68), number(&header, 60))?;
    Ok(Kind::Ours)
}

/// A log's header lies in one sector and is written before all else, so that no power cut can damage it; a log
/// with a bad one would be taken for an empty one, and what it holds would be lost without a word.
fn check_log(path: &Path) -> Result<(), StoreError> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(32).read_to_end(&mut header))
        .map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let bad = "its log, jobs.db-wal, is damaged";
    let is_big = match number(&header, 0) {
        0x377f_0682 if header.len() == 32 => false,
        0x377f_0683 if header.len() == 32 => true,
        _ => return refuse(bad),
    };
    let word = |at: usize| {
        let bytes = header[at..at + 4].try_into().expect("four bytes");
        if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let (mut one, mut two) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        one = one.wrapping_add(word(at)).wrapping_add(two);
        two = two.wrapping_add(word(at + 4)).wrapping_add(one);
    }
    let sums = [number(&header, 24), number(&header, 28)].map(|sum| u32::from_ne_bytes(sum.to_ne_bytes()));
    if sums == [one, two] { Ok(()) } else { refuse(bad) }
}

/// A connection that leaves everything as it is. Without a log the file alone is read, and nothing put beside it.
fn open(path: &Path, has_log: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if has_log {
        let db = Connection::open_with_flags(path, flags)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        return Ok(db);
    }
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("?immutable=1");
    Ok(Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The length of a file; 0 if there is none.
fn length(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::Io(format!("{}: {error}. Check its owner and mode", path.display()))),
    }
}

fn number(bytes: &[u8], at: usize) -> i32 {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    word.map_or(0, i32::from_be_bytes)
}

fn refuse<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Refused(why.to_owned()))
}
