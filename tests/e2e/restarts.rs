//! kill -9 of the daemon: what was acknowledged is kept, and nothing of the old one lives on.

use crate::fifo::Fifo;
use crate::harness::{Daemon, first_id};
use crate::process::{self, Handle};
use crate::site::PLAIN;
use crate::worker::pool;
use serde_json::{Value, json};

#[test]
fn a_killed_daemon_loses_no_job_and_leaves_no_process() {
    let mut daemon = Daemon::start(PLAIN);
    let place = daemon.site.path().to_owned();
    let (mut started, mut gate) = (Fifo::new(&place, "started"), Fifo::new(&place, "gate"));
    let quick: Vec<Value> = (0..10).map(|n| json!({"run": format!("echo {n}")})).collect();
    let first = daemon.submit(&json!(quick));
    let kept = daemon.results("all");
    let line = format!(
        "setsid sh -c 'trap \"\" TERM; sleep 100000; :' & echo $! >{0}; sleep 100000 & echo $! >{0}; echo $$ >{0}; read x <{1}",
        started.path(),
        gate.path()
    );
    let slow =
        json!({"op": "submit", "key": "slow \u{e9}", "name": "slow", "jobs": vec![json!({"run": line}); 6]});
    let acknowledged = daemon.ask(&slow);
    let cancelled = first_id(&acknowledged) + 5;
    assert_eq!(daemon.ask(&json!({"op": "cancel", "select": cancelled.to_string()}))["cancelled"], 1);
    let tree: Vec<Handle> = (0..6).filter_map(|_| Handle::open(started.pid())).collect();

    daemon.kill();
    daemon.start_again();
    for process in &tree {
        assert!(process.has_ended(), "a process of the old daemon's outlives the new one's start");
    }
    assert_eq!(daemon.ask(&slow), acknowledged, "the same submit again is the same batch");
    gate.open_for(5);
    let records = daemon.results("all");
    let ids: Vec<u64> = records.keys().copied().collect();
    assert_eq!(ids, (first..first + 16).collect::<Vec<u64>>());
    for (id, record) in &records {
        match kept.get(id) {
            Some(before) => assert_eq!(record, before, "a recorded outcome has changed"),
            None if *id == cancelled => assert_eq!(record["state"], "cancelled"),
            None => {
                assert_eq!(record["state"], "succeeded", "{record}");
                let charges = (&record["attempts"], &record["crashes"]);
                assert_eq!(charges, (&json!(1), &json!(0)), "the daemon's death is charged to nobody");
            }
        }
    }
    daemon.stop();
}

#[test]
fn workers_die_with_their_daemon() {
    let mut daemon = Daemon::start(&pool("default", "deaf", "workers = 3"));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let jobs = vec![json!({"data": {"do": "hang", "say": started.path()}}); 3];
    daemon.submit(&json!(jobs));
    let hung = [started.pid(), started.pid(), started.pid()].map(|pid| Handle::open(pid).expect("it hangs"));
    daemon.kill();
    for worker in &hung {
        worker.await_end();
    }
    assert_eq!(process::marked(daemon.mark()), [0; 0]);
}

#[test]
fn a_submit_in_pieces_is_there_whole_or_not_at_all() {
    let mut daemon = Daemon::start("[pools.default]\nworkers = 0\n");
    let piece = |key: &str, chunk: u64, last: bool| json!({"op": "submit", "key": key, "chunk": chunk, "last": last, "jobs": ["true", "true", "true"]});
    assert_eq!(daemon.ask(&piece("half", 0, false))["expect"], 1);
    assert_eq!(daemon.ask(&piece("half", 1, false))["expect"], 2);
    assert_eq!(daemon.ask(&piece("whole", 0, false))["expect"], 1);
    let whole = daemon.ask(&piece("whole", 1, true));
    assert_eq!(whole["jobs"], 6);
    daemon.kill();
    daemon.start_again();
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!(status["jobs"]["queued"], 6, "nothing of the half submit is there");
    // Its last piece alone is no longer known for the whole: the daemon says from where to repeat.
    let refused = daemon.refusal(&piece("whole", 1, true));
    assert_eq!((&refused["code"], &refused["expect"]), (&json!("chunk_expected"), &json!(0)), "{refused}");
    assert_eq!(daemon.ask(&piece("whole", 0, false))["expect"], 1);
    assert_eq!(daemon.ask(&piece("whole", 1, true)), whole);
    let refused = daemon.refusal(&piece("half", 2, true));
    assert_eq!((&refused["code"], &refused["expect"]), (&json!("chunk_expected"), &json!(0)), "{refused}");
    let mut other = piece("whole", 0, true);
    other["jobs"] = json!(["false"]);
    assert_eq!(daemon.refusal(&other)["code"], "key_conflict");
}

