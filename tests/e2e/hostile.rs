//! Workers that do what they should not: each costs an error, a line in the log or itself, and nobody else anything.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{Handle, PATIENCE};
use crate::worker::pool;
use serde_json::{Value, json};
use std::time::Instant;

/// A pool of one hostile worker, and another one that is to go on.
fn with_bystander(kind: &str, settings: &str) -> String {
    let bystander = pool("other", "echo", "workers = 1");
    format!("{}\n{bystander}", pool("default", kind, &format!("workers = 1\n{settings}")))
}

fn assert_bystander(daemon: &Daemon) {
    daemon.ask(&json!({"op": "ping"}));
    assert_eq!(daemon.run(json!({"pool": "other", "data": "fine"}))["result"], "fine");
    let rows = daemon.workers();
    let other = rows.iter().find(|row| row["pool"] == "other").expect("it is configured");
    assert_eq!(other["restarts"], 0, "{other}");
}

/// How often the log speaks of something.
fn lines_with(daemon: &Daemon, words: &str) -> usize {
    daemon.site.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn nonsense_costs_neither_its_job_nor_its_worker() {
    let daemon = Daemon::start(&with_bystander("hasty", ""));
    let deeds = [
        json!({"do": "junk"}),
        json!({"do": "stranger"}),
        json!({"do": "spam", "count": 2_000}),
        json!({"do": "ready", "count": 10}),
        json!({"do": "frames"}),
        json!({"do": "spaces", "bytes": 1_000_000}),
        json!({"do": "deep", "bytes": 100_000}),
        json!({"do": "number", "bytes": 100_000}),
        json!({"do": "connect"}),
    ];
    let jobs: Vec<Value> = deeds.iter().map(|deed| json!({"data": deed, "retries": 3})).collect();
    daemon.submit(&json!(jobs));
    let records = daemon.results("all");
    assert_eq!(records.len(), deeds.len());
    for (record, deed) in records.values().zip(&deeds) {
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
        let after = format!("after {}", deed["do"].as_str().expect("a word"));
        assert_eq!(record["result"], after, "{record}");
    }
    assert_bystander(&daemon);
    assert_eq!(daemon.workers()[0]["restarts"], 0, "the worker was lost: {}", daemon.site.log());
    let longest = daemon.site.log().lines().map(str::len).max();
    assert!(longest < Some(2_000), "a line of {longest:?} bytes");
    daemon.assert_audit();
}

#[test]
fn a_flood_of_nonsense_is_counted_and_does_not_fill_the_log() {
    let daemon = Daemon::start(&with_bystander("echo", "max_crashes = 1"));
    let jobs = json!([
        {"data": {"do": "flood", "count": 100_000}},
        {"data": {"do": "stranger", "count": 30_000}},
        {"data": {"do": "exit", "status": 1}},
    ]);
    let first = daemon.submit(&jobs);
    assert_bystander(&daemon);
    let records = daemon.results(&format!("{first}-{}", first + 2));
    assert_eq!(records[&first]["result"], "after flood");
    assert_eq!(records[&(first + 1)]["result"], "after stranger");
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!(status["void_reports"]["malformed"], 100_000, "{status}");
    assert_eq!(status["void_reports"]["refused"], 90_000, "{status}");
    assert_eq!(lines_with(&daemon, "sent what is no report"), 10);
    assert_eq!(lines_with(&daemon, "which it does not hold"), 0, "the lines were used up before");
    assert_eq!(lines_with(&daemon, "had sent 189990 more messages of no use"), 1);
}

#[test]
#[ignore = "takes long"]
fn a_flood_of_large_nonsense_is_worked_off_piece_by_piece() {
    let daemon = Daemon::start(&with_bystander("echo", ""));
    let flood = json!({"do": "flood", "count": 20_000, "bytes": 1 << 20});
    let id = daemon.submit(&json!([{"data": flood}]));
    for _ in 0..20 {
        assert_bystander(&daemon);
    }
    assert_eq!(daemon.record(id)["result"], "after flood");
    assert_eq!(daemon.ask(&json!({"op": "status"}))["void_reports"]["malformed"], 20_000);
}

#[test]
fn a_frame_that_is_too_large_ends_its_worker_and_is_charged_to_its_job() {
    let daemon = Daemon::start(&with_bystander("echo", "max_crashes = 2\ncredit = 8"));
    let bytes = (64 << 20) + 1;
    let jobs = json!([{"data": 1}, {"data": {"do": "huge", "bytes": bytes}}, {"data": 2}, {"data": 3}]);
    let first = daemon.submit(&jobs);
    let records = daemon.results("all");
    for (id, record) in &records {
        if *id == first + 1 {
            assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("crash")), "{record}");
            assert_eq!((&record["attempts"], &record["crashes"]), (&json!(2), &json!(2)), "{record}");
            let error = record["error"].as_str().expect("a text");
            assert!(error.contains("frame of 671088") && error.contains("67108864"), "{record}");
        } else {
            let charges = (&record["state"], &record["attempts"], &record["crashes"]);
            assert_eq!(charges, (&json!("succeeded"), &json!(1), &json!(0)), "{record}");
        }
    }
    assert_bystander(&daemon);
    daemon.assert_audit();
}

