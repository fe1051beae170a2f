//! What a worker is started from, and why it could not be.

use super::account::Account;
use super::endpoints::{self, WorkerPaths};
use super::exec::Step;
use super::notify;
use crate::config::PoolSettings;
use crate::model::WorkerName;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// A worker to be, without its output.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: WorkerName,
    /// The command and its arguments. A command without a slash is searched for in the `PATH` of `env`; one with
    /// a slash is relative to `directory`.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// `None`: the daemon's.
    pub directory: Option<PathBuf>,
    /// `None`: the daemon's.
    pub umask: Option<u32>,
    /// -20 to 19; `None`: the daemon's.
    pub nice: Option<i32>,
    pub limits: Limits,
    /// `None`: the daemon's.
    pub account: Option<Account>,
    /// What the kernel sends to the worker when the daemon dies: KILL for a foreign worker, TERM for the
    /// built-in one, which has a command to end first.
    pub death_signal: i32,
}

impl Program {
    /// What a worker of this pool is started from: the pool's command, or this very program as the built-in worker.
    pub(super) fn of_worker(
        name: &WorkerName,
        pool: &PoolSettings,
        paths: &WorkerPaths,
        nofile: Limit,
        account: Option<Account>,
    ) -> Program {
        let argv = match &pool.command {
            Some(command) => command.iter().map(OsString::from).collect(),
            None => vec![OsString::from("/proc/self/exe"), OsString::from(crate::worker::ARGUMENT)],
        };
        let is_for_workers =
            |(name, _): &(OsString, OsString)| !notify::VARIABLES.iter().any(|variable| name == variable);
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().filter(is_for_workers).collect();
        env.extend(pool.environment.iter().map(|(name, value)| (name.into(), value.into())));
        let ours = [
            ("PUSHPULL_JOBS", endpoints::endpoint(&paths.jobs)),
            ("PUSHPULL_RESULTS", endpoints::endpoint(&paths.results)),
            ("PUSHPULL_POOL", pool.name.to_string()),
            ("PUSHPULL_SLOT", name.slot.to_string()),
        ];
        env.extend(ours.into_iter().map(|(name, value)| (name.into(), value.into())));
        Program {
            name: name.clone(),
            argv,
            env: env.into_iter().collect(),
            directory: pool.directory.clone(),
            umask: pool.umask,
            nice: pool.nice,
            limits: Limits {
                nofile: Some(pool.limit_nofile.map_or(nofile, Limit::both)),
                core: pool.limit_core.map(Limit::both),
                address_space: pool.limit_as.map(Limit::both),
                nproc: pool.limit_nproc.map(Limit::both),
            },
            account,
            // The built-in worker has a command to end before it leaves.
            death_signal: if pool.is_builtin() { libc::SIGTERM } else { libc::SIGKILL },
        }
    }
}

/// Resource limits; `None`: the daemon's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nofile: Option<Limit>,
    pub core: Option<Limit>,
    pub address_space: Option<Limit>,
    pub nproc: Option<Limit>,
}

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

impl Limit {
    /// No limit.
    pub const UNLIMITED: Limit = Limit::both(libc::RLIM_INFINITY);

    /// The same soft and hard limit.
    #[must_use]
    pub const fn both(value: u64) -> Limit {
        Limit { soft: value, hard: value }
    }

    pub(super) fn raw(self) -> libc::rlimit {
        libc::rlimit { rlim_cur: self.soft, rlim_max: self.hard }
    }
}

/// Why there is no worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnError {
    pub step: Step,
    pub errno: i32,
    /// What the step was about: the command, the directory, the number that was asked for.
    subject: String,
}

impl std::error::Error for SpawnError {}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        match self.step {
            Step::Arguments => write!(
                f,
                "cannot start {subject}: empty, or a NUL byte in its command, environment or directory"
            ),
            Step::Pipe => f.write_str("cannot open a pipe or /dev/null for a worker"),
            Step::Fork => write!(f, "cannot start a process for {subject}"),
            Step::Pidfd => write!(f, "cannot watch the process of {subject}"),
            Step::Session => f.write_str("cannot begin a session"),
            Step::Descriptors => f.write_str("cannot arrange the worker's descriptors"),
            Step::LimitNofile | Step::LimitCore | Step::LimitAs | Step::LimitNproc => {
                write!(f, "cannot set {} to {subject}", self.step.as_str())
            }
            Step::Nice => write!(f, "cannot set nice to {subject}"),
            Step::Directory => write!(f, "cannot enter the directory {subject}"),
            Step::Groups => write!(f, "cannot take the groups of user {subject}"),
            Step::Group => write!(f, "cannot become group {subject}"),
            Step::User => write!(f, "cannot become user {subject}"),
            Step::DeathSignal => f.write_str("cannot ask for a signal at the daemon's death"),
            Step::SignalMask => f.write_str("cannot clear the signal mask"),
            Step::Exec => write!(f, "cannot execute {subject}"),
        }?;
        let errno = Errno::from_raw(self.errno);
        write!(f, ": {} ({errno:?})", errno.desc())
    }
}

