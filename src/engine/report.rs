//! What workers say.

use super::event::{Effect, Effects, ToWorker};
use super::lifecycle::Haste;
use super::timers::Timer;
use super::worker::{Held, Intent, Phase};
use super::{Engine, Place};
use crate::config::{COMPLAINTS_MAX, FRAME_BYTES_MAX};
use crate::model::{Cause, Generation, JobId, Json, Now};
use crate::wire::pipeline::Report;
use log::Level;
use std::cmp::Ordering;

/// A worker's answer for one job.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Success { data: Json },
    Failure { cause: Cause, error: Box<str>, detail: Option<Box<str>>, data: Option<Json>, retry: bool },
}

impl Engine {
    pub(super) fn on_report(&mut self, now: Now, worker: Generation, report: Report, effects: &mut Effects) {
        self.hear(now, worker);
        match report {
            Report::Ready => self.on_ready(now, worker, effects),
            Report::Result { id, data } => {
                let limit = self.settings.result_bytes_max;
                let verdict = if data.len() > limit {
                    let error = format!(
                        "the result has {} bytes, more than result_bytes_max allows ({limit})",
                        data.len()
                    );
                    Verdict::Failure {
                        cause: Cause::Error,
                        error: error.into(),
                        detail: None,
                        data: None,
                        retry: false,
                    }
                } else {
                    Verdict::Success { data }
                };
                self.on_answer(now, worker, id, verdict, effects);
            }
            Report::Error { id, error, detail, retry, cause, data } => {
                // Only the built-in worker knows causes and outcomes; from others they are not believed.
                let builtin =
                    self.seats.get(&worker).is_some_and(|seat| self.pools[seat.pool].settings.is_builtin());
                let data = data.filter(|data| builtin && data.len() <= self.settings.result_bytes_max);
                let cause = cause.filter(|_| builtin).unwrap_or(Cause::Error);
                let verdict = Verdict::Failure { cause, error, detail, data, retry };
                self.on_answer(now, worker, id, verdict, effects);
            }
            Report::Progress { .. } | Report::Heartbeat => {}
        }
    }

    pub(super) fn on_malformed(&mut self, worker: Generation, what: &str, effects: &mut Effects) {
        self.tally.malformed += 1;
        self.complain(worker, &format!("sent what is no report: {what}"), effects);
    }

    /// A frame that large is no accident of one job's result: its worker is not to be trusted any longer.
    pub(super) fn on_too_large(&mut self, now: Now, worker: Generation, bytes: usize, effects: &mut Effects) {
        self.tally.malformed += 1;
        let text = format!("sent a frame of {bytes} bytes, more than {FRAME_BYTES_MAX}");
        self.complain(worker, &text, effects);
        self.stop_worker(now, worker, Intent::TooLarge(bytes), Haste::Kill, effects);
    }

    /// Says what a worker did wrong. After some lines it is only counted, so that nobody floods the log.
    fn complain(&mut self, worker: Generation, text: &str, effects: &mut Effects) {
        let (name, complaints) = if let Some(process) = self.process_mut(worker) {
            (process.name.to_string(), &mut process.complaints)
        } else if let Some(departed) = self.late.get_mut(&worker) {
            (format!("the former worker {}", departed.name), &mut departed.complaints)
        } else {
            return;
        };
        *complaints += 1;
        let more = match (*complaints).cmp(&COMPLAINTS_MAX) {
            Ordering::Less => "",
            Ordering::Equal => "; more of its kind is only counted",
            Ordering::Greater => return,
        };
        effects.log(Level::Warn, format!("{name} {text}{more}"));
    }

