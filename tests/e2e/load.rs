//! Many jobs at once.

use crate::harness::Daemon;
use crate::worker::pool;
use serde_json::{Value, json};

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
