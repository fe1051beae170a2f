//! From a job to a process, or to the reason why there is none.
//!
//! A command leads a process group of its own. It is started the way that keeps the standard library on its fast
//! path (`posix_spawn`): no closure before the execution, and a program that is looked up here, because a changed
//! `PATH` would leave that path.

use super::surroundings::Surroundings;
use crate::model::JobId;
use crate::wire::pipeline::{Command, Run};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// A command that has just been started.
pub struct Started {
    pub child: Child,
    /// For the whole streams, standard output first.
    pub files: Option<(File, File)>,
}

/// Why a command was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub error: String,
    /// Whether it may work later.
    pub retry: bool,
}

/// Starts the command of a job.
pub fn start(id: JobId, attempt: u32, command: &Command, around: &Surroundings) -> Result<Started, Failure> {
    let directory = match (&around.directory, &command.cwd) {
        (Some(base), Some(cwd)) => Some(base.join(cwd)),
        (None, Some(cwd)) => Some(PathBuf::from(cwd)),
        (base, None) => base.clone(),
    };
    if let Some(directory) = &directory {
        check_directory(directory)?;
    }
    let (program, mut process) = match &command.run {
        Run::Shell(line) => {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.arg("-c").arg(line);
            ("/bin/sh", shell)
        }
        Run::Program(words) => direct(words, command, around, directory.as_deref())?,
    };
    process.env_clear().envs(around.environment()).envs(&command.env);
    process.env_remove("PUSHPULL_JOBS").env_remove("PUSHPULL_RESULTS");
    process.envs(around.handed_down());
    process.env("PUSHPULL_JOB", id.to_string()).env("PUSHPULL_ATTEMPT", attempt.to_string());
    if let Some(directory) = &directory {
        process.current_dir(directory);
    }
    let stdin = if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let files = match &command.output_dir {
        Some(output_dir) => Some(open_files(id, &directory.unwrap_or_default().join(output_dir))?),
        None => None,
    };
    let child = process.spawn().map_err(|error| failure(format_args!("cannot execute {program}"), &error))?;
    Ok(Started { child, files })
}

fn direct<'a>(
    words: &'a [String],
    command: &Command,
    around: &Surroundings,
    directory: Option<&Path>,
) -> Result<(&'a str, std::process::Command), Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure { error: "cannot execute a command without words".to_owned(), retry: false });
    };
    let given = command.env.get("PATH").map(OsStr::new);
    let path = given.or_else(|| around.variable("PATH")).unwrap_or(OsStr::new(DEFAULT_PATH));
    let found = find_program(program, path, directory)
        .map_err(|error| failure(format_args!("cannot execute {program}"), &error))?;
    let mut process = std::process::Command::new(found);
    process.arg0(program).args(arguments);
    Ok((program, process))
}

/// What `execvp` would execute: the program itself if its name has a slash, else the first executable of that name
/// in the directories of `path`.
fn find_program(program: &str, path: &OsStr, directory: Option<&Path>) -> io::Result<PathBuf> {
    if program.contains('/') || program.is_empty() {
        return Ok(PathBuf::from(program));
    }
    let mut error = io::Error::from(Errno::ENOENT);
    for entry in path.as_bytes().split(|&byte| byte == b':') {
        // An empty entry is the current directory. With a slash no name is looked up again.
        let entry = if entry.is_empty() { b".".as_slice() } else { entry };
        let candidate = Path::new(OsStr::from_bytes(entry)).join(program);
        let seen_from_here = directory.map_or_else(|| candidate.clone(), |base| base.join(&candidate));
        if !seen_from_here.is_file() {
            continue;
        }
        match eaccess(&seen_from_here, AccessFlags::X_OK) {
            Ok(()) => return Ok(candidate),
            Err(errno) => error = errno.into(),
        }
    }
    Err(error)
}

fn check_directory(directory: &Path) -> Result<(), Failure> {
    let enter = || format!("cannot enter the directory {}", directory.display());
    let metadata = std::fs::metadata(directory).map_err(|error| failure(enter(), &error))?;
    if !metadata.is_dir() {
        return Err(failure(enter(), &Errno::ENOTDIR.into()));
    }
    eaccess(directory, AccessFlags::X_OK).map_err(|errno| failure(enter(), &errno.into()))
}

/// Opens the files of the whole streams. A later attempt replaces what an earlier one wrote.
fn open_files(id: JobId, directory: &Path) -> Result<(File, File), Failure> {
    let make =
        |error| failure(format_args!("cannot make the output directory {}", directory.display()), &error);
    std::fs::create_dir_all(directory).map_err(make)?;
    let open = |suffix: &str| {
        let path = directory.join(format!("{id}.{suffix}"));
        File::create(&path).map_err(|error| failure(format_args!("cannot write {}", path.display()), &error))
    };
    Ok((open("stdout")?, open("stderr")?))
}

/// A failure that the machine may get over is worth another attempt; a wrong name is not.
fn failure(what: impl Display, error: &io::Error) -> Failure {
    let retry = matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ENOMEM
                | libc::EMFILE
                | libc::ENFILE
                | libc::ETXTBSY
                | libc::ENOSPC
                | libc::EDQUOT
        )
    );
    Failure { error: format!("{what}: {}", reason(error)), retry }
}

/// The error's text with its symbol, as in `No such file or directory (ENOENT)`.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOEXEC) => "Exec format error (ENOEXEC); does the script begin with #! ?".to_owned(),
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}
