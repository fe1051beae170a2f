//! `pushpulld --once FILE`: a private daemon for one job file.
//!
//! The daemon runs on the main thread, as always; a second thread is its only client. It submits the file over the
//! control socket of a runtime directory of its own, prints each outcome as it comes, and stops the daemon when
//! there are no more.

mod screen;

use crate::args::Args;
use crate::{Failure, configuration};
use pushpull::client::{AskError, Chunks, Head, Link, Tally};
use pushpull::shell::daemon::{Daemon, Setup};
use pushpull::shell::endpoints;
use pushpull::wire::control::{Limits, PingReply};
use pushpull::wire::jobfile::{FileError, Format, JobFile};
use pushpull::wire::record::Record;
use screen::Screen;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the daemon may take for a reply, beyond what a request itself allows it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look for outcomes may wait.
const LOOK_MS: u64 = 1_000;
const KEY: &str = "once";

/// Runs a job file; the exit status.
///
/// # Errors
/// When the run could not begin.
pub fn run(args: &Args, path: &Path) -> Result<u8, Failure> {
    let mut config = configuration(args)?;
    config.daemon.leave_if_not_executable = true;
    let input = open(path)?;
    let runtime = tempfile::Builder::new().prefix("pushpull-once-").tempdir().map_err(|error| Failure {
        status: 6,
        text: format!("cannot make a directory for sockets: {error}"),
    })?;
    let setup = Setup { config, runtime: runtime.path().to_owned(), state: None };
    let daemon = Daemon::start(&setup)
        .map_err(|error| Failure { status: error.exit_status(), text: error.to_string() })?;
    let client = Client {
        link: Link::new(&runtime.path().join(endpoints::CONTROL)),
        file: path.display().to_string(),
        format: if args.lines { Format::Lines } else { Format::Json },
        with_environment: !args.no_env,
        screen: Screen::new(args.quiet),
        began: Instant::now(),
    };
    let thread = std::thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || client.run(input))
        .map_err(|error| Failure { status: 6, text: format!("cannot start a thread: {error}") })?;
    let left = daemon.run();
    let ended = thread.join().unwrap_or(Err(Failure { status: 6, text: "the client panicked".to_owned() }));
    match (left.signal, ended) {
        (_, Ok(Some(status))) => Ok(status),
        // Who presses Ctrl-C wants to know what was done so far; the client has said it.
        (Some(signal), _) => Ok(128 + signal),
        (None, Err(failure)) => Err(failure),
        (None, Ok(None)) => Ok(left.status.max(1)),
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_dir()) => {
            Err(Failure::usage(format!("{} is a directory; name a job file", path.display())))
        }
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The private daemon's only client.
struct Client {
    link: Link,
    file: String,
    format: Format,
    with_environment: bool,
    screen: Screen,
    began: Instant,
}

/// Why the client ends before all jobs have.
enum Stop {
    /// Something is wrong: tell it.
    Failure(Failure),
    /// The daemon leaves: somebody stopped it, or it has said why.
    DaemonLeft,
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Stop {
        Stop::Failure(Failure::usage(error.to_string()))
    }
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Stop {
        match error {
            AskError::Unreachable(_) => Stop::DaemonLeft,
            AskError::Refused(refusal) if refusal.code == pushpull::wire::control::Code::Draining => {
                Stop::DaemonLeft
            }
            AskError::Refused(refusal) => {
                let place = refusal.index.map_or_else(String::new, |index| format!("element {index}: "));
                let hint = refusal.hint.as_ref().map_or_else(String::new, |hint| format!(". {hint}"));
                let text = format!("{place}{}{hint}", refusal.message);
                Stop::Failure(Failure { status: refusal.code.exit_status(), text })
            }
            AskError::Silent(..) | AskError::Garbled(_) => {
                Stop::Failure(Failure { status: 6, text: error.to_string() })
            }
        }
    }
}

impl Client {
    /// The exit status; `None` when the daemon left before all jobs had ended.
    fn run(mut self, input: Box<dyn BufRead + Send>) -> Result<Option<u8>, Failure> {
        let outcome = self.work(input);
        // Whatever happened, the daemon is not to stay. If it has left already, this reaches nobody.
        let at_once = outcome.is_err();
        let request = format!(r#"{{"v":1,"op":"shutdown","now":{at_once}}}"#);
        let _ = self.link.ask(request.as_bytes(), PATIENCE);
        match outcome {
            Ok(tally) => Ok(Some(u8::from(tally.failed + tally.cancelled > 0))),
            Err(Stop::DaemonLeft) => Ok(None),
            Err(Stop::Failure(failure)) => Err(failure),
        }
    }

    fn work(&mut self, input: Box<dyn BufRead + Send>) -> Result<Tally, Stop> {
        let reply = self.link.ask(br#"{"v":1,"op":"ping"}"#, PATIENCE)?;
        let limits = read::<PingReply>(&reply)?.limits;
        let jobs = self.submit(input, &limits)?;
        if jobs == 0 {
            return Err(Stop::Failure(Failure::usage(format!(
                "{} holds no jobs: nothing to run",
                self.file
            ))));
        }
        self.screen.begin(jobs);
        self.follow()
    }

    /// Sends the file; how many jobs there are.
    fn submit(&self, input: Box<dyn BufRead + Send>, limits: &Limits) -> Result<u64, Stop> {
        let job_bytes_max = usize::try_from(limits.job_bytes_max).unwrap_or(usize::MAX);
        let mut file = JobFile::open(input, &self.file, self.format)?.with_job_bytes_max(job_bytes_max);
        let header = file.header().clone();
        let defaults = file.defaults()?;
        let head = Head {
            name: header.name,
            defaults: header.defaults,
            environment: self.with_environment.then(environment),
            directory: std::env::current_dir().ok().and_then(|path| path.to_str().map(str::to_owned)),
            into: None,
        };
        let mut chunks = Chunks::new(KEY, &head, limits);
        let mut jobs = 0;
        while let Some((element, _)) = file.next_job(&defaults)? {
            jobs += 1;
            if let Some(request) = chunks.push(&element.json) {
                self.link.ask(&request, PATIENCE)?;
            }
        }
        self.link.ask(&chunks.finish(), PATIENCE)?;
        Ok(jobs)
    }

    /// Prints outcomes as they come.
    fn follow(&mut self) -> Result<Tally, Stop> {
        let mut tally = Tally::default();
        let mut after = "null".to_owned();
        loop {
            let request =
                format!(r#"{{"v":1,"op":"results","select":"all","after":{after},"timeout_ms":{LOOK_MS}}}"#);
            let reply = match self.link.ask(request.as_bytes(), PATIENCE) {
                Ok(reply) => reply,
                Err(error) => {
                    self.screen.end(&tally, self.began.elapsed());
                    return Err(error.into());
                }
            };
            let page: Page = read(&reply)?;
            for raw in &page.records {
                let record: Record = read(raw.get())?;
                tally.add(&record);
                self.screen.show(raw.get(), &record);
            }
            self.screen.progress(&tally);
            page.next.get().clone_into(&mut after);
            if page.done {
                self.screen.end(&tally, self.began.elapsed());
                return Ok(tally);
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
    #[serde(borrow)]
    next: &'a RawValue,
    done: bool,
}

fn read<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Stop> {
    serde_json::from_str(text).map_err(|error| {
        Stop::Failure(Failure { status: 6, text: format!("a reply cannot be read: {error}") })
    })
}

/// This process's environment, so far as it is text.
fn environment() -> String {
    let variables: serde_json::Map<String, serde_json::Value> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?.into())))
        .collect();
    serde_json::Value::Object(variables).to_string()
}
