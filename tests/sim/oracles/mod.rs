//! One oracle per promise. They keep ledgers of their own and never ask the engine what it thinks; what is durable
//! they see at the disk, before the engine hears of it.
//!
//! | rule | oracle | mutants |
//! |---|---|---|
//! | **accepted means durable** | | |
//! | an acknowledged submit is kept, job by job | `submits`, `check_end` | `AcknowledgeEarly` |
//! | repeated, it is the same batch; something else under its key is refused | `submits` | `ForgetKey`, `IgnoreConflict` |
//! | nothing of an unfinished submit is visible or sent, and it is forgotten | `jobs`, `check_forgotten` | `RevealEarly`, `KeepSilent` |
//! | a daemon that drains takes no submit | `submits` | `SubmitDraining` |
//! | an acknowledged cancel, retry, remove has happened, and a retry opens one round | `check_act` | `AcknowledgeCancelEarly`, `AcknowledgeRemove` |
//! | no outcome is told before it is durable; results tell all | `check_told`, `has_followed` | `TellEarly` |
//! | every request gets one reply, in time, also when the daemon leaves | `desk` | `ReplyTwice`, `ForgetReply` |
//! | **death is known from the kernel, never from a lease** | | |
//! | no job is sent while a living worker is at it, in whatever round | `check_state` | `KeepInWindow`, `RunTwice` |
//! | a worker is stopped for a reason only | `on_hit` | `HurryTimeouts` |
//! | a dead worker's jobs go on, its slot is filled, no generation comes twice | `check_step`, `peace`, `on_effect` | `DropWindow`, `LeaveSlotEmpty`, `ReuseGenerations` |
//! | **exact accounting** | | |
//! | counters say what the store says, the audit finds nothing | `check_status`, `check_reply` | `MiscountMoves` |
//! | each job ends as its plan allows, with its own result, once | `check_end`, `check_success`, `check_state` | `RunAgain` |
//! | a late success counts, a late error and an answer from another round do not | `on_report` | `DropLate`, `CountLateErrors`, `MixRounds` |
//! | answers twice, or for jobs that their worker does not hold, change nothing | `crew` | `CountLateErrors`, `MixRounds` |
//! | **one bad job takes nobody down** | | |
//! | a charge needs a reason: only who was alone with a worker that died unasked is charged | `crew`, `ends` | `BlameOldest`, `ChargeStops` |
//! | a time limit charges that job and no other, and each is enforced | `crew`, `ends`, `peace` | `TimeoutChargesAll`, `ForgetTimeouts` |
//! | who goes alone goes alone | `check_worker` | `ForgetAlone` |
//! | suspects fill half of a pool at most | `check_suspects` | `SuspectsEverywhere` |
//! | a crash charge is durable before the job is sent again | `check_state` | `ResendEarly` |
//! | at `max_crashes` a job fails, with its worker's last words | `ends` | `CrashOnceMore`, `ForgetWords` |
//! | ten deliveries without an answer are `lost` | `on_exit` | `NeverLost` |
//! | `attempts - crashes <= retries`; `retry: false` ends at once | `ends` | `RetryOnceLess`, `RetryHopeless` |
//! | a backoff doubles, within a fifth | `check_charge` | `LongBackoff` |
//! | **delays** go by the clock that nobody sets, and are never longer after a restart | `clocks` | `PromoteEarly`, `DelayByWall` |
//! | **order**: better jobs first, successors after their predecessors' success, or cancelled | `better`, `check_state`, `check_dependency` | `IgnorePriority`, `NeverRelease` |
//! | **pauses and stops**: nothing is sent to a paused pool, by a daemon that stops, or while outcomes cannot be written | `check_daemon` | `IgnorePause`, `SendStopping`, `SendUnwritable` |
//! | workers get what they can run, within their credit, evenly | `on_send`, `check_worker`, `check_share` | `RunUnsuited`, `ExceedCredit`, `FillOne` |
//! | **the backlog costs disk, not memory** | `window` | `FetchTwice` |

mod clocks;
mod crew;
mod desk;
mod ending;
mod ends;
mod jobs;
mod pauses;
mod replies;
mod sends;
mod submits;
mod window;

pub use desk::Asked;

use crate::clients::Submit;
use crate::disk::Disk;
use crate::plan::Plans;
use clocks::Clocks;
use crew::Crew;
use desk::Desk;
use jobs::Jobs;
use pauses::Pauses;
use pushpull::config::{Config, PoolSettings};
use pushpull::engine::{Client, Effect, Event, ToWorker};
use pushpull::model::{Applied, Exit, Generation, Job, Now, PoolName, Record};
use pushpull::wire::pipeline::Report;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::Request;
use submits::Submits;
use window::Window;

/// What oracles may look at.
pub struct Seen<'a> {
    pub now: Now,
    pub config: &'a Config,
    pub plans: &'a Plans,
    pub submits: &'a [Submit],
    pub disk: &'a mut Disk,
}

