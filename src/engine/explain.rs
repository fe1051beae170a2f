//! Why: in one sentence why a job does not run or ended as it did, what a worker is at, or why nothing moves.
//!
//! The text is for people; the facts beside it are what it was made of, for programs.

use super::pool::Pool;
use super::worker::{Phase, Process, SlotState};
use super::{Engine, Live, Place};
use crate::model::{
    After, Attempt, AttemptPlace, Cause, Generation, Mono, Now, Outcome, Row, Standing, State, Wall,
};
use crate::wire::object::Object;
use crate::wire::record;
use crate::wire::reply::Reply;
use crate::wire::{duration, timestamp};
use std::fmt::Write as _;
use std::time::Duration;

impl Engine {
    /// Why a job is where it is. `row` is as the store has it, with what only this engine knows added.
    pub(super) fn explain_job(&self, now: Now, row: &Row, attempts: &[(Standing, Attempt)]) -> Reply {
        let live = self.jobs.get(&row.job.id);
        let mut facts = Object::with_capacity(512);
        facts.number("id", row.job.id);
        facts.text("state", row.state.as_str());
        facts.text("pool", row.job.pool.as_str());
        let standing = row.outcome.as_ref().map_or(row.standing, |outcome| outcome.standing);
        facts.number("attempts", standing.attempts);
        facts.number("crashes", standing.crashes);
        let text = match (row.state, &row.outcome) {
            (State::Running, _) => self.why_running(now, row, &mut facts),
            (State::Delayed, _) => why_delayed(self.steady_wall(now), row, attempts, &mut facts),
            (State::Blocked, _) => why_blocked(row, &mut facts),
            (State::Queued, _) => {
                let (reason, text) = self.why_queued(now, row, live);
                facts.text("reason", reason);
                format!("queued: {text}")
            }
            (State::Succeeded | State::Failed | State::Cancelled, Some(outcome)) => {
                why_ended(row, outcome, attempts, &mut facts)
            }
            (State::Succeeded | State::Failed | State::Cancelled, None) => row.state.as_str().to_owned(),
        };
        explained(&format!("job {} {text}", row.job.id), &facts.finish())
    }

    fn why_running(&self, now: Now, row: &Row, facts: &mut Object) -> String {
        let Some(place) = &row.running else {
            return "runs".to_owned();
        };
        facts.text("worker", &place.worker.to_string());
        let process = self.process(place.worker.generation);
        let ahead = process
            .map_or(0, |process| process.held.iter().take_while(|held| held.job.id != row.job.id).count());
        if ahead > 0 {
            facts.number("ahead", ahead);
            return format!(
                "is with worker {} and comes after {}",
                place.worker,
                counted(ahead as u64, "other job", "other jobs")
            );
        }
        facts.text_or_null("started", place.started.map(timestamp::render).as_deref());
        let attempt = row.standing.attempts + 1;
        let since = process.map_or(Duration::ZERO, |process| now.mono.since(process.oldest_since.mono));
        format!("runs on worker {} since {}, attempt {attempt}", place.worker, duration::render(since))
    }

    /// What keeps a queued job from running: a word, and a sentence with what to do.
    fn why_queued(&self, now: Now, row: &Row, live: Option<&Live>) -> (&'static str, String) {
        let name = &row.job.pool;
        if self.is_stopping() {
            return ("stopping", "the daemon is stopping; it runs after the next start".to_owned());
        }
        if let Some(trouble) = &self.writes.trouble {
            return ("storage", format!("{trouble}, and nothing is started until it works again"));
        }
        let Some(place) = self.live_pool(name) else {
            let text = format!(
                "its pool {name} is not configured: add [pools.{name}] to pushpulld.toml, then pushpullctl reload"
            );
            return ("pool_gone", text);
        };
        let pool = &self.pools[place];
        if !pool.settings.can_run(&row.job.work) {
            return ("pool_changed", unsuited(pool));
        }
        if pool.paused {
            return ("paused", format!("pool {name} is paused: pushpullctl resume {name}"));
        }
        if let Some(why) = pool.why_no_worker() {
            return ("no_worker", why);
        }
        match live.map(|live| live.place) {
            Some(Place::Parked) => {
                ("parked", "a worker is still at its former round, and has been told to stop".to_owned())
            }
            Some(Place::Charging) => {
                ("writing", "its last attempt is being written down; then it runs again".to_owned())
            }
            Some(Place::Ending) => ("writing", "its outcome is being written down".to_owned()),
            Some(Place::Waiting) if live.is_some_and(|live| live.standing.alone) => (
                "alone",
                "a worker died with it, so it runs alone, and waits for a worker that holds nothing"
                    .to_owned(),
            ),
            Some(Place::Waiting | Place::Held(_)) | None => ("busy", pool.why_busy(now, row)),
        }
    }

