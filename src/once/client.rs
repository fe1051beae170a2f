//! The private daemon's only client: submits the file, tells the outcomes as they come, and stops the daemon when
//! there are no more.

use super::input::Reader;
use super::teller::Teller;
use crate::Failure;
use pushpull::client::{AskError, Chunks, Head, Link, pour};
use pushpull::wire::control::{Code, Limits, PingReply};
use pushpull::wire::job::Defaults;
use pushpull::wire::jobfile::{FileError, Format, JobFile};
use serde_json::value::RawValue;
use std::time::Duration;

/// How long the daemon may take for a reply, beyond what a request itself allows it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look for outcomes may wait.
const LOOK_MS: u64 = 1_000;

/// What is to be done.
pub struct Client {
    pub link: Link,
    /// What errors in the file begin with.
    pub file: String,
    pub task: Task,
    /// Stop when so many jobs have failed.
    pub max_fails: Option<u64>,
    pub teller: Teller,
}

/// Where the jobs come from.
pub enum Task {
    /// From the file.
    Submit(Box<Submit>),
    /// They are in the store: so many, of which so many had ended before.
    Resume { jobs: u64, done: u64 },
}

/// A file to be submitted.
pub struct Submit {
    pub input: Reader,
    pub key: String,
    pub format: Format,
    pub with_environment: bool,
    /// What the command line says of jobs of which the file says nothing.
    pub defaults: Defaults,
}

/// How it ended.
pub enum End {
    /// Every job has its outcome, and all of them have been told.
    Complete,
    /// The daemon left before: somebody stopped it, or it has said why.
    DaemonLeft,
    /// So many jobs had failed that no more were started.
    TooManyFailures,
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
        let code = if error.limit.is_some() { Code::Limit } else { Code::BadJob };
        Stop::Failure(Failure { status: code.exit_status(), text: error.to_string() })
    }
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Stop {
        match error {
            AskError::Unreachable(_) => Stop::DaemonLeft,
            AskError::Refused(refusal) if refusal.code == Code::Draining => Stop::DaemonLeft,
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
    /// Sees to everything; the daemon does not stay. Gives back how far it has told, too.
    pub fn run(mut self) -> (Teller, Result<End, Failure>) {
        let outcome = self.work();
        // Whatever happened, the daemon is not to stay. If it has left already, this reaches nobody.
        let _ = self.stop(outcome.is_err());
        let ended = match outcome {
            Ok(end) => Ok(end),
            Err(Stop::DaemonLeft) => Ok(End::DaemonLeft),
            Err(Stop::Failure(failure)) => Err(failure),
        };
        (self.teller, ended)
    }

    fn stop(&self, now: bool) -> Result<String, AskError> {
        self.link.ask(format!(r#"{{"v":1,"op":"shutdown","now":{now}}}"#).as_bytes(), PATIENCE)
    }

    fn work(&mut self) -> Result<End, Stop> {
        let reply = self.link.ask(br#"{"v":1,"op":"ping"}"#, PATIENCE)?;
        let limits = read::<PingReply>(&reply)?.limits;
        let (jobs, done) = match std::mem::replace(&mut self.task, Task::Resume { jobs: 0, done: 0 }) {
            Task::Submit(submit) => (self.submit(*submit, &limits)?, 0),
            Task::Resume { jobs, done } => {
                // A pause is as durable as a job, but nobody is left who would end it.
                self.link.ask(br#"{"v":1,"op":"resume"}"#, PATIENCE)?;
                (jobs, done)
            }
        };
        if jobs == 0 {
            return Err(Stop::Failure(Failure::usage(format!(
                "{} holds no jobs: nothing to run",
                self.file
            ))));
        }
        self.teller.begin(jobs, done);
        self.follow()
    }

    /// Sends the file; how many jobs there are.
    fn submit(&self, submit: Submit, limits: &Limits) -> Result<u64, Stop> {
        let Submit { input, key, format, with_environment, defaults } = submit;
        let job_bytes_max = usize::try_from(limits.job_bytes_max).unwrap_or(usize::MAX);
        let mut file = JobFile::open(input, &self.file, format)?.with_job_bytes_max(job_bytes_max);
        let name = file.header().name.clone();
        let defaults = file.defaults()?.over(&defaults);
        let head = Head {
            name,
            defaults: (defaults != Defaults::default()).then(|| defaults.to_json()),
            environment: with_environment.then(environment),
            directory: std::env::current_dir().ok().and_then(|path| path.to_str().map(str::to_owned)),
            into: None,
        };
        let mut chunks = Chunks::new(&key, &head, limits);
        let jobs = pour(&mut file, &defaults, |job| {
            if let Some(request) = chunks.push(job) {
                self.link.ask(&request, PATIENCE)?;
            }
            Ok::<(), Stop>(())
        })?;
        self.link.ask(&chunks.finish(), PATIENCE)?;
        Ok(jobs)
    }

    /// Tells outcomes as they come, those of before first.
    fn follow(&mut self) -> Result<End, Stop> {
        let mut has_given_up = false;
        loop {
            let reply = match self.link.ask(results_after(&self.teller.after, LOOK_MS).as_bytes(), PATIENCE) {
                Ok(reply) => reply,
                Err(_) if has_given_up => return Ok(End::TooManyFailures),
                Err(error) => return Err(error.into()),
            };
            let page: Page = read(&reply)?;
            for record in &page.records {
                self.teller.tell(record.get()).map_err(|error| unreadable(&error))?;
            }
            self.teller.show_progress();
            page.next.get().clone_into(&mut self.teller.after);
            if page.done {
                return Ok(End::Complete);
            }
            let failed = self.teller.failed_since();
            if !has_given_up && self.max_fails.is_some_and(|most| failed >= most) {
                has_given_up = true;
                self.stop(false)?;
            }
        }
    }
}

/// The request for the outcomes behind a place.
pub fn results_after(after: &str, timeout_ms: u64) -> String {
    format!(r#"{{"v":1,"op":"results","select":"all","after":{after},"timeout_ms":{timeout_ms}}}"#)
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
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Stop {
    Stop::Failure(Failure { status: 6, text: format!("a reply cannot be read: {error}") })
}

/// This process's environment, so far as it is text.
fn environment() -> String {
    let variables: serde_json::Map<String, serde_json::Value> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?.into())))
        .collect();
    serde_json::Value::Object(variables).to_string()
}
