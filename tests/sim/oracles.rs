//! One oracle per promise. They keep a ledger of their own and never ask the engine what it thinks.
//!
//! | promise | oracle |
//! |---|---|
//! | an acknowledged job is durable | `on_acknowledged`, `check_end` |
//! | no job is held by two living workers | `on_send` |
//! | every job ends in one outcome, and that is the right one | `check_end` |
//! | only a job that was alone with its worker is charged with a crash | `on_charge` |
//! | a stop that the daemon wanted charges nobody | `on_charge` |
//! | a crash charge is durable before the job is sent again | `on_send` |
//! | a job that is to go alone goes alone | `on_send` |
//! | a late success counts, a late error does not | `on_report`, `on_charge`, `check_end` |
//! | better jobs go first | `on_send` |
//! | every slot fills again | in `world.rs` |

use crate::clients::Submit;
use crate::disk::Disk;
use crate::plan::{Fate, Plans};
use crate::world::tag_of;
use pushpull::engine::{Effect, Event, Ticket, ToWorker};
use pushpull::model::{Answer, Query, Record};
use pushpull::model::{
    Cause, ChunkFate, Exit, Generation, Job, JobId, Outcome, Select, Standing, State, Word,
};
use pushpull::wire::control::SubmitReply;
use pushpull::wire::pipeline::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A better job may wait this long behind worse ones: it must be fetched first.
const FETCH_PATIENCE_NS: u64 = 200_000_000;

/// What is known of each worker from the messages that passed.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// Sent and not answered, in order.
    held: Vec<JobId>,
    /// Of these, those whose outcome is recorded or on its way.
    void: BTreeSet<JobId>,
    solo: bool,
}

/// How a worker ended, as far as blame goes.
#[derive(Clone, Debug)]
struct End {
    held: Vec<JobId>,
    exit: Exit,
    wanted: bool,
}

#[derive(Debug)]
pub struct Oracles {
    max_crashes: u32,
    workers: BTreeMap<Generation, Ledger>,
    ended: BTreeMap<Generation, End>,
    acknowledged: BTreeMap<String, Vec<JobId>>,
    /// Jobs that died in a deep window and have not been settled since.
    alone: BTreeSet<JobId>,
    /// Crash charges on their way to the disk.
    charging: BTreeMap<Ticket, JobId>,
    /// Outcomes on their way to the disk.
    ending: BTreeMap<Ticket, JobId>,
    /// Jobs that must end in success: a late success came while nothing else was known.
    must_succeed: BTreeSet<JobId>,
    /// Since when each job may be sent, and its priority.
    waiting: BTreeMap<JobId, (u64, i16)>,
    /// Crashes that count: unasked ends of workers that held one job.
    crashes: BTreeMap<JobId, u32>,
    recovered: bool,
    /// Every record that was handed over.
    written: BTreeSet<Ticket>,
}

impl Oracles {
    pub fn new(max_crashes: u32) -> Oracles {
        Oracles {
            max_crashes,
            workers: BTreeMap::new(),
            ended: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            alone: BTreeSet::new(),
            charging: BTreeMap::new(),
            ending: BTreeMap::new(),
            must_succeed: BTreeSet::new(),
            waiting: BTreeMap::new(),
            crashes: BTreeMap::new(),
            recovered: false,
            written: BTreeSet::new(),
        }
    }

    pub fn is_acknowledged(&self, key: &str) -> bool {
        self.acknowledged.contains_key(key)
    }

    pub fn on_effect(
        &mut self,
        now: u64,
        effect: &Effect,
        plans: &Plans,
        disk: &mut Disk,
    ) -> Result<(), String> {
        match effect {
            Effect::Send { worker, message: ToWorker::Job { job, .. } } => {
                self.on_send(now, *worker, job, disk)
            }
            Effect::Write { ticket, record } => self.on_write(*ticket, record, plans),
            Effect::Spawn(name) => {
                self.workers.insert(name.generation, Ledger::default());
                Ok(())
            }
            Effect::Send { message: ToWorker::Cancel(_), .. }
            | Effect::Kill { .. }
            | Effect::Forget(_)
            | Effect::Fetch(_)
            | Effect::Rewind(_)
            | Effect::Query { .. }
            | Effect::Reply { .. }
            | Effect::Log { .. }
            | Effect::Exit(_) => Ok(()),
        }
    }