    /// What a worker, or the slot of that name, is at. `None` if there is no such slot.
    pub(super) fn explain_worker(&self, now: Now, name: &str) -> Option<Reply> {
        let (pool, at) = self.find_slot(name)?;
        let slot = &self.pools[pool].slots[at];
        let mut facts = Object::with_capacity(256);
        facts.text("pool", self.pools[pool].settings.name.as_str());
        facts.number("slot", at);
        facts.number("restarts", slot.restarts);
        let mut text = match &slot.state {
            SlotState::Filled(process) => {
                facts.text("worker", &process.name.to_string());
                facts.text("state", process.state());
                facts.number("held", process.held.len());
                why_process(now, process)
            }
            SlotState::Backoff => {
                facts.text("state", "backoff");
                format!("slot {name} waits before its next start: its workers end too soon")
            }
            SlotState::Held => {
                facts.text("state", "held");
                format!(
                    "slot {name} is held back: its pool's workers end too often, and one at a time is tried"
                )
            }
            SlotState::Retired => {
                facts.text("state", "retired");
                format!("slot {name} stays empty: its worker ended, and restart is \"never\"")
            }
            SlotState::Vacant => {
                facts.text("state", "vacant");
                format!("slot {name} is empty: others are starting, or the daemon stops")
            }
        };
        if let Some((exit, at)) = slot.last_exit {
            facts.text("last_exit", &exit.to_string());
            let ago = timestamp::ago(now.wall.since(at));
            let _ = write!(text, "; the one before ended {ago}: {exit}");
        }
        if let Some(error) = &self.pools[pool].start_error {
            facts.text("start_error", error);
            let _ = write!(text, "; the last start failed: {error}");
        }
        Some(explained(&text, &facts.finish()))
    }

    /// A slot's place by `POOL.SLOT`, or by the worker `POOL.SLOT.GENERATION` that fills it.
    pub(super) fn find_slot(&self, name: &str) -> Option<(usize, usize)> {
        let mut parts = name.split('.');
        let (pool, slot) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        let generation = parts.next().map(str::parse::<u64>);
        let place = self.pools.iter().position(|known| known.settings.name.as_str() == pool)?;
        let filled = self.pools[place].slots.get(slot)?.process().map(Process::generation);
        let is_meant = match generation {
            None => true,
            Some(Ok(generation)) => filled == Some(Generation(generation)),
            Some(Err(_)) => false,
        };
        (is_meant && parts.next().is_none()).then_some((place, slot))
    }

    /// Why nothing moves, or that all is well.
    pub(super) fn explain_all(&self, now: Now) -> Reply {
        let warnings = self.warnings(now);
        let waiting: u64 = self.pools.iter().map(|pool| pool.counts[State::Queued]).sum();
        let running: u64 = self.pools.iter().map(Pool::running).sum();
        let mut facts = Object::with_capacity(128);
        facts.number("queued", waiting.saturating_sub(running));
        facts.number("running", running);
        let texts: Vec<serde_json::Value> = warnings.iter().map(|text| text.as_str().into()).collect();
        facts.raw("warnings", &serde_json::Value::from(texts).to_string());
        let mut text = warnings.join("\n");
        if warnings.is_empty() {
            let later: u64 =
                self.pools.iter().map(|pool| pool.counts[State::Delayed] + pool.counts[State::Blocked]).sum();
            text = match (running, waiting.saturating_sub(running), later) {
                (0, 0, 0) => "nothing is waiting: all jobs have their outcome".to_owned(),
                (0, 0, later) => format!(
                    "{} only for their time or for other jobs: pushpullctl list",
                    counted(later, "job waits", "jobs wait")
                ),
                (running, waiting, _) => {
                    format!("all is well: {}, {waiting} queued", counted(running, "job runs", "jobs run"))
                }
            };
        }
        explained(&text, &facts.finish())
    }
}

