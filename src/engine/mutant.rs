//! One-line bugs, switched on to show that the simulator's oracles can fail.
//!
//! They exist only under the feature `mutants`, and there only on the thread that switches one on.

/// A bug that an oracle must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A submit is acknowledged when it is handed to the store, not when it is durable.
    AcknowledgeEarly,
    /// The jobs of a dead worker are forgotten.
    DropWindow,
    /// A job stays in the window after it was sent.
    KeepInWindow,
    /// A slot whose worker died is not filled again.
    LeaveSlotEmpty,
    /// A worker that dies with several jobs is blamed on the oldest.
    BlameOldest,
    /// A planned stop is charged like a crash.
    ChargeStops,
    /// A crash charge is not waited for before the job is sent again.
    ResendEarly,
    /// A job that is to go alone is sent to a busy worker.
    ForgetAlone,
    /// A job whose outcome is recorded is run again.
    RunAgain,
    /// A late success is dropped.
    DropLate,
    /// A late error counts.
    CountLateErrors,
    /// Jobs are started in the order of their arrival alone.
    IgnorePriority,
}

impl Mutant {
    pub const ALL: [Mutant; 12] = [
        Mutant::AcknowledgeEarly,
        Mutant::DropWindow,
        Mutant::KeepInWindow,
        Mutant::LeaveSlotEmpty,
        Mutant::BlameOldest,
        Mutant::ChargeStops,
        Mutant::ResendEarly,
        Mutant::ForgetAlone,
        Mutant::RunAgain,
        Mutant::DropLate,
        Mutant::CountLateErrors,
        Mutant::IgnorePriority,
    ];

    /// Switches `mutant` on for this thread, or all off.
    #[cfg(feature = "mutants")]
    pub fn switch(mutant: Option<Mutant>) {
        ON.with(|on| on.set(mutant));
    }

    #[cfg(feature = "mutants")]
    pub(super) fn is_on(self) -> bool {
        ON.with(|on| on.get() == Some(self))
    }

    #[cfg(not(feature = "mutants"))]
    #[inline]
    #[expect(clippy::unused_self, reason = "the other build looks at it")]
    pub(super) const fn is_on(self) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}
