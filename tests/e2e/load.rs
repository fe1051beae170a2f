//! Many jobs, and many deaths among them.

use crate::harness::Daemon;
use crate::site::PLAIN;
use crate::worker::pool;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CHUNK: usize = 2_000;

/// Submits jobs in pieces under one key, whatever becomes of the daemon in between; gives the last reply.
fn submit_in_pieces(daemon: &Daemon, key: &str, jobs: &[Value]) -> Value {
    let pieces: Vec<&[Value]> = jobs.chunks(CHUNK).collect();
    let mut reply = Value::Null;
    for (chunk, piece) in pieces.iter().enumerate() {
        let last = chunk + 1 == pieces.len();
        reply = daemon.ask(&json!({"op": "submit", "key": key, "chunk": chunk, "last": last, "jobs": piece}));
        assert_eq!(reply["expect"], if last { Value::Null } else { json!(chunk + 1) }, "{reply}");
    }
    reply
}

#[test]
fn a_hundred_thousand_jobs_succeed_once_each() {
    let mut daemon = Daemon::start(&pool("default", "echo", "workers = 2"));
    let jobs: Vec<Value> = (0..100_000).map(|n| json!({"data": n})).collect();
    let reply = submit_in_pieces(&daemon, "many", &jobs);
    assert_eq!((&reply["jobs"], &reply["known"]), (&json!(100_000), &json!(0)));
    let first = reply["ids"][0][0].as_u64().expect("an id");
    assert_eq!(reply["ids"], json!([[first, first + 99_999]]));
    let records = daemon.results("all");
    assert_eq!(records.len(), 100_000);
    for (n, (id, record)) in (0..).zip(&records) {
        assert_eq!(*id, first + n);
        assert_eq!((&record["state"], &record["result"]), (&json!("succeeded"), &json!(n)), "{record}");
        assert_eq!(record["attempts"], 1, "{record}");
    }
    let counts = daemon.wait("all");
    assert_eq!(
        (&counts["succeeded"], &counts["queued"], &counts["running"]),
        (&json!(100_000), &json!(0), &json!(0))
    );
    daemon.assert_audit();
    daemon.stop();
}

#[test]
fn deaths_of_workers_and_daemon_lose_nothing() {
    chaos(20_000, 200, 3);
}

#[test]
#[ignore = "takes long"]
fn many_deaths_of_workers_and_daemon_lose_nothing() {
    chaos(200_000, 2_000, 20);
}

/// Kills a worker at every page of results, and the daemon so many times in between.
fn chaos(fast: u64, commands: u64, deaths: u64) {
    let fragile = "max_crashes = 1000\nrestart_delay = \"1ms\"\nrestart_delay_max = \"10ms\"";
    let mut daemon = Daemon::start(&format!(
        "{PLAIN}{fragile}\n{}",
        pool("fast", "echo", &format!("workers = 2\ncredit = \"auto\"\n{fragile}"))
    ));
    let data: Vec<Value> = (0..fast).map(|n| json!({"pool": "fast", "data": {"n": n}})).collect();
    let lines: Vec<Value> = (0..commands).map(|n| json!({"run": format!("echo {n}")})).collect();
    let first_data = submit_in_pieces(&daemon, "fast", &data)["ids"][0][0].as_u64().expect("an id");
    let first_line = submit_in_pieces(&daemon, "lines", &lines)["ids"][0][0].as_u64().expect("an id");
    let total = fast + commands;

    let mut choice = 12_345_u64;
    let mut kills = 0;
    let mut left = deaths;
    let mut seen = BTreeMap::new();
    let mut after = Value::Null;
    let limit = total / 40;
    loop {
        let mut request = json!({"op": "results", "select": "all", "limit": limit, "timeout_ms": 20_000});
        if !after.is_null() {
            request["after"] = after.clone();
        }
        let page = daemon.ask(&request);
        for record in page["records"].as_array().expect("records") {
            let id = record["id"].as_u64().expect("an id");
            assert_eq!(seen.insert(id, record.clone()), None, "two outcomes of job {id}");
        }
        if page["done"] == true {
            break;
        }
        after = page["next"].clone();
        let progress = seen.len() as u64;
        if left > 0 && progress >= total * (deaths - left + 1) / (deaths + 1) {
            left -= 1;
            daemon.kill();
            daemon.start_again();
        }
        choice = choice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = if choice >> 63 == 0 { "fast" } else { "default" };
        let living = daemon.living(name);
        if let Some((victim, _)) = living.get((choice >> 40) as usize % living.len().max(1)) {
            kills += u64::from(victim.signal(libc::SIGKILL));
        }
    }
    assert_eq!(left, 0, "the daemon was to die more often");
    assert!(kills >= 10, "only {kills} workers were killed");
    assert_eq!(seen.len() as u64, total);
    for (id, record) in &seen {
        assert_eq!(record["state"], "succeeded", "{record}");
        if *id >= first_line {
            assert_eq!(record["result"]["stdout"], format!("{}\n", id - first_line), "{record}");
        } else {
            assert_eq!(record["result"], json!({"n": id - first_data}), "{record}");
        }
    }
    assert_eq!(daemon.results("all"), seen, "what was told is what is kept");
    daemon.assert_audit();
    daemon.stop();
}
