//! `pushpulld --once FILE`: a private daemon for one job file.
//!
//! The daemon runs on the main thread, as always; a second thread is its only client, over the control socket of a
//! runtime directory of its own. What it is about to lose when it is interrupted lies on disk, in a directory that
//! belongs to the file, and is removed when every job has ended and has been told.

mod again;
mod client;
mod directory;
mod input;
mod screen;
mod teller;

use crate::args::Args;
use crate::{Failure, configuration, surroundings};
use client::{Client, End, Submit, Task};
use directory::{Interrupted, RunDirectory};
use input::Input;
use pushpull::client::{Link, thousands};
use pushpull::config::Config;
use pushpull::shell::daemon::{Daemon, Left, Setup};
use pushpull::shell::dirs::{SOCKET_NAME_LONGEST, SOCKET_PATH_MAX};
use pushpull::shell::endpoints;
use pushpull::wire::job::Defaults;
use pushpull::wire::jobfile::Format;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use teller::Teller;
use tempfile::TempDir;

/// Runs a job file; the exit status.
///
/// # Errors
/// When the run could not begin, or not go on.
pub fn run(args: &Args, path: &Path) -> Result<u8, Failure> {
    let mut config = configuration(args)?;
    config.daemon.leave_if_not_executable = true;
    // Nothing of the run is forgotten before it has been told.
    (config.daemon.keep, config.daemon.keep_size) = (None, None);
    if args.memory {
        let sockets = Sockets::new(args)?;
        let task = submit(args, input::open(path)?, "once".to_owned())?;
        let mut served = serve(args, path, config, task, &sockets, None)?;
        served.teller.end();
        return served.status();
    }
    let state = surroundings(args).state_dir().map_err(|error| Failure::usage(error.to_string()))?;
    let runs = directory::all_runs(&state)?;
    let input = input::open_known(path, &runs)?;
    let run = RunDirectory::acquire(&runs, &input.directory_name(), &input::title(path))?;
    let prepared = Sockets::new(args).and_then(|sockets| {
        run.note(input.path.as_deref(), &sockets.path)?;
        Ok((choose(args, &input::title(path), input, &run, &config)?, sockets))
    });
    let (task, sockets) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => {
            if matches!(run.look(), Ok(None)) {
                run.remove();
            }
            return Err(refusal);
        }
    };
    let is_resumed = matches!(task, Task::Resume { .. });
    match serve(args, path, config, task, &sockets, Some(run.state())) {
        Ok(mut served) => {
            served.catch_up(&run);
            served.teller.end();
            // The run is removed last: what is killed between that and the exit has nothing to resume.
            drop(sockets);
            settle(args, run, &served, is_resumed);
            served.status()
        }
        Err(failure) => {
            if !is_resumed {
                run.remove();
            }
            Err(failure)
        }
    }
}

/// What is to be done, after what an earlier start has left.
fn choose(
    args: &Args,
    title: &str,
    input: Input,
    run: &RunDirectory,
    config: &Config,
) -> Result<Task, Failure> {
    let key = format!("once-{:032x}", input.contents);
    if args.fresh {
        run.discard()?;
        return submit(args, input.reader, key);
    }
    let Some(found) = run.look()? else {
        if args.resume {
            if input.path.is_none() {
                refuse_other_stream(run)?;
            }
            say(args, &format!("nothing to resume: running all of {title}"));
        }
        return submit(args, input.reader, key);
    };
    let standing = standing(&found);
    let refused = |what: &str| {
        let text = format!("an interrupted run of {title} has {standing}{what}");
        Err(Failure { status: 5, text })
    };
    if found.key != key {
        return refused(
            ", but the file has changed since: --fresh discards the run and begins with the file as it is now; only the file as it was can be resumed",
        );
    }
    if !args.resume {
        return refused(": --resume continues it, --fresh discards it");
    }
    found.check_pools(config)?;
    say(args, &format!("continuing with {standing}"));
    Ok(Task::Resume { jobs: found.total(), done: found.done() })
}

/// Other contents on standard input would run from the start; who says `--resume` does not mean that.
fn refuse_other_stream(run: &RunDirectory) -> Result<(), Failure> {
    let others = run.other_streams();
    let Some(one) = others.first() else {
        return Ok(());
    };
    let more = if others.len() == 1 { String::new() } else { format!(", one of {}", others.len()) };
    let text = format!(
        "no run with these contents was interrupted, but one with others was{more}: {}. Give the same input as then; or leave out --resume to run this one, and remove what is not wanted any more",
        one.display()
    );
    Err(Failure { status: 5, text })
}

fn submit(args: &Args, input: input::Reader, key: String) -> Result<Task, Failure> {
    let format = if args.lines { Format::Lines } else { Format::Json };
    let mut defaults = Defaults::default();
    if let Some(directory) = &args.output_dir {
        let path =
            std::path::absolute(directory).ok().and_then(|path| path.into_os_string().into_string().ok());
        let path = path.ok_or_else(|| {
            Failure::usage(format!(
                "--output-dir {}: the path is not UTF-8, which JSON needs",
                directory.display()
            ))
        })?;
        defaults.policy.output_dir = Some(path.into());
    }
    Ok(Task::Submit(Box::new(Submit { input, key, format, with_environment: !args.no_env, defaults })))
}

