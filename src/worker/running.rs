//! A command from its start to its outcome.
//!
//! ```text
//!   start --> Live --(leader ends: kill its group)--> Sweeping --(nothing left)--> Ended
//!              |                                          ^
//!              '--(stop: TERM)--> Stopping --(leader ends)'
//!                                    '--(kill_at: KILL)--> Killed --(leader ends)--> Sweeping
//! ```
//!
//! [`Running::turn`] does whatever can be done without waiting, and its caller polls in between. The end of the
//! leader is the end of the command: whoever else holds a pipe open is killed or left behind, never waited for.

use super::command::{self, Failure, Started};
use super::process::{self, Look, Reaped};
use super::stream::{self, Input, Stream};
use super::surroundings::Surroundings;
use super::sweep::{Stubborn, Sweep};
use crate::model::{Exit, JobId};
use crate::wire::pipeline::Command;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Time between TERM and KILL when nobody says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a command was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Timeout(Duration),
    Cancelled,
    /// The worker leaves.
    Leaving,
}

/// A started command that has no outcome yet.
pub struct Running {
    leader: Pid,
    phase: Phase,
    stop: Option<Stop>,
    begun: Instant,
    timeout: Option<Duration>,
    stop_timeout: Duration,
    stdin: Option<Input>,
    stdout: Stream,
    stderr: Stream,
}

enum Phase {
    Live,
    Stopping { kill_at: Instant },
    Killed,
    Sweeping { reaped: Reaped, run: Duration, sweep: Sweep },
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub exit: Exit,
    pub stop: Option<Stop>,
    pub stdout: stream::Ended,
    pub stderr: stream::Ended,
    pub run: Duration,
    pub max_rss_kib: u64,
    /// What it started that no KILL ends.
    pub survivors: Vec<Pid>,
}

/// What wakes a running command's next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read(RawFd),
    Write(RawFd),
}

impl Running {
    /// Starts the command of a job.
    pub fn start(
        id: JobId,
        attempt: u32,
        mut order: Command,
        around: &Surroundings,
        begun: Instant,
    ) -> Result<Running, Failure> {
        let Started { mut child, files } = command::start(id, attempt, &order, around)?;
        let leader =
            Pid::from_raw(i32::try_from(child.id()).expect("the kernel's process ids are positive i32"));
        let (stdout_file, stderr_file) = files.unzip();
        let streams = || -> io::Result<_> {
            let stdout = child.stdout.take().expect("stdout is piped");
            let stderr = child.stderr.take().expect("stderr is piped");
            let stdin = match (child.stdin.take(), order.stdin.take()) {
                (Some(pipe), Some(text)) => Some(Input::new(OwnedFd::from(pipe), text)?),
                (None, _) | (_, None) => None,
            };
            let stdout = Stream::new(OwnedFd::from(stdout), stdout_file)?;
            Ok((stdin, stdout, Stream::new(OwnedFd::from(stderr), stderr_file)?))
        };
        let (stdin, stdout, stderr) = { streams }().expect("the flags of a new pipe can be set");
        Ok(Running {
            leader,
            phase: Phase::Live,
            stop: None,
            begun,
            timeout: order.timeout,
            stop_timeout: order.stop_timeout.unwrap_or(STOP_TIMEOUT),
            stdin,
            stdout,
            stderr,
        })
    }

    /// Does what can be done now; the outcome, if the command has ended. `buffer` is for reading.
    pub fn turn(&mut self, now: Instant, buffer: &mut [u8], stubborn: &mut Stubborn) -> Option<Ended> {
        if self.stdin.as_mut().is_some_and(|input| !input.turn()) {
            self.stdin = None;
        }
        self.stdout.turn(buffer);
        self.stderr.turn(buffer);
        self.reap(now, stubborn);
        self.meet_deadline(now);
        let Phase::Sweeping { reaped, run, sweep } = &mut self.phase else { return None };
        let swept = sweep.turn(now, stubborn)?;
        Some(Ended {
            exit: reaped.exit,
            stop: self.stop,
            stdout: self.stdout.end(buffer),
            stderr: self.stderr.end(buffer),
            run: *run,
            max_rss_kib: reaped.max_rss_kib.max(swept.max_rss_kib),
            survivors: swept.survivors,
        })
    }

    /// Asks the command to end and has it killed if it does not within `patience`, at most its own time to stop.
    /// Asked again, it is killed at once; the first reason stays. One that has ended keeps its own end.
    pub fn stop(&mut self, why: Stop, now: Instant, patience: Duration) {
        match self.phase {
            Phase::Live => {
                self.stop = Some(why);
                self.signal(Signal::SIGTERM);
                // A stopped process would not see it.
                self.signal(Signal::SIGCONT);
                self.phase = Phase::Stopping { kill_at: now + self.stop_timeout.min(patience) };
            }
            Phase::Stopping { .. } => self.kill(),
            Phase::Killed | Phase::Sweeping { .. } => {}
        }
    }

    /// When the next turn is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Live => self.timeout.and_then(|timeout| self.begun.checked_add(timeout)),
            Phase::Stopping { kill_at } => Some(*kill_at),
            Phase::Killed => None,
            Phase::Sweeping { sweep, .. } => Some(sweep.deadline()),
        }
    }

    /// What else makes a turn worthwhile. The ends of processes come as SIGCHLD.
    pub fn interests(&self) -> impl Iterator<Item = Interest> {
        let reads = [self.stdout.descriptor(), self.stderr.descriptor()].into_iter().flatten();
        let writes = self.stdin.iter().map(Input::descriptor);
        reads.map(Interest::Read).chain(writes.map(Interest::Write))
    }

    /// Reaps what has ended. Orphans may end long before the command does.
    fn reap(&mut self, now: Instant, stubborn: &mut Stubborn) {
        match self.phase {
            Phase::Live | Phase::Stopping { .. } | Phase::Killed => {}
            Phase::Sweeping { .. } => return,
        }
        while let Look::Ended(child) = process::look_for_ended() {
            if child == self.leader {
                // Its group can be killed only while it still pins the group's number.
                process::signal_group(child, Signal::SIGKILL);
                let reaped = process::reap(child).expect("a child that has ended can be reaped");
                let run = now.saturating_duration_since(self.begun);
                self.phase = Phase::Sweeping { reaped, run, sweep: Sweep::begin(now) };
                return;
            }
            stubborn.remove(&child);
            process::reap(child);
        }
    }

    fn meet_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match (&self.phase, self.timeout) {
            (Phase::Live, Some(timeout)) => self.stop(Stop::Timeout(timeout), now, Duration::MAX),
            (Phase::Stopping { .. }, _) => self.kill(),
            (Phase::Live, None) | (Phase::Killed | Phase::Sweeping { .. }, _) => {}
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.phase = Phase::Killed;
    }

    fn signal(&self, signal: Signal) {
        process::signal_group(self.leader, signal);
    }
}
