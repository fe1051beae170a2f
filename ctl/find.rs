//! Where a daemon might be: the directories that are tried, in order, and what was found in each.
//!
//! The daemon's own rule picks the first. Those that it would pick in other surroundings follow, so that a daemon
//! is found also by a program that was started without its session's variables, and at last the system's.

use pushpull::shell::place::Surroundings;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The control socket in a runtime directory.
pub const CONTROL_SOCKET: &str = "control.ipc";

/// What is said of a daemon that is somebody else's.
const CLOSED: &str = "is closed to you (a daemon may open it to a group by its setting control_group)";

/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// A socket that nobody could be reached through, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub socket: PathBuf,
    pub why: String,
}

/// Tells one daemon's socket from the next one's at the same path. Not by the time of change: the daemon may
/// still open the socket to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    made: (i64, i64),
}

/// The control sockets to try, in order.
pub fn candidates(option: Option<&Path>, surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut at = surroundings.clone();
    if let Some(option) = option {
        at.own_runtime = Some(option.as_os_str().to_owned());
    }
    let mut directories = vec![at.runtime_dir()];
    if at.own_runtime.as_ref().is_none_or(|own| own.is_empty()) {
        at.service_runtime = None;
        directories.push(at.runtime_dir());
        at.xdg_runtime = None;
        directories.push(at.runtime_dir());
        at.has_run_user = false;
        directories.push(at.runtime_dir());
        directories.push(PathBuf::from("/run/pushpull"));
    }
    let mut sockets: Vec<PathBuf> = Vec::new();
    for directory in directories {
        let socket = std::path::absolute(&directory).unwrap_or(directory).join(CONTROL_SOCKET);
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    sockets
}

/// Whether somebody listens there now. `ZeroMQ` would hide it: it connects to nothing and waits.
pub fn probe(socket: &Path) -> Result<Identity, Tried> {
    let failed = |why: &str| Tried { socket: socket.to_owned(), why: why.to_owned() };
    if socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        return Err(failed("the path is too long for a socket"));
    }
    let found = match socket.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failed("is not there")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(failed(CLOSED)),
        Err(error) => return Err(failed(&error.to_string())),
    };
    match UnixStream::connect(socket) {
        Ok(_) => Ok(Identity {
            device: found.dev(),
            inode: found.ino(),
            made: (found.mtime(), found.mtime_nsec()),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(failed("is left over: nobody listens"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(CLOSED)),
        Err(error) => Err(failed(&error.to_string())),
    }
}

/// Whether a socket that nobody named may be trusted. In /tmp anybody could have put it there, to be given
/// somebody's commands and environment.
pub fn check_owner(socket: &Path, uid: u32) -> Result<(), Tried> {
    let Some(directory) = socket.parent().filter(|directory| directory.starts_with("/tmp")) else {
        return Ok(());
    };
    match directory.symlink_metadata() {
        Ok(found) if found.uid() != uid || !found.is_dir() => {
            let why = format!("the directory belongs to user {}", found.uid());
            Err(Tried { socket: socket.to_owned(), why })
        }
        // One that cannot be looked at cannot be connected to either, and that says why.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn directories(option: Option<&str>, surroundings: &Surroundings) -> Vec<String> {
        candidates(option.map(Path::new), surroundings)
            .iter()
            .map(|socket| socket.parent().expect("a directory").display().to_string())
            .collect()
    }

    #[test]
    fn all_places_of_a_user_are_tried_and_then_the_systems() {
        let at = Surroundings {
            uid: 1000,
            service_runtime: Some("/run/queue".into()),
            xdg_runtime: Some("/xdg".into()),
            has_run_user: true,
            ..Surroundings::default()
        };
        let expected =
            ["/run/queue", "/xdg/pushpull", "/run/user/1000/pushpull", "/tmp/pushpull-1000", "/run/pushpull"];
        assert_eq!(directories(None, &at), expected);
        assert_eq!(directories(None, &Surroundings::default()), ["/run/pushpull"]);
    }

    #[test]
    fn a_named_directory_is_the_only_one() {
        let at = Surroundings { uid: 1000, own_runtime: Some("/variable".into()), ..Surroundings::default() };
        assert_eq!(directories(None, &at), ["/variable"]);
        assert_eq!(directories(Some("/option"), &at), ["/option"]);
        let empty = Surroundings { own_runtime: Some("".into()), ..at };
        assert_eq!(directories(None, &empty), ["/tmp/pushpull-1000", "/run/pushpull"]);
    }

    #[test]
    fn a_probe_tells_missing_left_over_and_living_sockets_apart() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join(CONTROL_SOCKET);
        assert_eq!(probe(&socket).expect_err("nothing").why, "is not there");
        let listener = UnixListener::bind(&socket).expect("a free path");
        let first = probe(&socket).expect("a listener");
        assert_eq!(probe(&socket), Ok(first));
        drop(listener);
        assert!(probe(&socket).expect_err("left over").why.contains("nobody listens"));
        std::fs::remove_file(&socket).expect("it is ours");
        let _next = UnixListener::bind(&socket).expect("a free path");
        assert_ne!(probe(&socket), Ok(first));
        let long = place.path().join("x".repeat(SOCKET_PATH_MAX));
        assert!(probe(&long).expect_err("long").why.contains("too long"));
    }

    #[test]
    fn a_directory_in_tmp_must_be_ours() {
        let place = tempfile::tempdir_in("/tmp").expect("a directory");
        let uid = place.path().metadata().expect("it is there").uid();
        let socket = place.path().join(CONTROL_SOCKET);
        assert_eq!(check_owner(&socket, uid), Ok(()));
        assert!(check_owner(&socket, uid + 1).is_err());
        assert_eq!(check_owner(Path::new("/run/pushpull/control.ipc"), uid + 1), Ok(()));
    }
}
