//! Makes and checks the runtime and state directories.
//!
//! Whoever can write to them could give the daemon jobs or read its data, so they belong to us and are closed to
//! others. A directory that is open to others is closed only if that harms nobody: when it is empty, or when it
//! has been ours before. `--state-dir /tmp` must not make /tmp private.

use super::lock::LOCK_FILE;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket, in bytes.
pub const SOCKET_PATH_MAX: usize = 107;

/// The longest name of a socket below the runtime directory: a worker's, with its nonce and generation.
pub const SOCKET_NAME_LONGEST: &str = "w/01234567.18446744073709551615.results.ipc";

/// Who may pass through a directory to the sockets in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Us alone: 0700.
    Owner,
    /// Also a group, to a socket that is opened to it: 0710.
    Group(u32),
    /// Everybody whom a socket lets in, for workers that run as another user: 0711.
    Everybody,
}

/// A directory that was made or checked, and is held open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
    identity: String,
    /// The option that names another one.
    option: &'static str,
}

/// Why a directory cannot be used. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error("cannot use {path}: {source}. Choose another directory with {option}")]
    Io { path: PathBuf, option: &'static str, source: io::Error },
    #[error("{path} is no directory. Remove it, or choose another one with {option}")]
    NotADirectory { path: PathBuf, option: &'static str },
    #[error(
        "{path} is a symbolic link of user {owner}, which may lead anywhere. Remove it, or choose another directory with {option}"
    )]
    ForeignLink { path: PathBuf, owner: u32, option: &'static str },
    #[error(
        "{path} belongs to user {owner}, not to user {uid} who runs this. Choose a directory of your own with {option}, or run it as its owner"
    )]
    NotOurs { path: PathBuf, owner: u32, uid: u32, option: &'static str },
    #[error(
        "{path} is open to others (mode {mode:04o}) and holds other things. If it is meant for pushpulld alone, chmod 700 it; else choose an empty directory with {option}"
    )]
    OpenToOthers { path: PathBuf, mode: u32, option: &'static str },
    #[error(
        "{path} is too long: sockets in it would have {length} bytes, and the kernel takes {SOCKET_PATH_MAX}. Choose a shorter one with --runtime-dir"
    )]
    PathTooLong { path: PathBuf, length: usize },
    #[error(
        "{path} is on a network file system ({kind}), where the job file is not safe. Choose a local directory with {option}"
    )]
    Network { path: PathBuf, kind: String, option: &'static str },
}

impl DirError {
    /// Whether another setting would help (exit status 2) rather than a change to the machine (6).
    pub fn is_setting(&self) -> bool {
        match self {
            DirError::Io { .. } => false,
            DirError::NotADirectory { .. }
            | DirError::ForeignLink { .. }
            | DirError::NotOurs { .. }
            | DirError::OpenToOthers { .. }
            | DirError::PathTooLong { .. }
            | DirError::Network { .. } => true,
        }
    }
}

impl Directory {
    /// The runtime directory at `path`, with room for the longest socket path. It is as it was found until
    /// [`Directory::open_to`].
    pub fn runtime(path: &Path, reach: Reach) -> Result<Directory, DirError> {
        let directory = prepare(path, reach, "--runtime-dir")?;
        check_length(&directory.path)?;
        Ok(directory)
    }

    /// The state directory at `path`, on a local file system.
    pub fn state(path: &Path) -> Result<Directory, DirError> {
        let directory = prepare(path, Reach::Owner, "--state-dir")?;
        directory.open_to(Reach::Owner)?;
        let io = |errno: nix::Error| io_error(path, "--state-dir", errno.into());
        let found = nix::sys::statfs::fstatfs(&directory.descriptor).map_err(io)?;
        let kind = mounted_as(fstat(&directory.descriptor).map_err(io)?.st_dev).unwrap_or_default();
        match super::network::refused(file_system_magic(&found), &kind) {
            None => Ok(directory),
            Some(kind) => Err(DirError::Network { path: directory.path, kind, option: "--state-dir" }),
        }
    }

    /// Absolute, and without symbolic links at its end.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `DEVICE:INODE`, which no other directory of this machine has.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether its path still leads to it.
    pub fn is_still(&self) -> bool {
        let found = self.path.symlink_metadata();
        found.is_ok_and(|found| format!("{}:{}", found.dev(), found.ino()) == self.identity)
    }