    fn on_send(
        &mut self,
        now: u64,
        worker: Generation,
        job: &Arc<Job>,
        disk: &mut Disk,
    ) -> Result<(), String> {
        let id = job.id;
        for (other, ledger) in &self.workers {
            if ledger.held.contains(&id) && !ledger.void.contains(&id) {
                return Err(format!("job {id} is sent to worker {} while {} holds it", worker.0, other.0));
            }
        }
        if self.charging.values().any(|charged| *charged == id) {
            return Err(format!("job {id} is sent again before its crash charge is durable"));
        }
        if !self.recovered && state_of(disk, id).is_some_and(State::is_finished) {
            return Err(format!("job {id} is sent although it has its outcome"));
        }
        self.check_order(now, id, job.priority)?;
        let alone = self.alone.contains(&id);
        let ledger = self.workers.get_mut(&worker).ok_or("a job is sent to a worker that is gone")?;
        if (alone || ledger.solo) && !ledger.held.is_empty() {
            return Err(format!("job {id} goes to worker {}, which is not alone with one job", worker.0));
        }
        ledger.solo = alone;
        ledger.held.push(id);
        self.waiting.remove(&id);
        Ok(())
    }

    fn check_order(&self, now: u64, id: JobId, priority: i16) -> Result<(), String> {
        let is_better = |(other, (since, theirs)): &(&JobId, &(u64, i16))| {
            **other != id
                && *theirs > priority
                && now - since > FETCH_PATIENCE_NS
                && !self.alone.contains(other)
        };
        match self.waiting.iter().find(is_better) {
            Some((better, _)) => Err(format!("job {id} is sent although the better job {better} waits")),
            None => Ok(()),
        }
    }

    fn on_write(&mut self, ticket: Ticket, record: &Record, plans: &Plans) -> Result<(), String> {
        if !self.written.insert(ticket) {
            // The same record again, because the disk had failed.
            return Ok(());
        }
        match record {
            Record::Charge(charge) => {
                if charge.attempt.cause == Cause::Crash {
                    self.charging.insert(ticket, charge.id);
                    self.on_charge(charge.id, charge.attempt.place.worker.generation)?;
                }
                self.check_late_error(
                    charge.id,
                    charge.attempt.cause,
                    charge.attempt.place.worker.generation,
                )?;
                // Until it is sent again nobody waits for it to be fetched at once.
                self.waiting.remove(&charge.id);
                Ok(())
            }
            Record::Finish(outcome) => {
                self.ending.insert(ticket, outcome.id);
                self.waiting.remove(&outcome.id);
                for ledger in self.workers.values_mut() {
                    if ledger.held.contains(&outcome.id) {
                        ledger.void.insert(outcome.id);
                    }
                }
                self.on_outcome(outcome, plans)
            }
            Record::Chunk(_)
            | Record::Discard(_)
            | Record::Promote { .. }
            | Record::Retry { .. }
            | Record::Remove { .. }
            | Record::Expire { .. }
            | Record::Release { .. }
            | Record::Pause { .. }
            | Record::Generations(_) => Ok(()),
        }
    }

    fn on_outcome(&mut self, outcome: &Outcome, _plans: &Plans) -> Result<(), String> {
        let Some((cause, last)) = outcome.cause.zip(outcome.last.as_ref()) else {
            return Ok(());
        };
        if cause == Cause::Crash {
            self.on_charge(outcome.id, last.worker.generation)?;
            let crashes = self.crashes.get(&outcome.id).copied().unwrap_or(0);
            if crashes < self.max_crashes && !self.recovered {
                return Err(format!("job {} failed after {crashes} crashes", outcome.id));
            }
        }
        self.check_late_error(outcome.id, cause, last.worker.generation)
    }

    /// Only a job that was alone with a worker that died unasked is charged with a crash.
    fn on_charge(&mut self, id: JobId, worker: Generation) -> Result<(), String> {
        let Some(end) = self.ended.get(&worker) else {
            return Err(format!("job {id} is charged with the end of worker {}, which lives", worker.0));
        };
        if end.wanted {
            return Err(format!(
                "job {id} is charged with the end of worker {}, which the daemon wanted",
                worker.0
            ));
        }
        if end.exit == Exit::Status(0) {
            return Err(format!("job {id} is charged with a clean exit of worker {}", worker.0));
        }
        if end.held != [id] {
            return Err(format!(
                "job {id} is charged with the end of worker {}, which held {:?}",
                worker.0, end.held
            ));
        }
        *self.crashes.entry(id).or_default() += 1;
        Ok(())
    }

