//! One daemon per directory.
//!
//! Binding a socket steals it silently from whoever serves it, so the locks come before everything else. They are
//! held by the kernel and end with the process, however it ends; the file is never unlinked, or two daemons could
//! each hold a lock on a file of that name. Its text tells the next one who was first.

use super::dirs::Directory;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock's name in both directories.
pub const LOCK_FILE: &str = "pushpulld.lock";

/// The directory of the workers' sockets, in the runtime directory.
pub const WORKER_SOCKETS: &str = "w";

/// Both directories are ours while this lives.
#[derive(Debug)]
pub struct Locks {
    runtime_path: PathBuf,
    /// `None` with `--memory`.
    _state: Option<Lock>,
    /// `None` if both directories are the same.
    runtime: Option<Lock>,
}

/// One directory is ours while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
    holder: Holder,
}

/// Who holds a lock, as it wrote itself; nothing here is relied upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<i32>,
    pub state: Option<PathBuf>,
    pub runtime: Option<PathBuf>,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{directory} is in use by {holder}. {}", next_step(.holder))]
    InUse { directory: PathBuf, holder: Holder },
    #[error("cannot lock {path}: {source}. Check that the directory can be written to")]
    Io { path: PathBuf, source: io::Error },
}

impl Locks {
    /// Locks the state directory (none with `--memory`), then the runtime directory.
    ///
    /// To be called in the process that stays: the text names its pid.
    pub fn acquire(state: Option<&Directory>, runtime: &Directory) -> Result<Locks, LockError> {
        let holder = Holder {
            pid: Some(nix::unistd::getpid().as_raw()),
            state: state.map(|state| state.path().to_owned()),
            runtime: Some(runtime.path().to_owned()),
        };
        let is_same = state.is_some_and(|state| state.identity() == runtime.identity());
        let runtime_path = runtime.path().to_owned();
        let state = state.map(|state| lock(state, holder.clone())).transpose()?;
        let runtime = if is_same { None } else { Some(lock(runtime, holder)?) };
        Ok(Locks { runtime_path, _state: state, runtime })
    }

    /// The lock of the runtime directory, to be held by somebody else; `None` if it is that of the state directory.
    pub fn take_runtime(&mut self) -> Option<Lock> {
        self.runtime.take()
    }

    /// Removes the sockets that a dead daemon left in the runtime directory, and says how many. The lock vouches
    /// that no living one serves them. Nothing but our own sockets is touched: the directory may be one that
    /// somebody shares with other programs.
    pub fn clean_sockets(&self) -> io::Result<usize> {
        let removed = remove_sockets(&self.runtime_path)?;
        let inner = self.runtime_path.join(WORKER_SOCKETS);
        match inner.symlink_metadata() {
            Ok(found) if found.is_dir() => Ok(removed + remove_sockets(&inner)?),
            Ok(_) => Ok(removed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(removed),
            Err(error) => Err(error),
        }
    }
}

impl Lock {
    /// The lock of a directory that has been made again.
    pub fn again(&self, directory: &Directory) -> Result<Lock, LockError> {
        lock(directory, self.holder.clone())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another pushpulld")?;
        let mut facts = Vec::new();
        facts.extend(self.pid.map(|pid| format!("pid {pid}")));
        facts.extend(self.state.as_ref().map(|state| format!("state directory {}", state.display())));
        facts.extend(self.runtime.as_ref().map(|runtime| format!("runtime directory {}", runtime.display())));
        if facts.is_empty() { Ok(()) } else { write!(f, " ({})", facts.join(", ")) }
    }
}

impl Holder {
    /// The text of the lock file.
    fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut line = |name: &str, value: &[u8]| {
            text.extend_from_slice(name.as_bytes());
            text.push(b' ');
            text.extend_from_slice(value);
            text.push(b'\n');
        };
        if let Some(pid) = self.pid {
            line("pid", pid.to_string().as_bytes());
        }
        if let Some(state) = &self.state {
            line("state", state.as_os_str().as_bytes());
        }
        if let Some(runtime) = &self.runtime {
            line("runtime", runtime.as_os_str().as_bytes());
        }
        text
    }

    /// What can be read of it; a daemon that has only just begun has not written yet.
    fn from_text(text: &[u8]) -> Holder {
        let text = String::from_utf8_lossy(text);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Holder {
            pid: value("pid").and_then(|pid| pid.parse().ok()),
            state: value("state").map(PathBuf::from),
            runtime: value("runtime").map(PathBuf::from),
        }
    }
}

fn next_step(holder: &Holder) -> String {
    let other = "or give this one its own --runtime-dir and --state-dir";
    match &holder.runtime {
        Some(runtime) => {
            format!(
                "Use it as it is, stop it with: pushpullctl --runtime-dir {} shutdown, {other}",
                runtime.display()
            )
        }
        None => format!("Stop it first, {other}"),
    }
}

