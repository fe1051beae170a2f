//! How everything ends: drains, stops, kills, cancels.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{self, Handle};
use crate::site::{PLAIN, Site};
use crate::worker::pool;
use serde_json::{Value, json};

/// A command that says its pid and waits to be let go.
fn gated(started: &Fifo, gate: &Fifo) -> String {
    format!("echo $$ >{}; read x <{}; echo done", started.path(), gate.path())
}

fn fifos(daemon: &Daemon) -> (Fifo, Fifo) {
    (Fifo::new(daemon.site.path(), "started"), Fifo::new(daemon.site.path(), "gate"))
}

#[test]
fn a_stop_lets_running_jobs_finish_and_keeps_the_others() {
    let mut daemon = Daemon::start(PLAIN);
    let (mut started, mut gate) = fifos(&daemon);
    let first = daemon.submit(&json!(vec![gated(&started, &gate); 5]));
    let running = [started.pid(), started.pid()];
    daemon.signal(libc::SIGTERM);
    // The daemon says so when it has taken the signal.
    let deadline = std::time::Instant::now() + process::PATIENCE;
    while daemon.ask(&json!({"op": "status"}))["draining"] != true {
        assert!(std::time::Instant::now() < deadline, "the daemon does not hear");
    }
    let error = daemon.refusal(&json!({"op": "submit", "jobs": ["true"]}));
    assert_eq!(error["code"], "draining");
    assert!(running.iter().all(|pid| process::is_alive(*pid)), "a running job was not let finish");
    gate.open_for(2);
    daemon.assert_clean_exit();

    daemon.start_again();
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!(status["jobs"]["succeeded"], 2, "{status}");
    gate.open_for(3);
    let records = daemon.results("all");
    assert_eq!(records.keys().copied().collect::<Vec<u64>>(), (first..first + 5).collect::<Vec<u64>>());
    for record in records.values() {
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    }
    daemon.stop();
}

#[test]
fn a_second_signal_stops_running_jobs_which_run_again_later() {
    let mut daemon = Daemon::start(PLAIN);
    let (mut started, mut gate) = fifos(&daemon);
    let id = daemon.submit(&json!([gated(&started, &gate)]));
    let command = Handle::open(started.pid()).expect("it runs");
    daemon.signal(libc::SIGTERM);
    while daemon.ask(&json!({"op": "status"}))["draining"] != true {}
    daemon.signal(libc::SIGINT);
    daemon.assert_clean_exit();
    assert!(command.has_ended());
    daemon.start_again();
    gate.open_for(1);
    let record = daemon.record(id);
    assert_eq!(record["state"], "succeeded", "{record}");
    assert_eq!((&record["attempts"], &record["crashes"]), (&json!(1), &json!(0)), "it was charged: {record}");
}

#[test]
fn a_drain_timeout_ends_the_waiting() {
    let mut daemon = Daemon::start(&format!("drain_timeout = \"100ms\"\n{PLAIN}"));
    let (mut started, gate) = fifos(&daemon);
    let id = daemon.submit(&json!([gated(&started, &gate)]));
    started.line();
    daemon.stop();
    daemon.start_again();
    started.line();
    assert_eq!(daemon.show(id)["state"], "running");
}

#[test]
fn a_worker_that_does_not_hear_is_killed_after_its_time() {
    let mut daemon = Daemon::start(&pool("default", "deaf", "workers = 2\nstop_timeout = \"200ms\""));
    let mut started = Fifo::new(daemon.site.path(), "started");
    daemon.submit(&json!([{"data": {"do": "hang", "say": started.path()}}]));
    let hung = Handle::open(started.pid()).expect("it hangs");
    assert_eq!(daemon.ask(&json!({"op": "shutdown", "now": true}))["ok"], true);
    daemon.assert_clean_exit();
    assert!(hung.has_ended());
    daemon.start_again();
    assert_eq!(daemon.ask(&json!({"op": "status"}))["jobs"]["failed"], 0);
}

#[test]
fn a_third_signal_kills() {
    let settings = "workers = 1\nstop_timeout = \"1h\"";
    let mut daemon = Daemon::start(&pool("default", "deaf", settings));
    let mut started = Fifo::new(daemon.site.path(), "started");
    daemon.submit(&json!([{"data": {"do": "hang", "say": started.path()}}]));
    started.line();
    daemon.signal(libc::SIGTERM);
    while daemon.ask(&json!({"op": "status"}))["draining"] != true {}
    daemon.signal(libc::SIGTERM);
    while daemon.workers()[0]["state"] != "stopping" {}
    daemon.signal(libc::SIGTERM);
    daemon.assert_clean_exit();
}

