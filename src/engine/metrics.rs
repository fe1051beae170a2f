//! Counts since the start, for machines that watch: the text format of Prometheus, version 0.0.4.

use super::Engine;
use super::pool::Pool;
use crate::model::{Cause, Now, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What has happened in one pool since the start.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) submitted: u64,
    pub(super) sent: u64,
    /// Jobs that reached each of the finished states; a retried job may do so again.
    pub(super) finished: BTreeMap<State, u64>,
    /// Attempts that ended badly.
    pub(super) failures: BTreeMap<Cause, u64>,
    pub(super) worker_starts: u64,
    pub(super) worker_exits: u64,
}

/// One family: its lines follow its head.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    fn new<'a>(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Family<'a> {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text, name }
    }

    fn line(&mut self, labels: &[(&str, &str)], value: u64) {
        // Pool names, states and causes have nothing that would need escaping.
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

const FINISHED: [State; 3] = [State::Succeeded, State::Failed, State::Cancelled];
/// Causes that end an attempt; the others keep a job from running at all.
const FAILURES: [Cause; 7] =
    [Cause::Error, Cause::Exit, Cause::Signal, Cause::Timeout, Cause::Crash, Cause::Lost, Cause::Start];

impl Engine {
    /// An attempt of a job of `pool` has ended badly.
    pub(super) fn count_failure(&mut self, pool: &crate::model::PoolName, cause: Option<Cause>) {
        if let Some((place, cause)) = self.pool_place(pool).zip(cause) {
            *self.pools[place].totals.failures.entry(cause).or_default() += 1;
        }
    }

    pub(super) fn metrics(&self, now: Now) -> String {
        let mut text = String::with_capacity(4_096);
        let uptime = now.mono.since(self.started.mono).as_secs();
        let alone = |text: &mut String, name, kind, help, value| {
            Family::new(text, name, kind, help).line(&[], value);
        };
        alone(&mut text, "pushpull_uptime_seconds", "gauge", "Seconds since the start.", uptime);
        let works = u64::from(self.writes.trouble.is_none());
        alone(
            &mut text,
            "pushpull_store_works",
            "gauge",
            "0 while jobs and outcomes cannot be written.",
            works,
        );
        let draining = u64::from(self.is_draining() || self.is_stopping());
        alone(&mut text, "pushpull_draining", "gauge", "1 while no jobs are taken.", draining);
        let expired = self.keeping.expired();
        alone(&mut text, "pushpull_jobs_expired_total", "counter", "Finished jobs forgotten.", expired);
        self.job_metrics(&mut text);
        self.worker_metrics(&mut text);
        self.report_metrics(&mut text);
        text
    }

    fn job_metrics(&self, text: &mut String) {
        let mut jobs = Family::new(text, "pushpull_jobs", "gauge", "Jobs kept, by pool and state.");
        for (place, pool) in self.pools.iter().enumerate() {
            let counts = self.counts_with_running(place);
            for state in State::ALL {
                let labels = [("pool", pool.settings.name.as_str()), ("state", state.as_str())];
                jobs.line(&labels, counts[state]);
            }
        }
        let mut submitted = Family::new(text, "pushpull_jobs_submitted_total", "counter", "Jobs accepted.");
        self.each_pool(|name, pool| submitted.line(&[("pool", name)], pool.totals.submitted));
        let help = "Jobs given to workers, each time anew.";
        let mut sent = Family::new(text, "pushpull_jobs_sent_total", "counter", help);
        self.each_pool(|name, pool| sent.line(&[("pool", name)], pool.totals.sent));
        let help = "Jobs that got their outcome.";
        let mut finished = Family::new(text, "pushpull_jobs_finished_total", "counter", help);
        self.each_pool(|name, pool| {
            for state in FINISHED {
                let jobs = pool.totals.finished.get(&state).copied().unwrap_or(0);
                finished.line(&[("pool", name), ("state", state.as_str())], jobs);
            }
        });
        let help = "Attempts that ended badly, by cause.";
        let mut failures = Family::new(text, "pushpull_attempts_failed_total", "counter", help);
        self.each_pool(|name, pool| {
            for cause in FAILURES {
                let attempts = pool.totals.failures.get(&cause).copied().unwrap_or(0);
                failures.line(&[("pool", name), ("cause", cause.as_str())], attempts);
            }
        });
    }

    fn worker_metrics(&self, text: &mut String) {
        let mut paused = Family::new(text, "pushpull_pool_paused", "gauge", "1 while a pool is paused.");
        self.each_pool(|name, pool| paused.line(&[("pool", name)], u64::from(pool.paused)));
        let mut workers = Family::new(text, "pushpull_workers", "gauge", "Workers, by pool and state.");
        self.each_pool(|name, pool| {
            let counts = pool.worker_counts();
            for (state, number) in [
                ("wanted", counts.wanted),
                ("ready", counts.ready),
                ("busy", counts.busy),
                ("starting", counts.starting),
                ("backoff", counts.backoff),
            ] {
                workers.line(&[("pool", name), ("state", state)], number);
            }
        });
        let mut starts = Family::new(text, "pushpull_worker_starts_total", "counter", "Workers started.");
        self.each_pool(|name, pool| starts.line(&[("pool", name)], pool.totals.worker_starts));
        let mut exits = Family::new(text, "pushpull_worker_exits_total", "counter", "Workers that ended.");
        self.each_pool(|name, pool| exits.line(&[("pool", name)], pool.totals.worker_exits));
    }

    fn report_metrics(&self, text: &mut String) {
        let help =
            "Messages of workers that changed nothing: too late or twice, for jobs not held, or none at all.";
        let mut reports = Family::new(text, "pushpull_reports_void_total", "counter", help);
        reports.line(&[("kind", "late")], self.tally.late);
        reports.line(&[("kind", "refused")], self.tally.refused);
        reports.line(&[("kind", "malformed")], self.tally.malformed);
    }

    fn each_pool(&self, mut act: impl FnMut(&str, &Pool)) {
        for pool in &self.pools {
            act(pool.settings.name.as_str(), pool);
        }
    }
}
