//! What people and programs see.

use super::fake::{Act, Fake};
use super::{assert_status, pong, stdout};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

fn record(id: u64) -> Value {
    json!({"id": id, "batch": 3, "index": 0, "name": null, "key": null, "pool": "default",
        "run": "echo \u{1b}[31m\nhi", "state": "failed", "attempts": 1, "crashes": 0, "cause": "exit",
        "error": "exit status 1", "worker": "default.0.1", "submitted": "2026-01-31T09:30:00.123Z",
        "started": "2026-01-31T09:30:01.000Z", "finished": "2026-01-31T09:30:02.500Z", "priority": 0})
}

#[test]
fn a_list_is_a_table_for_people() {
    let fake = Fake::start(|number, _| {
        let next = json!(number + 1);
        Act::Say(json!({"ok": true, "records": [record(number as u64)], "next": next, "done": number == 1}))
    });
    let output = fake.ctl(&["list"]).env("COLUMNS", "90").output().expect("it runs");
    assert_status(&output, 0);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("ID  BATCH  POOL     STATE"), "{lines:?}");
    assert!(lines[1].starts_with(" 0  @3     default  failed"), "{lines:?}");
    assert!(!stdout(&output).contains('\u{1b}'), "no colour without a terminal, no control characters ever");
    assert!(lines.iter().all(|line| line.chars().count() <= 90), "{lines:?}");
    assert_eq!(fake.stop()[1]["after"], 1);
}

#[test]
fn json_records_go_through_byte_for_byte_one_per_line() {
    let fake = Fake::start(|_, _| {
        Act::SayText(
            "{\"ok\":true,\"records\":[{\"b\":1.50,\n\"a\":[ ]},{\"é\":\"\\u00e9\"}],\"next\":null,\"done\":true}",
        )
    });
    assert_eq!(stdout(&fake.run(&["list", "--json"])), "{\"b\":1.50, \"a\":[ ]}\n{\"é\":\"\\u00e9\"}\n");
}

#[test]
fn an_empty_match_is_no_error() {
    let fake = Fake::start(|_, _| Act::Say(json!({"ok": true, "records": [], "next": null, "done": true})));
    let output = fake.run(&["list", "3-9"]);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "0 jobs\n");
    assert_eq!(stdout(&fake.run(&["list", "3-9", "--json"])), "");
}

