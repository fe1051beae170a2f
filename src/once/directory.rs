//! Where a run of `--once` lies until all of its jobs have ended, and what is left of an earlier one.
//!
//! ```text
//! STATE/once/jobs.json-0123456789abcdef/     one directory for each file
//!     pushpulld.lock                         ours, from before the first look until the directory is gone
//!     run.json                               which file it is, and where its sockets are
//!     state/                                 the private daemon's own state directory, with its own lock
//! ```
//!
//! The directory stays the same as long as the run is not complete: what a killed run left running is found by the
//! inode of `state`, so even `--fresh` empties it rather than making another.

use super::client::results_after;
use super::input::STREAM;
use super::teller::Teller;
use crate::Failure;
use pushpull::config::Config;
use pushpull::model::{BatchId, Counts, Fetch, PoolName, Wall, Work};
use pushpull::shell::daemon::STORE_FILE;
use pushpull::shell::dirs::{DirError, Directory};
use pushpull::shell::lock::{LockError, Locks};
use pushpull::store::{Answer, Query, SqliteStore, Store, StoreError};
use pushpull::wire::record::{self, Parts};
use pushpull::wire::request::{self, Request};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const NOTE: &str = "run.json";
/// How the names of our directories of sockets begin.
pub const SOCKETS: &str = "pushpull-once-";

/// The directory of all runs, made if it is missing.
///
/// # Errors
/// When the state directory cannot be used.
pub fn all_runs(state: &Path) -> Result<PathBuf, Failure> {
    let state = Directory::state(state).map_err(|error| unusable(&error))?;
    let runs = Directory::state(&state.path().join("once")).map_err(|error| unusable(&error))?;
    Ok(runs.path().to_owned())
}

/// A run's directory, locked.
pub struct RunDirectory {
    path: PathBuf,
    _locks: Locks,
}

/// What an earlier start has left: jobs that were accepted and have not all been told of.
pub struct Interrupted {
    /// The key under which its file was submitted.
    pub key: String,
    counts: BTreeMap<PoolName, Counts>,
    /// For each pool that has waiting jobs, the work of one of them.
    waiting: BTreeMap<PoolName, Work>,
}

/// What people want to know of a directory, and what the next start needs.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The job file; null if it was a stream.
    file: Option<String>,
    /// The directory of its sockets, which a killed process leaves behind.
    sockets: String,
}

impl RunDirectory {
    /// Makes or finds the directory `name` and locks it. `file` is what people call the job file.
    ///
    /// # Errors
    /// When another process runs the same file, or the directory cannot be used.
    pub fn acquire(runs: &Path, name: &str, file: &str) -> Result<RunDirectory, Failure> {
        loop {
            let directory = Directory::state(&runs.join(name)).map_err(|error| unusable(&error))?;
            match Locks::acquire(Some(&directory), &directory) {
                Ok(locks) => return Ok(RunDirectory { path: directory.path().to_owned(), _locks: locks }),
                // The one who had it has just finished and removed it.
                Err(LockError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(LockError::InUse { holder, .. }) => {
                    let pid = holder.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                    let text = format!(
                        "{file} is being run by another pushpulld{pid}: wait until it is done, or interrupt it"
                    );
                    return Err(Failure { status: 5, text });
                }
                Err(error @ LockError::Io { .. }) => {
                    return Err(Failure { status: 6, text: error.to_string() });
                }
            }
        }
    }

    /// The private daemon's state directory.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Looks for a run that was accepted and not completed.
    ///
    /// # Errors
    /// When there is a store that cannot be used.
    pub fn look(&self) -> Result<Option<Interrupted>, Failure> {
        let path = self.state().join(STORE_FILE);
        if !path.exists() {
            return Ok(None);
        }
        look_into(&path).map_err(|error| {
            let status = if error == StoreError::NoSpace { 5 } else { 6 };
            let text = format!("{}: {error}. --fresh discards it and runs the file anew", path.display());
            Failure { status, text }
        })
    }

    /// Tells the outcomes that are in the store and have not been told. True if no job is without one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tell_rest(&self, teller: &mut Teller) -> Result<bool, Failure> {
        let path = self.state().join(STORE_FILE);
        if !path.exists() {
            return Ok(false);
        }
        let failed = |error: String| Failure { status: 6, text: format!("{}: {error}", path.display()) };
        let asked = request::parse(results_after(&teller.after, 0).as_bytes());
        let Ok(Request::Results { select, mut after, limit, .. }) = asked else {
            unreachable!("the daemon has taken the same request");
        };
        let mut store = open(&path).map_err(|error| failed(error.to_string()))?;
        loop {
            let query = Query::Finished { select: select.clone(), after, limit };
            let Answer::Finished { rows, next, end } =
                store.query(&query).map_err(|error| failed(error.to_string()))?
            else {
                unreachable!("finished jobs are asked for");
            };
            for row in &rows {
                let json = record::render(row, Parts::Result);
                teller.tell(&json).map_err(|error| failed(error.to_string()))?;
            }
            after = next;
            if end {
                break;
            }
        }
        let counts = store.recover().map_err(|error| failed(error.to_string()))?.counts;
        let (total, unfinished) = counts
            .values()
            .fold((0, 0), |(total, rest), counts| (total + counts.total(), rest + counts.unfinished()));
        Ok(total > 0 && unfinished == 0 && teller.told() == total)
    }

