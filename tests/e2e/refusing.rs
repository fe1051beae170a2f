//! Requests and peers that are wrong: each costs an error, never the daemon.

use crate::harness::Daemon;
use crate::process::{PATIENCE, is_readable};
use crate::site::PLAIN;
use crate::worker::pool;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

fn two_pools() -> String {
    format!(
        "request_bytes_max = \"256KiB\"\njob_bytes_max = 10000\nbatch_jobs_max = 3000\njobs_max = 5000\n{PLAIN}\n{}",
        pool("other", "echo", "workers = 1")
    )
}

#[test]
fn jobs_that_cannot_be_taken_are_refused_and_nothing_of_their_submit_stays() {
    let daemon = Daemon::start(&two_pools());
    let cases = [
        (json!({"run": "true", "pool": "nowhere"}), "bad_job", "nowhere"),
        (json!({"run": "true", "pool": "other"}), "bad_job", "other"),
        (json!({"data": 1}), "bad_job", "data"),
        (json!({"run": "true", "data": 1}), "bad_job", "data"),
        (json!({"run": "true", "retrys": 1}), "bad_job", "retries"),
        (json!({"run": "true", "priority": 1001}), "bad_job", "priority"),
        (json!({"run": "true", "timeout": "1 parsec"}), "bad_job", "timeout"),
        (json!({"run": []}), "bad_job", "run"),
        (json!({"run": "nul \u{0}"}), "bad_job", "run"),
        (json!({"run": "true", "after": 99_999}), "bad_job", "99999"),
        (json!({"run": "true", "after": "later"}), "bad_job", "later"),
        (json!(17), "bad_job", ""),
        (json!({}), "bad_job", ""),
        (json!({"run": "x".repeat(10_001)}), "limit", "job_bytes_max"),
    ];
    for (job, code, words) in cases {
        let error = daemon.refusal(&json!({"op": "submit", "jobs": ["true", job, "true"]}));
        assert_eq!(error["code"], code, "{job}: {error}");
        assert!(error.to_string().contains(words), "{job}: {error}");
        if code == "bad_job" {
            assert_eq!(error["index"], 1, "{job}: {error}");
        }
    }
    let status = daemon.ask(&json!({"op": "status"}));
    assert!(status["jobs"].as_object().is_some_and(|counts| counts.values().all(|count| *count == 0)));
    assert_eq!(daemon.run(json!("echo fine"))["result"]["stdout"], "fine\n");
}

#[test]
fn limits_are_named_with_their_values() {
    let daemon = Daemon::start(&two_pools());
    daemon.ask(&json!({"op": "pause"}));
    let limit = |request: &Value, name: &str, value: u64| {
        let error = daemon.refusal(request);
        assert_eq!(error["code"], "limit", "{error}");
        assert_eq!((&error["limit"], &error["value"]), (&json!(name), &json!(value)), "{error}");
    };
    let submit = |jobs: usize| json!({"op": "submit", "jobs": vec!["true"; jobs]});
    limit(&submit(2_001), "chunk_jobs_max", 2_000);
    limit(&json!({"op": "submit", "jobs": [" ".repeat(300_000)]}), "request_bytes_max", 262_144);
    let key = "k".repeat(1_025);
    limit(&json!({"op": "submit", "jobs": ["true"], "key": key}), "key_bytes_max", 1_024);
    limit(&json!({"op": "submit", "jobs": [{"run": "true", "key": key}]}), "key_bytes_max", 1_024);
    limit(&deep(129), "data_depth_max", 128);
    assert_eq!(daemon.ask(&deep(128))["jobs"], 1);
    daemon.ask(&json!({"op": "cancel", "select": "all"}));
    daemon.ask(&json!({"op": "remove", "select": "all"}));
    let first = json!({"op": "submit", "key": "k", "chunk": 0, "jobs": vec!["true"; 2_000]});
    daemon.ask(&first);
    let second = json!({"op": "submit", "key": "k", "chunk": 1, "last": true, "jobs": vec!["true"; 1_001]});
    limit(&second, "batch_jobs_max", 3_000);
    daemon.ask(&submit(2_000));
    daemon.ask(&submit(2_000));
    limit(&submit(1_001), "jobs_max", 5_000);
    assert_eq!(daemon.ask(&submit(1_000))["jobs"], 1_000);
}

/// A submit of one job whose data is an array in an array and so on.
fn deep(depth: usize) -> Value {
    let mut data = json!([]);
    for _ in 1..depth {
        data = json!([data]);
    }
    json!({"op": "submit", "jobs": [{"pool": "other", "data": data}]})
}

