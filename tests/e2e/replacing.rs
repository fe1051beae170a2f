//! Workers that are replaced by plan, with real processes: no job is lost or charged by it.

use crate::harness::Daemon;
use crate::process::{Handle, PATIENCE};
use crate::site::{PLAIN, Site};
use crate::worker::pool;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// The pids of a pool's workers.
fn pids(daemon: &Daemon) -> BTreeSet<i64> {
    daemon.workers().iter().filter_map(|row| row["pid"].as_i64()).collect()
}

/// Runs short jobs, each of which takes a moment of the daemon's, until `is_so`.
fn work_until(daemon: &Daemon, what: &str, is_so: impl Fn(&Daemon) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(daemon) {
        assert!(Instant::now() < deadline, "{what} does not happen: {:?}", daemon.workers());
        let record = daemon.run(json!("true"));
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    }
}

#[test]
fn a_restart_replaces_every_worker_while_jobs_go_on() {
    let daemon = Daemon::start(PLAIN);
    work_until(&daemon, "readiness", |daemon| pids(daemon).len() == 2);
    let before = pids(&daemon);
    daemon.ask(&json!({"op": "restart", "pool": "default"}));
    work_until(&daemon, "the restart", |daemon| pids(daemon).len() == 2 && pids(daemon).is_disjoint(&before));
    assert_eq!(daemon.refusal(&json!({"op": "restart", "pool": "nowhere"}))["code"], "not_found");
    assert_eq!(daemon.refusal(&json!({"op": "restart", "worker": "default.7"}))["code"], "not_found");
    daemon.assert_audit();
}

#[test]
fn a_restart_at_once_gives_back_what_ran_uncharged() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1"));
    let mut started = crate::fifo::Fifo::new(daemon.site.path(), "started");
    let mut gate = crate::fifo::Fifo::new(daemon.site.path(), "gate");
    let id = daemon.submit(&json!([{"data": {"do": "wait", "path": gate.path(), "say": started.path()}}]));
    let first = Handle::open(started.pid()).expect("it waits at the gate");
    daemon.ask(&json!({"op": "restart", "worker": "default.0", "now": true}));
    first.await_end();
    started.line();
    gate.open_for(1);
    let record = daemon.record(id);
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
}

#[test]
fn a_pool_is_scaled_up_and_down() {
    let daemon = Daemon::start(PLAIN);
    daemon.ask(&json!({"op": "scale", "pool": "default", "workers": 5}));
    work_until(&daemon, "five workers", |daemon| pids(daemon).len() == 5);
    daemon.ask(&json!({"op": "scale", "pool": "default", "workers": 1}));
    work_until(&daemon, "one worker", |daemon| daemon.workers().len() == 1);
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!(status["pools"][0]["workers"]["wanted"], 1, "{status}");
    let wrong = json!({"op": "scale", "pool": "default", "workers": 1_000_000});
    assert_eq!(daemon.refusal(&wrong)["code"], "bad_request");
}

#[test]
fn workers_that_are_recycled_after_each_few_jobs_lose_none() {
    let settings = "workers = 2\nmax_jobs = 10\ncredit = 8\nmax_unavailable = 2";
    let daemon = Daemon::start(&pool("default", "echo", settings));
    let jobs: Vec<Value> = (0..200).map(|n| json!({"data": n})).collect();
    daemon.submit(&json!(jobs));
    let records = daemon.results("all");
    assert_eq!(records.len(), 200);
    let mut workers = BTreeSet::new();
    for record in records.values() {
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
        workers.insert(record["worker"].to_string());
    }
    assert!(workers.len() >= 12, "only {} workers did 200 jobs, each no more than some ten", workers.len());
    daemon.assert_audit();
}

#[test]
fn a_hung_worker_is_aborted_and_its_job_set_aside() {
    let settings = "workers = 1\nwatchdog = \"300ms\"\nmax_crashes = 1";
    let daemon = Daemon::start(&pool("default", "echo", settings));
    let record = daemon.run(json!({"data": {"do": "hang"}}));
    assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("crash")), "{record}");
    assert!(record["error"].as_str().is_some_and(|error| error.contains("signal 6 (ABRT)")), "{record}");
    assert_eq!(daemon.run(json!({"data": 1}))["state"], "succeeded");
}

#[test]
fn a_large_worker_is_replaced_after_its_job() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\nmax_rss = 1"));
    work_until_another(&daemon);
}

/// Runs jobs until another worker does them.
fn work_until_another(daemon: &Daemon) {
    let first = daemon.run(json!({"data": 1}))["worker"].clone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = daemon.run(json!({"data": 1}));
        assert_eq!(record["attempts"], 1, "{record}");
        if record["worker"] != first {
            return;
        }
        assert!(Instant::now() < deadline, "{first} is not replaced");
    }
}

#[test]
fn workers_that_end_at_once_are_tried_one_at_a_time_and_others_go_on() {
    let daemon = Daemon::start(&format!(
        "{PLAIN}\n[pools.bad]\ncommand = [\"false\"]\nworkers = 2\nrestart_delay = 0\nrestart_limit = 5\nrestart_delay_max = \"1h\"\n"
    ));
    let held = |daemon: &Daemon| {
        let rows = daemon.workers();
        rows.iter().filter(|row| row["pool"] == "bad").all(|row| row["state"] == "held")
    };
    work_until(&daemon, "the breaker's trip", held);
    let status = daemon.ask(&json!({"op": "status"}));
    assert!(status["warnings"].to_string().contains("pushpullctl restart bad"), "{status}");
}

#[test]
fn a_pool_may_take_the_daemon_down_when_its_workers_end_too_often() {
    let site = Site::new(&format!(
        "{PLAIN}\n[pools.bad]\ncommand = [\"false\"]\nrestart_delay = 0\nrestart_limit = 3\non_restart_limit = \"exit\"\n"
    ));
    let status = site.logged_command().status().expect("the daemon can be executed");
    assert_eq!(status.code(), Some(6));
    assert!(site.log().contains("end too often"), "{}", site.log());
}
