//! A run of `pushpulld --once`: started on a job file in a directory of its own, read record by record, killed at a
//! known moment, and started again.

use crate::fifo::Fifo;
use crate::process::{self, Handle, PATIENCE};
use crate::site::program;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a job does to come to the gate and wait there.
pub const WAITS: &str = "; echo here > here; read go < gate";

/// A directory for job files, in which also the state and the sockets of their runs are.
pub struct Desk {
    directory: TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        let directory = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").expect("/tmp is there");
        fs::create_dir(directory.path().join("tmp")).expect("it is ours");
        Desk { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("it is ours");
    }

    fn fifo(&self, name: &str) -> Fifo {
        Fifo::new(self.path(), name)
    }

    /// `jobs.json` with so many jobs. Each writes its number to the file `ran`; two of them, from `gate` on, then
    /// write to the FIFO `here` and wait for a line of the FIFO `gate`.
    pub fn write_jobs(&self, count: usize, gate: usize) -> Gate {
        let jobs: Vec<String> = (0..count)
            .map(|at| {
                let waits =
                    if at == gate || at == gate + 1 { "; echo here > here; read go < gate" } else { "" };
                format!("echo {at} >> ran{waits}")
            })
            .collect();
        self.write("jobs.json", &json!(jobs).to_string());
        Gate::new(self)
    }

    /// How often each job ran.
    pub fn ran(&self) -> BTreeMap<usize, usize> {
        let mut ran = BTreeMap::new();
        for line in fs::read_to_string(self.path().join("ran")).unwrap_or_default().lines() {
            *ran.entry(line.parse().expect("a number")).or_default() += 1;
        }
        ran
    }

    /// `pushpulld --once` with these words, in this directory.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.current_dir(self.path()).env("TMPDIR", self.path().join("tmp"));
        command.env("PUSHPULL_STATE_DIR", self.path().join("state"));
        command.arg("--once").args(words);
        command
    }

    pub fn start(&self, words: &[&str]) -> Run {
        Run::start(self.command(words))
    }

    /// Runs one to its end: its exit status, its records and what it says.
    pub fn run(&self, words: &[&str]) -> (i32, Vec<Value>, String) {
        self.start(words).finish()
    }

    /// The directories of runs that are kept.
    pub fn kept(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join("state/once")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.expect("it is ours").path()).collect()
    }

    /// Nothing is left of any run, on disk or among the sockets.
    pub fn assert_clean(&self) {
        assert_eq!(self.kept(), Vec::<PathBuf>::new(), "a run is kept");
        let sockets = fs::read_dir(self.path().join("tmp")).expect("it is ours").count();
        assert_eq!(sockets, 0, "sockets are left");
    }
}

/// Where two jobs of a file wait.
pub struct Gate {
    here: Fifo,
    gate: Fifo,
}

impl Gate {
    pub fn new(desk: &Desk) -> Gate {
        Gate { here: desk.fifo("here"), gate: desk.fifo("gate") }
    }

    /// Waits until a job has come to it.
    pub fn await_job(&mut self) {
        assert_eq!(self.here.line(), "here");
    }

    /// Lets so many jobs through.
    pub fn open_for(&mut self, jobs: usize) {
        self.gate.open_for(jobs);
    }
}

/// A running one.
pub struct Run {
    child: Child,
    handle: Handle,
    out: Stream,
    said: Stream,
}

impl Run {
    pub fn start(mut command: Command) -> Run {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().expect("the daemon can be executed");
        let handle = Handle::open(i32::try_from(child.id()).expect("a pid")).expect("it is our child");
        let out = Stream::new(child.stdout.take().expect("it is piped"));
        let said = Stream::new(child.stderr.take().expect("it is piped"));
        Run { child, handle, out, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.handle.signal(signal), "it is gone");
    }

    /// The next record.
    pub fn record(&mut self) -> Value {
        let line = self.out.line().expect("there are more records");
        serde_json::from_str(&line).expect("a record is JSON")
    }

    /// Waits until it has said a line with these words.
    pub fn await_words(&mut self, words: &str) {
        while let Some(line) = self.said.line() {
            if line.contains(words) {
                return;
            }
        }
        panic!("it never said {words:?}");
    }

    /// Waits for its end.
    pub fn end(mut self) -> (ExitStatus, Vec<Value>, String) {
        let mut records = Vec::new();
        while let Some(line) = self.out.line() {
            records.push(serde_json::from_str(&line).expect("a record is JSON"));
        }
        let mut said = String::new();
        while let Some(line) = self.said.line() {
            said += &(line + "\n");
        }
        assert!(process::is_readable(self.handle.fd(), PATIENCE), "it does not leave; it says:\n{said}");
        (self.child.wait().expect("it is our child"), records, said)
    }

    /// Waits for its exit: status, further records, further words.
    pub fn finish(self) -> (i32, Vec<Value>, String) {
        let (status, records, said) = self.end();
        let status = status.code().unwrap_or_else(|| panic!("{status}: {said}"));
        (status, records, said)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.handle.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A pipe, line by line.
struct Stream {
    pipe: Box<dyn ReadFd>,
    unread: Vec<u8>,
}

trait ReadFd: Read + AsRawFd {}
impl<T: Read + AsRawFd> ReadFd for T {}

impl Stream {
    fn new(pipe: impl ReadFd + 'static) -> Stream {
        Stream { pipe: Box::new(pipe), unread: Vec::new() }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.drain(..=end).collect::<Vec<u8>>();
                return Some(String::from_utf8(line).expect("text").trim_end().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && process::is_readable(self.pipe.as_raw_fd(), left), "nothing comes");
            let mut block = [0; 8_192];
            match self.pipe.read(&mut block).expect("a pipe can be read") {
                0 => return None,
                length => self.unread.extend(&block[..length]),
            }
        }
    }
}

/// All records, by the job's place in its file; each comes once.
pub fn by_index(records: &[Value]) -> BTreeMap<usize, &Value> {
    let mut found = BTreeMap::new();
    for record in records {
        let index = usize::try_from(record["index"].as_u64().expect("an index")).expect("a small number");
        assert!(found.insert(index, record).is_none(), "two records of one job");
    }
    found
}

/// Kills what a killed run may have left in this desk.
impl Drop for Desk {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        for run in self.kept() {
            if let Ok(found) = fs::metadata(run.join("state")) {
                let mark = format!("{}:{}", found.dev(), found.ino());
                let _ = pushpull::shell::sweep::sweep(&mark, Instant::now() + Duration::from_secs(10));
            }
        }
    }
}