impl Pool {
    /// Why no worker can take a job, if none can.
    fn why_no_worker(&self) -> Option<String> {
        let name = &self.settings.name;
        if let Some(error) = &self.start_error {
            return Some(format!("no worker of pool {name} starts: {error}"));
        }
        if self.settings.workers == 0 {
            return Some(format!("pool {name} has no workers: pushpullctl scale {name} N"));
        }
        if self.ready() == 0 {
            return Some(format!("no worker of pool {name} is ready: pushpullctl workers shows why"));
        }
        (!self.open).then(|| {
            format!(
                "pool {name} begins when {} workers are ready (min_ready); {} are",
                self.settings.min_ready,
                self.ready()
            )
        })
    }

    fn why_busy(&self, now: Now, row: &Row) -> String {
        let workers = counted(self.ready() as u64, "ready worker", "ready workers");
        let longest = self
            .slots
            .iter()
            .filter_map(|slot| slot.process())
            .filter(|process| matches!(process.phase, Phase::Ready) && !process.held.is_empty())
            .max_by_key(|process| now.mono.since(process.oldest_since.mono));
        let longest = longest.map_or_else(String::new, |process| {
            let since = duration::render(now.mono.since(process.oldest_since.mono));
            format!("; the longest at work is {}, for {since}", process.name)
        });
        format!("its turn comes by priority ({}) and age, in a pool of {workers}{longest}", row.job.priority)
    }
}

/// Jobs that a pool's workers cannot run, with the cure.
fn unsuited(pool: &Pool) -> String {
    let name = &pool.settings.name;
    if pool.settings.is_builtin() {
        format!(
            "it has data, and pool {name} runs commands: give the pool a command again, then pushpullctl reload"
        )
    } else {
        format!(
            "it has a command of its own, and pool {name} takes data: remove the pool's command, then pushpullctl reload"
        )
    }
}

fn why_process(now: Now, process: &Process) -> String {
    let name = &process.name;
    let left = |until: Mono| duration::render(until.since(now.mono));
    let why = process.intent.map_or("it ended", |intent| intent.as_str());
    match process.phase {
        Phase::Starting { until } => format!("worker {name} starts, and has {} to be ready", left(until)),
        Phase::Ready => match process.held.front() {
            None => format!("worker {name} is idle"),
            Some(oldest) => format!(
                "worker {name} is at job {} since {} and holds {}",
                oldest.job.id,
                duration::render(now.mono.since(process.oldest_since.mono)),
                counted(process.held.len() as u64, "job", "jobs")
            ),
        },
        Phase::Draining { .. } => format!("worker {name} finishes what it holds: {why}"),
        Phase::Stopping { until } => {
            format!("worker {name} has got its stop signal ({why}), and is killed in {}", left(until))
        }
        Phase::Killing { kills, .. } => {
            format!("worker {name} has got {} ({why})", counted(u64::from(kills), "SIGKILL", "SIGKILLs"))
        }
        Phase::Stuck { .. } => {
            let pid = process.survivor.or(process.pid).unwrap_or(0);
            format!(
                "worker {name} is stuck: process {pid} survives every SIGKILL, as one that hangs in the kernel does; its jobs were given back"
            )
        }
    }
}