    /// Gives it the mode, and the group, that it should have. That this harms nobody was checked before.
    pub fn open_to(&self, reach: Reach) -> Result<(), DirError> {
        let io = |errno: nix::Error| io_error(&self.path, self.option, errno.into());
        if let Reach::Group(group) = reach {
            fchown(&self.descriptor, None, Some(Gid::from_raw(group))).map_err(io)?;
        }
        if fstat(&self.descriptor).map_err(io)?.st_mode & 0o7777 != reach.mode().bits() {
            fchmod(&self.descriptor, reach.mode()).map_err(io)?;
        }
        Ok(())
    }

    /// The directory `name` in this one, made if it is not there.
    pub fn inner(&self, name: &str, reach: Reach) -> Result<Directory, DirError> {
        let inner = prepare(&self.path.join(name), reach, "--runtime-dir")?;
        inner.open_to(reach)?;
        Ok(inner)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Reach {
    fn mode(self) -> Mode {
        match self {
            Reach::Owner => Mode::from_bits_retain(0o700),
            Reach::Group(_) => Mode::from_bits_retain(0o710),
            Reach::Everybody => Mode::from_bits_retain(0o711),
        }
    }
}

/// Makes the directory if it is not there; then opens it and checks what was opened.
fn prepare(path: &Path, reach: Reach, option: &'static str) -> Result<Directory, DirError> {
    let io = |source: io::Error| io_error(path, option, source);
    let wanted = std::path::absolute(path).map_err(io)?;
    if let Some(parent) = wanted.parent() {
        DirBuilder::new().recursive(true).create(parent).map_err(io)?;
    }
    match DirBuilder::new().mode(0o700).create(&wanted) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    let real = follow_link(&wanted, option)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let descriptor = match open(&real, flags, Mode::empty()) {
        Err(nix::Error::ENOTDIR | nix::Error::ELOOP) => {
            return Err(DirError::NotADirectory { path: real, option });
        }
        opened => opened.map_err(|errno| io(errno.into()))?,
    };
    let found = fstat(&descriptor).map_err(|errno| io(errno.into()))?;
    let uid = Uid::effective().as_raw();
    if found.st_uid != uid {
        return Err(DirError::NotOurs { path: real, owner: found.st_uid, uid, option });
    }
    check_mode(&real, &found, reach, option)?;
    let identity = format!("{}:{}", found.st_dev, found.st_ino);
    Ok(Directory { path: real, descriptor, identity, option })
}

/// Where `path` leads. A link of ours or of root is somebody's decision; another's may be a trap.
fn follow_link(path: &Path, option: &'static str) -> Result<PathBuf, DirError> {
    let io = |source: io::Error| io_error(path, option, source);
    let found = path.symlink_metadata().map_err(io)?;
    if found.is_symlink() {
        let owner = found.uid();
        if owner != 0 && owner != Uid::effective().as_raw() {
            return Err(DirError::ForeignLink { path: path.to_owned(), owner, option });
        }
        return fs::canonicalize(path).map_err(io);
    }
    Ok(path.to_owned())
}

/// Checks that nobody is harmed when an own directory gets the mode that it should have.
fn check_mode(path: &Path, found: &FileStat, reach: Reach, option: &'static str) -> Result<(), DirError> {
    let mode = found.st_mode & 0o7777;
    if mode & 0o077 & !reach.mode().bits() != 0 {
        let mut entries = fs::read_dir(path).map_err(|source| io_error(path, option, source))?;
        let is_free = entries.next().is_none() || path.join(LOCK_FILE).symlink_metadata().is_ok();
        if !is_free {
            return Err(DirError::OpenToOthers { path: path.to_owned(), mode, option });
        }
    }
    Ok(())
}

fn check_length(runtime: &Path) -> Result<(), DirError> {
    let length = runtime.as_os_str().as_bytes().len() + 1 + SOCKET_NAME_LONGEST.len();
    if length > SOCKET_PATH_MAX {
        return Err(DirError::PathTooLong { path: runtime.to_owned(), length });
    }
    Ok(())
}

/// The kind of file system that is mounted from `device`, as `fuse.sshfs`; the last mount counts.
fn mounted_as(device: u64) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let wanted = format!("{}:{}", libc::major(device), libc::minor(device));
    let kind = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_it = mount.split(' ').nth(2) == Some(wanted.as_str());
        is_it.then(|| kind.split(' ').next().map(str::to_owned)).flatten()
    };
    mounts.lines().rev().find_map(kind)
}

