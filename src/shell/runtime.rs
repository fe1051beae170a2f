//! The runtime directory, which others may take away: at logout, `/run/user/UID` goes with all that is in it.
//!
//! The kernel tells when something is removed from it. What has gone is made again: the directory, its lock, and the
//! control socket. Those who are connected stay connected meanwhile.

use super::access::Access;
use super::clients::Clients;
use super::dirs::Directory;
use super::endpoints;
use super::lock::{LOCK_FILE, Lock, LockError};
use super::watch::{Source, Watch};
use crate::model::Mono;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who removes something is given so long to come to an end: what is made again under his hands goes as well.
const SETTLING: Duration = Duration::from_millis(100);
/// When it cannot be made again, as while nobody is logged in, it is tried again after so long. Nor does the kernel tell
/// of a file system that is taken away from below it: so it is looked at once more after it was made again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where the sockets are.
pub(super) struct Runtime {
    path: PathBuf,
    directory: Directory,
    /// `None` if the lock of the state directory is the same.
    lock: Option<Lock>,
    removals: Inotify,
    /// It has been said that it is gone.
    is_lost: bool,
}

impl Runtime {
    /// # Errors
    /// When the kernel cannot tell about removals.
    pub(super) fn new(
        path: &Path,
        directory: Directory,
        lock: Option<Lock>,
        watch: &Watch,
    ) -> io::Result<Runtime> {
        let removals = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        watch.add(&removals, Source::Runtime)?;
        let path = std::path::absolute(path)?;
        let runtime = Runtime { path, directory, lock, removals, is_lost: false };
        runtime.expect_removals()?;
        Ok(runtime)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    fn expect_removals(&self) -> io::Result<()> {
        let flags = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.removals.add_watch(self.directory.path(), flags)?;
        Ok(())
    }

    /// Something has been removed. Returns when to look.
    pub(super) fn on_removal(&mut self, now: Mono) -> Mono {
        while self.removals.read_events().is_ok_and(|events| !events.is_empty()) {}
        now + SETTLING
    }

    /// Makes again what has gone. Returns when to look again.
    pub(super) fn mend(&mut self, now: Mono, access: &Access, clients: &mut Clients) -> Option<Mono> {
        if self.is_whole(clients) {
            return None;
        }
        if !self.is_lost {
            self.is_lost = true;
            log::warn!("{} has been removed, and is made again", self.path.display());
        }
        match self.make_again(access, clients) {
            Ok(()) => {
                self.is_lost = false;
                log::warn!("{} is there again", self.path.display());
            }
            Err(why) => log::debug!("{} cannot be made again: {why}", self.path.display()),
        }
        Some(now + LOOK_AGAIN)
    }

    fn is_whole(&self, clients: &Clients) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        self.directory.is_still()
            && (self.lock.is_none() || is_there(&self.directory.path().join(LOCK_FILE)))
            && is_there(&self.directory.path().join(endpoints::WORKERS))
            && is_there(clients.path())
    }

    fn make_again(&mut self, access: &Access, clients: &mut Clients) -> Result<(), String> {
        let directory = Directory::runtime(&self.path, access.runtime).map_err(|error| error.to_string())?;
        if let Some(lock) = &self.lock {
            // Our own is the only one that may be there.
            match lock.again(&directory) {
                Ok(fresh) => self.lock = Some(fresh),
                Err(LockError::InUse { .. }) if self.directory.is_still() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.directory = directory;
        let text = |error: super::daemon::StartError| error.to_string();
        access.open_directory(&self.directory).map_err(text)?;
        access.open_workers(&self.directory).map_err(|error| error.to_string())?;
        if clients.path().symlink_metadata().is_err() {
            clients.bind_again(clients.request_bytes_max()).map_err(|error| error.to_string())?;
            access.open_socket(clients).map_err(text)?;
        }
        self.expect_removals().map_err(|error| error.to_string())
    }
}
