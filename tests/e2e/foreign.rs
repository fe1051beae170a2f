//! Workers in other languages, the ancestor's among them.
//!
//! The Node.js ones find the package `zeromq` by `NODE_PATH`.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::Handle;
use serde_json::{Value, json};

fn script(name: &str) -> String {
    format!("{}/tests/workers/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python(pool: &str, wish: &str, settings: &str) -> String {
    let command = json!(["python3", script("worker.py")]);
    format!(
        "[pools.{pool}]\ncommand = {command}\nenvironment = {{ WORKER_DO = \"{wish}\" }}\nbackoff = \"1ms\"\n{settings}\n"
    )
}

fn node(pool: &str, name: &str, settings: &str) -> String {
    format!("[pools.{pool}]\ncommand = {}\n{settings}\n", json!(["node", script(name)]))
}

/// Data with everything that JSON has.
fn odd_data() -> Vec<Value> {
    vec![
        json!(null),
        json!(""),
        json!("\u{e9}\u{1f980}\0\n\"\\/"),
        json!(-1.5e-9),
        json!([[], {}, [null]]),
        json!({"a": {"b": [1, "2", {"c": false}]}, "id": 1, "type": "result", "": 0}),
        json!("x".repeat(100_000)),
    ]
}

fn assert_echo(daemon: &Daemon) {
    let data = odd_data();
    let jobs: Vec<Value> =
        (0..50).flat_map(|_| &data).map(|data| json!({"data": data})).chain([json!({"data": 7})]).collect();
    let reply = daemon.ask(&json!({"op": "submit", "jobs": jobs}));
    let records = daemon.results(&format!("@{}", reply["batch"]));
    for (record, job) in records.values().zip(&jobs) {
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
        assert_eq!(record["result"], job["data"]);
    }
    assert_eq!(records.len(), jobs.len());
}

#[test]
#[ignore = "needs pyzmq"]
fn python_workers_echo_fail_retry_and_misbehave() {
    let mut daemon = Daemon::start(&python("default", "", "workers = 2"));
    assert_echo(&daemon);
    let cases = [
        (json!({"do": "raw"}), "succeeded", 1),
        (json!({"do": "fail"}), "failed", 3),
        (json!({"do": "fail", "retry": false, "detail": "Traceback"}), "failed", 1),
        (json!({"do": "flat", "fields": {"x": 1}}), "succeeded", 1),
        (json!({"do": "junk"}), "succeeded", 1),
        (json!({"do": "twice"}), "succeeded", 1),
        (json!({"do": "no such wish"}), "failed", 1),
    ];
    let jobs: Vec<Value> = cases.iter().map(|(data, _, _)| json!({"data": data, "retries": 2})).collect();
    let first = daemon.submit(&json!(jobs));
    for (record, (data, state, attempts)) in
        daemon.results(&format!("{first}-{}", first + 6)).values().zip(&cases)
    {
        assert_eq!(
            (&record["state"], &record["attempts"]),
            (&json!(state), &json!(attempts)),
            "{data}: {record}"
        );
        if data["do"] == "twice" {
            assert_eq!(record["result"], *data, "the first answer counts");
        }
        if data["do"] == "flat" {
            assert_eq!(record["result"]["x"], 1, "{record}");
        }
    }
    let raw: Value =
        daemon.record(first)["result"].as_str().map(serde_json::from_str).expect("text").expect("JSON");
    assert_eq!(raw, json!({"type": "job", "id": first, "attempt": 1, "data": {"do": "raw"}}));
    assert!(daemon.workers().iter().all(|row| row["restarts"] == 0));
    daemon.stop();
}

#[test]
#[ignore = "needs pyzmq"]
fn python_workers_may_answer_in_any_order_say_junk_and_leave() {
    let pools = [
        python("default", "reverse=4", "workers = 2\ncredit = 4"),
        python("junk", "junk,two-readies,anon", "workers = 1\ncredit = 3"),
        python("leave", "leave=9", "workers = 2\ncredit = 4"),
        python("twice", "twice", "workers = 1"),
    ];
    let daemon = Daemon::start(&pools.concat());
    let jobs: Vec<Value> = ["default", "junk", "leave", "twice"]
        .iter()
        .flat_map(|pool| (0..60).map(move |n| json!({"pool": pool, "data": [pool, n]})))
        .collect();
    daemon.submit(&json!(jobs));
    let records = daemon.results("all");
    assert_eq!(records.len(), jobs.len());
    for (record, job) in records.values().zip(&jobs) {
        assert_eq!((&record["state"], &record["crashes"]), (&json!("succeeded"), &json!(0)), "{record}");
        assert_eq!(record["result"], job["data"], "{record}");
    }
}

#[test]
#[ignore = "needs pyzmq"]
fn what_a_python_worker_spawned_ends_before_its_job_runs_again() {
    let daemon = Daemon::start(&python("default", "", "workers = 1\ncredit = 1"));
    let spawned = daemon.run(json!({"data": {"do": "spawn"}}))["result"].clone();
    let pid = |name: &str| i32::try_from(spawned[name].as_i64().expect("a pid")).expect("a pid");
    let (worker, child) = (Handle::open(pid("pid")), Handle::open(pid("spawned")));
    let (worker, child) = (worker.expect("it lives"), child.expect("it lives"));
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    worker.signal(libc::SIGKILL);
    gate.open_for(1);
    assert_eq!(daemon.run(json!({"data": "next"}))["result"], "next");
    assert!(child.has_ended(), "a process of the old worker's lives beside the new one");
}

#[test]
#[ignore = "needs Node.js with zeromq"]
fn node_workers_echo_fail_and_die() {
    let mut daemon = Daemon::start(&node("default", "worker.js", "workers = 2\nmax_crashes = 2"));
    assert_echo(&daemon);
    let failed = daemon.run(json!({"data": {"do": "fail"}, "retries": 3}));
    assert_eq!((&failed["cause"], &failed["attempts"]), (&json!("error"), &json!(1)), "{failed}");
    let died = daemon.run(json!({"data": {"do": "die"}}));
    assert_eq!((&died["cause"], &died["crashes"]), (&json!("crash"), &json!(2)), "{died}");
    assert!(died["error"].as_str().is_some_and(|error| error.contains("signal 9 (KILL)")), "{died}");
    daemon.stop();
}

fn ancestor(jobs: u64) -> Vec<Value> {
    (1..=jobs)
        .map(|n| json!({"data": {"jobId": n, "details": format!("details of {n}"), "timestamp": 1_700_000_000_000_u64 + n}}))
        .collect()
}

fn assert_ancestors_answers(daemon: &Daemon, jobs: usize) {
    let records = daemon.results("all");
    assert_eq!(records.len(), jobs);
    for (n, record) in (1_u64..).zip(records.values()) {
        assert_eq!(record["state"], "succeeded", "{record}");
        let result = &record["result"];
        assert_eq!((&result["jobId"], &result["createdAt"]), (&json!(n), &json!(1_700_000_000_000_u64 + n)));
        assert!(result["workerId"].is_u64() && result["respondedAt"].is_u64(), "{record}");
        assert_eq!(result["type"], Value::Null, "{record}");
    }
}

#[test]
#[ignore = "needs Node.js with zeromq"]
fn the_ancestors_thirty_jobs_come_back_from_its_three_workers() {
    let settings = "workers = 3\nmin_ready = 3\nmessage = \"bare\"";
    let mut daemon = Daemon::start(&node("default", "demo-worker.js", settings));
    daemon.submit(&json!(ancestor(30)));
    assert_ancestors_answers(&daemon, 30);
    assert_eq!(daemon.ask(&json!({"op": "status"}))["pools"][0]["workers"]["ready"], 3);
    daemon.stop();
}

#[test]
#[ignore = "needs Node.js with zeromq"]
fn the_ancestors_jobs_all_come_back_when_a_worker_is_killed_in_the_middle() {
    let settings = "workers = 3\nmin_ready = 3\nmessage = \"bare\"\ncredit = 8";
    let mut daemon = Daemon::start(&node("default", "demo-worker.js", settings));
    // Enough of them that there is a middle.
    let jobs = ancestor(6_000);
    for chunk in jobs.chunks(2_000) {
        daemon.ask(&json!({"op": "submit", "jobs": chunk}));
    }
    let some = daemon.ask(&json!({"op": "results", "select": "all", "limit": 10, "timeout_ms": 20_000}));
    assert_eq!(some["done"], false);
    let living = daemon.living("default");
    let (victim, _) = living.iter().find(|(_, row)| row["held"] != 0).expect("somebody works");
    assert!(victim.signal(libc::SIGKILL));
    assert_ancestors_answers(&daemon, 6_000);
    daemon.stop();
}
