//! Invented worker processes: each runs its jobs in order and may die at any moment.

use pushpull::model::{Generation, JobId};
use std::collections::VecDeque;
use std::time::Duration;

/// How a process speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// The built-in worker: it enforces time limits, and is told of cancels.
    BuiltIn,
    /// Its answers name their jobs.
    Named,
    /// Its answers name no job and come in order.
    Nameless,
}

/// A job that has arrived at its worker.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub id: JobId,
    pub tag: u64,
    /// For the built-in worker, which enforces it.
    pub limit: Option<Duration>,
}

/// A process of the world.
#[derive(Clone, Debug)]
pub struct Process {
    pub generation: Generation,
    /// Its pool's place in the configuration.
    pub pool: usize,
    pub tongue: Tongue,
    /// What it has not done yet; it runs the first.
    pub queue: VecDeque<Task>,
    pub running: bool,
    /// Counts what it began, so that nothing stale ends its job.
    pub turn: u64,
    pub alive: bool,
    /// It takes no notice of its stop signal.
    pub stubborn: bool,
    /// It takes jobs and never answers.
    pub mute: bool,
    /// When its last job arrives: one socket keeps the order.
    pub last_arrival: u64,
    /// The same for its answers, if their order matters.
    pub last_answer: u64,
}

impl Process {
    pub fn new(generation: Generation, pool: usize, tongue: Tongue) -> Process {
        Process {
            generation,
            pool,
            tongue,
            queue: VecDeque::new(),
            running: false,
            turn: 0,
            alive: true,
            stubborn: false,
            mute: false,
            last_arrival: 0,
            last_answer: 0,
        }
    }
}
