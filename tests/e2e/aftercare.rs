//! What becomes of jobs after they have ended, and how the queue is emptied: with pushpullctl, as people do it.

use crate::harness::Daemon;
use crate::site::PLAIN;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

fn ctl(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
    command.args(words).arg("--runtime-dir").arg(daemon.site.runtime());
    command.stdin(Stdio::null()).output().expect("pushpullctl can be executed")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn finished_jobs_are_removed_and_others_are_not() {
    let daemon = Daemon::start(PLAIN);
    daemon.submit(&json!(["true", "false"]));
    daemon.results("all");
    daemon.submit(&json!([{"run": "true", "delay": "1h"}]));
    let output = ctl(&daemon, &["remove", "all"]);
    assert_eq!((output.status.code(), &*said(&output)), (Some(0), "2 removed, 1 not finished\n"));
    assert_eq!(daemon.refusal(&json!({"op": "show", "id": 1}))["code"], "not_found");
    assert_eq!(ctl(&daemon, &["remove", "1"]).status.code(), Some(4));
    assert_eq!(ctl(&daemon, &["remove"]).status.code(), Some(2), "it does not mean all by itself");
    daemon.assert_audit();
}

#[test]
fn a_drain_works_off_what_is_queued_and_leaves_what_is_delayed() {
    let mut daemon = Daemon::start(PLAIN);
    daemon.submit(&json!([{"run": "true", "delay": "1h"}]));
    let first = daemon.submit(&json!(vec!["true"; 20]));
    assert_eq!(ctl(&daemon, &["drain"]).status.code(), Some(0));
    daemon.assert_clean_exit();
    daemon.start_again();
    assert_eq!(daemon.ask(&json!({"op": "status"}))["jobs"]["delayed"], 1);
    for id in first..first + 20 {
        assert_eq!(daemon.show(id)["state"], "succeeded");
    }
    daemon.stop();
}

#[test]
fn explain_says_why_with_the_evidence() {
    let daemon = Daemon::start(PLAIN);
    let record = daemon.run(json!({"run": "echo out of luck >&2; kill -9 $PPID; sleep 100000"}));
    assert_eq!((&record["cause"], &record["crashes"]), (&json!("crash"), &json!(3)), "{record}");
    let id = record["id"].to_string();
    let text = said(&ctl(&daemon, &["explain", &id]));
    assert!(text.contains("failed: 3 workers died with this job alone (default."), "{text}");
    assert!(text.contains("killed by signal 9 (KILL)"), "{text}");
    let json: Value =
        serde_json::from_slice(&ctl(&daemon, &["explain", &id, "--json"]).stdout).expect("JSON");
    assert_eq!(json["facts"]["workers"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(json["facts"]["evidence"]["signal"], 9, "{json}");
    assert!(said(&ctl(&daemon, &["explain"])).contains("nothing is waiting"));
    assert_eq!(ctl(&daemon, &["explain", "default.9"]).status.code(), Some(4));
}

#[test]
fn metrics_count_since_the_start_what_status_counts_now() {
    let daemon = Daemon::start(PLAIN);
    daemon.submit(&json!(["true", "false", {"run": "exit 3", "retries": 1, "backoff": "1ms"}]));
    daemon.results("all");
    let text = said(&ctl(&daemon, &["metrics"]));
    for line in [
        "pushpull_jobs{pool=\"default\",state=\"failed\"} 2",
        "pushpull_jobs_submitted_total{pool=\"default\"} 3",
        "pushpull_jobs_sent_total{pool=\"default\"} 4",
        "pushpull_jobs_finished_total{pool=\"default\",state=\"succeeded\"} 1",
        "pushpull_attempts_failed_total{pool=\"default\",cause=\"exit\"} 3",
        "pushpull_workers{pool=\"default\",state=\"ready\"} 2",
        "pushpull_reports_void_total{kind=\"late\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("pushpull_"), "{line}");
        assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<u64>().is_ok()), "{line}");
    }
}
