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
    /// A wait is answered a second time.
    ReplyTwice,
    /// A wait whose time is over while the store is asked is never answered.
    ForgetReply,
    /// A job whose outcome is on its way is shown as finished.
    TellEarly,
    /// A state that jobs have left still counts them.
    MiscountMoves,
    /// A cancel is acknowledged although its outcomes are not durable.
    AcknowledgeCancelEarly,
    /// A remove is acknowledged and never written.
    AcknowledgeRemove,
    /// A retried job is sent while a worker is still at its last round.
    RunTwice,
    /// A late answer from an earlier round counts in the next.
    MixRounds,
    /// Ends of jobs are not passed on to those that wait for them.
    NeverRelease,
    /// Delayed jobs are queued an hour too soon.
    PromoteEarly,
    /// Delays go by the wall clock, also when it is set.
    DelayByWall,
    /// The first pause before a retry is doubled.
    LongBackoff,
    /// An error is retried although the worker said that this makes no sense.
    RetryHopeless,
    /// The last further attempt is left out.
    RetryOnceLess,
    /// A job may crash once more than `max_crashes` says.
    CrashOnceMore,
    /// The evidence of a crash lacks the last output.
    ForgetWords,
    /// A worker that is stopped for one job charges all that it holds.
    TimeoutChargesAll,
    /// No job has a limit.
    ForgetTimeouts,
    /// A job's time runs from its worker's start.
    HurryTimeouts,
    /// Jobs of a paused pool are sent.
    IgnorePause,
    /// Jobs are sent by a daemon that stops.
    SendStopping,
    /// Jobs are sent while outcomes cannot be written.
    SendUnwritable,
    /// A daemon that drains takes submits.
    SubmitDraining,
    /// A submit whose client is silent is kept for ever.
    KeepSilent,
    /// The jobs of a chunk are visible before the last chunk.
    RevealEarly,
    /// A submit that is repeated is another submit.
    ForgetKey,
    /// Another submit under a known key gets the first one's reply.
    IgnoreConflict,
    /// Suspects may fill a pool.
    SuspectsEverywhere,
    /// Fetches bring twice as many jobs as the window holds.
    FetchTwice,
    /// A job is delivered once more than it may be lost.
    NeverLost,
    /// A worker gets one job more than its credit.
    ExceedCredit,
    /// The busiest worker gets the next job.
    FillOne,
    /// Generations are used and the store does not know it.
    ReuseGenerations,
    /// Workers get jobs that they cannot run.
    RunUnsuited,
}

impl Mutant {
    pub const ALL: [Mutant; 46] = [
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
        Mutant::ReplyTwice,
        Mutant::ForgetReply,
        Mutant::TellEarly,
        Mutant::MiscountMoves,
        Mutant::AcknowledgeCancelEarly,
        Mutant::AcknowledgeRemove,
        Mutant::RunTwice,
        Mutant::MixRounds,
        Mutant::NeverRelease,
        Mutant::PromoteEarly,
        Mutant::DelayByWall,
        Mutant::LongBackoff,
        Mutant::RetryHopeless,
        Mutant::RetryOnceLess,
        Mutant::CrashOnceMore,
        Mutant::ForgetWords,
        Mutant::TimeoutChargesAll,
        Mutant::ForgetTimeouts,
        Mutant::HurryTimeouts,
        Mutant::IgnorePause,
        Mutant::SendStopping,
        Mutant::SendUnwritable,
        Mutant::SubmitDraining,
        Mutant::KeepSilent,
        Mutant::RevealEarly,
        Mutant::ForgetKey,
        Mutant::IgnoreConflict,
        Mutant::SuspectsEverywhere,
        Mutant::FetchTwice,
        Mutant::NeverLost,
        Mutant::ExceedCredit,
        Mutant::FillOne,
        Mutant::ReuseGenerations,
        Mutant::RunUnsuited,
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