#[test]
fn a_closed_output_ends_quietly() {
    let fake = Fake::start(|number, _| {
        let records = vec![record(7); 1_000];
        Act::Say(json!({"ok": true, "records": records, "next": number, "done": false}))
    });
    let mut child =
        fake.ctl(&["list", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    drop(output);
    let output = child.wait_with_output().expect("it ends");
    assert_status(&output, 0);
    assert!(output.stderr.is_empty());
}

#[test]
fn status_shows_warnings_first_and_pools_below() {
    let counts = json!({"queued": 1_000, "delayed": 0, "blocked": 0, "running": 2, "succeeded": 5, "failed": 1,
        "cancelled": 0});
    let status = json!({"ok": true, "version": "9.9.9", "pid": 42, "uptime_s": 90.0, "draining": false,
        "jobs": counts, "warnings": ["disk full\u{7}"], "pools": [{"name": "default", "paused": true,
        "workers": {"wanted": 2, "ready": 2, "busy": 2, "starting": 0, "backoff": 0}, "jobs": counts,
        "oldest_queued_s": 61.0, "per_second": {"finished": 120.0}}]});
    let reply = status.clone();
    let fake = Fake::start(move |_, _| Act::Say(reply.clone()));
    let text = fake.run(&["status"]);
    let lines: Vec<&str> = stdout(&text).lines().collect();
    assert_eq!(lines[0], r"warning: disk full\u{7}");
    assert_eq!(lines[1], "pushpulld 9.9.9, pid 42, up 1m30s: 1,000 queued, 2 running, 5 succeeded, 1 failed");
    assert!(lines[4].starts_with("default (paused)  2/2, 2 busy   1,000"), "{lines:?}");
    let document: Value = serde_json::from_str(stdout(&fake.run(&["status", "--json"]))).expect("JSON");
    let mut expected = status;
    expected.as_object_mut().expect("an object").remove("ok");
    assert_eq!(document, expected);
}

#[test]
fn show_tells_all_of_a_job() {
    let mut job = record(7);
    job["result"] =
        json!({"exit": 1, "signal": null, "stdout": "a\u{1b}[2J\n\tb\n", "stderr": "", "truncated": false});
    job["history"] = json!([{"round": 0, "attempt": 1, "worker": "default.0.1", "started": "2026-01-31T09:30:01.000Z",
        "finished": "2026-01-31T09:30:02.500Z", "cause": "exit", "error": "exit status 1", "evidence": null,
        "result": null}]);
    job["ok"] = json!(true);
    let fake = Fake::start(move |_, _| Act::Say(job.clone()));
    let output = fake.run(&["show", "7"]);
    assert_status(&output, 0);
    let text = stdout(&output);
    for part in [
        "job         7, number 0 of batch @3",
        "state       failed (exit)",
        "attempt     1 on default.0.1, 1.5s: exit: exit status 1",
        "\nstdout:\n  a\\u{1b}[2J\n  \tb\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn workers_and_batches_are_rows() {
    let fake = Fake::start(|_, request| {
        let row = match request["op"].as_str() {
            Some("workers") => json!({"worker": "default.0.1", "pool": "default", "slot": 0, "generation": 1,
                "pid": 4242, "state": "busy", "held": 3, "jobs_done": 120, "restarts": 0, "age_s": 9.1,
                "rss_kib": 5_000, "last_exit": {"exit": null, "signal": 11, "at": "2026-01-31T09:30:00.123Z"}}),
            _ => json!({"batch": 3, "name": "night", "key": "k", "submitted": "2026-01-31T09:30:00.123Z",
                "counts": {"queued": 1, "delayed": 1, "blocked": 0, "running": 0, "succeeded": 5, "failed": 0,
                "cancelled": 0}}),
        };
        Act::Say(json!({"ok": true, "rows": [row], "next": null, "done": true}))
    });
    let workers = fake.run(&["workers"]);
    let line = stdout(&workers).lines().nth(1).expect("a row");
    let expected =
        "default.0.1  4242  busy      3   120         0  9.1s  5000 KiB  killed by signal 11 (SEGV), ";
    assert!(line.starts_with(expected), "{line}");
    let batches = fake.run(&["batches"]);
    let line = stdout(&batches).lines().nth(1).expect("a row");
    assert!(line.starts_with("@3     night  "), "{line}");
    assert_eq!(stdout(&fake.run(&["batches", "--json"])).lines().count(), 1);
}

#[test]
fn ping_and_version_name_the_daemon() {
    let fake = Fake::start(|_, _| Act::Say(pong(10)));
    assert!(stdout(&fake.run(&["ping"])).starts_with("pushpulld 9.9.9, pid 42, answered in "));
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(stdout(&fake.run(&["version"])), format!("pushpullctl {own}\npushpulld 9.9.9, pid 42\n"));
    let document: Value = serde_json::from_str(stdout(&fake.run(&["version", "--json"]))).expect("JSON");
    assert_eq!((&document["version"], &document["pushpullctl"]), (&json!("9.9.9"), &json!(own)));
}

#[test]
fn explain_prints_its_sentence_and_programs_get_the_facts() {
    let fake = Fake::start(|_, request| {
        let (text, facts) = match (&request["id"], &request["worker"]) {
            (Value::Number(_), _) => ("job 7 failed\u{7}", json!({"cause": "exit"})),
            (_, Value::String(_)) => ("worker default.0.1 is idle", json!({})),
            _ => ("pool default is paused\nthe disk is full", json!({})),
        };
        Act::Say(json!({"ok": true, "text": text, "facts": facts}))
    });
    assert_eq!(stdout(&fake.run(&["explain", "7"])), "job 7 failed\\u{7}\n");
    assert_eq!(stdout(&fake.run(&["explain", "default.0"])), "worker default.0.1 is idle\n");
    assert_eq!(stdout(&fake.run(&["explain"])), "pool default is paused\nthe disk is full\n");
    let document: Value = serde_json::from_str(stdout(&fake.run(&["explain", "7", "--json"]))).expect("JSON");
    assert_eq!(document["facts"]["cause"], "exit");
    assert_status(&fake.run(&["explain", "seven"]), 2);
}