    fn on_answer(
        &mut self,
        now: Now,
        worker: Generation,
        id: Option<JobId>,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let Some(seat) = self.seats.get(&worker).copied() else {
            self.on_late_answer(now, worker, id, verdict, effects);
            return;
        };
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        let place = match id {
            None => (!process.held.is_empty()).then_some(0),
            Some(id) => process.held.iter().position(|held| held.job.id == id),
        };
        let Some(held) = place.and_then(|place| process.held.remove(place)) else {
            self.refuse_answer(worker, id, effects);
            return;
        };
        process.held_bytes -= held.job.weight();
        process.answered += 1;
        let since = process.oldest_since;
        process.credit.on_answer(now.mono.since(since.mono));
        let drained = process.held.is_empty() && matches!(process.phase, Phase::Draining { .. });
        let name = process.name.clone();
        if place == Some(0) {
            if process.held.is_empty() {
                self.timers.clear(Timer::Oldest(worker));
            } else {
                self.start_clock(now, worker);
            }
        }
        if drained {
            self.begin_stopping(now, worker, effects);
        }
        self.recycle_if_worked_enough(now, worker, effects);
        self.dirty.insert(seat.pool);
        if held.void {
            self.unpark(held.job.id, worker);
            self.tally.late += 1;
            return;
        }
        let started = if place == Some(0) { since.wall } else { now.wall };
        self.settle_answer(now, &held, &name, started, verdict, effects);
    }

    fn recycle_if_worked_enough(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let is_enough = self.process(worker).is_some_and(|process| {
            process.replace.is_none() && process.answers_max.is_some_and(|max| process.answered >= max)
        });
        if is_enough {
            self.want_replaced(now, worker, Intent::Recycle, effects);
        }
    }

    fn refuse_answer(&mut self, worker: Generation, id: Option<JobId>, effects: &mut Effects) {
        self.tally.refused += 1;
        let what = id.map_or_else(
            || "a job, but it holds none".to_owned(),
            |id| format!("job {id}, which it does not hold"),
        );
        self.complain(worker, &format!("answered for {what}"), effects);
    }

    /// The oldest job of a worker has had its time.
    pub(super) fn on_oldest_timer(&mut self, now: Now, worker: Generation, effects: &mut Effects) {
        let Some(held) = self.process(worker).and_then(|process| process.held.front()) else {
            return;
        };
        let intent = if held.void { Intent::Cancel } else { Intent::Timeout(held.job.id) };
        if let Some(seat) = self.seats.get(&worker) {
            let name = self.worker_text(*seat, worker);
            effects.log(Level::Warn, format!("{name} is stopped: {}", intent.as_str()));
        }
        self.stop_worker(now, worker, intent, Haste::Stop, effects);
    }

    /// A job that a worker holds has ended elsewhere: its answer will not count.
    /// The built-in worker is told to let go of it; another is stopped if it keeps at it.
    pub(super) fn void(&mut self, now: Now, worker: Generation, id: JobId, effects: &mut Effects) {
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        let Some(place) = process.held.iter().position(|held| held.job.id == id && !held.void) else {
            return;
        };
        process.held[place].void = true;
        let since = process.oldest_since;
        self.void.insert(id, worker);
        if self.seats.get(&worker).is_some_and(|seat| self.pools[seat.pool].settings.is_builtin()) {
            effects.push(Effect::Send { worker, message: ToWorker::Cancel(id) });
        }
        if place == 0 {
            self.start_clock(now, worker);
            if let Some(process) = self.process_mut(worker) {
                process.oldest_since = since;
            }
        }
    }

    /// A worker no longer holds a job whose round had ended: the next round may begin.
    pub(super) fn unpark(&mut self, id: JobId, worker: Generation) {
        if self.void.get(&id) != Some(&worker) {
            return;
        }
        self.void.remove(&id);
        if let Some(live) = self.jobs.get(&id).filter(|live| live.place == Place::Parked) {
            let standing = live.standing;
            self.wait_again(id, standing, false);
        }
    }

    /// Whether this job, as it was sent, is still what its worker is believed to do.
    pub(super) fn is_current(&self, held: &Held, worker: Generation) -> bool {
        self.jobs.get(&held.job.id).is_some_and(|live| {
            live.place == Place::Held(worker) && live.standing.round == held.standing.round
        })
    }
}
