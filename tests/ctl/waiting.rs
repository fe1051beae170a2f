//! `wait`, `--wait` and `results -f`.

use super::fake::{Act, Fake, pid};
use super::{assert_status, pong, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::mpsc;

fn waited(done: bool, running: u64, succeeded: u64, failed: u64) -> Act {
    Act::Say(json!({"ok": true, "done": done, "counts": {"queued": 0, "delayed": 0, "blocked": 0,
        "running": running, "succeeded": succeeded, "failed": failed, "cancelled": 0}}))
}

#[test]
fn a_wait_is_asked_again_until_done() {
    let fake = Fake::start(|number, _| waited(number == 3, 3 - number as u64, number as u64, 0));
    let output = fake.run(&["wait", "@3"]);
    assert_status(&output, 0);
    assert!(stdout(&output).starts_with("3 jobs: 3 succeeded in "), "{}", stdout(&output));
    assert_eq!(stderr(&output), "", "nothing floods what is not a terminal");
    let requests = fake.stop();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request["select"] == "@3"));
    assert_eq!(requests[3]["timeout_ms"], 5_000);
}

#[test]
fn a_failed_job_is_status_1_and_an_empty_selection_0() {
    let fake = Fake::start(|_, _| waited(true, 0, 2, 1));
    assert_status(&fake.run(&["wait", "1-3"]), 1);
    let json = fake.run(&["wait", "1-3", "--json"]);
    assert_status(&json, 1);
    let document: Value = serde_json::from_str(stdout(&json)).expect("one document");
    assert_eq!(document["done"], true);
    assert!(document.get("ok").is_none());
    let fake = Fake::start(|_, _| waited(true, 0, 0, 0));
    let output = fake.run(&["wait", "1-3"]);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "0 jobs\n");
}

#[test]
fn a_wait_for_everything_does_not_count_what_failed_before() {
    let fake = Fake::start(|number, _| waited(number > 0, 1, 5, 2));
    assert_status(&fake.run(&["wait"]), 0);
    let fake = Fake::start(|number, _| waited(number > 0, 1, 5, 2 + u64::from(number > 0)));
    assert_status(&fake.run(&["wait"]), 1);
}

#[test]
fn a_wait_that_runs_out_of_time_is_status_124() {
    let fake = Fake::start(|_, _| waited(false, 1, 0, 0));
    let output = fake.run(&["wait", "7", "--timeout", "1ms"]);
    assert_status(&output, 124);
    assert!(stderr(&output).contains("1 job not finished"), "{}", stderr(&output));
}

#[test]
fn a_wait_outlives_a_restart_of_the_daemon() {
    let fake = Fake::start(|number, _| match number {
        1 => Act::StartAnew,
        _ => waited(number == 2, 0, 1, 0),
    });
    assert_status(&fake.run(&["wait", "7"]), 0);
    assert_eq!(fake.stop().len(), 3);
}

#[test]
fn an_interrupted_wait_says_how_to_look_again() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (seen, wait_seen) = mpsc::channel();
        let fake = Fake::start(move |number, request| match (request["op"].as_str(), number) {
            (Some("ping"), _) => Act::Say(pong(10)),
            (Some("submit"), _) => {
                Act::Say(json!({"ok": true, "batch": 3, "jobs": 2, "known": 0, "ids": [[1, 2]]}))
            }
            (_, 0..=2) => waited(false, 2, 0, 0),
            _ => {
                seen.send(()).expect("the test waits");
                Act::Ignore
            }
        });
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.json");
        std::fs::write(&path, "[\"a\",\"b\"]").expect("it is ours");
        let child = fake
            .ctl(&["submit", path.to_str().expect("UTF-8"), "--wait"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        wait_seen.recv().expect("the second poll");
        kill(pid(&child), signal).expect("it is ours");
        let output = child.wait_with_output().expect("it ends");
        assert_status(&output, status);
        assert_eq!(stdout(&output), "batch @3: 2 jobs, ids 1-2\n");
        assert!(
            stderr(&output).contains("The jobs go on. Look again: pushpullctl wait @3"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn submit_and_wait_is_one_document() {
    let fake = Fake::start(|number, request| match request["op"].as_str() {
        Some("submit") => Act::Say(json!({"ok": true, "batch": 3, "jobs": 1, "known": 0, "ids": [[9, 9]]})),
        _ => waited(number > 1, 0, 0, 1),
    });
    let output = fake.run(&["add", "--wait", "--json", "--", "false"]);
    assert_status(&output, 1);
    let document: Value = serde_json::from_str(stdout(&output)).expect("one document");
    assert_eq!(document["ids"], json!([[9, 9]]));
    assert_eq!((&document["done"], &document["counts"]["failed"]), (&json!(true), &json!(1)));
    assert_eq!(fake.stop()[1]["select"], "9");
}

#[test]
fn results_are_followed_until_done_and_otherwise_until_there_are_no_more() {
    let script = |number: usize, _: &Value| {
        let records: &[Value] = if number == 1 { &[] } else { &[json!({"id": 1})] };
        Act::Say(json!({"ok": true, "records": records, "next": format!("c{number}"), "done": number == 2}))
    };
    let fake = Fake::start(script);
    assert_eq!(stdout(&fake.run(&["results", "@3", "-f", "--json"])), "{\"id\":1}\n{\"id\":1}\n");
    let requests = fake.stop();
    assert_eq!(requests[2]["after"], "c1");
    assert_eq!(requests[0]["timeout_ms"], 5_000);
    let fake = Fake::start(script);
    assert_eq!(stdout(&fake.run(&["results", "@3", "--json"])), "{\"id\":1}\n");
    assert_eq!(fake.stop().len(), 2);
}