#[test]
fn requests_that_are_none_are_refused() {
    let daemon = Daemon::start(PLAIN);
    let cases: [(&[u8], &str); 16] = [
        (b"", "bad_request"),
        (b"hello", "bad_request"),
        (b"[]", "bad_request"),
        (b"null", "bad_request"),
        (b"{}", "bad_request"),
        (b"{\"v\":1}", "bad_request"),
        (b"{\"v\":2,\"op\":\"ping\"}", "version"),
        (b"{\"v\":1,\"op\":\"pong\"}", "unknown_op"),
        (b"{\"v\":1,\"op\":17}", "bad_request"),
        (b"{\"v\":1,\"op\":\"ping\",\"op\":\"ping\"}", "bad_request"),
        (b"{\"v\":1,\"op\":\"ping\",\"extra\":1}", "bad_request"),
        (b"{\"v\":1,\"op\":\"show\",\"id\":-1}", "bad_request"),
        (b"{\"v\":1,\"op\":\"show\",\"id\":4}", "not_found"),
        (b"{\"v\":1,\"op\":\"cancel\"}", "bad_request"),
        (b"{\"v\":1,\"op\":\"wait\",\"select\":\"3-1,x\"}", "bad_request"),
        (b"\xff\xfe{\"v\":1}", "bad_request"),
    ];
    for (request, code) in cases {
        let text = String::from_utf8_lossy(request);
        let socket = daemon.socket(zmq::REQ);
        socket.send(request, 0).expect("a new REQ socket can send");
        let reply = daemon.finish(&socket);
        assert_eq!((&reply["ok"], &reply["error"]["code"]), (&json!(false), &json!(code)), "{text}: {reply}");
    }
    let deep = format!("{{\"v\":1,\"op\":\"submit\",\"jobs\":{}", "[".repeat(100_000));
    let socket = daemon.socket(zmq::REQ);
    socket.send(&deep, 0).expect("a new REQ socket can send");
    assert_eq!(daemon.finish(&socket)["error"]["code"], "bad_request");
    // Two frames are one too many; a DEALER without the empty frame has no address to answer to.
    let socket = daemon.socket(zmq::REQ);
    socket.send_multipart(["{}", "{}"], 0).expect("a new REQ socket can send");
    assert_eq!(daemon.finish(&socket)["error"]["code"], "bad_request");
    let dealer = daemon.socket(zmq::DEALER);
    dealer.send("{\"v\":1,\"op\":\"ping\"}", 0).expect("it is connected");
    dealer.send_multipart(["", "{\"v\":1,\"op\":\"ping\"}"], 0).expect("it is connected");
    let reply = dealer.recv_multipart(0).expect("the second one is answered");
    assert_eq!(reply.len(), 2);
    daemon.ask(&json!({"op": "ping"}));
}

#[test]
fn clients_that_go_away_while_they_wait_leave_nothing_behind() {
    let daemon = Daemon::start("[pools.default]\nworkers = 0\n");
    daemon.submit(&json!(["true"]));
    for _ in 0..200 {
        let waiting = daemon.begin(&json!({"op": "wait", "select": "all", "timeout_ms": 60_000}));
        daemon.ask(&json!({"op": "ping"}));
        drop(waiting);
    }
    assert_eq!(daemon.ask(&json!({"op": "status"}))["jobs"]["queued"], 1);
}

#[test]
fn peers_that_do_not_speak_zeromq_are_shut_out() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 2"));
    assert_eq!(daemon.run(json!({"data": 1}))["result"], 1);
    let workers = entries(&daemon.site.runtime().join("w"));
    assert_eq!(workers.len(), 4, "two sockets per worker");
    let mut sockets = workers;
    sockets.push(daemon.site.runtime().join("control.ipc"));
    let mut seed = 7_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    let mut open = Vec::new();
    for socket in &sockets {
        let random: Vec<u8> = (0..20_000).map(|_| noise()).collect();
        let speeches: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            &random,
            b"\xff\0\0\0\0\0\0\0\x01\x7f",
            b"\x01\0\x05hello\x05world",
        ];
        for speech in speeches {
            let mut stream = UnixStream::connect(socket).expect("it is bound");
            // It may be closed on us before we have said it all.
            let _ = stream.write_all(speech);
            open.push(stream);
        }
        open.push(UnixStream::connect(socket).expect("it is bound"));
    }
    // What is told at once to be no ZMTP is closed at once; the half-open ones stay open meanwhile.
    let mut http = UnixStream::connect(&sockets[0]).expect("it is bound");
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is open");
    let jobs: Vec<Value> = (0..100).map(|n| json!({"data": n})).collect();
    daemon.submit(&json!(jobs));
    let records = daemon.results("all");
    assert_eq!(records.len(), 101);
    assert!(records.values().all(|record| record["state"] == "succeeded" && record["attempts"] == 1));
    assert!(daemon.workers().iter().all(|row| row["restarts"] == 0));
    assert!(is_readable(http.as_raw_fd(), PATIENCE), "the connection is never closed");
    let mut said = Vec::new();
    let _ = http.read_to_end(&mut said);
    assert!(!said.windows(4).any(|window| window == b"data"), "a stranger was given a job");
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("it is there");
    entries.map(|entry| entry.expect("it is there").path()).collect()
}