/// Takes the lock of one directory and writes `holder` into it.
fn lock(directory: &Directory, holder: Holder) -> Result<Lock, LockError> {
    let path = directory.path().join(LOCK_FILE);
    let io = |source: io::Error| LockError::Io { path: path.clone(), source };
    loop {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(io)?;
        let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, Errno::EINTR)) => continue,
            Err((file, Errno::EWOULDBLOCK)) => {
                let holder = read_holder(file).map_err(io)?;
                return Err(LockError::InUse { directory: directory.path().to_owned(), holder });
            }
            Err((_, errno)) => return Err(io(errno.into())),
        };
        // A cleaner of temporary files may have unlinked it between open and lock: then it excludes nobody.
        if !is_still(&path, &locked).map_err(io)? {
            continue;
        }
        let text = holder.to_text();
        locked.write_all_at(&text, 0).map_err(io)?;
        locked.set_len(text.len() as u64).map_err(io)?;
        return Ok(Lock { _file: locked, holder });
    }
}

fn read_holder(file: File) -> io::Result<Holder> {
    let mut text = Vec::new();
    file.take(64 * 1024).read_to_end(&mut text)?;
    Ok(Holder::from_text(&text))
}

/// Whether `path` names the open file.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what is a socket and named as ours are.
fn remove_sockets(directory: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_ours = entry.path().extension().is_some_and(|extension| extension == "ipc");
        if is_ours && entry.file_type()?.is_socket() {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::super::dirs::Reach;
    use super::*;
    use std::os::unix::net::UnixListener;

    struct Place {
        _root: tempfile::TempDir,
        state: Directory,
        runtime: Directory,
    }

    fn place() -> Place {
        let root = tempfile::tempdir_in("/tmp").expect("a directory");
        let state = Directory::state(&root.path().join("state")).expect("a local directory");
        let runtime = Directory::runtime(&root.path().join("run"), Reach::Owner).expect("a short path");
        Place { _root: root, state, runtime }
    }

    #[test]
    fn a_second_daemon_is_refused_and_told_of_the_first() {
        let (one, two) = (place(), place());
        let first = Locks::acquire(Some(&one.state), &one.runtime).expect("it is free");
        // The same state with another runtime directory, and the reverse: either is refused.
        for (state, runtime) in [(&one.state, &two.runtime), (&two.state, &one.runtime)] {
            let error = Locks::acquire(Some(state), runtime).expect_err("half of it is in use");
            let text = error.to_string();
            let LockError::InUse { holder, .. } = error else { panic!("{text}") };
            assert_eq!(holder.pid, Some(nix::unistd::getpid().as_raw()));
            assert_eq!(holder.state.as_deref(), Some(one.state.path()));
            assert_eq!(holder.runtime.as_deref(), Some(one.runtime.path()));
            assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
            assert!(text.contains("shutdown"), "{text}");
        }
        drop(first);
        Locks::acquire(Some(&one.state), &one.runtime).expect("it is free again");
        assert!(one.state.path().join(LOCK_FILE).exists(), "the file stays");
    }

    #[test]
    fn what_a_refused_one_had_locked_is_free_again() {
        let (one, two) = (place(), place());
        let _first = Locks::acquire(Some(&one.state), &one.runtime).expect("it is free");
        Locks::acquire(Some(&two.state), &one.runtime).expect_err("the runtime directory is in use");
        Locks::acquire(Some(&two.state), &two.runtime).expect("nothing of the second is held");
    }

    #[test]
    fn one_directory_for_both_is_locked_once() {
        let one = place();
        let _locks = Locks::acquire(Some(&one.state), &one.state).expect("it is free");
    }

    #[test]
    fn a_lock_file_that_says_nothing_still_refuses() {
        let one = place();
        let _first = Locks::acquire(None, &one.runtime).expect("it is free");
        fs::write(one.runtime.path().join(LOCK_FILE), "").expect("it is ours");
        let error = Locks::acquire(None, &one.runtime).expect_err("it is in use");
        assert!(error.to_string().contains("another pushpulld. Stop it first"), "{error}");
    }

    #[test]
    fn a_holders_text_comes_back() {
        let holder = Holder { pid: Some(17), state: None, runtime: Some("/run/a b".into()) };
        assert_eq!(Holder::from_text(&holder.to_text()), holder);
        assert_eq!(Holder::from_text(b"pid x\nrun"), Holder::default());
    }

    #[test]
    fn only_stale_sockets_of_ours_are_removed() {
        let one = place();
        let run = one.runtime.path();
        one.runtime.inner(WORKER_SOCKETS, Reach::Owner).expect("one inside");
        for socket in ["control.ipc", "w/n.1.jobs.ipc", "bus"] {
            UnixListener::bind(run.join(socket)).expect("a free name");
        }
        fs::write(run.join("notes.ipc"), "no socket").expect("it is ours");
        let locks = Locks::acquire(None, &one.runtime).expect("it is free");
        assert_eq!(locks.clean_sockets().expect("it is ours"), 2);
        let mut left: Vec<_> =
            fs::read_dir(run).expect("it is there").map(|entry| entry.expect("one").file_name()).collect();
        left.sort();
        assert_eq!(left, ["bus", "notes.ipc", LOCK_FILE, "w"]);
        assert_eq!(locks.clean_sockets().expect("it is ours"), 0);
    }
}