    /// Forgets what an earlier start has left.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(&self) -> Result<(), Failure> {
        let state = self.state();
        empty(&state).map_err(|error| Failure {
            status: 6,
            text: format!("cannot discard what is in {}: {error}", state.display()),
        })
    }

    /// Writes down which file this is the run of, and removes the sockets of the process that had it before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, file: Option<&Path>, sockets: &Path) -> Result<(), Failure> {
        let path = self.path.join(NOTE);
        let old = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        if let Some(old) = old.map(|note| PathBuf::from(note.sockets)) {
            let is_ours = old.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SOCKETS));
            if is_ours && old != sockets {
                // It may be gone: directories of sockets do not survive a reboot.
                let _ = fs::remove_dir_all(old);
            }
        }
        let note = Note {
            file: file.map(|file| file.display().to_string()),
            sockets: sockets.display().to_string(),
        };
        let text = serde_json::to_vec(&note).expect("two texts are JSON");
        fs::write(&path, text).map_err(|error| Failure {
            status: if error.kind() == io::ErrorKind::StorageFull { 5 } else { 6 },
            text: format!("cannot write {}: {error}", path.display()),
        })
    }

    /// The directories of interrupted runs of streams, other than this.
    pub fn other_streams(&self) -> Vec<PathBuf> {
        let is_other = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = name.strip_prefix(STREAM);
            let is_stream = digest
                .is_some_and(|digest| digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()));
            is_stream && *path != self.path && path.join("state").join(STORE_FILE).exists()
        };
        let Some(Ok(entries)) = self.path.parent().map(fs::read_dir) else {
            return Vec::new();
        };
        entries.flatten().map(|entry| entry.path()).filter(is_other).collect()
    }

    /// The run is over and told: nothing of it stays.
    pub fn remove(self) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.path.with_file_name(format!(".removed-{name}"));
        let removed = match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Renamed first: what is killed halfway must not look like a run with some of its files.
            Ok(()) | Err(_) => fs::rename(&self.path, &aside).and_then(|()| fs::remove_dir_all(&aside)),
        };
        if let Err(error) = removed {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Interrupted {
    /// Jobs that have their outcome.
    pub fn done(&self) -> u64 {
        self.counts.values().map(Counts::finished).sum()
    }

    /// All jobs.
    pub fn total(&self) -> u64 {
        self.counts.values().map(Counts::total).sum()
    }

    /// Whether the workers that are configured now can do what is left.
    ///
    /// # Errors
    /// When they cannot: jobs would wait for ever.
    pub fn check_pools(&self, config: &Config) -> Result<(), Failure> {
        for (name, counts) in &self.counts {
            let unfinished = counts.unfinished();
            if unfinished == 0 {
                continue;
            }
            let jobs = if unfinished == 1 { "job" } else { "jobs" };
            let Some(pool) = config.pools.iter().find(|pool| pool.name == *name) else {
                return Err(Failure::usage(format!(
                    "{unfinished} {jobs} of the interrupted run wait for pool {name}, which is not configured: say --config as before"
                )));
            };
            let unsuited = self.waiting.get(name).filter(|work| !pool.can_run(work));
            let cure = match unsuited {
                None => continue,
                Some(Work::Data(_)) => {
                    "have data for workers of your own: say -- COMMAND or --config as before"
                }
                Some(Work::Run(_)) => {
                    "are commands for built-in workers: leave out -- COMMAND, or say --config as before"
                }
            };
            return Err(Failure::usage(format!(
                "{unfinished} {jobs} of the interrupted run in pool {name} {cure}"
            )));
        }
        Ok(())
    }
}

fn unusable(error: &DirError) -> Failure {
    let status = if error.is_setting() { 2 } else { 6 };
    Failure { status, text: format!("{error}, or keep nothing on disk with --memory") }
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    SqliteStore::open(path, Wall(u64::try_from(now).unwrap_or(u64::MAX)))
}

fn look_into(path: &Path) -> Result<Option<Interrupted>, StoreError> {
    let mut store = open(path)?;
    let counts = store.recover()?.counts;
    let Answer::Batches { rows, .. } = store.query(&Query::Batches { after: BatchId(0), limit: 1 })? else {
        unreachable!("batches are asked for");
    };
    let Some(batch) = rows.into_iter().next() else {
        return Ok(None);
    };
    let mut waiting = BTreeMap::new();
    for pool in counts.keys() {
        let one = Fetch { pool: pool.clone(), jobs_max: 1, bytes_max: 1 };
        if let Some((job, _)) = store.fetch(&one)?.jobs.into_iter().next() {
            waiting.insert(pool.clone(), job.work.clone());
        }
    }
    let found = Interrupted { key: batch.key.into(), counts, waiting };
    Ok((found.total() > 0).then_some(found))
}

/// Removes what is in a directory, the store first: what is left of the others means nothing without it.
fn empty(directory: &Path) -> io::Result<()> {
    let absent = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    fs::remove_file(directory.join(STORE_FILE)).or_else(absent)?;
    let entries = match fs::read_dir(directory) {
        Err(error) => return absent(error),
        Ok(entries) => entries,
    };
    File::open(directory)?.sync_all()?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
