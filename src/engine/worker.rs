//! One worker process and the slot that it fills.
//!
//! ```text
//!     Vacant -> Starting -> Ready (idle or busy) -> Draining -> Stopping -> Killing -> (exit) -> Vacant | Backoff
//!                                                                              \-> Stuck (three SIGKILLs)
//! ```
//!
//! The complete picture: a process may end in any phase. Every phase but `Ready` owns a deadline. Every stop
//! carries an [`Intent`], set before the first signal; an exit without one counts against the slot.

use super::credit::Credit;
use crate::config::PoolSettings;
use crate::model::{Exit, Generation, Job, JobId, Mono, Now, Standing, Wall, WorkerName};
use std::collections::VecDeque;
use std::sync::Arc;

/// A stable place in a pool.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) state: SlotState,
    /// Processes started here after the first.
    pub(super) restarts: u64,
    /// Unasked ends in a row without a stable worker in between.
    pub(super) failures: u32,
    pub(super) last_exit: Option<(Exit, Wall)>,
    /// Its worker is being replaced by plan, and the successor is not ready yet.
    pub(super) replacing: bool,
}

/// Who fills a slot.
#[derive(Debug, Default)]
pub(super) enum SlotState {
    /// Nobody, and nobody is wanted or may start yet.
    #[default]
    Vacant,
    /// Nobody until the slot's timer fires.
    Backoff,
    /// Nobody until the pool's breaker lets it go.
    Held,
    /// Nobody any more: its worker ended, and `restart` is "never".
    Retired,
    Filled(Box<Process>),
}

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Started, not yet ready; killed at the deadline.
    Starting {
        until: Mono,
    },
    Ready,
    /// Gets no more jobs and finishes those that it holds.
    Draining {
        until: Option<Mono>,
    },
    /// Has got its stop signal; killed at the deadline.
    Stopping {
        until: Mono,
    },
    /// Has got so many SIGKILLs; the next follows at the deadline.
    Killing {
        until: Mono,
        kills: u32,
    },
    /// No SIGKILL ends it; they go on.
    Stuck {
        until: Mono,
    },
}

/// Why the daemon stops a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// The daemon stops.
    Shutdown,
    /// The pool has more workers than it is to have.
    Scale,
    /// It has reached its age, its number of jobs or its memory.
    Recycle,
    /// Its pool's settings have changed, or the pool is gone.
    Reload,
    /// Somebody wants it replaced.
    Admin,
    /// It says nothing. This charges like a crash.
    Hung,
    /// It was not ready in time. This counts against the slot.
    StartTimeout,
    /// This job took longer than its limit.
    Timeout(JobId),
    /// Its oldest job has been cancelled.
    Cancel,
    /// It sent a frame of so many bytes. Nobody asked for this end: it is charged as a crash.
    TooLarge(usize),
}

impl Intent {
    /// For the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Intent::Shutdown => "the daemon stops",
            Intent::Scale => "the pool is made smaller",
            Intent::Recycle => "it has reached its limit",
            Intent::Reload => "the configuration has changed",
            Intent::Admin => "it is restarted",
            Intent::Hung => "it hangs",
            Intent::StartTimeout => "it was not ready in time",
            Intent::Timeout(_) => "its job took too long",
            Intent::Cancel => "its job was cancelled",
            Intent::TooLarge(_) => "it sent a frame that is too large",
        }
    }
}

/// A living worker.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: WorkerName,
    /// What it was started with.
    pub(super) settings: Arc<PoolSettings>,
    /// Known once it has been spawned.
    pub(super) pid: Option<u32>,
    pub(super) phase: Phase,
    pub(super) intent: Option<Intent>,
    /// This process of its making, or it itself, outlives every SIGKILL: its jobs were given back.
    pub(super) survivor: Option<u32>,
    /// It is to be replaced, for this reason, when its turn comes.
    pub(super) replace: Option<Intent>,
    /// Answers after which it is replaced.
    pub(super) answers_max: Option<u64>,
    /// When it last said something, or became busy.
    pub(super) heard: Mono,
    pub(super) born: Mono,
    pub(super) ready_at: Option<Mono>,
    /// Unanswered jobs in the order in which they were sent.
    pub(super) held: VecDeque<Held>,
    pub(super) held_bytes: usize,
    /// When the oldest of these became the oldest.
    pub(super) oldest_since: Now,
    pub(super) credit: Credit,
    pub(super) answered: u64,
    /// What it said wrong, in messages.
    pub(super) complaints: u64,
}

/// A job that a worker holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) job: Arc<Job>,
    /// As it stood when it was sent.
    pub(super) standing: Standing,
    /// The job ended elsewhere, or was cancelled: the answer will not count.
    pub(super) void: bool,
}

impl Process {
    pub(super) fn generation(&self) -> Generation {
        self.name.generation
    }

    /// Whether nothing may be sent behind what it holds.
    pub(super) fn is_solo(&self) -> bool {
        self.held.front().is_some_and(|held| held.standing.alone)
    }

    /// Whether it holds a job that has crashed a worker before.
    pub(super) fn holds_charged(&self) -> bool {
        self.held.front().is_some_and(|held| held.standing.crashes > 0)
    }

    /// The word for its state in replies.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Starting { .. } => "starting",
            Phase::Ready if self.held.is_empty() => "idle",
            Phase::Ready => "busy",
            Phase::Draining { .. } => "draining",
            Phase::Stopping { .. } => "stopping",
            Phase::Killing { .. } => "killing",
            Phase::Stuck { .. } => "stuck",
        }
    }
}

impl Slot {
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.state {
            SlotState::Vacant | SlotState::Backoff | SlotState::Held | SlotState::Retired => None,
            SlotState::Filled(process) => Some(process),
        }
    }

    /// Whether it is not expected to have a worker again soon: it stays empty, or what fills it cannot be ended.
    pub(super) fn is_lost(&self) -> bool {
        match &self.state {
            SlotState::Retired => true,
            SlotState::Filled(process) => process.survivor.is_some(),
            SlotState::Vacant | SlotState::Backoff | SlotState::Held => false,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            SlotState::Vacant | SlotState::Backoff | SlotState::Held | SlotState::Retired => None,
            SlotState::Filled(process) => Some(process),
        }
    }
}