impl SpawnError {
    pub(super) fn new(step: Step, errno: i32, program: &Program) -> SpawnError {
        SpawnError { step, errno, subject: subject(step, errno, program) }
    }
}

/// The strings of a program as the kernel wants them.
pub(super) struct Texts {
    pub files: Vec<CString>,
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub directory: Option<CString>,
}

impl Texts {
    /// `None` when the command is empty or something holds a NUL byte.
    pub(super) fn new(program: &Program) -> Option<Texts> {
        let command = program.argv.first().filter(|command| !command.is_empty())?;
        let path = program.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let c_string = |text: OsString| CString::new(text.into_vec()).ok();
        let variable = |(name, value): &(OsString, OsString)| {
            let mut text = name.clone();
            text.push("=");
            text.push(value);
            c_string(text)
        };
        Some(Texts {
            files: candidates(command, path).into_iter().map(c_string).collect::<Option<_>>()?,
            argv: program.argv.iter().cloned().map(c_string).collect::<Option<_>>()?,
            env: program.env.iter().map(variable).collect::<Option<_>>()?,
            directory: match &program.directory {
                Some(directory) => Some(c_string(directory.clone().into_os_string())?),
                None => None,
            },
        })
    }
}

/// The files that `command` may mean, best first. An empty element of `path` is the child's own directory.
pub(super) fn candidates(command: &OsStr, path: Option<&OsStr>) -> Vec<OsString> {
    if command.as_bytes().contains(&b'/') {
        return vec![command.to_owned()];
    }
    let path = path.map_or(DEFAULT_PATH, OsStrExt::as_bytes);
    path.split(|byte| *byte == b':')
        .map(|place| Path::new(OsStr::from_bytes(place)).join(command).into())
        .collect()
}

/// What a failed step was about, for people.
fn subject(step: Step, errno: i32, program: &Program) -> String {
    let limit = |limit: Option<Limit>| match limit {
        Some(Limit { hard: libc::RLIM_INFINITY, .. }) => "unlimited".to_owned(),
        Some(Limit { hard, .. }) => hard.to_string(),
        None => String::new(),
    };
    let account =
        |number: fn(&Account) -> u32| program.account.as_ref().map(number).unwrap_or_default().to_string();
    match step {
        Step::LimitNofile => limit(program.limits.nofile),
        Step::LimitCore => limit(program.limits.core),
        Step::LimitAs => limit(program.limits.address_space),
        Step::LimitNproc => limit(program.limits.nproc),
        Step::Nice => program.nice.unwrap_or_default().to_string(),
        Step::Directory => program.directory.clone().unwrap_or_default().display().to_string(),
        Step::Group => account(|account| account.gid),
        Step::Groups | Step::User => account(|account| account.uid),
        Step::Exec => format!("{}{}", command(program), exec_remark(errno, program)),
        Step::Arguments
        | Step::Pipe
        | Step::Fork
        | Step::Pidfd
        | Step::Session
        | Step::Descriptors
        | Step::DeathSignal
        | Step::SignalMask => command(program),
    }
}

fn command(program: &Program) -> String {
    program
        .argv
        .first()
        .map_or_else(|| "an empty command".to_owned(), |command| Path::new(command).display().to_string())
}

/// What the errno of an exec leaves out. "No such file" is also said of a script whose interpreter is missing.
fn exec_remark(errno: i32, program: &Program) -> &'static str {
    let there = || {
        let here = program.directory.clone().unwrap_or_default();
        let path = program.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let command = program.argv.first().map(OsString::as_os_str).unwrap_or_default();
        candidates(command, path).iter().any(|file| here.join(file).is_file())
    };
    match errno {
        libc::ENOENT if there() => " (its interpreter, named in its first line, is missing)",
        libc::ENOEXEC => " (not a program, and no #! in its first line)",
        libc::EACCES if there() => " (chmod +x makes a file a program)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_searched_for_as_a_shell_does() {
        let candidates = |command: &str, path: Option<&str>| -> Vec<String> {
            let found = super::candidates(OsStr::new(command), path.map(OsStr::new));
            found.into_iter().map(|file| file.into_string().expect("plain text")).collect()
        };
        assert_eq!(candidates("sh", Some("/bin:/usr/bin")), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(
            candidates("sh", Some("a::b")),
            ["a/sh", "sh", "b/sh"],
            "relative to the child's directory"
        );
        assert_eq!(candidates("./sh", Some("/bin")), ["./sh"]);
        assert_eq!(candidates("/x/sh", Some("/bin")), ["/x/sh"]);
        assert_eq!(candidates("sh", None), ["/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh"]);
    }
}
