//! What `SQLite`'s errors mean to the daemon.

use crate::store::StoreError;
use rusqlite::ErrorCode;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        if is_nonsense(&error) {
            return StoreError::Refused(format!("the store is damaged: {error}"));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::NoSpace,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Refused(format!("the store is damaged: {error}"))
            }
            Some(ErrorCode::SystemIoFailure) if is_without_space(&error) => StoreError::NoSpace,
            _ => StoreError::Io(error.to_string()),
        }
    }
}

/// `SQLite` answers a full disk with `SQLITE_FULL` where it writes pages, but with an I/O error where it makes the
/// shared memory larger.
fn is_without_space(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// Values that no version of this program writes, or a row that is always there and is not.
fn is_nonsense(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
    )
}
