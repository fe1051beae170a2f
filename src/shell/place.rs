//! Where the runtime and state directories are. Pure: the environment is an argument, nothing is touched, so the
//! daemon and its clients come to the same answer and tests can ask for any.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the choice depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The effective user.
    pub uid: u32,
    /// `PUSHPULL_RUNTIME_DIR`, or what `--runtime-dir` says.
    pub own_runtime: Option<OsString>,
    /// `PUSHPULL_STATE_DIR`, or what `--state-dir` says.
    pub own_state: Option<OsString>,
    /// `RUNTIME_DIRECTORY` and `STATE_DIRECTORY`, as systemd sets them: perhaps several, joined by colons.
    pub service_runtime: Option<OsString>,
    pub service_state: Option<OsString>,
    /// `XDG_RUNTIME_DIR` and `XDG_STATE_HOME`.
    pub xdg_runtime: Option<OsString>,
    pub xdg_state: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// Whether `/run/user/UID` is a directory of ours.
    pub has_run_user: bool,
}

/// There is no place for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no home directory to keep jobs in: name a directory with --state-dir, or use --memory")]
pub struct NoHome;

impl Surroundings {
    /// Those of this process. Options of the command line go before `own_runtime` and `own_state`.
    pub fn of_this_process() -> Surroundings {
        let uid = nix::unistd::geteuid().as_raw();
        Surroundings {
            uid,
            own_runtime: std::env::var_os("PUSHPULL_RUNTIME_DIR"),
            own_state: std::env::var_os("PUSHPULL_STATE_DIR"),
            service_runtime: std::env::var_os("RUNTIME_DIRECTORY"),
            service_state: std::env::var_os("STATE_DIRECTORY"),
            xdg_runtime: std::env::var_os("XDG_RUNTIME_DIR"),
            xdg_state: std::env::var_os("XDG_STATE_HOME"),
            home: std::env::var_os("HOME"),
            has_run_user: is_own_directory(&run_user(uid), uid),
        }
    }

    /// The directory of the sockets. May be relative if `own_runtime` is.
    pub fn runtime_dir(&self) -> PathBuf {
        if let Some(own) = given(self.own_runtime.as_ref()) {
            return own;
        }
        if let Some(service) = service(self.service_runtime.as_ref()) {
            return service;
        }
        if self.uid == 0 {
            return PathBuf::from("/run/pushpull");
        }
        if let Some(xdg) = absolute(self.xdg_runtime.as_ref()) {
            return xdg.join("pushpull");
        }
        if self.has_run_user {
            return run_user(self.uid).join("pushpull");
        }
        PathBuf::from(format!("/tmp/pushpull-{}", self.uid))
    }

    /// The directory of the jobs. May be relative if `own_state` is. Never below /tmp by itself: what is
    /// accepted there would not be durable.
    pub fn state_dir(&self) -> Result<PathBuf, NoHome> {
        if let Some(own) = given(self.own_state.as_ref()) {
            return Ok(own);
        }
        if let Some(service) = service(self.service_state.as_ref()) {
            return Ok(service);
        }
        if self.uid == 0 {
            return Ok(PathBuf::from("/var/lib/pushpull"));
        }
        if let Some(xdg) = absolute(self.xdg_state.as_ref()) {
            return Ok(xdg.join("pushpull"));
        }
        let home = absolute(self.home.as_ref()).ok_or(NoHome)?;
        Ok(home.join(".local/state/pushpull"))
    }
}

/// An empty variable says nothing.
fn given(value: Option<&OsString>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A relative path in an XDG variable, or in HOME, is to be ignored.
fn absolute(value: Option<&OsString>) -> Option<PathBuf> {
    given(value).filter(|path| path.is_absolute())
}

/// The first of the service's directories.
fn service(value: Option<&OsString>) -> Option<PathBuf> {
    let first = value.map(|value| std::env::split_paths(value).next().unwrap_or_default());
    first.filter(|path| path.is_absolute())
}

fn run_user(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}

fn is_own_directory(path: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        Surroundings { uid: 1000, home: Some("/home/ada".into()), ..Surroundings::default() }
    }

    #[test]
    fn the_runtime_directory_is_the_first_that_is_there() {
        let mut at = user();
        assert_eq!(at.runtime_dir(), Path::new("/tmp/pushpull-1000"));
        at.has_run_user = true;
        assert_eq!(at.runtime_dir(), Path::new("/run/user/1000/pushpull"));
        at.xdg_runtime = Some("/xdg/run".into());
        assert_eq!(at.runtime_dir(), Path::new("/xdg/run/pushpull"));
        at.service_runtime = Some("/run/queue:/run/other".into());
        assert_eq!(at.runtime_dir(), Path::new("/run/queue"));
        at.own_runtime = Some("here".into());
        assert_eq!(at.runtime_dir(), Path::new("here"));
    }

    #[test]
    fn the_state_directory_is_the_first_that_is_there() {
        let mut at = user();
        assert_eq!(at.state_dir(), Ok(PathBuf::from("/home/ada/.local/state/pushpull")));
        at.xdg_state = Some("/xdg/state".into());
        assert_eq!(at.state_dir(), Ok(PathBuf::from("/xdg/state/pushpull")));
        at.service_state = Some("/var/lib/queue".into());
        assert_eq!(at.state_dir(), Ok(PathBuf::from("/var/lib/queue")));
        at.own_state = Some("/own".into());
        assert_eq!(at.state_dir(), Ok(PathBuf::from("/own")));
    }

    #[test]
    fn root_keeps_out_of_the_directories_of_whoever_called_sudo() {
        let root = Surroundings {
            uid: 0,
            xdg_runtime: Some("/run/user/1000".into()),
            xdg_state: Some("/home/ada/.local/state".into()),
            ..user()
        };
        assert_eq!(root.runtime_dir(), Path::new("/run/pushpull"));
        assert_eq!(root.state_dir(), Ok(PathBuf::from("/var/lib/pushpull")));
        let service = Surroundings {
            service_runtime: Some("/run/queue".into()),
            service_state: Some("/var/lib/queue".into()),
            ..root
        };
        assert_eq!(service.runtime_dir(), Path::new("/run/queue"));
        assert_eq!(service.state_dir(), Ok(PathBuf::from("/var/lib/queue")));
    }

    #[test]
    fn without_a_home_there_is_no_state_directory_rather_than_one_in_tmp() {
        for home in [None, Some("".into()), Some("relative".into())] {
            let at = Surroundings { home, ..user() };
            assert_eq!(at.state_dir(), Err(NoHome));
        }
    }

    #[test]
    fn empty_and_relative_variables_say_nothing() {
        let at = Surroundings {
            own_runtime: Some("".into()),
            service_runtime: Some("".into()),
            xdg_runtime: Some("relative".into()),
            xdg_state: Some("relative".into()),
            ..user()
        };
        assert_eq!(at.runtime_dir(), Path::new("/tmp/pushpull-1000"));
        assert_eq!(at.state_dir(), Ok(PathBuf::from("/home/ada/.local/state/pushpull")));
    }
}
