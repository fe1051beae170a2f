//! What can happen, and what then follows.

use super::World;
use super::asking::Asking;
use super::lives::Stop;
use crate::workers::Task;
use pushpull::engine::{Event, Ticket};
use pushpull::model::JobId;
use pushpull::model::{Exit, Generation, Query, StoreError};
use pushpull::wire::pipeline::Report;

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Happening {
    Spawned(Generation),
    SpawnFails(Generation),
    Ready(Generation),
    JobArrives(Generation, Task),
    /// The built-in worker is told to let go of a job.
    CancelArrives(Generation, JobId),
    /// The worker has done what it began in this turn; or the built-in worker has run out of patience.
    JobEnds(Generation, u64),
    AnswerArrives(Generation, Report),
    /// A worker answers for a job that it does not hold.
    StrangeAnswer(Generation),
    /// A worker says what is no report, or something that is no answer.
    Chatter(Generation),
    /// Somebody kills this worker.
    Dies(Generation),
    /// The process is gone; the daemon has read what there was to read.
    ExitSeen(Generation, Exit),
    StopSignalArrives(Generation),
    /// The commit under way is durable, and nobody knows yet.
    DiskSyncs,
    DiskDone,
    /// The second thread takes up a question.
    QuestionRead(Ticket, Query),
    QuestionTold(Event),
    ClientSends(usize, u64),
    Ask(Asking),
    /// Somebody kills a worker.
    Murder,
    DaemonCrashes,
    DaemonStops(Stop),
    DaemonStarts,
    DiskBreaks(StoreError),
    DiskHeals,
    /// The wall clock is set by so many milliseconds.
    ClockSteps(i64),
    Deadline,
}

impl Happening {
    /// Whether it goes on while no daemon runs.
    pub fn is_outside(&self) -> bool {
        match self {
            Happening::ClientSends(..)
            | Happening::Ask(_)
            | Happening::Murder
            | Happening::DaemonCrashes
            | Happening::DaemonStops(_)
            | Happening::DiskBreaks(_)
            | Happening::DiskHeals
            | Happening::ClockSteps(_) => true,
            Happening::Spawned(_)
            | Happening::SpawnFails(_)
            | Happening::Ready(_)
            | Happening::JobArrives(..)
            | Happening::CancelArrives(..)
            | Happening::JobEnds(..)
            | Happening::AnswerArrives(..)
            | Happening::StrangeAnswer(_)
            | Happening::Chatter(_)
            | Happening::Dies(_)
            | Happening::ExitSeen(..)
            | Happening::StopSignalArrives(_)
            | Happening::DiskSyncs
            | Happening::DiskDone
            | Happening::QuestionRead(..)
            | Happening::QuestionTold(_)
            | Happening::DaemonStarts
            | Happening::Deadline => false,
        }
    }
}

impl World {
    pub(super) fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Spawned(worker) => self.step(Event::Spawned { worker, pid: worker.0 as u32 }),
            Happening::SpawnFails(worker) => {
                self.oracles.crew.on_spawn_failed(worker);
                self.step(Event::SpawnFailed { worker, error: "cannot execute worker".to_owned() })
            }
            Happening::Ready(worker) => self.become_ready(worker),
            Happening::JobArrives(worker, task) => {
                self.take_job(worker, task);
                Ok(())
            }
            Happening::CancelArrives(worker, id) => {
                self.let_go(worker, id);
                Ok(())
            }
            Happening::JobEnds(worker, turn) => {
                self.end_job(worker, turn);
                Ok(())
            }
            Happening::AnswerArrives(worker, report) => self.hear_worker(worker, report),
            Happening::StrangeAnswer(worker) => self.answer_strangely(worker),
            Happening::Chatter(worker) => self.chatter(worker),
            Happening::Dies(worker) => {
                self.kill(worker, Exit::Signal(9));
                Ok(())
            }
            Happening::ExitSeen(worker, exit) => self.see_exit(worker, exit),
            Happening::StopSignalArrives(worker) => {
                self.take_stop_signal(worker);
                Ok(())
            }
            Happening::DiskSyncs => self.sync_disk(),
            Happening::DiskDone => self.end_commit(),
            Happening::QuestionRead(ticket, query) => {
                let result = self.disk.answer(&query);
                let told = Event::Answered { ticket, result };
                let travel = self.draw_commit_time();
                self.later(travel, Happening::QuestionTold(told));
                Ok(())
            }
            Happening::QuestionTold(event) => self.step(event),
            Happening::ClientSends(number, turn) => self.send_submit(number, turn),
            Happening::Ask(asking) => self.ask(asking),
            Happening::Murder => {
                self.murder();
                Ok(())
            }
            Happening::DaemonCrashes if self.faults => self.crash(),
            Happening::DaemonStops(stop) if self.faults => self.stop(stop),
            Happening::DaemonStarts => self.start_again(),
            Happening::DiskBreaks(error) if self.faults => {
                self.disk.broken = Some(error);
                self.disk.was_broken = true;
                Ok(())
            }
            Happening::ClockSteps(by) if self.faults => {
                self.wall_offset += by;
                Ok(())
            }
            Happening::DaemonCrashes
            | Happening::DaemonStops(_)
            | Happening::DiskBreaks(_)
            | Happening::ClockSteps(_) => Ok(()),
            Happening::DiskHeals => {
                self.disk.broken = None;
                Ok(())
            }
            Happening::Deadline => {
                if self.left.is_none() && self.engine.next_deadline().is_some_and(|at| at.0 <= self.now) {
                    self.step(Event::Tick)?;
                }
                Ok(())
            }
        }
    }
}
