//! What ended an attempt badly, or kept a job from running.

use std::fmt;

/// Why an attempt, or a job that never ran, ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The worker said so.
    Error,
    /// A command's exit status.
    Exit,
    /// A command's signal.
    Signal,
    /// The attempt took longer than its limit.
    Timeout,
    /// The worker died on it.
    Crash,
    /// Delivered ten times to workers that left without an answer.
    Lost,
    /// A command that cannot be executed.
    Start,
    /// A job that it waited for failed or was cancelled.
    Dependency,
    /// Somebody cancelled it.
    Cancelled,
}

impl Cause {
    pub const ALL: [Cause; 9] = [
        Cause::Error,
        Cause::Exit,
        Cause::Signal,
        Cause::Timeout,
        Cause::Crash,
        Cause::Lost,
        Cause::Start,
        Cause::Dependency,
        Cause::Cancelled,
    ];

    /// The word for it in code, messages, manuals and JSON alike.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Error => "error",
            Cause::Exit => "exit",
            Cause::Signal => "signal",
            Cause::Timeout => "timeout",
            Cause::Crash => "crash",
            Cause::Lost => "lost",
            Cause::Start => "start",
            Cause::Dependency => "dependency",
            Cause::Cancelled => "cancelled",
        }
    }

    /// The cause that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