impl Seen<'_> {
    fn pool(&self, name: &PoolName) -> Option<&PoolSettings> {
        self.config.pools.iter().find(|pool| pool.name == *name)
    }

    /// The settings of a job's pool if that can run it.
    fn home(&self, job: &Job) -> Option<&PoolSettings> {
        self.pool(&job.pool).filter(|pool| pool.can_run(&job.work))
    }
}

pub struct Oracles {
    clocks: Clocks,
    pub crew: Crew,
    pub desk: Desk,
    jobs: Jobs,
    pub pauses: Pauses,
    pub submits: Submits,
    window: Window,
    /// Every generation up to this one has been used.
    generation: Generation,
}

impl Oracles {
    pub fn new(now: Now) -> Oracles {
        Oracles {
            clocks: Clocks::new(now),
            crew: Crew::default(),
            desk: Desk::default(),
            jobs: Jobs::default(),
            pauses: Pauses::default(),
            submits: Submits::default(),
            window: Window::default(),
            generation: Generation(0),
        }
    }

    /// The engine wants something done.
    pub fn on_effect(&mut self, effect: &Effect, seen: &mut Seen) -> Result<(), String> {
        match effect {
            Effect::Send { worker, message: ToWorker::Job { job, attempt, timeout } } => {
                self.on_send(*worker, job, *attempt, *timeout, seen)
            }
            Effect::Send { worker, message: ToWorker::Cancel(id) } => self.crew.on_let_go(*worker, *id),
            Effect::Write { ticket, record } => self.on_write(*ticket, record, seen),
            Effect::Spawn(name) => {
                if name.generation <= self.generation {
                    return Err(format!("generation {} is used again", name.generation.0));
                }
                self.generation = name.generation;
                self.crew.on_spawn(name, seen.now);
                Ok(())
            }
            Effect::Kill { worker, .. } => self.crew.on_hit(*worker, &self.pauses, &self.jobs, seen),
            Effect::Forget(worker) => {
                self.crew.on_forget(*worker);
                Ok(())
            }
            Effect::Rewind(jobs) => {
                for job in jobs {
                    self.window.on_gone(job.id);
                    self.crew.on_left_memory(job.id);
                }
                Ok(())
            }
            Effect::Exit(_) => self.desk.on_exit(),
            Effect::Measure(_)
            | Effect::Fetch(_)
            | Effect::Query { .. }
            | Effect::Reply { .. }
            | Effect::Log { .. }
            | Effect::BeginAnew(_)
            | Effect::ReadConfig { .. }
            | Effect::Configure(_)
            | Effect::Logs { .. } => Ok(()),
        }
    }

    /// A worker says something; the engine hears it next.
    pub fn on_report(&mut self, worker: Generation, report: &Report, seen: &mut Seen) {
        self.crew.on_report(worker, report, &self.jobs, seen);
    }

    /// A worker is gone; the engine hears it next.
    pub fn on_exit(&mut self, worker: Generation, exit: Exit) {
        self.crew.on_exit(worker, exit, self.pauses.stopping);
        self.jobs.alone.extend(self.crew.scattered.drain(..));
    }

    pub fn on_request(&mut self, client: Client, asked: Asked, request: &Request, seen: &mut Seen) {
        self.pauses.on_request(client, &asked, seen.config);
        let refuses = self.pauses.draining || self.pauses.stopping;
        let newest = self.jobs.tags.keys().next_back().copied().unwrap_or_default();
        self.desk.on_request(client, asked, request, refuses, newest, seen.now);
    }

    /// A reply: what it was asked for.
    pub fn on_reply(&mut self, client: Client, reply: &Reply, seen: &mut Seen) -> Result<Asked, String> {
        let open = self.desk.take(client, reply)?;
        self.pauses.on_reply(client, reply);
        self.submits.on_reply(&open, reply, &self.jobs, &self.pauses, seen)?;
        self.desk.check_reply(&open, reply, &self.jobs, &self.crew, seen)?;
        Ok(open.asked)
    }

    /// A record has become durable, whether the engine hears of it or not.
    pub fn on_durable(&mut self, record: &Record, applied: &Applied, seen: &mut Seen) -> Result<(), String> {
        self.jobs.on_durable(record, applied, seen)?;
        self.clocks.on_durable(record, applied, seen);
        Ok(())
    }

    /// The storekeeper tells the engine what it has done.
    pub fn on_told(&mut self, event: &Event, seen: &mut Seen) {
        self.jobs.on_told(event, seen);
        self.window.on_told(event, &self.jobs, &self.crew, seen);
    }

    /// A daemon starts on what the last one has left.
    pub fn on_boot(&mut self, seen: &mut Seen) -> Result<(), String> {
        self.crew.on_boot();
        self.desk.on_boot();
        self.pauses.on_boot();
        self.window.on_boot();
        self.jobs.on_boot(seen);
        self.clocks.on_boot(seen)
    }
}
