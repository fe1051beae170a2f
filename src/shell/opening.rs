//! Opening the store when the daemon starts.

use super::aside;
use super::daemon::StartError;
use crate::model::Wall;
use crate::store::{MemoryStore, Recovered, SqliteStore, Store, StoreError};
use std::path::Path;

/// A store and what it knew when it was opened.
pub(super) type Opened = (Box<dyn Store>, Recovered);

/// A store that keeps nothing on disk.
///
/// # Errors
/// Never, as far as is known.
pub(super) fn open_in_memory() -> Result<Opened, StartError> {
    let mut store = MemoryStore::new();
    let recovered = store.recover().map_err(|error| store_error(Path::new(""), error))?;
    Ok((Box::new(store), recovered))
}

/// Opens the store, in place of one that cannot be used if that is wished. The directory is locked.
///
/// # Errors
/// When it cannot be opened, or is refused as it is.
pub(super) fn open_store(path: &Path, now: Wall, recover: bool) -> Result<Opened, StartError> {
    match open_file(path, now, recover) {
        Ok(opened) => {
            if recover {
                log::warn!(
                    "{} is good: nothing was moved aside, and --recover was not needed",
                    path.display()
                );
            }
            Ok(opened)
        }
        Err(StoreError::Refused(why)) if recover => {
            let moved = aside::move_aside(path, now)
                .map_err(|error| StartError::System { what: "move the store aside", error })?;
            log::warn!("{}: {why}", path.display());
            for moved in moved {
                log::warn!("moved aside to {}", moved.display());
            }
            log::warn!("begins with no jobs");
            open_file(path, now, false).map_err(|error| store_error(path, error))
        }
        Err(error) => Err(store_error(path, error)),
    }
}

/// `whole`: reads all of it, as for somebody who has reason to think that it is damaged.
fn open_file(path: &Path, now: Wall, whole: bool) -> Result<Opened, StoreError> {
    let mut store = SqliteStore::open(path, now)?;
    if whole {
        store.check()?;
    }
    let recovered = store.recover()?;
    Ok((Box::new(store), recovered))
}

fn store_error(path: &Path, error: StoreError) -> StartError {
    let path = path.to_owned();
    match error {
        StoreError::Refused(why) => StartError::Refused { path, why },
        StoreError::NoSpace | StoreError::Io(_) => StartError::Store { path, error },
    }
}
