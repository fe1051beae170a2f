//! Who gets which job.
//!
//! The best waiting job goes to the worker that holds least, so idle workers share what is there evenly and no
//! window is filled while another worker is idle. A job that is to go alone waits for a worker that holds nothing;
//! so that it need not wait for ever, the least loaded workers are kept free for such jobs and run dry.

use super::event::{Effect, Effects, ToWorker};
use super::mutant::Mutant;
use super::pool::Pool;
use super::timers::Timer;
use super::window::Rank;
use super::worker::{Held, Phase, Process, Slot};
use super::{Engine, Place};
use crate::config::{CANCEL_GRACE, CREDIT_BYTES_MAX, Spending, WINDOW_TIME};
use crate::model::{Generation, JobId, Now};
use std::cmp::Reverse;

impl Engine {
    /// Sends what can be sent of one pool.
    pub(super) fn dispatch(&mut self, now: Now, place: usize, effects: &mut Effects) {
        if (self.is_stopping() && !Mutant::SendStopping.is_on()) || self.writes.are_full() {
            return;
        }
        let pool = &self.pools[place];
        if pool.open && !pool.gone && (!pool.paused || Mutant::IgnorePause.is_on()) {
            while let Some((id, worker)) = self.pools[place].next_pair(now) {
                self.send(now, place, id, worker, effects);
            }
        }
        self.fetch_if_low(place, effects);
    }

    fn send(&mut self, now: Now, place: usize, id: JobId, worker: Generation, effects: &mut Effects) {
        let Some(live) = self.jobs.get_mut(&id) else {
            unreachable!("a job in a window is in memory");
        };
        live.place = Place::Held(worker);
        let (job, standing) = (live.job.clone(), live.standing);
        if !Mutant::KeepInWindow.is_on() {
            self.pools[place].window.remove(&job);
        }
        self.pools[place].totals.sent += 1;
        let settings = &self.pools[place].settings;
        let policy_timeout = job.policy.as_ref().and_then(|policy| policy.timeout);
        let timeout = policy_timeout.or(settings.timeout).filter(|_| settings.is_builtin());
        let attempt = standing.attempts + 1;
        effects.push(Effect::Send { worker, message: ToWorker::Job { job: job.clone(), attempt, timeout } });
        let Some(process) = self.process_mut(worker) else {
            unreachable!("dispatch chose a living worker");
        };
        process.held_bytes += job.weight();
        process.held.push_back(Held { job, standing, void: false });
        if process.held.len() == 1 {
            self.start_clock(now, worker);
            self.hear(now, worker);
        }
    }

    /// A job has become its worker's oldest: its time runs from now.
    pub(super) fn start_clock(&mut self, now: Now, worker: Generation) {
        if let Some(process) = self.process_mut(worker) {
            process.oldest_since = now;
        }
        self.set_oldest_timer(now, worker);
    }

    /// Gives a worker's oldest job all of its time, from now.
    pub(super) fn set_oldest_timer(&mut self, now: Now, worker: Generation) {
        let timer = Timer::Oldest(worker);
        let Some(seat) = self.seats.get(&worker).copied() else {
            return;
        };
        let settings = &self.pools[seat.pool].settings;
        let (pool_timeout, grace) = (settings.timeout, settings.stop_timeout);
        let Some(process) = self.process(worker) else {
            return;
        };
        let builtin = process.settings.is_builtin();
        let since = if Mutant::HurryTimeouts.is_on() { process.born } else { now.mono };
        let deadline = process.held.front().and_then(|held| {
            let limit = if held.void {
                CANCEL_GRACE
            } else {
                held.job.policy.as_ref().and_then(|policy| policy.timeout).or(pool_timeout)?
            };
            // The built-in worker ends its command itself; this is for the case that it cannot.
            if Mutant::ForgetTimeouts.is_on() {
                return None;
            }
            Some(since + if builtin { limit.saturating_add(grace * 2) } else { limit })
        });
        match deadline {
            Some(when) => self.timers.set(timer, when),
            None => self.timers.clear(timer),
        }
    }
}

