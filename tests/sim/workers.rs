//! Invented worker processes: each runs its jobs in order and may die at any moment.

use pushpull::model::{Generation, JobId};
use std::collections::VecDeque;

/// A process of the world.
#[derive(Clone, Debug)]
pub struct Process {
    pub generation: Generation,
    /// Jobs that have arrived: id and the number in the data.
    pub queue: VecDeque<(JobId, u64)>,
    pub running: bool,
    pub alive: bool,
    /// It takes no notice of its stop signal.
    pub stubborn: bool,
    /// The daemon has signalled it.
    pub was_hit: bool,
}

impl Process {
    pub fn new(generation: Generation, stubborn: bool) -> Process {
        Process { generation, queue: VecDeque::new(), running: false, alive: true, stubborn, was_hit: false }
    }
}
