//! How many jobs stand in each state.

use super::State;
use std::ops::{Index, IndexMut};

/// Jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; 7]);

impl Counts {
    /// All jobs counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Jobs without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        State::ALL.into_iter().filter(|state| !state.is_finished()).map(|state| self[state]).sum()
    }

    /// Jobs with an outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.total() - self.unfinished()
    }

    /// Adds `other` state by state.
    pub fn add(&mut self, other: &Counts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl Index<State> for Counts {
    type Output = u64;

    fn index(&self, state: State) -> &u64 {
        &self.0[state as usize]
    }
}

impl IndexMut<State> for Counts {
    fn index_mut(&mut self, state: State) -> &mut u64 {
        &mut self.0[state as usize]
    }
}
