//! Sends jobs to the daemon, all or nothing.
//!
//! While one chunk travels the next is read. A chunk whose reply is lost is sent again under the same key and
//! number, which the daemon recognises; a submit that the daemon has forgotten, because it was started anew
//! meanwhile, begins again if the file can be read again.

use crate::client::{Client, Exchange};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::reply::Reply;
use crate::trouble::Trouble;
use pushpull::client::{Chunks, Head, abort, pour};
use pushpull::wire::control::{Code, Limits};
use pushpull::wire::job::Defaults;
use pushpull::wire::jobfile::{FileError, Format, JobFile};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// How often a submit begins anew.
const BEGINNINGS_MAX: u32 = 3;

/// Where jobs come from.
pub enum Input {
    File(PathBuf),
    Stdin,
}

/// A job file to be submitted.
pub struct FileSubmit<'a> {
    pub input: &'a Input,
    pub format: Format,
    pub key: &'a str,
    /// Without what the file says.
    pub head: &'a Head,
    /// Of the command line.
    pub defaults: &'a Defaults,
    pub limits: &'a Limits,
}

impl FileSubmit<'_> {
    /// Reads and sends the file; the reply to its last chunk.
    pub fn send(&self, client: &mut Client) -> Result<Reply, Failure> {
        let mut beginnings = 1;
        loop {
            match self.send_once(client) {
                Err(Failure::Refused(refused))
                    if refused.code() == Some(Code::ChunkExpected)
                        && beginnings < BEGINNINGS_MAX
                        && self.input.can_be_read_again() =>
                {
                    beginnings += 1;
                }
                sent => return sent.map_err(|failure| self.name_place(failure)),
            }
        }
    }

    fn send_once(&self, client: &mut Client) -> Result<Reply, Failure> {
        let interrupted = |client: &Client, error: FileError| match client.interrupts().pending() {
            Some(interrupt) => Failure::Trouble(Trouble::Interrupted(interrupt)),
            None => Failure::File(Box::new(error)),
        };
        let reader = BufReader::with_capacity(256 * 1024, self.input.open(client.interrupts())?);
        let job_bytes_max = usize::try_from(self.limits.job_bytes_max).unwrap_or(usize::MAX);
        let mut file = JobFile::open(reader, &self.input.name(), self.format)
            .map_err(|error| interrupted(client, error))?
            .with_job_bytes_max(job_bytes_max);
        let mut defaults = self.defaults.clone();
        if let Some(own) = &file.header().defaults {
            let own = Defaults::parse(own).map_err(|error| Failure::usage(error.message, ""))?;
            defaults = own.over(&defaults);
        }
        let mut head = self.head.clone();
        head.name = head.name.or_else(|| file.header().name.clone());
        head.defaults = (defaults != Defaults::default()).then(|| defaults.to_json());
        let mut sender = Sender::new(client, self.key, &head, self.limits);
        let sent = pour(&mut file, &defaults, |job| sender.push(job)).and_then(|_| sender.finish());
        sent.map_err(|failure| {
            let pending = sender.client.interrupts().pending();
            sender.take_back(&failure);
            match (failure, pending) {
                (Failure::File(_), Some(interrupt)) => Failure::Trouble(Trouble::Interrupted(interrupt)),
                (failure, _) => failure,
            }
        })
    }

    /// A job that only the daemon could see to be wrong is in a file too.
    fn name_place(&self, mut failure: Failure) -> Failure {
        if let Failure::Refused(refused) = &mut failure {
            if let Some(index) = refused.number("index").filter(|_| refused.code() == Some(Code::BadJob)) {
                refused.message = format!("{}: element {index}: {}", self.input.name(), refused.message);
            }
        }
        failure
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        Failure::File(Box::new(error))
    }
}

impl Input {
    /// `-` is standard input.
    pub fn new(file: PathBuf) -> Input {
        if file.as_os_str() == "-" { Input::Stdin } else { Input::File(file) }
    }

    fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }

    fn open(&self, interrupts: &Interrupts) -> Result<impl Read + use<>, Failure> {
        let opened = match self {
            Input::File(path) => File::open(path),
            Input::Stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        opened
            .and_then(|file| interrupts.heed(file))
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", self.name()), ""))
    }

    fn can_be_read_again(&self) -> bool {
        match self {
            Input::File(path) => path.is_file(),
            Input::Stdin => false,
        }
    }
}

/// A submit under way.
pub struct Sender<'a> {
    client: &'a mut Client,
    key: String,
    chunks: Chunks,
    /// The request that travels.
    in_flight: Option<(Vec<u8>, Result<Exchange, Trouble>)>,
    has_sent: bool,
    has_sent_last: bool,
}

impl<'a> Sender<'a> {
    pub fn new(client: &'a mut Client, key: &str, head: &Head, limits: &Limits) -> Sender<'a> {
        let chunks = Chunks::new(key, head, limits);
        Sender { client, key: key.to_owned(), chunks, in_flight: None, has_sent: false, has_sent_last: false }
    }

    /// Takes a job, JSON text.
    pub fn push(&mut self, job: &str) -> Result<(), Failure> {
        match self.chunks.push(job) {
            Some(frame) => self.send(frame),
            None => Ok(()),
        }
    }

    /// The reply to the whole.
    pub fn finish(&mut self) -> Result<Reply, Failure> {
        self.settle(false)?;
        let frame = self.chunks.finish();
        self.has_sent_last = true;
        let begun = self.client.begin(&frame);
        self.in_flight = Some((frame, begun));
        let reply = self.settle(true)?;
        reply.ok_or_else(|| Failure::Answer("the submit has no answer".to_owned()))
    }

    /// Tells the daemon that the rest does not come. What it refused it has forgotten, and what may be accepted
    /// already is not taken back.
    fn take_back(&mut self, failure: &Failure) {
        let is_refused = matches!(failure, Failure::Refused(_));
        if !self.has_sent || self.has_sent_last || is_refused {
            return;
        }
        // The abort must not overtake what it takes back; after an interruption there is no time to wait for it.
        if self.client.interrupts().pending().is_none() {
            let _ = self.settle(false);
        }
        self.client.last_word(&abort(&self.key));
    }

    fn send(&mut self, frame: Vec<u8>) -> Result<(), Failure> {
        self.settle(false)?;
        let begun = self.client.begin(&frame);
        self.in_flight = Some((frame, begun));
        self.has_sent = true;
        Ok(())
    }

    /// The reply to what travels, if something does.
    fn settle(&mut self, last: bool) -> Result<Option<Reply>, Failure> {
        let Some((frame, begun)) = self.in_flight.take() else {
            return Ok(None);
        };
        match self.client.settle(&frame, begun, Duration::ZERO) {
            Ok(reply) => Reply::read(&reply).map(Some),
            // Nobody was ever there to accept anything.
            Err(trouble) if self.client.found().is_none() => Err(Failure::Trouble(trouble)),
            Err(trouble) => Err(Failure::Unknown { key: self.key.clone(), last, trouble }),
        }
    }
}

/// A key that no other submit has.
pub fn random_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Failure::System(format!("/dev/urandom cannot be read: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// The variables of this process that can stand in JSON, as an object.
pub fn environment() -> String {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, serde_json::Value::from(value.into_string().ok()?)))
    });
    serde_json::Value::Object(variables.collect()).to_string()
}

/// This process's directory.
pub fn directory() -> Result<String, Failure> {
    let hint = "Say --cwd DIR, or --no-env for the daemon's";
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage(format!("the directory cannot be told: {error}"), hint))?;
    here.into_os_string()
        .into_string()
        .map_err(|_| Failure::usage("the directory's path is not UTF-8, which JSON needs", hint))
}
