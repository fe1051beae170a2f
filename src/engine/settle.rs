//! What an answer or a worker's end means for its jobs.
//!
//! | end | charged |
//! |---|---|
//! | `error`, `exit`, `signal`, `start` | that job an attempt |
//! | `timeout` | that job an attempt; the worker's other jobs nothing |
//! | the worker ends unasked while it held one job | that job a crash; its attempts rise as well |
//! | the same while it held several | nobody: they go back to the front and are sent alone |
//! | the worker exits 0 unasked | nobody; a job that was the oldest in ten such windows fails with `lost` |
//! | a stop that the daemon wanted | nobody |
//!
//! Blame is exact because only a job that was alone with its worker is charged: a worker that dies with a deep
//! window has often answered jobs whose answers died with it.

use super::chance::doubling;
use super::event::{Death, Effects};
use super::mutant::Mutant;
use super::report::Verdict;
use super::timers::Timer;
use super::worker::{Held, Intent, Phase, Process, SlotState};
use super::write::Then;
use super::{Engine, Place, Seat};
use crate::config::{BACKOFF_MAX, COMPLAINTS_MAX, DELIVERIES_MAX, FRAME_BYTES_MAX, KILL_AGAIN, LATE_RESULTS};
use crate::model::{
    Attempt, AttemptPlace, BatchId, Cause, Charge, Exit, Generation, Job, JobId, Json, Now, Outcome,
    PoolName, Record, Standing, State, Wall, WorkerName,
};
use crate::wire::evidence;
use log::Level;
use std::sync::Arc;

/// A worker that is gone, while its last results may still come in.
#[derive(Debug)]
pub(super) struct Departed {
    pub(super) name: WorkerName,
    held: Vec<Held>,
    since: Wall,
    /// What it said wrong, in messages.
    pub(super) complaints: u64,
}

/// How a round ends.
pub(super) struct End {
    pub(super) state: State,
    pub(super) cause: Option<Cause>,
    pub(super) standing: Standing,
    pub(super) last: Option<AttemptPlace>,
    pub(super) error: Option<Box<str>>,
    pub(super) result: Option<Json>,
    pub(super) evidence: Option<Json>,
}

/// A bad end of an attempt.
struct Failure {
    cause: Cause,
    error: Option<Box<str>>,
    result: Option<Json>,
    evidence: Option<Json>,
    retry: bool,
}

impl Engine {
    /// A worker has answered for a job that it holds and that has no outcome.
    pub(super) fn settle_answer(
        &mut self,
        now: Now,
        held: &Held,
        name: &WorkerName,
        started: Wall,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let place = AttemptPlace { worker: name.clone(), started };
        let mut standing = held.standing;
        standing.attempts += 1;
        match verdict {
            Verdict::Success { data } => {
                if let Some(place) = self.pool_place(&held.job.pool) {
                    self.pools[place].breaker.on_success();
                }
                let end = End {
                    state: State::Succeeded,
                    cause: None,
                    standing,
                    last: Some(place),
                    error: None,
                    result: Some(data),
                    evidence: None,
                };
                self.finish(now, &held.job, end, effects);
            }
            Verdict::Failure { cause, error, detail, data, retry } => {
                let evidence = detail.map(|detail| evidence::detail(&detail));
                let failure = Failure { cause, error: Some(error), result: data, evidence, retry };
                self.fail_attempt(now, &held.job, standing, place, failure, effects);
            }
        }
    }

    /// An attempt failed: the job goes on while it has attempts left.
    fn fail_attempt(
        &mut self,
        now: Now,
        job: &Arc<Job>,
        standing: Standing,
        place: AttemptPlace,
        failure: Failure,
        effects: &mut Effects,
    ) {
        let (retries, backoff) = self.retry_policy(job);
        let tries = standing.attempts - standing.crashes + u32::from(Mutant::RetryOnceLess.is_on());
        if (failure.retry || Mutant::RetryHopeless.is_on()) && tries <= retries {
            let number = standing.attempts - standing.crashes + u32::from(Mutant::LongBackoff.is_on());
            let pause = self.chance.jitter(doubling(backoff, number, BACKOFF_MAX)).min(BACKOFF_MAX);
            let due = self.steady_wall(now) + pause;
            self.charge(now, job, standing, place, failure, Some(due), effects);
        } else {
            self.finish(now, job, failure.end(State::Failed, standing, place), effects);
        }
    }

