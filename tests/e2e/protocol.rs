//! The protocol of workers, spoken by a worker of our own.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{Handle, PATIENCE};
use crate::site::Site;
use crate::worker::pool;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Instant;

/// A page of results whose payloads are read as they stand in it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    records: Vec<Kept<'a>>,
}
#[derive(Deserialize)]
struct Kept<'a> {
    index: usize,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[test]
fn data_comes_and_goes_byte_for_byte() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 2"));
    let odd = [
        "null",
        "true",
        "-0.0",
        "1e400",
        "123456789012345678901234567890",
        r#""\u00e9\ud83e\udd80 \/ \b""#,
        "[ ]",
        r#"{"b":1, "a" : 2,"a":3}"#,
        "[[[[1.10]]]]",
        r#"{"id":7,"type":"ready","data":null}"#,
    ];
    let jobs: Vec<String> = odd.iter().map(|data| format!(r#"{{"data":{data}}}"#)).collect();
    let request = format!(r#"{{"v":1,"op":"submit","jobs":[{}]}}"#, jobs.join(","));
    let socket = daemon.socket(zmq::REQ);
    socket.send(&request, 0).expect("a new REQ socket can send");
    assert_eq!(daemon.finish(&socket)["ok"], true);
    daemon.wait("all");

    let socket = daemon.begin(&json!({"op": "results", "select": "all"}));
    let reply = socket.recv_bytes(0).expect("nothing is left to wait for");
    let page: Page = serde_json::from_slice(&reply).expect("a reply is JSON");
    assert_eq!(page.records.len(), odd.len());
    for record in page.records {
        assert_eq!(record.result.get(), odd[record.index]);
    }
}

#[test]
fn workers_know_who_and_where_they_are() {
    let daemon = Daemon::start(&format!(
        "{}\n{}",
        pool("default", "echo", "workers = 2"),
        pool("other", "echo", "workers = 1\ndirectory = \"/\"")
    ));
    let record = daemon.run(json!({"pool": "other", "data": {"do": "who"}}));
    let who = &record["result"];
    assert_eq!(who["PUSHPULL_WORKER"], record["worker"]);
    assert_eq!((&who["PUSHPULL_POOL"], &who["PUSHPULL_SLOT"]), (&json!("other"), &json!("0")));
    assert_eq!(who["PUSHPULL_DAEMON"], daemon.mark());
    assert_eq!((&who["cwd"], &who["attempt"]), (&json!("/"), &json!(1)));
    let rows = daemon.workers();
    let row = rows.iter().find(|row| row["worker"] == record["worker"]).expect("it lives");
    assert_eq!(row["pid"], who["pid"]);
}

#[test]
fn every_kind_of_answer_is_understood() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\nbackoff = \"1ms\""));
    let cases = [
        (json!({"do": "fail", "retry": false}), "failed", Value::Null, 1),
        (json!({"do": "fail", "retry": true}), "failed", Value::Null, 3),
        (json!({"do": "anon"}), "succeeded", json!({"do": "anon"}), 1),
        (json!({"do": "flat"}), "succeeded", json!({"one": 1, "two": [2]}), 1),
        (json!({"do": "twice"}), "succeeded", json!("first"), 1),
        (json!({"do": "junk"}), "succeeded", json!("after junk"), 1),
        (json!("the last"), "succeeded", json!("the last"), 1),
    ];
    for (data, state, result, attempts) in cases {
        let record = daemon.run(json!({"data": data, "retries": 2}));
        assert_eq!(record["state"], state, "{record}");
        let mut result = result;
        if data["do"] == "flat" {
            // The fields of the message itself, its `id` among them.
            result["id"] = record["id"].clone();
        }
        assert_eq!(record["result"], result, "{record}");
        assert_eq!(record["attempts"], attempts, "{record}");
        if state == "failed" {
            assert_eq!((&record["cause"], &record["error"]), (&json!("error"), &json!("asked to fail")));
        }
    }
    assert_eq!(daemon.workers()[0]["restarts"], 0, "the worker lives on: {}", daemon.site.log());
}

#[test]
fn answers_out_of_order_and_leaving_workers_lose_nothing() {
    let daemon = Daemon::start(&format!(
        "{}\n{}",
        pool("default", "reverse=5", "workers = 2\ncredit = 5"),
        pool("leaving", "leave=7", "workers = 2\ncredit = 4")
    ));
    let backwards: Vec<Value> = (0..50).map(|n| json!({"data": {"n": n}})).collect();
    let leaving: Vec<Value> = (0..60).map(|n| json!({"pool": "leaving", "data": [n]})).collect();
    daemon.submit(&json!(leaving));
    // Ten at a time: both workers gather five before they answer.
    for ten in backwards.chunks(10) {
        let reply = daemon.ask(&json!({"op": "submit", "jobs": ten}));
        let records = daemon.results(&format!("@{}", reply["batch"]));
        for (record, job) in records.values().zip(ten) {
            assert_eq!((&record["state"], &record["result"]), (&json!("succeeded"), &job["data"]));
        }
    }
    let records = daemon.results("all");
    assert_eq!(records.len(), 110);
    for record in records.values() {
        assert_eq!((&record["state"], &record["crashes"]), (&json!("succeeded"), &json!(0)), "{record}");
    }
}