    fn check_late_error(&self, id: JobId, cause: Cause, worker: Generation) -> Result<(), String> {
        if cause == Cause::Error && self.ended.contains_key(&worker) {
            return Err(format!("a late error of worker {} counts against job {id}", worker.0));
        }
        Ok(())
    }

    /// Returns a job whose late success must count now.
    pub fn on_report(&mut self, worker: Generation, report: &Report, disk: &mut Disk) -> Option<JobId> {
        let (id, success) = match report {
            Report::Result { id: Some(id), .. } => (*id, true),
            Report::Error { id: Some(id), .. } => (*id, false),
            Report::Ready
            | Report::Result { id: None, .. }
            | Report::Error { id: None, .. }
            | Report::Progress { .. }
            | Report::Heartbeat => return None,
        };
        if let Some(ledger) = self.workers.get_mut(&worker) {
            ledger.held.retain(|held| *held != id);
            ledger.void.remove(&id);
            if ledger.held.is_empty() {
                ledger.solo = false;
            }
            if success {
                self.alone.remove(&id);
            }
        } else if success
            && self.ended.contains_key(&worker)
            && !self.ending.values().any(|ending| *ending == id)
            && state_of(disk, id).is_some_and(|state| !state.is_finished())
        {
            self.must_succeed.insert(id);
            return Some(id);
        }
        None
    }

    /// A late success was told: its outcome must be on its way.
    pub fn check_late_success(&self, id: JobId) -> Result<(), String> {
        if self.ending.values().any(|ending| *ending == id) {
            return Ok(());
        }
        Err(format!("a late success of job {id} was dropped"))
    }

    pub fn on_exit(&mut self, worker: Generation, exit: Exit, was_hit: bool) {
        let Some(ledger) = self.workers.remove(&worker) else {
            return;
        };
        let live: Vec<JobId> = ledger.held.iter().filter(|id| !ledger.void.contains(id)).copied().collect();
        if ledger.held.len() > 1 && !was_hit && exit != Exit::Status(0) {
            self.alone.extend(&live);
        }
        self.ended.insert(worker, End { held: ledger.held, exit, wanted: was_hit });
    }

    pub fn on_spawn_failed(&mut self, worker: Generation) {
        self.workers.remove(&worker);
    }

    /// The disk has done something.
    pub fn on_disk(&mut self, now: u64, event: &Event, disk: &mut Disk) {
        let Event::Written { ticket, result } = event else {
            return;
        };
        let Ok(applied) = result else {
            return;
        };
        self.charging.remove(ticket);
        self.ending.remove(ticket);
        for fate in &applied.chunks {
            if let ChunkFate::Visible(submitted) = fate {
                for id in submitted.ids.iter().flat_map(|(first, last)| (first.0..=last.0).map(JobId)) {
                    self.on_visible(now, id, disk);
                }
            }
        }
    }

    /// From now on this job may be sent, unless it is delayed.
    fn on_visible(&mut self, now: u64, id: JobId, disk: &mut Disk) {
        if let Answer::Job { row, .. } = disk.look(&Query::Job(id)) {
            if row.state == State::Queued {
                self.waiting.insert(id, (now, row.job.priority));
            }
        }
    }

    /// The daemon was killed, and all its workers: what it held waits again.
    pub fn on_crash(&mut self) {
        self.workers.clear();
        self.ended.clear();
        self.alone.clear();
        self.charging.clear();
        self.ending.clear();
        self.must_succeed.clear();
        self.waiting.clear();
        self.written.clear();
        self.recovered = true;
    }

    /// The daemon was stopped and started again: what its workers held waits again, charged to nobody.
    pub fn on_restart(&mut self) {
        let recovered = self.recovered;
        self.on_crash();
        self.recovered = recovered;
    }

    pub fn on_acknowledged(
        &mut self,
        submit: &Submit,
        reply: &SubmitReply,
        disk: &mut Disk,
    ) -> Result<(), String> {
        let ids: Vec<JobId> =
            reply.ids.iter().flat_map(|(first, last)| (*first..=*last).map(JobId)).collect();
        if ids.len() != submit.tags.len() {
            return Err(format!(
                "{} was acknowledged with {} ids for {} jobs",
                submit.key,
                ids.len(),
                submit.tags.len()
            ));
        }
        for (id, tag) in ids.iter().zip(&submit.tags) {
            match disk.look(&Query::Job(*id)) {
                Answer::Job { row, .. } if tag_of(&row.job) == *tag => {}
                other => {
                    return Err(format!(
                        "{} was acknowledged, but job {id} is not on disk: {other:?}",
                        submit.key
                    ));
                }
            }
        }
        if let Some(before) = self.acknowledged.insert(submit.key.clone(), ids.clone()) {
            if before != ids {
                return Err(format!("{} was acknowledged twice, with other ids", submit.key));
            }
        }
        Ok(())
    }

