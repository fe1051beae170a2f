//! The bench on which cases work: a reaper, its signals, and workers with pipes to read from.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pushpull::model::{Generation, Mono, PoolName, WorkerName};
use pushpull::shell::child::{Child, PidFd};
use pushpull::shell::output::{Output, ReadState};
use pushpull::shell::program::{Limits, Program, SpawnError};
use pushpull::shell::reaper::{Ended, Reaper, Settle};
use pushpull::shell::signals::Signals;
use pushpull::shell::tree::Process;
use std::os::fd::{AsFd, BorrowedFd};

/// What the workers of a case have in `PUSHPULL_DAEMON`; no other process has it.
pub fn mark() -> String {
    mark_of(std::process::id())
}

/// The same of another process that is not reaped yet. Pids come again, start times do not.
pub fn mark_of(pid: u32) -> String {
    let process = Process::find(pid.try_into().expect("pids are small")).expect("it is not reaped yet");
    format!("process-test-{pid}-{}", process.started)
}

pub struct Bench {
    pub reaper: Reaper,
    signals: Signals,
    generation: u64,
}

/// A worker and what it prints.
pub struct Worker {
    pub child: Child,
    output: Output,
    lines: Vec<String>,
    closed: bool,
}

impl Bench {
    pub fn new() -> Bench {
        let signals = Signals::new().expect("signals can be taken over");
        let reaper = Reaper::new(&mark()).expect("this kernel has subreapers");
        Bench { reaper, signals, generation: 0 }
    }

    /// A program with nothing special, run by a shell.
    pub fn shell(&mut self, script: &str) -> Program {
        self.program(&["/bin/sh", "-c", script])
    }

    pub fn program(&mut self, argv: &[&str]) -> Program {
        self.generation += 1;
        let path = std::env::var_os("PATH").expect("a path to find sleep and setsid on");
        Program {
            name: WorkerName { pool: PoolName::default(), slot: 0, generation: Generation(self.generation) },
            argv: argv.iter().map(Into::into).collect(),
            env: vec![("PATH".into(), path)],
            directory: None,
            umask: None,
            nice: None,
            limits: Limits::default(),
            account: None,
            death_signal: libc::SIGKILL,
        }
    }

    pub fn try_start(&mut self, program: &Program) -> Result<Worker, SpawnError> {
        let (output, writer) = Output::new().expect("a pipe");
        let other = writer.try_clone().expect("a descriptor");
        let child = self.reaper.spawn(program, writer, other)?;
        Ok(Worker { child, output, lines: Vec::new(), closed: false })
    }

    pub fn start(&mut self, program: &Program) -> Worker {
        self.try_start(program).expect("the program starts")
    }

    pub fn start_shell(&mut self, script: &str) -> Worker {
        let program = self.shell(script);
        self.start(&program)
    }

    /// Waits for the worker's end and settles it, as the loop does.
    pub fn settle(&mut self, worker: &mut Worker) -> Ended {
        await_readable(worker.child.as_fd());
        loop {
            match self.reaper.settle(&mut worker.child) {
                Settle::Done(ended) => return ended,
                Settle::Pending { .. } => self.await_child(),
            }
        }
    }

    /// Runs a shell script to its end; returns that and what it printed.
    pub fn run(&mut self, program: &Program) -> (Ended, Vec<String>) {
        let mut worker = self.start(program);
        let ended = self.settle(&mut worker);
        (ended, worker.rest())
    }

    /// Waits for SIGCHLD, or as long as the loop would before it asks again.
    pub fn await_child(&mut self) {
        let mut entry = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // An interruption is the signal that is waited for.
        let _ = poll(&mut entry, PollTimeout::from(10_u8));
        self.signals.pending();
    }
}

impl Worker {
    /// The next line that it prints; waits for it.
    pub fn line(&mut self) -> String {
        while self.lines.is_empty() {
            assert!(!self.closed, "the worker printed less than expected");
            self.read();
        }
        self.lines.remove(0)
    }

    /// All that is left to read until nobody has the pipe any more: then every process that inherited it is gone.
    pub fn rest(&mut self) -> Vec<String> {
        while !self.closed {
            self.read();
        }
        self.output.finish(Mono(0), &mut |line| self.lines.push(String::from_utf8_lossy(line).into_owned()));
        std::mem::take(&mut self.lines)
    }

    /// Whether nobody holds the worker's output any more, without waiting for it.
    pub fn is_closed_now(&mut self) -> bool {
        loop {
            match self.output.read_some(Mono(0), &mut |_| ()).expect("the pipe is ours") {
                ReadState::More => {}
                state => return state == ReadState::Closed,
            }
        }
    }

    fn read(&mut self) {
        await_readable(self.output.as_fd());
        let state = self
            .output
            .read_some(Mono(0), &mut |line| self.lines.push(String::from_utf8_lossy(line).into_owned()));
        self.closed = state.expect("the pipe is ours") == ReadState::Closed;
    }
}

/// The children of this process.
pub fn own_children() -> Vec<i32> {
    pushpull::shell::tree::children(nix::unistd::getpid().as_raw()).expect("/proc is there")
}

/// Waits until `descriptor` has something to say; signals do not end the wait.
pub fn await_readable(descriptor: BorrowedFd<'_>) {
    let mut entry = [PollFd::new(descriptor, PollFlags::POLLIN)];
    while poll(&mut entry, PollTimeout::NONE) == Err(nix::Error::EINTR) {}
}

/// A process that printed its pid, held.
pub fn watch(pid: &str) -> PidFd {
    PidFd::open(pid.parse().expect("a pid")).expect("it runs")
}

/// Whether the process has ended.
pub fn is_over(process: &PidFd) -> bool {
    let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut entry, PollTimeout::ZERO).expect("no signal interrupts a poll that does not wait") > 0
}
