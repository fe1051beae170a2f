//! pushpullctl as a process, against a daemon that follows a script: what is sent, what is printed, how it ends.

mod fake;
mod submitting;
mod viewing;
mod waiting;

use fake::{Act, Fake, ctl};
use serde_json::{Value, json};
use std::process::Output;

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{}{}", stdout(output), stderr(output));
}

/// What a daemon says to `ping`.
fn pong(chunk_jobs_max: u64) -> Value {
    json!({"ok": true, "version": "9.9.9", "pid": 42, "limits": {"request_bytes_max": 8_388_608,
        "chunk_jobs_max": chunk_jobs_max, "batch_jobs_max": 10_000_000, "job_bytes_max": 1_048_576}})
}

fn refusal(code: &str) -> Value {
    json!({"ok": false, "error": {"code": code, "message": "no", "hint": "do something else"}})
}

#[test]
fn without_a_daemon_the_paths_are_listed_and_the_status_is_3() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().to_str().expect("UTF-8");
    for verb in ["status", "list", "wait", "batches", "workers", "audit", "ping", "shutdown"] {
        let output = ctl(&[verb, "--runtime-dir", path]).output().expect("it runs");
        assert_status(&output, 3);
        assert!(stderr(&output).contains(path), "{}", stderr(&output));
        assert!(stderr(&output).contains("pushpulld --daemonize"), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let left_over = std::os::unix::net::UnixListener::bind(place.path().join("control.ipc"));
    drop(left_over.expect("a free path"));
    let output = ctl(&["--runtime-dir", path, "add", "--json", "--", "true"]).output().expect("it runs");
    assert_status(&output, 3);
    let error: Value = serde_json::from_str(stderr(&output)).expect("one line of JSON");
    assert_eq!(error["error"]["code"], "unreachable");
}

#[test]
fn refusals_end_with_the_status_of_their_code() {
    for (code, status) in [
        ("bad_request", 2),
        ("unknown_op", 2),
        ("version", 2),
        ("not_found", 4),
        ("limit", 5),
        ("no_space", 5),
        ("draining", 5),
        ("wrong_state", 5),
        ("key_conflict", 5),
        ("internal", 6),
        ("of_the_future", 6),
    ] {
        let fake = Fake::start(move |_, _| Act::Say(refusal(code)));
        assert_status(&fake.run(&["show", "17"]), status);
        let output = fake.run(&["show", "17", "--json"]);
        assert_status(&output, status);
        assert_eq!(stderr(&output).lines().count(), 1);
        let error: Value = serde_json::from_str(stderr(&output)).expect("JSON");
        let expected = json!({"code": code, "message": "no", "hint": "do something else"});
        assert_eq!(error["error"], expected);
    }
}

#[test]
fn an_answer_without_sense_is_status_6() {
    for text in ["", "[]", "{\"ok\":true}", "\u{1b}[2J"] {
        let fake = Fake::start(move |_, _| Act::SayText(text));
        let output = fake.run(&["status"]);
        assert_status(&output, 6);
        assert!(!stderr(&output).contains('\u{1b}'));
    }
}

#[test]
fn usage_errors_are_status_2_and_reach_no_daemon() {
    let fake = Fake::start(|_, _| Act::Say(json!({"ok": true})));
    for words in [
        &["cancel"][..],
        &["cancel", "x"],
        &["list", "--state", "faild"],
        &["show", "all"],
        &["statsu"],
        &["wait", "--timeout", "soon"],
        &["submit", "/nonexistent/jobs.json", "--name", "last"],
        &["add", "--cwd", "", "--", "true"],
        &["add", "--pool", "p", "--data", "{"],
    ] {
        let output = fake.run(words);
        assert_status(&output, 2);
        assert_eq!(stdout(&output), "", "{words:?}");
        assert_ne!(stderr(&output), "", "{words:?}");
    }
    assert_eq!(fake.stop(), Vec::<Value>::new());
}

#[test]
fn changes_are_asked_for_once_and_their_fates_printed() {
    let fake = Fake::start(|_, request| match request["op"].as_str() {
        Some("cancel") => Act::Say(json!({"ok": true, "cancelled": 3, "already_finished": 1_200})),
        Some("retry") => Act::Say(json!({"ok": true, "retried": 0, "not_failed": 0})),
        _ => Act::Say(json!({"ok": true})),
    });
    let output = fake.run(&["cancel", "@3", "17", "--reason", "too slow"]);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "3 cancelled, 1,200 already finished\n");
    assert_eq!(stdout(&fake.run(&["retry", "--state", "failed"])), "0 jobs\n");
    assert_eq!(stdout(&fake.run(&["retry", "all", "--json"])), "{\"not_failed\":0,\"retried\":0}\n");
    assert_eq!(stdout(&fake.run(&["pause", "gpu"])), "pool gpu is paused\n");
    assert_eq!(stdout(&fake.run(&["resume"])), "all pools are resumed\n");
    assert_status(&fake.run(&["shutdown", "--now"]), 0);
    let expected = [
        json!({"v": 1, "op": "cancel", "select": ["@3", "17"], "reason": "too slow"}),
        json!({"v": 1, "op": "retry", "state": "failed"}),
        json!({"v": 1, "op": "retry", "select": "all"}),
        json!({"v": 1, "op": "pause", "pool": "gpu"}),
        json!({"v": 1, "op": "resume"}),
        json!({"v": 1, "op": "shutdown", "now": true}),
    ];
    assert_eq!(fake.stop(), expected);
}

#[test]
fn audit_is_asked_until_done_and_differences_are_status_1() {
    let counts = json!({"queued": 0, "delayed": 0, "blocked": 0, "running": 0, "succeeded": 4_998,
        "failed": 2, "cancelled": 0});
    let sound = move |number: usize, _: &Value| {
        let done = number == 1;
        Act::Say(json!({"ok": true, "done": done, "jobs": 5_000, "counts": counts, "differences": []}))
    };
    let fake = Fake::start(sound);
    let output = fake.run(&["audit"]);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "5,000 accepted = 4,998 succeeded + 2 failed; 0 lost, 0 recorded twice\n");
    assert_eq!(fake.stop().len(), 2);
    let counts = json!({"queued": 0, "delayed": 0, "blocked": 0, "running": 0, "succeeded": 0,
        "failed": 0, "cancelled": 0});
    let fake = Fake::start(move |_, _| {
        let differences = ["job 17 has two outcomes"];
        Act::Say(json!({"ok": true, "done": true, "jobs": 1, "counts": counts, "differences": differences}))
    });
    let output = fake.run(&["audit"]);
    assert_status(&output, 1);
    assert_eq!(stdout(&output), "job 17 has two outcomes\n");
}