    /// No job stands with two workers in the engine's own accounting either.
    pub fn check_holders(&self, holders: impl Iterator<Item = (JobId, Generation)>) -> Result<(), String> {
        for (id, worker) in holders {
            let Some(ledger) = self.workers.get(&worker) else {
                return Err(format!("job {id} is believed to be with worker {}, which is gone", worker.0));
            };
            if !ledger.held.contains(&id) {
                return Err(format!(
                    "job {id} is believed to be with worker {}, which does not hold it",
                    worker.0
                ));
            }
        }
        Ok(())
    }

    pub fn unfinished(&self, disk: &mut Disk) -> String {
        let states = vec![State::Queued, State::Delayed, State::Blocked];
        let select = Select { words: vec![Word::All], states, pools: Vec::new() };
        match disk.look(&Query::Ids { select, after: JobId(0), limit: 10 }) {
            Answer::Ids { stubs, .. } => format!("{stubs:?}; workers {:?}", self.workers),
            other => format!("{other:?}"),
        }
    }

    /// Every acknowledged job has the outcome that its plan allows, no other job has one, and the sums match.
    pub fn check_end(&mut self, plans: &Plans, disk: &mut Disk, submits: &[Submit]) -> Result<(), String> {
        let mut total = 0;
        for submit in submits {
            let ids = self.acknowledged.get(&submit.key).cloned().unwrap_or_default();
            for (id, tag) in ids.into_iter().zip(&submit.tags) {
                total += 1;
                let Answer::Job { row, attempts } = disk.look(&Query::Job(id)) else {
                    return Err(format!("the acknowledged job {id} is lost"));
                };
                let Some(outcome) = row.outcome.clone() else {
                    return Err(format!("job {id} has no outcome: {row:?}"));
                };
                self.check_outcome(&outcome, plans.0[tag].fate, row.standing, attempts.len())?;
            }
        }
        match disk.look(&Query::Audit) {
            Answer::Audit { differences, .. } if differences.is_empty() => {}
            other => return Err(format!("the audit says {other:?}")),
        }
        let everything = Select { words: vec![Word::All], ..Select::default() };
        match disk.look(&Query::Counts(everything)) {
            Answer::Counts { counts, .. } if counts.total() == total && counts.finished() == total => Ok(()),
            other => Err(format!("{total} jobs were acknowledged, and the counters say {other:?}")),
        }
    }

    fn check_outcome(
        &self,
        outcome: &Outcome,
        fate: Fate,
        standing: Standing,
        attempts: usize,
    ) -> Result<(), String> {
        let id = outcome.id;
        let complain = |what: &str| Err(format!("job {id} ({fate:?}) {what}: {outcome:?}"));
        if self.must_succeed.contains(&id) && outcome.state != State::Succeeded {
            return complain("succeeded late, and that did not count");
        }
        if outcome.state == State::Cancelled {
            return Ok(());
        }
        if standing.attempts as usize != attempts + 1 && !self.recovered {
            return complain(&format!("has {attempts} attempts in its history"));
        }
        let crashed = outcome.cause == Some(Cause::Crash);
        let erred = outcome.cause == Some(Cause::Error);
        let succeeded = outcome.state == State::Succeeded;
        match fate {
            Fate::Poison if !crashed => complain("kills workers and was not found out"),
            Fate::Fail if !(erred || crashed) => complain("always fails"),
            // Somebody may have killed its worker again and again.
            Fate::Succeed | Fate::Leave(_) if !(succeeded || crashed) => complain("does nothing wrong"),
            Fate::Flaky(_) if !(succeeded || erred || crashed) => complain("can succeed or fail"),
            Fate::Poison | Fate::Fail | Fate::Succeed | Fate::Leave(_) | Fate::Flaky(_) => Ok(()),
        }
    }
}

fn state_of(disk: &mut Disk, id: JobId) -> Option<State> {
    match disk.look(&Query::Job(id)) {
        Answer::Job { row, .. } => Some(row.state),
        _ => None,
    }
}