    /// The job's own retries and backoff, else its pool's.
    fn retry_policy(&self, job: &Job) -> (u32, std::time::Duration) {
        let pool = self.pool_place(&job.pool).map(|place| &self.pools[place].settings);
        let policy = job.policy.as_deref();
        let retries = policy.and_then(|policy| policy.retries).or(pool.map(|pool| pool.retries));
        let backoff = policy.and_then(|policy| policy.backoff).or(pool.map(|pool| pool.backoff));
        (retries.unwrap_or(0), backoff.unwrap_or(std::time::Duration::from_secs(1)))
    }

    /// Writes a charge down; the job goes on when that is durable.
    #[expect(clippy::too_many_arguments, reason = "each is one column of the charge")]
    fn charge(
        &mut self,
        now: Now,
        job: &Arc<Job>,
        standing: Standing,
        place: AttemptPlace,
        failure: Failure,
        due: Option<Wall>,
        effects: &mut Effects,
    ) {
        if let Some(live) = self.jobs.get_mut(&job.id) {
            live.place = Place::Charging;
            live.standing = standing;
        }
        self.count_failure(&job.pool, Some(failure.cause));
        let attempt = Attempt {
            place,
            // The pause is counted from here, by the same clock as its end.
            finished: if due.is_some() { self.steady_wall(now) } else { now.wall },
            cause: failure.cause,
            error: failure.error,
            result: failure.result,
            evidence: failure.evidence,
        };
        let charge = Charge {
            id: job.id,
            batch: job.batch,
            pool: job.pool.clone(),
            priority: job.priority,
            standing,
            attempt,
            due,
        };
        self.write(Record::Charge(charge), Then::Charged { id: job.id, delayed: due }, effects);
        if due.is_none() && Mutant::ResendEarly.is_on() {
            self.wait_again(job.id, standing, false);
        }
    }

    /// Writes a job's outcome down.
    pub(super) fn finish(&mut self, now: Now, job: &Arc<Job>, end: End, effects: &mut Effects) {
        if let Some(live) = self.jobs.get_mut(&job.id) {
            live.place = Place::Ending;
        }
        self.count_failure(&job.pool, end.cause);
        let round = end.standing.round;
        let outcome = end.outcome(now, job.id, job.batch, job.pool.clone());
        self.write(Record::Finish(outcome), Then::Finished { id: job.id, round }, effects);
    }

    /// The process and all that it started are gone.
    pub(super) fn on_exited(&mut self, now: Now, worker: Generation, death: &Death, effects: &mut Effects) {
        let Some(seat) = self.seats.remove(&worker) else {
            return;
        };
        let slot = &mut self.pools[seat.pool].slots[seat.slot as usize];
        let SlotState::Filled(mut process) = std::mem::take(&mut slot.state) else {
            return;
        };
        slot.last_exit = Some((death.exit, now.wall));
        self.pools[seat.pool].totals.worker_exits += 1;
        self.timers.clear(Timer::Slot(seat.pool, seat.slot));
        self.timers.clear(Timer::Oldest(worker));
        log_exit(&process, death, effects);
        let clean = death.exit == Exit::Status(0);
        let counts = Engine::counts_against_slot(&process, clean);
        for timer in [Timer::Age(worker), Timer::Watchdog(worker), Timer::Stable(worker)] {
            self.timers.clear(timer);
        }
        let held: Vec<Held> = process.held.iter().cloned().collect();
        self.settle_window(now, seat, &process, &held, death, effects);
        let departed = Departed {
            name: process.name.clone(),
            held,
            since: process.oldest_since.wall,
            complaints: process.complaints,
        };
        self.late.insert(worker, departed);
        self.timers.set(Timer::Late(worker), now.mono + LATE_RESULTS);
        process.held.clear();
        if Mutant::LeaveSlotEmpty.is_on() && counts {
            return;
        }
        let is_bad = counts || (process.intent.is_none() && !(clean && process.answered > 0));
        self.refill(now, seat, &process, counts, is_bad, effects);
        self.dirty.insert(seat.pool);
    }