/// Connects to where the worker that runs `who` answers, as a survivor of it would, and waits until that is heard.
fn impostor(daemon: &Daemon) -> zmq::Socket {
    let who = daemon.run(json!({"data": {"do": "who"}}))["result"].clone();
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PUSH).expect("a socket can be made");
    socket.set_linger(0).expect("a plain option");
    socket.connect(who["PUSHPULL_RESULTS"].as_str().expect("an endpoint")).expect("the daemon has bound it");
    let malformed = || daemon.ask(&json!({"op": "status"}))["void_reports"]["malformed"].as_u64();
    let before = malformed();
    socket.send("are you there", 0).expect("it is connected");
    let deadline = Instant::now() + PATIENCE;
    while malformed() == before {
        assert!(Instant::now() < deadline, "nobody listens");
    }
    socket
}

#[test]
fn a_late_success_counts_and_a_late_error_does_not() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1\nstop_timeout = \"200ms\""));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let wait = json!({"do": "wait", "path": gate.path(), "say": started.path()});
    for kind in ["error", "result"] {
        let late = impostor(&daemon);
        let id = daemon.submit(&json!([{"data": wait}]));
        assert!(Handle::open(started.pid()).expect("it waits").signal(libc::SIGKILL));
        // By the first sign of the second attempt the first worker is gone.
        started.line();
        let answer = json!({"type": kind, "id": id, "error": "late", "data": "late"}).to_string();
        late.send(&answer, 0).expect("it is connected");
        if kind == "error" {
            gate.open_for(1);
        }
        let record = daemon.record(id);
        let result = if kind == "error" { "waited" } else { "late" };
        assert_eq!((&record["state"], &record["result"]), (&json!("succeeded"), &json!(result)), "{record}");
        assert_eq!(record["crashes"], 1, "{record}");
    }
    // The one that still waits for its job, which has its outcome, is in nobody's way.
    assert_eq!(daemon.run(json!({"data": "next"}))["result"], "next");
    daemon.assert_audit();
}

#[test]
fn a_worker_that_neither_answers_nor_hears_is_killed_and_only_its_oldest_is_charged() {
    let settings = "credit = 4\nstop_timeout = \"100ms\"\nbackoff = \"1ms\"";
    let daemon = Daemon::start(&with_bystander("deaf", settings));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let hang = json!({"data": {"do": "hang", "say": started.path()}, "timeout": "300ms", "retries": 1});
    let first = daemon.submit(&json!([hang, {"data": 1}, {"data": 2}, {"data": 3}]));
    let tried = [started.pid(), started.pid()].map(Handle::open);
    let records = daemon.results("all");
    for worker in tried.iter().flatten() {
        worker.await_end();
    }
    let hung = &records[&first];
    assert_eq!(
        (&hung["cause"], &hung["attempts"], &hung["crashes"]),
        (&json!("timeout"), &json!(2), &json!(0))
    );
    for (_, record) in records.range(first + 1..) {
        let charges = (&record["state"], &record["attempts"], &record["crashes"]);
        assert_eq!(charges, (&json!("succeeded"), &json!(1), &json!(0)), "{record}");
    }
    assert_bystander(&daemon);
    // A cancel of it ends it the same way.
    let id = daemon.submit(&json!([{"data": {"do": "hang", "say": started.path()}}, {"data": 4}]));
    let hung = Handle::open(started.pid()).expect("it hangs");
    assert_eq!(daemon.ask(&json!({"op": "cancel", "select": id.to_string()}))["cancelled"], 1);
    let next = daemon.record(id + 1);
    assert_eq!((&next["state"], &next["attempts"]), (&json!("succeeded"), &json!(1)), "{next}");
    hung.await_end();
}

#[test]
fn a_command_that_hides_from_its_worker_ends_with_its_time_and_the_worker_lives_on() {
    let daemon = Daemon::start("[pools.default]\nworkers = 1\nstop_timeout = \"200ms\"\n");
    let mut pids = Fifo::new(daemon.site.path(), "pids");
    // Forks twice, leaves its session and its group, and does not hear.
    let line = format!(
        "(setsid sh -c 'trap \"\" TERM HUP; (setsid sh -c \"trap \\\"\\\" TERM HUP; echo \\$\\$ >{0}; exec sleep 100000\" &) ; echo $$ >{0}; sleep 100000; :' &) ; echo $$ >{0}; sleep 100000; :",
        pids.path()
    );
    for ending in ["timeout", "cancelled"] {
        let timeout = if ending == "timeout" { json!("700ms") } else { Value::Null };
        let id = daemon.submit(&json!([{"run": line, "timeout": timeout}, "echo next"]));
        let tree = [0; 3].map(|_| Handle::open(pids.pid()).expect("it runs"));
        if ending == "cancelled" {
            daemon.ask(&json!({"op": "cancel", "select": id.to_string()}));
        }
        assert_eq!(daemon.record(id)["cause"], ending);
        assert_eq!(daemon.record(id + 1)["result"]["stdout"], "next\n");
        for process in &tree {
            process.await_end();
        }
        assert_eq!(daemon.workers()[0]["restarts"], 0, "the worker was lost");
    }
}
