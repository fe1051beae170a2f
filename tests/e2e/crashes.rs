//! Workers that die: whose jobs run again, and who is charged.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::Handle;
use crate::site::PLAIN;
use crate::worker::pool;
use serde_json::{Value, json};

#[test]
fn a_worker_killed_with_a_window_charges_nobody_and_its_jobs_run_elsewhere() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 2\ncredit = 8"));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let wait = json!({"data": {"do": "wait", "path": gate.path(), "say": started.path()}});
    let first = daemon.submit(&json!(vec![wait; 16]));
    let held = [started.pid(), started.pid()];
    let victim = Handle::open(held[0]).expect("it waits at the gate");
    assert!(victim.signal(libc::SIGKILL));
    victim.await_end();
    gate.open_for(32);
    let records = daemon.results("all");
    assert_eq!(records.len(), 16);
    for (id, record) in &records {
        assert_eq!(record["state"], "succeeded", "{record}");
        let charges = (&record["attempts"], &record["crashes"]);
        assert_eq!(charges, (&json!(1), &json!(0)), "job {id} was charged for being near: {record}");
    }
    assert_eq!(daemon.show(first)["state"], "succeeded");
}

#[test]
fn a_job_killed_alone_is_charged_exactly_once_and_then_succeeds() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\ncredit = 1"));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let wait = json!({"data": {"do": "wait", "path": gate.path(), "say": started.path()}});
    let first = daemon.submit(&json!([wait, {"data": "behind"}]));
    for _ in 0..2 {
        assert!(Handle::open(started.pid()).expect("it waits").signal(libc::SIGKILL));
    }
    started.line();
    gate.open_for(1);
    let records = daemon.results("all");
    let charged = &records[&first];
    assert_eq!(charged["state"], "succeeded", "{charged}");
    assert_eq!((&charged["attempts"], &charged["crashes"]), (&json!(3), &json!(2)), "{charged}");
    let spared = &records[&(first + 1)];
    assert_eq!((&spared["attempts"], &spared["crashes"]), (&json!(1), &json!(0)), "{spared}");
    let history = daemon.show(first)["history"].clone();
    assert_eq!(history[0]["cause"], "crash", "{history}");
    assert_eq!(history[0]["evidence"]["signal"], 9, "{history}");
}

#[test]
fn a_poison_job_fails_with_the_evidence_and_its_neighbours_succeed() {
    let settings = "workers = 2\ncredit = 16\nmax_crashes = 3";
    let daemon = Daemon::start(&pool("default", "echo", settings));
    let mut jobs: Vec<Value> = (0..40).map(|n| json!({"data": n})).collect();
    jobs[7] = json!({"data": {"do": "die", "signal": libc::SIGSEGV}});
    jobs[21] = json!({"data": {"do": "exit", "status": 70}});
    let first = daemon.submit(&json!(jobs));
    let records = daemon.results("all");
    for (record, job) in records.values().zip(&jobs) {
        if job["data"].is_number() {
            assert_eq!(record["state"], "succeeded", "{record}");
            assert_eq!((&record["attempts"], &record["crashes"]), (&json!(1), &json!(0)), "{record}");
        } else {
            assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("crash")), "{record}");
            assert_eq!((&record["attempts"], &record["crashes"]), (&json!(3), &json!(3)), "{record}");
        }
    }
    let poison = daemon.show(first + 7);
    assert!(poison["error"].as_str().is_some_and(|error| error.contains("signal 11 (SEGV)")), "{poison}");
    let history = poison["history"].as_array().expect("a history");
    assert_eq!(history.len(), 3, "{poison}");
    for attempt in history {
        assert_eq!(attempt["evidence"]["signal"], 11, "{attempt}");
        let lines = attempt["evidence"]["last_output"].to_string();
        assert!(lines.contains("last words of"), "{attempt}");
    }
    let status = daemon.show(first + 21);
    assert!(status["error"].as_str().is_some_and(|error| error.contains("70")), "{status}");
}

#[test]
fn a_job_that_ten_workers_leave_behind_is_lost() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 2"));
    let record = daemon.run(json!({"data": {"do": "exit", "status": 0}}));
    assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("lost")), "{record}");
    assert_eq!(record["crashes"], 0);
    assert_eq!(daemon.run(json!({"data": "fine"}))["result"], "fine");
}

#[test]
fn a_killed_built_in_worker_takes_its_command_with_it_and_the_job_runs_again() {
    let daemon = Daemon::start(PLAIN);
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let line =
        format!("setsid sleep 100000 & echo $! >{0}; echo $$ >{0}; read x <{1}", started.path(), gate.path());
    let id = daemon.submit(&json!([line]));
    let tree = [started.pid(), started.pid()].map(|pid| Handle::open(pid).expect("it runs"));
    let living = daemon.living("default");
    let (worker, _) = living.iter().find(|(_, row)| row["state"] == "busy").expect("one works");
    assert!(worker.signal(libc::SIGKILL));
    let again = [started.pid(), started.pid()];
    for process in &tree {
        assert!(process.has_ended(), "the first command still runs beside the second");
    }
    gate.open_for(1);
    let record = daemon.record(id);
    assert_eq!((&record["state"], &record["crashes"]), (&json!("succeeded"), &json!(1)), "{record}");
    for process in again.into_iter().filter_map(Handle::open) {
        process.await_end();
    }
}
