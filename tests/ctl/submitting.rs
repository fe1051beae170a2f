//! `submit` and `add`.

use super::fake::{Act, Fake, pid};
use super::{assert_status, pong, refusal, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;

/// A file of jobs that lives as long as its directory.
fn file(directory: &tempfile::TempDir, text: &str) -> String {
    let path: PathBuf = directory.path().join("jobs.json");
    std::fs::write(&path, text).expect("it is ours");
    path.to_str().expect("UTF-8").to_owned()
}

/// A daemon that takes everything, two jobs in a chunk.
fn takes_all(_: usize, request: &Value) -> Act {
    Act::Say(match (request["op"].as_str(), request["last"].as_bool()) {
        (Some("ping"), _) => pong(2),
        (Some("submit"), Some(true)) => accepted(),
        (Some("submit"), _) => json!({"ok": true, "expect": request["chunk"].as_u64().unwrap_or(0) + 1}),
        _ => refusal("unknown_op"),
    })
}

fn accepted() -> Value {
    json!({"ok": true, "batch": 3, "jobs": 5, "known": 0, "ids": [[101, 105]]})
}

fn chunks(requests: &[Value]) -> Vec<&Value> {
    requests.iter().filter(|request| request["op"] == "submit").collect()
}

fn jobs(requests: &[Value]) -> Vec<Value> {
    let arrays = chunks(requests).into_iter().filter_map(|chunk| chunk["jobs"].as_array());
    arrays.flatten().cloned().collect()
}

#[test]
fn a_file_goes_in_chunks_under_one_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let text =
        r#"{"name":"n","defaults":{"timeout":5,"env":{"A":"file"}},"jobs":["a","b","c",{"run":"d"},"e"]}"#;
    let path = file(&directory, text);
    let fake = Fake::start(takes_all);
    let output = fake
        .ctl(&["submit", &path, "--timeout", "9", "--retries", "2", "--env", "B=line"])
        .env("MINE", "yes")
        .current_dir(directory.path())
        .output()
        .expect("it runs");
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "batch @3: 5 jobs, ids 101-105\n");
    let requests = fake.stop();
    assert_eq!(jobs(&requests), [json!("a"), json!("b"), json!("c"), json!({"run": "d"}), json!("e")]);
    let chunks = chunks(&requests);
    let numbers: Vec<Option<u64>> = chunks.iter().map(|chunk| chunk["chunk"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    let key = chunks[0]["key"].as_str().expect("a key");
    assert_eq!(key.len(), 32);
    assert!(chunks.iter().all(|chunk| chunk["key"] == key));
    assert_eq!(chunks[0]["name"], "n");
    assert_eq!(chunks[0]["defaults"], json!({"timeout": 5, "retries": 2, "env": {"A": "file", "B": "line"}}));
    assert_eq!(chunks[0]["environment"]["MINE"], "yes");
    let here = std::fs::canonicalize(directory.path()).expect("it is there");
    assert_eq!(chunks[0]["directory"].as_str(), here.to_str());
    assert!(chunks[1].get("environment").is_none());
}

#[test]
fn quiet_prints_the_batch_and_json_the_reply() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "[\"a\"]");
    let fake = Fake::start(|_, request| match request["op"].as_str() {
        Some("ping") => Act::Say(pong(10)),
        _ => Act::SayText(r#"{"ok":true,"batch":3,"jobs":1,"known":1,"ids":[[101,101]],"new":1.50}"#),
    });
    assert_eq!(stdout(&fake.run(&["submit", &path, "-q"])), "@3\n");
    let output = fake.run(&["submit", &path, "--json", "--no-env"]);
    assert_eq!(stdout(&output), "{\"batch\":3,\"jobs\":1,\"known\":1,\"ids\":[[101,101]],\"new\":1.50}\n");
    let requests = fake.stop();
    let last = requests.last().expect("requests");
    assert!(last.get("environment").is_none() && last.get("directory").is_none());
}

#[test]
fn lines_and_raw_elements_are_jobs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "echo a\n\necho \"b\"\n");
    let fake = Fake::start(takes_all);
    let output = fake.run(&["submit", &path]);
    assert_status(&output, 2);
    assert!(stderr(&output).contains("jobs.json:1 is not JSON"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--lines"), "{}", stderr(&output));
    assert_status(&fake.run(&["submit", &path, "--lines"]), 0);
    assert_eq!(jobs(&fake.stop()), [json!("echo a"), json!("echo \"b\"")]);

    let path = file(&directory, "[1, {\"a\":[]}]");
    let fake = Fake::start(takes_all);
    assert_status(&fake.run(&["submit", &path, "--raw", "--pool", "p"]), 0);
    assert_eq!(jobs(&fake.stop()), [json!({"data": 1}), json!({"data": {"a": []}})]);
}

#[test]
fn an_error_late_in_the_file_takes_everything_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "\"a\"\n\"b\"\n\"c\"\n\"d\"\n\"e\"\n{\"rnu\":\"f\"}\n");
    let fake = Fake::start(takes_all);
    let output = fake.run(&["submit", &path, "--json"]);
    assert_status(&output, 2);
    let error: Value = serde_json::from_str(stderr(&output)).expect("one line of JSON");
    assert_eq!((&error["error"]["code"], &error["error"]["line"]), (&json!("bad_job"), &json!(6)));
    assert_eq!(error["error"]["index"], 5);
    let requests = fake.stop();
    let chunks = chunks(&requests);
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[2]["abort"], true);
    assert_eq!(chunks[2]["key"], chunks[0]["key"]);
    assert!(chunks.iter().all(|chunk| chunk["last"] != true));
}