/// Runs the daemon and its client to their end.
fn serve(
    args: &Args,
    path: &Path,
    config: Config,
    task: Task,
    sockets: &Sockets,
    state: Option<PathBuf>,
) -> Result<Served, Failure> {
    let runtime = sockets.path.clone();
    let daemon = Daemon::start(&Setup { config, runtime, state, recover: false, is_private: true })
        .map_err(|error| Failure { status: error.exit_status(), text: error.to_string() })?;
    let client = Client {
        link: Link::new(&sockets.path.join(endpoints::CONTROL)),
        file: path.display().to_string(),
        task,
        max_fails: args.max_fails,
        teller: Teller::new(args.quiet),
    };
    let thread = std::thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || client.run())
        .map_err(|error| Failure { status: 6, text: format!("cannot start a thread: {error}") })?;
    let left = daemon.run(|| Err("a run of one file reads no configuration again".to_owned()));
    let (teller, ended) = thread.join().unwrap_or_else(|_| {
        (Teller::new(true), Err(Failure { status: 6, text: "the client panicked".to_owned() }))
    });
    Ok(Served { left, teller, ended })
}

/// What became of the private daemon and its client.
struct Served {
    left: Left,
    teller: Teller,
    ended: Result<End, Failure>,
}

impl Served {
    /// Tells what ended while the daemon was leaving, when nobody could ask it any more.
    fn catch_up(&mut self, run: &RunDirectory) {
        if matches!(self.ended, Ok(End::Complete)) || !self.teller.has_begun() {
            return;
        }
        match run.tell_rest(&mut self.teller) {
            Ok(true) => self.ended = Ok(End::Complete),
            Ok(false) => {}
            Err(failure) => log::error!("{}", failure.text),
        }
    }

    /// The exit status.
    fn status(self) -> Result<u8, Failure> {
        match (self.left.signal, self.ended) {
            (_, Ok(End::Complete)) => Ok(u8::from(!self.teller.all_succeeded())),
            // Who presses Ctrl-C wants to know what was done so far; the client has said it.
            (Some(signal), _) => Ok(128 + signal),
            (None, Err(failure)) => Err(failure),
            (None, Ok(End::DaemonLeft | End::TooManyFailures)) => Ok(self.left.status.max(1)),
        }
    }

    /// Why it stopped before all was done, if somebody wanted that.
    fn reason(&self) -> Option<String> {
        if self.left.signal.is_some() {
            return Some("interrupted".to_owned());
        }
        if !matches!(self.ended, Ok(End::TooManyFailures)) {
            return None;
        }
        let failed = self.teller.failed_since();
        let failures = if failed == 1 { "failure" } else { "failures" };
        Some(format!("stopped after {} {failures}", thousands(failed)))
    }
}

/// Removes the run if nothing of it is left to do or to tell; else says how to go on.
fn settle(args: &Args, run: RunDirectory, served: &Served, is_resumed: bool) {
    if matches!(served.ended, Ok(End::Complete)) {
        run.remove();
        return;
    }
    let reason = served.reason();
    let found = match run.look() {
        Ok(Some(found)) => found,
        Ok(None) => {
            if reason.is_some() {
                say(args, "interrupted before the jobs were accepted; none has run, and nothing is kept");
            }
            run.remove();
            return;
        }
        Err(failure) => {
            log::error!("{}", failure.text);
            return;
        }
    };
    // A command that cannot be executed is mended on the command line, and then all is to be run.
    if found.done() == 0 && !is_resumed && reason.is_none() {
        run.remove();
        return;
    }
    let why = reason.as_deref().unwrap_or("stopped");
    let line = again::command_line(std::env::args_os().skip(1));
    let stream = if args.once.as_deref() == Some(Path::new("-")) { "the same input to " } else { "" };
    say(args, &format!("{why} with {}; {stream}{line} continues", standing(&found)));
}

/// As in `4,012 of 5,000 done`.
fn standing(found: &Interrupted) -> String {
    format!("{} of {} done", thousands(found.done()), thousands(found.total()))
}

fn say(args: &Args, text: &str) {
    if !args.quiet {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// The private daemon's runtime directory.
struct Sockets {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Sockets {
    fn new(args: &Args) -> Result<Sockets, Failure> {
        if let Some(path) = &args.runtime_dir {
            return Ok(Sockets { path: path.clone(), _temporary: None });
        }
        let usual = std::env::temp_dir();
        let name = format!("/{}123456/{SOCKET_NAME_LONGEST}", directory::SOCKETS);
        let has_room = usual.as_os_str().as_bytes().len() + name.len() <= SOCKET_PATH_MAX;
        let place = if has_room { usual } else { PathBuf::from("/tmp") };
        let made = tempfile::Builder::new().prefix(directory::SOCKETS).tempdir_in(place);
        let made = made.map_err(|error| Failure {
            status: 6,
            text: format!("cannot make a directory for sockets: {error}. Name one with --runtime-dir"),
        })?;
        Ok(Sockets { path: made.path().to_owned(), _temporary: Some(made) })
    }
}
