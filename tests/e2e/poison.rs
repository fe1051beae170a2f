//! Jobs that kill their workers, hidden among many that do not: exactly they fail, with the evidence.

use crate::harness::Daemon;
use crate::worker::pool;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GOOD: usize = 6_000;

/// Four kinds of poison, what the evidence says of each, and a word of its error.
fn poison() -> [(Value, &'static str, i64, &'static str); 4] {
    [
        (json!({"do": "die", "signal": libc::SIGSEGV}), "signal", 11, "signal 11 (SEGV)"),
        (json!({"do": "die", "signal": libc::SIGABRT}), "signal", 6, "signal 6 (ABRT)"),
        (json!({"do": "die"}), "signal", 9, "signal 9 (KILL)"),
        (json!({"do": "exit", "status": 3}), "exit", 3, "exit status 3"),
    ]
}

fn find_poison(workers: usize) {
    let settings = format!("workers = {workers}\ncredit = 512\nmax_crashes = 3");
    let daemon = Daemon::start(&pool("default", "echo", &settings));
    let mut jobs: Vec<Value> = (0..GOOD).map(|n| json!({"data": n})).collect();
    let kinds = poison();
    let places = [77, 400, 401, 4_321];
    for (place, (data, ..)) in places.into_iter().zip(&kinds) {
        jobs.insert(place, json!({"data": data}));
    }
    // Nothing runs before all of it is there, so the windows are deep.
    daemon.ask(&json!({"op": "pause"}));
    let mut records = BTreeMap::new();
    let first: Vec<u64> = jobs.chunks(2_000).map(|chunk| daemon.submit(&json!(chunk))).collect();
    daemon.ask(&json!({"op": "resume"}));
    records.extend(daemon.results("all"));
    assert_eq!(records.len(), jobs.len());
    for (record, job) in records.values().zip(&jobs) {
        if job["data"].is_number() {
            let charges = (&record["state"], &record["attempts"], &record["crashes"]);
            assert_eq!(charges, (&json!("succeeded"), &json!(1), &json!(0)), "{record}");
            assert_eq!(record["result"], job["data"]);
        } else {
            assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("crash")), "{record}");
        }
    }
    for (place, (data, field, number, words)) in places.into_iter().zip(kinds) {
        let id = first[place / 2_000] + (place % 2_000) as u64;
        let shown = daemon.site.ctl(&["show", &id.to_string(), "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("one document");
        assert_eq!(shown["data"], data);
        assert!(shown["error"].as_str().is_some_and(|error| error.contains(words)), "{shown}");
        let history = shown["history"].as_array().expect("a history");
        assert_eq!(history.len(), 3, "{shown}");
        let mut workers: Vec<&str> =
            history.iter().filter_map(|attempt| attempt["worker"].as_str()).collect();
        workers.dedup();
        assert_eq!(workers.len(), 3, "three workers died of it: {shown}");
        for attempt in history {
            let evidence = &attempt["evidence"];
            assert_eq!((&attempt["cause"], &evidence[field]), (&json!("crash"), &json!(number)), "{shown}");
            assert!(evidence["max_rss_kib"].as_u64() > Some(0), "{shown}");
            if data["do"] == "die" {
                assert!(evidence["last_output"].to_string().contains("last words of"), "{shown}");
            }
        }
    }
    daemon.assert_audit();
}

#[test]
fn four_poison_jobs_among_thousands_are_found_by_two_workers() {
    find_poison(2);
}

#[test]
fn four_poison_jobs_among_thousands_are_found_by_four_workers() {
    find_poison(4);
}

#[test]
fn a_job_that_wants_more_memory_than_there_is_fails_and_its_neighbours_do_not() {
    let settings = "workers = 2\ncredit = 16\nmax_crashes = 2\nlimit_as = 536870912";
    let daemon = Daemon::start(&pool("default", "echo", settings));
    let mut jobs: Vec<Value> = (0..40).map(|n| json!({"data": n})).collect();
    jobs[9] = json!({"data": {"do": "grow"}});
    let first = daemon.submit(&json!(jobs));
    for (id, record) in daemon.results("all") {
        let (state, crashes) = if id == first + 9 { ("failed", 2) } else { ("succeeded", 0) };
        assert_eq!((&record["state"], &record["crashes"]), (&json!(state), &json!(crashes)), "{record}");
    }
    let shown = daemon.show(first + 9);
    let last = shown["history"][0]["evidence"]["last_output"].to_string();
    assert!(last.contains("memory allocation"), "{shown}");
}

#[test]
fn a_command_that_kills_its_worker_fails_alone() {
    let daemon = Daemon::start("[pools.default]\nworkers = 2\nmax_crashes = 3\n");
    let mut jobs: Vec<Value> = (0..40).map(|n| json!({"run": format!("echo {n}")})).collect();
    jobs[11] = json!({"run": "kill -9 $PPID; sleep 100000"});
    let first = daemon.submit(&json!(jobs));
    for (n, (id, record)) in daemon.results("all").into_iter().enumerate() {
        if id == first + 11 {
            assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("crash")), "{record}");
            assert_eq!((&record["attempts"], &record["crashes"]), (&json!(3), &json!(3)), "{record}");
        } else {
            let charges = (&record["state"], &record["attempts"], &record["crashes"]);
            assert_eq!(charges, (&json!("succeeded"), &json!(1), &json!(0)), "{record}");
            assert_eq!(record["result"]["stdout"], format!("{n}\n"));
        }
    }
    assert_eq!(daemon.show(first + 11)["history"][0]["evidence"]["signal"], 9);
}