    /// Something of this worker's making outlives every SIGKILL. What it held goes back all the same, for it might be
    /// for ever; the slot is filled again only when all of it is gone.
    pub(super) fn give_up_on(&mut self, now: Now, worker: Generation, death: &Death, effects: &mut Effects) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let slot = &mut self.pools[seat.pool].slots[seat.slot as usize];
        let SlotState::Filled(mut process) = std::mem::take(&mut slot.state) else {
            return;
        };
        slot.replacing = false;
        for timer in
            [Timer::Oldest(worker), Timer::Age(worker), Timer::Watchdog(worker), Timer::Stable(worker)]
        {
            self.timers.clear(timer);
        }
        let pid = death.survivor.unwrap_or(0);
        effects.log(
            Level::Error,
            format!("{}: process {pid} survives every SIGKILL; its jobs are given back", process.name),
        );
        let held: Vec<Held> = process.held.drain(..).collect();
        process.held_bytes = 0;
        self.settle_window(now, seat, &process, &held, death, effects);
        process.survivor = Some(pid);
        process.phase = Phase::Stuck { until: now.mono + KILL_AGAIN };
        self.pools[seat.pool].slots[seat.slot as usize].state = SlotState::Filled(process);
        self.arm_slot_timer(worker);
        self.open_if_ready(seat.pool, effects);
        self.replace_next(now, seat.pool, effects);
    }

    /// Decides for each job that a dead worker held.
    fn settle_window(
        &mut self,
        now: Now,
        seat: Seat,
        process: &Process,
        held: &[Held],
        death: &Death,
        effects: &mut Effects,
    ) {
        if Mutant::DropWindow.is_on() {
            return;
        }
        let worker = process.generation();
        let clean = death.exit == Exit::Status(0);
        let single = held.len() == 1 || Mutant::BlameOldest.is_on();
        let place = AttemptPlace { worker: process.name.clone(), started: process.oldest_since.wall };
        for (position, one) in held.iter().enumerate() {
            if one.void {
                self.unpark(one.job.id, worker);
                continue;
            }
            if !self.is_current(one, worker) {
                continue;
            }
            match process.intent {
                Some(Intent::Timeout(id)) if id == one.job.id || Mutant::TimeoutChargesAll.is_on() => {
                    let limit = now.mono.since(process.oldest_since.mono);
                    self.settle_timeout(now, one, place.clone(), limit, death.survivor, effects);
                }
                Some(
                    Intent::Shutdown
                    | Intent::Scale
                    | Intent::Recycle
                    | Intent::Reload
                    | Intent::Admin
                    | Intent::StartTimeout
                    | Intent::Timeout(_)
                    | Intent::Cancel,
                ) if !Mutant::ChargeStops.is_on() => {
                    self.wait_again(one.job.id, one.standing, false);
                }
                None if clean && position == 0 => self.return_delivered(now, one, place.clone(), effects),
                None if clean => self.wait_again(one.job.id, one.standing, false),
                None | Some(_) if single && position == 0 => {
                    self.settle_crash(now, seat, one, process, death, effects);
                }
                None | Some(_) => {
                    let standing = Standing { alone: true, ..one.standing };
                    self.wait_again(one.job.id, standing, false);
                }
            }
        }
    }

    fn settle_timeout(
        &mut self,
        now: Now,
        held: &Held,
        place: AttemptPlace,
        ran: std::time::Duration,
        survivor: Option<u32>,
        effects: &mut Effects,
    ) {
        let mut standing = held.standing;
        standing.attempts += 1;
        let error = format!("timed out; stopped after {:.1} s{}", ran.as_secs_f64(), left_behind(survivor));
        let failure = Failure {
            cause: Cause::Timeout,
            error: Some(error.into()),
            result: None,
            evidence: survivor.map(evidence::survivor),
            retry: true,
        };
        self.fail_attempt(now, &held.job, standing, place, failure, effects);
    }

    /// A job was alone with a worker that died on it.
    fn settle_crash(
        &mut self,
        now: Now,
        seat: Seat,
        held: &Held,
        process: &Process,
        death: &Death,
        effects: &mut Effects,
    ) {
        if self.pools[seat.pool].breaker.on_crash(held.job.id) {
            self.hold_back(now, seat.pool, effects);
        }
        let place = AttemptPlace { worker: process.name.clone(), started: process.oldest_since.wall };
        let mut standing = held.standing;
        standing.attempts += 1;
        standing.crashes += 1;
        standing.alone = true;
        let failure = Failure {
            cause: Cause::Crash,
            error: Some(crash_error(process, death).into()),
            result: None,
            evidence: Some(evidence::death(
                death.exit,
                death.max_rss_kib,
                if Mutant::ForgetWords.is_on() { &[] } else { &death.last_output },
                death.perhaps_out_of_memory,
                death.survivor,
            )),
            retry: true,
        };
        let crashes_max =
            self.pools[seat.pool].settings.max_crashes + u32::from(Mutant::CrashOnceMore.is_on());
        if standing.crashes >= crashes_max {
            self.finish(now, &held.job, failure.end(State::Failed, standing, place), effects);
        } else {
            self.charge(now, &held.job, standing, place, failure, None, effects);
        }
    }

    /// The worker left with exit status 0 without answering its oldest job: nobody is charged, but not for ever.
    /// Those behind it are not counted: a worker that leaves after each job passes them on again and again.
    fn return_delivered(&mut self, now: Now, held: &Held, place: AttemptPlace, effects: &mut Effects) {
        let deliveries = self.jobs.get(&held.job.id).map_or(0, |live| live.deliveries) + 1;
        if deliveries < DELIVERIES_MAX + u32::from(Mutant::NeverLost.is_on()) {
            self.wait_again(held.job.id, held.standing, true);
            return;
        }
        let error = format!("delivered {deliveries} times to workers that left without an answer");
        let failure = Failure {
            cause: Cause::Lost,
            error: Some(error.into()),
            result: None,
            evidence: None,
            retry: false,
        };
        let mut standing = held.standing;
        standing.attempts += 1;
        self.finish(now, &held.job, failure.end(State::Failed, standing, place), effects);
    }

    /// Puts a job that is in memory back into its pool's window, in its old place.
    pub(super) fn wait_again(&mut self, id: JobId, standing: Standing, delivered: bool) {
        let Some(live) = self.jobs.get_mut(&id) else {
            return;
        };
        live.standing = standing;
        live.place = Place::Waiting;
        live.deliveries += u32::from(delivered);
        let job = live.job.clone();
        let Some(place) = self.pool_place(&job.pool) else {
            return;
        };
        if self.pools[place].settings.can_run(&job.work) {
            self.pools[place].window.insert(&job, &standing);
        } else {
            // The pool has become another one meanwhile.
            self.leave_to_store(place, id);
        }
        self.dirty.insert(place);
    }

    /// An answer from a worker that is gone. A success counts if there is no outcome yet; an error does not.
    pub(super) fn on_late_answer(
        &mut self,
        now: Now,
        worker: Generation,
        id: Option<JobId>,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let Some(departed) = self.late.get_mut(&worker) else {
            self.tally.refused += 1;
            return;
        };
        let place = match id {
            None => (!departed.held.is_empty()).then_some(0),
            Some(id) => departed.held.iter().position(|held| held.job.id == id),
        };
        let Some(place) = place else {
            self.tally.refused += 1;
            return;
        };
        let held = departed.held.remove(place);
        let (name, started) = (departed.name.clone(), departed.since);
        self.tally.late += 1;
        let success = matches!(verdict, Verdict::Success { .. });
        if held.void || !(success || Mutant::CountLateErrors.is_on()) || (success && Mutant::DropLate.is_on())
        {
            return;
        }
        // A job that is not in memory is delayed or has its outcome: the store knows which and decides.
        match self.jobs.get(&held.job.id).map(|live| (live.place, live.standing.round)) {
            Some((_, round)) if round != held.standing.round && !Mutant::MixRounds.is_on() => return,
            Some((Place::Ending, _)) => return,
            Some((Place::Waiting, _)) => {
                if let Some(pool) = self.pool_place(&held.job.pool) {
                    self.pools[pool].window.remove(&held.job);
                }
            }
            Some((Place::Held(other), _)) => self.void(now, other, held.job.id, effects),
            Some((Place::Charging | Place::Parked, _)) | None => {}
        }
        let standing = self.jobs.get(&held.job.id).map_or(held.standing, |live| live.standing);
        let held = Held {
            standing: Standing { attempts: standing.attempts.max(held.standing.attempts), ..standing },
            ..held
        };
        self.settle_answer(now, &held, &name, started, verdict, effects);
    }
}