#[test]
fn an_error_in_the_first_chunk_sends_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "[\"a\", 5]");
    let fake = Fake::start(takes_all);
    assert_status(&fake.run(&["submit", &path]), 2);
    assert!(chunks(&fake.stop()).is_empty());
}

#[test]
fn jobs_that_wait_for_others_come_behind_them_with_their_places() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = r#"[{"run":"last","after":["mid"]},"x",{"run":"mid","key":"mid","after":"first"},{"run":"1","key":"first"}]"#;
    let path = file(&directory, text);
    let fake = Fake::start(takes_all);
    assert_status(&fake.run(&["submit", &path]), 0);
    let expected = [
        json!({"run": "x", "index": 1}),
        json!({"run": "1", "key": "first", "index": 3}),
        json!({"run": "mid", "key": "mid", "after": "first", "index": 2}),
        json!({"run": "last", "after": ["mid"], "index": 0}),
    ];
    assert_eq!(jobs(&fake.stop()), expected);

    let path = file(
        &directory,
        "{\"run\":\"a\",\"key\":\"a\",\"after\":\"b\"}\n{\"run\":\"b\",\"key\":\"b\",\"after\":\"a\"}",
    );
    let fake = Fake::start(takes_all);
    let output = fake.run(&["submit", &path]);
    assert_status(&output, 2);
    assert!(
        stderr(&output).contains("line 1 waits for \"b\", line 2 waits for \"a\""),
        "{}",
        stderr(&output)
    );
    assert!(chunks(&fake.stop()).iter().all(|chunk| chunk["last"] != true));
}

#[test]
fn a_chunk_whose_reply_is_lost_in_a_restart_is_sent_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, r#"["a","b","c","d","e"]"#);
    let fake = Fake::start(|number, request| match number {
        2 | 4 => Act::StartAnew,
        _ => takes_all(number, request),
    });
    let output = fake.run(&["submit", &path]);
    assert_status(&output, 0);
    let requests = fake.stop();
    let chunks = chunks(&requests);
    let numbers: Vec<Option<u64>> = chunks.iter().map(|chunk| chunk["chunk"].as_u64()).collect();
    assert_eq!(numbers, [0, 1, 1, 2, 2].map(Some));
    assert_eq!(chunks[1], chunks[2]);
    assert_eq!(chunks[3], chunks[4]);
}

#[test]
fn a_daemon_that_forgot_the_submit_gets_it_from_the_beginning() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, r#"["a","b","c","d","e"]"#);
    let fake = Fake::start(|number, request| match number {
        2 => Act::Say(json!({"ok": false, "error": {"code": "chunk_expected", "message": "m", "expect": 0}})),
        _ => takes_all(number, request),
    });
    assert_status(&fake.run(&["submit", &path, "--key", "k"]), 0);
    let requests = fake.stop();
    let sent: Vec<(Option<u64>, Option<bool>)> =
        chunks(&requests).iter().map(|chunk| (chunk["chunk"].as_u64(), chunk["abort"].as_bool())).collect();
    let expected = [(Some(0), None), (Some(1), None), (Some(0), None), (Some(1), None), (Some(2), None)];
    assert_eq!(sent, expected);
    assert!(chunks(&requests).iter().all(|chunk| chunk["key"] == "k"));
}

#[test]
fn terminating_a_submit_takes_it_back() {
    let (seen, wait_seen) = mpsc::channel();
    let fake = Fake::start(move |number, request| {
        if request["chunk"] == 0 {
            seen.send(()).expect("the test waits");
        }
        takes_all(number, request)
    });
    let mut child = fake
        .ctl(&["submit", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"\"a\"\n\"b\"\n\"c\"\n").expect("a reader");
    wait_seen.recv().expect("the first chunk");
    kill(pid(&child), Signal::SIGTERM).expect("it is ours");
    let output = child.wait_with_output().expect("it ends");
    drop(input);
    assert_status(&output, 143);
    let requests = fake.stop();
    assert_eq!(chunks(&requests).last().expect("chunks")["abort"], true);
}

#[test]
fn add_sends_one_job_in_one_request() {
    let fake = Fake::start(|_, _| {
        Act::Say(json!({"ok": true, "batch": 3, "jobs": 1, "known": 0, "ids": [[17, 17]]}))
    });
    let output = fake.run(&["add", "--priority", "-3", "--batch", "night", "--", "echo a | wc"]);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "job 17 in batch @3\n");
    assert_eq!(stdout(&fake.run(&["add", "-q", "--", "grep", "--json"])), "17\n");
    assert_status(&fake.run(&["add", "--pool", "p", "--data", "[1.0]"]), 0);
    let requests = fake.stop();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0]["jobs"], json!([{"run": "echo a | wc"}]));
    assert_eq!((&requests[0]["into"], &requests[0]["defaults"]), (&json!("night"), &json!({"priority": -3})));
    assert!(requests[0]["environment"].is_object());
    assert_eq!(requests[1]["jobs"], json!([{"run": ["grep", "--json"]}]));
    assert_eq!(requests[2]["jobs"], json!([{"data": [1.0]}]));
    assert!(requests[2].get("environment").is_none());
}
