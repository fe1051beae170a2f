//! Clients that do not play by the rules: they ask without listening, or go away in the middle.

use crate::harness::Daemon;
use crate::process::PATIENCE;
use serde_json::{Value, json};
use std::time::Instant;

/// Nothing runs here, so what is queued can be counted.
const IDLE: &str = "[pools.default]\nworkers = 0\n";

#[test]
fn a_client_that_asks_without_listening_harms_nobody() {
    let daemon = Daemon::start(IDLE);
    let deaf = daemon.socket(zmq::DEALER);
    deaf.set_sndhwm(0).expect("a plain option");
    let deaf = {
        // The option holds for connections made after it.
        let endpoint = format!("ipc://{}/control.ipc", daemon.site.runtime().display());
        deaf.disconnect(&endpoint).expect("it was connected");
        deaf.connect(&endpoint).expect("the path is short");
        deaf
    };
    let requests = 100_000;
    for n in 0..requests {
        let request = match n % 100 {
            0 => json!({"v": 1, "op": "submit", "key": format!("deaf {n}"), "jobs": ["true"]}),
            1 => json!({"v": 1, "op": "wait", "select": "all", "timeout_ms": 3_600_000}),
            _ => json!({"v": 1, "op": "ping"}),
        };
        deaf.send_multipart([&b""[..], request.to_string().as_bytes()], 0).expect("nothing limits it");
        if n % 10_000 == 0 {
            daemon.ask(&json!({"op": "ping"}));
        }
    }
    // Its submits are done although it does not hear of it.
    let queued = || daemon.ask(&json!({"op": "status"}))["jobs"]["queued"].clone();
    let deadline = Instant::now() + PATIENCE;
    while queued() != requests / 100 {
        assert!(Instant::now() < deadline, "{} of its submits are done", queued());
    }
    // Replies beyond what the sockets hold are gone; those that are there are whole.
    for _ in 0..500 {
        let reply = deaf.recv_multipart(0).expect("it is there");
        let reply: Value = serde_json::from_slice(&reply[1]).expect("a reply is JSON");
        assert!(reply["ok"].is_boolean(), "{reply}");
    }
    drop(deaf);
    assert_eq!(daemon.ask(&json!({"op": "submit", "jobs": ["true"]}))["jobs"], 1);
    daemon.assert_audit();
}

#[test]
fn a_submit_whose_client_vanishes_can_be_aborted_or_finished_by_another() {
    let daemon = Daemon::start(IDLE);
    let piece = |key: &str, chunk: u64| json!({"op": "submit", "key": key, "chunk": chunk, "last": chunk == 2, "jobs": vec!["true"; 3]});
    for key in ["aborted", "finished"] {
        assert_eq!(daemon.ask(&piece(key, 0))["expect"], 1);
        assert_eq!(daemon.ask(&piece(key, 1))["expect"], 2);
        // Gone before its reply.
        drop(daemon.begin(&piece(key, 1)));
    }
    let queued = || daemon.ask(&json!({"op": "status"}))["jobs"]["queued"].clone();
    assert_eq!(queued(), 0);
    daemon.ask(&json!({"op": "submit", "key": "aborted", "abort": true}));
    let refused = daemon.refusal(&piece("aborted", 2));
    assert_eq!((&refused["code"], &refused["expect"]), (&json!("chunk_expected"), &json!(0)), "{refused}");
    assert_eq!(queued(), 0);
    // Somebody else goes on with the other, from its beginning, which is known already.
    let mut reply = daemon.ask(&piece("finished", 0));
    while let Some(chunk) = reply["expect"].as_u64() {
        reply = daemon.ask(&piece("finished", chunk));
    }
    assert_eq!((&reply["jobs"], queued()), (&json!(9), json!(9)), "{reply}");
    assert_eq!(daemon.ask(&piece("finished", 2)), reply, "told once more");
    let again = daemon.ask(&piece("aborted", 0));
    assert_eq!(again["expect"], 1);
    daemon.assert_audit();
}