#[test]
fn a_pause_and_generations_outlive_the_daemon() {
    let mut daemon = Daemon::start(PLAIN);
    let generations = |daemon: &Daemon| -> Vec<u64> {
        daemon.workers().iter().filter_map(|row| row["generation"].as_u64()).collect()
    };
    daemon.run(json!("true"));
    let before = generations(&daemon);
    daemon.ask(&json!({"op": "pause", "pool": "default"}));
    let id = daemon.submit(&json!(["echo late"]));
    daemon.kill();
    daemon.start_again();
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!((&status["pools"][0]["paused"], &status["jobs"]["queued"]), (&json!(true), &json!(1)));
    daemon.ask(&json!({"op": "resume"}));
    assert_eq!(daemon.record(id)["result"]["stdout"], "late\n");
    let after = generations(&daemon);
    assert!(after.iter().min() > before.iter().max(), "{before:?} then {after:?}: one is used again");
}

#[test]
fn cancels_retries_and_removes_that_were_acknowledged_outlive_the_daemon() {
    let mut daemon = Daemon::start("[pools.default]\nworkers = 0\n");
    let first = daemon.submit(&json!(vec!["true"; 2_000]));
    let range = |from: u64, jobs: u64| format!("{}-{}", first + from, first + from + jobs - 1);
    let steps = [
        ("cancel", range(0, 1_500), "cancelled", [500, 1_500]),
        ("retry", range(0, 1_200), "retried", [1_700, 300]),
        ("cancel", range(100, 200), "cancelled", [1_500, 500]),
        ("remove", range(1_200, 250), "removed", [1_500, 250]),
    ];
    for (op, select, fate, [queued, cancelled]) in steps {
        let reply = daemon.ask(&json!({"op": op, "select": select}));
        daemon.kill();
        assert!(reply[fate].as_u64() > Some(0), "{reply}");
        daemon.start_again();
        let status = daemon.ask(&json!({"op": "status"}));
        let counts = (&status["jobs"]["queued"], &status["jobs"]["cancelled"]);
        assert_eq!(counts, (&json!(queued), &json!(cancelled)), "after {op}: {reply}, {status}");
        daemon.assert_audit();
    }
    daemon.site.configure(PLAIN);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.wait("all")["succeeded"], 1_500);
    daemon.assert_audit();
}

#[test]
fn a_daemon_that_is_killed_again_and_again_gets_through() {
    let mut daemon = Daemon::start(PLAIN);
    let mut started = Fifo::new(daemon.site.path(), "started");
    let line = format!("echo run >{}", started.path());
    let mut total = 0;
    for round in 0..5 {
        let jobs: Vec<Value> = (0..20).map(|n| json!({"run": line, "key": format!("{round}-{n}")})).collect();
        total += daemon.ask(&json!({"op": "submit", "jobs": jobs}))["jobs"].as_u64().expect("a number");
        // Somewhere in the middle.
        for _ in 0..=round {
            started.line();
        }
        daemon.kill();
        daemon.start_again();
    }
    let records = daemon.results("all");
    assert_eq!(records.len() as u64, total);
    assert!(records.values().all(|record| record["state"] == "succeeded"));
    daemon.assert_audit();
    daemon.stop();
}