#[test]
fn a_result_that_is_too_large_is_an_error_of_its_job() {
    let daemon =
        Daemon::start(&format!("result_bytes_max = 1000\n{}", pool("default", "echo", "workers = 1")));
    let fits = daemon.run(json!({"data": {"do": "big", "bytes": 998}}));
    assert_eq!(fits["state"], "succeeded");
    let large = daemon.run(json!({"data": {"do": "big", "bytes": 999}, "retries": 9}));
    assert_eq!((&large["state"], &large["cause"]), (&json!("failed"), &json!("error")), "{large}");
    assert_eq!(large["attempts"], 1, "it is not tried again for it");
    assert!(large["error"].as_str().is_some_and(|error| error.contains("result_bytes_max")));
}

#[test]
fn a_job_that_takes_too_long_costs_its_worker_and_no_other_job() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\ncredit = 4\nstop_timeout = \"5s\""));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let jobs = json!([
        {"data": {"do": "hang", "say": started.path()}, "timeout": "500ms"},
        {"data": 1}, {"data": 2}, {"data": 3},
    ]);
    let first = daemon.submit(&jobs);
    started.line();
    let records = daemon.results("all");
    assert_eq!(records[&first]["cause"], "timeout");
    for (id, record) in records.range(first + 1..) {
        assert_eq!(
            (&record["state"], &record["crashes"]),
            (&json!("succeeded"), &json!(0)),
            "{id}: {record}"
        );
        assert_eq!(record["attempts"], 1, "{record}");
    }
}

#[test]
fn a_worker_that_is_never_ready_gets_no_job_and_is_replaced() {
    let settings = "workers = 1\nstart_timeout = \"200ms\"\nrestart_delay = \"10ms\"";
    let mut daemon = Daemon::start(&pool("default", "mute", settings));
    let id = daemon.submit(&json!([{"data": 1}]));
    let generation = |daemon: &Daemon| daemon.workers()[0]["generation"].as_u64().expect("a number");
    // The wait ends by its own time: the job must not.
    let patience = Instant::now() + PATIENCE;
    while generation(&daemon) < 3 {
        let reply = daemon.ask(&json!({"op": "wait", "select": "all", "timeout_ms": 50}));
        assert_eq!(reply["done"], false);
        assert!(Instant::now() < patience, "the worker is not replaced");
    }
    assert_eq!(daemon.show(id)["attempts"], 0);
    daemon.stop();
}

#[test]
fn a_pool_waits_for_as_many_workers_as_it_wants_before_its_first_job() {
    let site = Site::new("");
    let mut gate = Fifo::new(site.path(), "gate");
    let kind = format!("late={}", gate.path());
    site.configure(&pool("default", &kind, "workers = 3\nmin_ready = 3\nmax_unready = 3"));
    let daemon = Daemon::start_at(site);
    let jobs: Vec<Value> = (0..30).map(|n| json!({"data": n})).collect();
    daemon.submit(&json!(jobs));
    let mut status = daemon.ask(&json!({"op": "status"}));
    let deadline = Instant::now() + PATIENCE;
    while status["pools"][0]["workers"]["ready"] != 2 {
        assert!(Instant::now() < deadline, "two workers were to be ready: {status}");
        status = daemon.ask(&json!({"op": "status"}));
    }
    assert_eq!((&status["jobs"]["queued"], &status["jobs"]["running"]), (&json!(30), &json!(0)), "{status}");
    gate.open_for(1);
    assert_eq!(daemon.wait("all")["succeeded"], 30);
}

#[test]
fn the_ancestors_thirty_jobs_come_back_from_three_bare_workers_though_one_is_killed() {
    let site = Site::new("");
    let (mut started, mut gate) = (Fifo::new(site.path(), "started"), Fifo::new(site.path(), "gate"));
    let settings = "workers = 3\nmin_ready = 3\nmessage = \"bare\"";
    site.configure(&pool("default", "bare", settings));
    let daemon = Daemon::start_at(site);
    let jobs: Vec<Value> = (1..=30_u64)
        .map(|n| {
            let mut data = json!({"jobId": n, "details": "...", "timestamp": 1_700_000_000_000_u64 + n});
            if n == 15 {
                data["say"] = json!(started.path());
                data["gate"] = json!(gate.path());
            }
            json!({"data": data})
        })
        .collect();
    let first = daemon.submit(&json!(jobs));
    assert!(Handle::open(started.pid()).expect("it waits").signal(libc::SIGKILL));
    let second = started.line();
    gate.open_for(1);
    let records = daemon.results("all");
    assert_eq!(records.len(), 30);
    for (n, (id, record)) in (1_u64..).zip(&records) {
        let result = &record["result"];
        assert_eq!((&record["state"], &result["jobId"]), (&json!("succeeded"), &json!(n)), "{record}");
        assert_eq!(result["createdAt"], 1_700_000_000_000_u64 + n);
        assert!(result["workerId"].is_u64() && result["respondedAt"].is_u64(), "{record}");
        assert_eq!(result["id"], "the user's own", "an id in a bare answer is nothing of ours");
        let crashes = u64::from(*id == first + 14);
        assert_eq!(record["crashes"], crashes, "{record}");
    }
    assert_eq!(records[&(first + 14)]["result"]["workerId"].to_string(), second);
}