fn why_delayed(now: Wall, row: &Row, attempts: &[(Standing, Attempt)], facts: &mut Object) -> String {
    let due = row.due.unwrap_or(Wall(0));
    facts.text("due", &timestamp::render(due));
    let left = duration::render(due.since(now));
    match attempts.last().filter(|(standing, _)| standing.round == row.standing.round) {
        Some((standing, attempt)) => {
            facts.text("cause", attempt.cause.as_str());
            let error = attempt.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            format!(
                "is tried again in {left}: attempt {} ended with {}{error}",
                standing.attempts,
                attempt.cause.as_str()
            )
        }
        None => format!("is delayed: it starts in {left}, at {}", timestamp::render(due)),
    }
}

fn why_blocked(row: &Row, facts: &mut Object) -> String {
    let words: Vec<String> = row
        .job
        .after
        .iter()
        .map(|after| match after {
            After::Id(id) => format!("job {id}"),
            After::Label(label) => format!("{label:?} of its batch"),
        })
        .collect();
    facts.raw("after", &crate::wire::job::after_json(&row.job.after));
    format!(
        "waits until {} succeeded",
        match words.as_slice() {
            [one] => format!("{one} has"),
            several => format!("{} have", several.join(", ")),
        }
    )
}

fn why_ended(row: &Row, outcome: &Outcome, attempts: &[(Standing, Attempt)], facts: &mut Object) -> String {
    let standing = outcome.standing;
    let cause = outcome.cause.map(Cause::as_str);
    facts.text_or_null("cause", cause);
    let error = record::error_of_outcome(outcome);
    facts.text_or_null("error", error.as_deref());
    let this_round = attempts.iter().filter(|(earlier, _)| earlier.round == standing.round);
    let places: Vec<&AttemptPlace> =
        this_round.map(|(_, attempt)| &attempt.place).chain(&outcome.last).collect();
    let mut workers: Vec<String> = places.iter().map(|place| place.worker.to_string()).collect();
    workers.dedup();
    facts.raw("workers", &serde_json::Value::from(workers.clone()).to_string());
    facts.raw_or_null("evidence", outcome.evidence.as_deref());
    let on = if workers.is_empty() { String::new() } else { format!(" on {}", workers.join(", ")) };
    let tries = counted(u64::from(standing.attempts), "attempt", "attempts");
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    match (outcome.state, outcome.cause) {
        (State::Succeeded, _) => {
            let took = outcome.last.as_ref().map(|place| outcome.finished.since(place.started));
            let took = took.map(|took| format!(" in {}", duration::render(took))).unwrap_or_default();
            format!("succeeded{took} at attempt {}{on}", standing.attempts)
        }
        (_, Some(Cause::Crash)) => {
            let said = outcome.evidence.as_deref().and_then(last_words);
            let said = said.map(|said| format!("; its last line: {said}")).unwrap_or_default();
            format!(
                "failed: {} died with this job alone ({}){error}{said}",
                counted(u64::from(standing.crashes), "worker", "workers"),
                workers.join(", ")
            )
        }
        (_, Some(Cause::Dependency)) => {
            format!("was cancelled{error}; retry what failed, and it waits again")
        }
        (State::Cancelled, _) => format!("was {}", error.trim_start_matches(": ")),
        (_, cause) => {
            let cause = cause.map_or("unknown", Cause::as_str);
            let timeout = row.job.policy().timeout.filter(|_| cause == Cause::Timeout.as_str());
            let limit =
                timeout.map(|limit| format!(" (timeout {})", duration::render(limit))).unwrap_or_default();
            format!("failed with {cause}{limit} after {tries}{on}{error}")
        }
    }
}

/// The last line of output in the evidence of a crash.
fn last_words(evidence: &str) -> Option<String> {
    let evidence: serde_json::Value = serde_json::from_str(evidence).ok()?;
    evidence.get("last_output")?.as_array()?.last()?.as_str().map(str::to_owned)
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn explained(text: &str, facts: &str) -> Reply {
    let mut object = Object::with_capacity(64 + text.len() + facts.len());
    object.text("text", text);
    object.raw("facts", facts);
    Reply::Object(object.finish())
}