/// The magic number as the kernel's headers write it: 32 bits, whatever type a platform gives the field.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers have 32 bits")]
fn file_system_magic(found: &nix::sys::statfs::Statfs) -> u32 {
    found.filesystem_type().0 as u32
}

fn io_error(path: &Path, option: &'static str, source: io::Error) -> DirError {
    DirError::Io { path: path.to_owned(), option, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        path.metadata().expect("it is there").permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn a_directory_is_made_with_its_parents_and_closed_to_others() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a/b");
        let made = Directory::state(&path).expect("a local directory");
        assert_eq!((made.path(), mode_of(&path)), (path.as_path(), 0o700));
        let again = Directory::state(&path).expect("the same one");
        assert_eq!(again.identity(), made.identity());
        let other = made.inner("w", Reach::Everybody).expect("one inside");
        assert_ne!(other.identity(), made.identity());
        assert_eq!(mode_of(&path.join("w")), 0o711);
    }

    #[test]
    fn an_empty_one_or_one_that_was_ours_is_closed_and_any_other_left_alone() {
        let place = tempfile::tempdir().expect("a directory");
        set_mode(place.path(), 0o755);
        Directory::state(place.path()).expect("it is empty");
        assert_eq!(mode_of(place.path()), 0o700);

        fs::write(place.path().join("letter"), "dear").expect("it is ours");
        Directory::state(place.path()).expect("it is private");
        set_mode(place.path(), 0o755);
        let error = Directory::state(place.path()).expect_err("it holds other things");
        assert!(matches!(error, DirError::OpenToOthers { mode: 0o755, .. }), "{error}");
        assert!(error.is_setting());
        assert_eq!(mode_of(place.path()), 0o755, "and is as it was");

        fs::write(place.path().join(LOCK_FILE), "").expect("it is ours");
        Directory::state(place.path()).expect("it was ours before");
        assert_eq!(mode_of(place.path()), 0o700);
    }

    #[test]
    fn a_link_of_ours_is_followed_and_a_file_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let (target, link, file) =
            (place.path().join("target"), place.path().join("link"), place.path().join("file"));
        fs::create_dir(&target).expect("it is ours");
        symlink(&target, &link).expect("it is ours");
        fs::write(&file, "").expect("it is ours");
        let target = fs::canonicalize(target).expect("it is there");
        assert_eq!(Directory::state(&link).expect("our own link").path(), target);
        assert!(matches!(Directory::state(&file), Err(DirError::NotADirectory { .. })));
    }

    #[test]
    #[ignore = "needs root"]
    fn what_belongs_to_another_user_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let (theirs, link) = (place.path().join("theirs"), place.path().join("link"));
        fs::create_dir(&theirs).expect("it is ours");
        std::os::unix::fs::chown(&theirs, Some(4242), None).expect("we are root");
        assert!(matches!(Directory::state(&theirs), Err(DirError::NotOurs { owner: 4242, uid: 0, .. })));
        symlink(place.path(), &link).expect("it is ours");
        std::os::unix::fs::lchown(&link, Some(4242), None).expect("we are root");
        assert!(matches!(Directory::state(&link), Err(DirError::ForeignLink { owner: 4242, .. })));
    }

    #[test]
    fn a_runtime_directory_has_room_for_the_longest_socket() {
        let longest = SOCKET_PATH_MAX - 1 - SOCKET_NAME_LONGEST.len();
        let path = |length: usize| PathBuf::from(format!("/{}", "x".repeat(length - 1)));
        check_length(&path(longest)).expect("it just fits");
        let error = check_length(&path(longest + 1)).expect_err("one byte too long");
        assert!(error.to_string().contains("108 bytes"), "{error}");
        for usual in ["/run/user/4294967294/pushpull", "/tmp/pushpull-4294967294"] {
            check_length(Path::new(usual)).expect("a usual place");
        }
    }
}