impl Pool {
    /// The next job to send and the worker to send it to.
    fn next_pair(&self, now: Now) -> Option<(JobId, Generation)> {
        let together = self.window.first_together();
        let alone = self.sendable_alone(together.map(|(rank, _)| rank));
        if let Some(id) = alone.first() {
            let idle = self.workers().find(|process| process.held.is_empty() || Mutant::ForgetAlone.is_on());
            if let Some(process) = idle {
                return Some((*id, process.generation()));
            }
        }
        let ((Reverse(priority), id), weight) = together?;
        if !self.is_best(priority) && !Mutant::IgnorePriority.is_on() {
            return None;
        }
        let has_room = |process: &&Process| {
            !process.is_solo()
                && process.held.len() < room(process, self.settings.spending(), now)
                && (process.held.is_empty() || process.held_bytes + weight <= CREDIT_BYTES_MAX)
        };
        if alone.is_empty() {
            return self
                .workers()
                .filter(has_room)
                .min_by_key(|process| {
                    let held = process.held.len();
                    if Mutant::FillOne.is_on() { usize::MAX - held } else { held }
                })
                .map(|process| (id, process.generation()));
        }
        // The least loaded are kept free for those that go alone; who holds such a job already is busy anyway.
        let mut others: Vec<&Process> = self.workers().filter(|process| !process.is_solo()).collect();
        others.sort_by_key(|process| process.held.len());
        others.into_iter().skip(alone.len()).find(has_room).map(|process| (id, process.generation()))
    }

    /// Jobs that go alone, may go now and come before `next`, the best of the others: at most one per ready worker.
    /// Jobs that crashed a worker may fill at most half of the pool, so that they never take all of it down.
    fn sendable_alone(&self, next: Option<Rank>) -> Vec<JobId> {
        let mut alone = self.window.alone().peekable();
        if alone.peek().is_none() {
            return Vec::new();
        }
        // A worker that is being stopped still holds what it holds.
        let all = self.slots.iter().filter_map(Slot::process);
        let charged_now = all.filter(|process| process.holds_charged()).count();
        let share = if Mutant::SuspectsEverywhere.is_on() { 1 } else { 2 };
        let charged_max = (self.slots.len() / share).max(1);
        let mut charged_left = charged_max.saturating_sub(charged_now);
        let ready = self.ready();
        let mut sendable = Vec::new();
        for (rank, crashes) in alone {
            let Reverse(priority) = rank.0;
            let is_behind = next.is_some_and(|next| next < rank) || !self.is_best(priority);
            if is_behind || sendable.len() >= ready {
                break;
            }
            if crashes == 0 {
                sendable.push(rank.1);
            } else if charged_left > 0 {
                charged_left -= 1;
                sendable.push(rank.1);
            }
        }
        sendable
    }

    /// Workers that may be sent to: not those from before a reload that work on another kind of job.
    fn workers(&self) -> impl Iterator<Item = &Process> {
        let can_run = |process: &&Process| {
            process.settings.is_builtin() == self.settings.is_builtin()
                && process.settings.message == self.settings.message
        };
        let ready = |process: &&Process| matches!(process.phase, Phase::Ready);
        self.slots.iter().filter_map(Slot::process).filter(ready).filter(can_run)
    }
}

/// Unanswered jobs that a worker may hold now. One whose oldest job turns out slow gets nothing behind it.
fn room(process: &Process, rule: Spending, now: Now) -> usize {
    let slow = !process.held.is_empty() && now.mono.since(process.oldest_since.mono) > WINDOW_TIME;
    let left = process.answers_max.map_or(u64::MAX, |max| max.saturating_sub(process.answered).max(1));
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let credit = process.credit.jobs() as usize + usize::from(Mutant::ExceedCredit.is_on());
    if rule == Spending::Auto && slow { 1 } else { credit.min(left) }
}
