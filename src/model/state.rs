//! The states of a job.
//!
//! ```text
//!                 submit              fetch+credit            result
//!     (staged) --------> queued ---------------> running ----------------> succeeded
//!                          ^  ^                     | a bad end
//!               due or     |  '-- not charged,      |--- attempts left --> delayed --(due)--> queued
//!               unblocked  |      back to the front '--- none left ------> failed
//!     delayed, blocked ----'                  cancel, from any state ----> cancelled
//! ```

use std::fmt;

/// Where a job stands. `Running` lives in memory alone: on disk such a job is `Queued`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Queued,
    Delayed,
    Blocked,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    /// Every state, in the order in which people and replies list them.
    pub const ALL: [State; 7] = [
        State::Queued,
        State::Delayed,
        State::Blocked,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
    ];

    /// Whether the job has its outcome.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            State::Queued | State::Delayed | State::Blocked | State::Running => false,
            State::Succeeded | State::Failed | State::Cancelled => true,
        }
    }

    /// The word for it in code, messages, manuals and JSON alike.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delayed => "delayed",
            State::Blocked => "blocked",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// The state that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