#[test]
fn shutdown_and_drain_are_requests_too() {
    let mut daemon = Daemon::start(PLAIN);
    let (mut started, mut gate) = fifos(&daemon);
    daemon.submit(&json!([gated(&started, &gate)]));
    started.line();
    assert_eq!(daemon.ask(&json!({"op": "shutdown"}))["ok"], true);
    gate.open_for(1);
    daemon.assert_clean_exit();

    daemon.start_again();
    daemon.submit(&json!(vec![gated(&started, &gate); 4]));
    assert_eq!(daemon.ask(&json!({"op": "drain"}))["ok"], true);
    assert_eq!(daemon.refusal(&json!({"op": "submit", "jobs": ["true"]}))["code"], "draining");
    gate.open_for(4);
    daemon.assert_clean_exit();
    daemon.start_again();
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!((&status["jobs"]["succeeded"], &status["jobs"]["queued"]), (&json!(5), &json!(0)));
}

#[test]
fn a_daemon_in_memory_does_the_same_and_keeps_nothing() {
    let mut daemon = Daemon::start_at(Site::new(PLAIN).argument("--memory"));
    let jobs: Vec<Value> = (0..50).map(|n| json!(format!("echo {n}"))).collect();
    daemon.submit(&json!(jobs));
    for (n, record) in daemon.results("all").values().enumerate() {
        assert_eq!(record["result"]["stdout"], format!("{n}\n"));
    }
    let (mut started, _gate) = fifos(&daemon);
    daemon.submit(&json!([format!("echo $$ >{}; sleep 100000", started.path())]));
    let command = Handle::open(started.pid()).expect("it runs");
    daemon.kill();
    daemon.start_again();
    assert!(command.has_ended());
    assert!(!daemon.site.state().exists());
    let status = daemon.ask(&json!({"op": "status"}));
    assert!(status["jobs"].as_object().is_some_and(|counts| counts.values().all(|count| *count == 0)));
    daemon.stop();
}

#[test]
fn cancelled_commands_end_with_their_tree_and_their_worker_lives_on() {
    let daemon = Daemon::start("[pools.default]\nworkers = 1\n");
    let (mut started, gate) = fifos(&daemon);
    let line = format!(
        "setsid sleep 100000 & echo $! >{0}; sleep 100000 & echo $! >{0}; echo $$ >{0}; read x <{1}",
        started.path(),
        gate.path()
    );
    let first = daemon.submit(&json!([line, "echo never", "echo kept"]));
    let tree = [0; 3].map(|_| Handle::open(started.pid()).expect("it runs"));
    let select = format!("{}-{}", first, first + 1);
    let reply = daemon.ask(&json!({"op": "cancel", "select": select, "reason": "enough"}));
    assert_eq!((&reply["cancelled"], &reply["already_finished"]), (&json!(2), &json!(0)), "{reply}");
    let records = daemon.results("all");
    for id in [first, first + 1] {
        let record = &records[&id];
        assert_eq!((&record["state"], &record["cause"]), (&json!("cancelled"), &json!("cancelled")));
        assert!(record["error"].as_str().is_some_and(|error| error.contains("enough")), "{record}");
    }
    assert_eq!(records[&(first + 2)]["result"]["stdout"], "kept\n");
    for process in &tree {
        process.await_end();
    }
    assert_eq!(daemon.workers()[0]["restarts"], 0);
    let again = daemon.ask(&json!({"op": "cancel", "select": "all"}));
    assert_eq!((&again["cancelled"], &again["already_finished"]), (&json!(0), &json!(3)), "{again}");
}

#[test]
fn a_foreign_worker_that_keeps_at_a_cancelled_job_is_replaced() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\ncredit = 3"));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let hang = json!({"data": {"do": "hang", "say": started.path()}});
    let first = daemon.submit(&json!([hang, {"data": 1}, {"data": 2}]));
    let hung = Handle::open(started.pid()).expect("it hangs");
    assert_eq!(daemon.ask(&json!({"op": "cancel", "select": first.to_string()}))["cancelled"], 1);
    let records = daemon.results("all");
    hung.await_end();
    assert_eq!(records[&first]["state"], "cancelled");
    for id in [first + 1, first + 2] {
        assert_eq!((&records[&id]["state"], &records[&id]["crashes"]), (&json!("succeeded"), &json!(0)));
    }
}

#[test]
fn failed_jobs_are_retried_and_finished_ones_removed() {
    let daemon = Daemon::start(PLAIN);
    let flag = daemon.site.path().join("flag");
    let line = format!("test -e {}", flag.display());
    let first = daemon.submit(&json!([line, "true", line]));
    assert_eq!(daemon.wait("all")["failed"], 2);
    std::fs::write(&flag, "").expect("it is ours");
    let reply = daemon.ask(&json!({"op": "retry", "select": "all"}));
    assert_eq!((&reply["retried"], &reply["not_failed"]), (&json!(2), &json!(1)), "{reply}");
    assert_eq!(daemon.wait("all")["succeeded"], 3);
    let reply = daemon.ask(&json!({"op": "remove", "select": [first.to_string(), (first + 1).to_string()]}));
    assert_eq!((&reply["removed"], &reply["not_finished"]), (&json!(2), &json!(0)), "{reply}");
    assert_eq!(daemon.refusal(&json!({"op": "show", "id": first}))["code"], "not_found");
    assert_eq!(daemon.wait("all")["succeeded"], 1);
}