/// Why a worker died on its only job, in one line for people.
fn crash_error(process: &Process, death: &Death) -> String {
    let error = match process.intent {
        Some(Intent::TooLarge(bytes)) => {
            format!("its worker was killed for a frame of {bytes} bytes; {FRAME_BYTES_MAX} are allowed")
        }
        Some(Intent::Hung) => format!("the worker hung on it and was aborted: {}", death.exit),
        None
        | Some(
            Intent::Shutdown
            | Intent::Scale
            | Intent::Recycle
            | Intent::Reload
            | Intent::Admin
            | Intent::StartTimeout
            | Intent::Timeout(_)
            | Intent::Cancel,
        ) => evidence::crash_error(death.exit, death.perhaps_out_of_memory),
    };
    error + &left_behind(death.survivor)
}

fn left_behind(survivor: Option<u32>) -> String {
    survivor.map(|pid| format!("; process {pid} survives every SIGKILL")).unwrap_or_default()
}

fn log_exit(process: &Process, death: &Death, effects: &mut Effects) {
    let (level, why) = match process.intent {
        None if death.exit == Exit::Status(0) && process.held.is_empty() => (Level::Info, String::new()),
        None => (Level::Warn, String::new()),
        Some(intent) => (Level::Debug, format!(" ({})", intent.as_str())),
    };
    let jobs = match process.held.len() {
        0 => String::new(),
        1 => format!(", holding job {}", process.held[0].job.id),
        several => format!(", holding {several} jobs"),
    };
    effects.log(level, format!("{} ended: {}{jobs}{why}", process.name, death.exit));
    if let Some(more @ 1..) = process.complaints.checked_sub(COMPLAINTS_MAX) {
        effects.log(Level::Warn, format!("{} had sent {more} more messages of no use", process.name));
    }
}

impl End {
    /// The record of it.
    pub(super) fn outcome(self, now: Now, id: JobId, batch: BatchId, pool: PoolName) -> Outcome {
        Outcome {
            id,
            batch,
            pool,
            state: self.state,
            cause: self.cause,
            standing: self.standing,
            last: self.last,
            finished: now.wall,
            error: self.error,
            result: self.result,
            evidence: self.evidence,
        }
    }
}

impl Failure {
    fn end(self, state: State, standing: Standing, place: AttemptPlace) -> End {
        End {
            state,
            cause: Some(self.cause),
            standing,
            last: Some(place),
            error: self.error,
            result: self.result,
            evidence: self.evidence,
        }
    }
}
