//! Jobs with `run`: what reaches the command, and what becomes of it.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::Handle;
use crate::site::PLAIN;
use serde_json::{Value, json};

#[test]
fn commands_get_their_words_environment_directory_and_input() {
    let daemon = Daemon::start(PLAIN);
    let cwd = daemon.site.path().join("an odd 'place' \u{e9}");
    std::fs::create_dir(&cwd).expect("it is ours");
    let odd = "a'b\"c $HOME `x` \\ \u{1f980} *\ttab";
    let cases = [
        (json!("echo hi; echo there >&2"), "hi\n", "there\n"),
        (json!({"run": "printf '%s' \"$0\""}), "/bin/sh", ""),
        (json!({"run": ["printf", "%s|", "two words", "", odd]}), &*format!("two words||{odd}|"), ""),
        (json!({"run": "printf %s \"$ODD\"", "env": {"ODD": odd}}), odd, ""),
        (json!({"run": "pwd", "cwd": &cwd}), &*format!("{}\n", cwd.display()), ""),
        (json!({"run": ["cat"], "stdin": "line\nno end"}), "line\nno end", ""),
        (json!({"run": ["cat"]}), "", ""),
        (json!({"run": "cat", "stdin": ""}), "", ""),
        (json!({"run": "printf \"$PUSHPULL_ATTEMPT$PUSHPULL_JOBS\""}), "1", ""),
        (json!("#only a comment"), "", ""),
        (json!({"run": "echo a\n\necho b"}), "a\nb\n", ""),
    ];
    let jobs: Vec<&Value> = cases.iter().map(|(job, _, _)| job).collect();
    let first = daemon.submit(&json!(jobs));
    for (record, (job, stdout, stderr)) in daemon.results("all").values().zip(&cases) {
        assert_eq!(record["state"], "succeeded", "{record}");
        let result = &record["result"];
        assert_eq!((&result["stdout"], &result["stderr"]), (&json!(stdout), &json!(stderr)), "{job}");
        assert_eq!((&result["exit"], &result["signal"]), (&json!(0), &Value::Null));
        assert_eq!(result["truncated"], false);
    }
    assert_eq!(daemon.show(first)["run"], json!("echo hi; echo there >&2"));
}

#[test]
fn bad_ends_of_commands_are_told_apart() {
    let daemon = Daemon::start(PLAIN);
    let not_executable = daemon.site.path().join("plain");
    std::fs::write(&not_executable, "#!/bin/sh\n").expect("it is ours");
    let cases = [
        (json!("exit 3"), "exit", "3"),
        (json!("no-such-program-at-all"), "exit", "127"),
        (json!(["/bin/false"]), "exit", "1"),
        (json!("kill -SEGV $$"), "signal", "killed by signal 11 (SEGV)"),
        (json!("kill -9 $$"), "signal", "killed by signal 9 (KILL)"),
        (json!(["no-such-program-at-all"]), "start", "no-such-program-at-all"),
        (json!([&not_executable]), "start", "ermission"),
        (json!({"run": "true", "cwd": "/no/such/place"}), "start", "/no/such/place"),
    ];
    let jobs: Vec<Value> = cases
        .iter()
        .map(|(run, _, _)| if run.is_object() { run.clone() } else { json!({"run": run}) })
        .collect();
    daemon.submit(&json!(jobs));
    for (record, (job, cause, words)) in daemon.results("all").values().zip(&cases) {
        assert_eq!(record["state"], "failed", "{job}: {record}");
        assert_eq!(record["cause"], *cause, "{job}: {record}");
        assert!(record["error"].as_str().is_some_and(|error| error.contains(words)), "{job}: {record}");
        assert_eq!((&record["attempts"], &record["crashes"]), (&json!(1), &json!(0)), "{job}: {record}");
        assert_eq!(record["result"].is_null(), *cause == "start", "{job}: {record}");
    }
    assert_eq!(daemon.run(json!("exit 3"))["result"]["exit"], 3);
    let killed = daemon.run(json!("kill -SEGV $$"));
    assert_eq!((&killed["result"]["exit"], &killed["result"]["signal"]), (&Value::Null, &json!(11)));
}

#[test]
fn output_that_is_binary_or_big_is_kept_as_far_as_it_goes() {
    let daemon = Daemon::start(PLAIN);
    let binary = daemon.run(json!({"run": "printf '\\377\\000\\376'; echo text >&2"}));
    assert_eq!(binary["result"]["stdout_base64"], "/wD+");
    assert_eq!(binary["result"]["stdout"], Value::Null);
    assert_eq!(binary["result"]["stderr"], "text\n");

    let big = daemon.run(json!({"run": "echo HEAD; head -c 300000 /dev/zero | tr '\\0' x; echo TAIL"}));
    assert_eq!(big["state"], "succeeded");
    assert_eq!(big["result"]["truncated"], true);
    let stdout = big["result"]["stdout"].as_str().expect("text");
    assert!(stdout.starts_with("HEAD\nxxx") && stdout.ends_with("xxxTAIL\n"), "head and tail");
    assert!(stdout.len() < 70_000 && stdout.len() > 30_000, "{}", stdout.len());

    let whole = daemon.site.path().join("whole");
    std::fs::create_dir(&whole).expect("it is ours");
    let kept = daemon.run(json!({"run": "head -c 300000 /dev/zero; echo e >&2", "output_dir": &whole}));
    let written = |stream: &str| std::fs::read(whole.join(format!("{}.{stream}", kept["id"])));
    assert_eq!(written("stdout").expect("it is kept"), vec![0; 300_000]);
    assert_eq!(written("stderr").expect("it is kept"), b"e\n");
}

#[test]
fn a_timeout_ends_the_whole_tree_and_nothing_else() {
    let daemon = Daemon::start(PLAIN);
    let mut pids = Fifo::new(daemon.site.path(), "pids");
    let line = format!(
        "sleep 100000 & echo $! >{0}; setsid sh -c 'trap \"\" TERM; echo $$ >{0}; sleep 100000; :' & wait",
        pids.path()
    );
    let jobs = json!([{"run": line, "timeout": "700ms"}, "echo unharmed"]);
    let first = daemon.submit(&jobs);
    let tree = [pids.pid(), pids.pid()].map(Handle::open);
    let record = daemon.record(first);
    assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("timeout")), "{record}");
    for process in tree.iter().flatten() {
        assert!(process.has_ended(), "something of the command outlived its outcome");
    }
    assert_eq!(daemon.record(first + 1)["result"]["stdout"], "unharmed\n");
    assert_eq!(daemon.run(json!("echo again"))["result"]["stdout"], "again\n");
    assert!(daemon.workers().iter().all(|row| row["restarts"] == 0), "a worker was lost");
}

#[test]
fn what_a_finished_command_leaves_behind_is_ended_before_its_outcome() {
    let daemon = Daemon::start(PLAIN);
    let mut pids = Fifo::new(daemon.site.path(), "pids");
    let line = format!(
        "sleep 100000 >/dev/null 2>&1 & echo $! >{0}; setsid sleep 100000 >/dev/null 2>&1 & echo $! >{0}",
        pids.path()
    );
    let id = daemon.submit(&json!([line]));
    let left = [pids.pid(), pids.pid()].map(Handle::open);
    assert_eq!(daemon.record(id)["state"], "succeeded");
    for process in left.iter().flatten() {
        process.await_end();
    }
}

#[test]
fn commands_run_where_and_as_the_submitter_says() {
    let daemon = Daemon::start(PLAIN);
    let place = daemon.site.path().join("place");
    std::fs::create_dir(&place).expect("it is ours");
    let reply = daemon.ask(&json!({
        "op": "submit",
        "environment": {"PATH": "/usr/bin:/bin", "ONLY": "this", "PUSHPULL_DAEMON": "stolen"},
        "directory": &place,
        "jobs": [
            "pwd; echo $ONLY; echo ${HOME-unset}",
            {"run": "echo $ONLY", "env": {"ONLY": "that"}},
            {"run": "pwd", "cwd": ".."},
            "echo $PUSHPULL_DAEMON",
        ],
    }));
    let records = daemon.results(&format!("@{}", reply["batch"]));
    let stdouts: Vec<&str> =
        records.values().map(|record| record["result"]["stdout"].as_str().expect("text")).collect();
    let above = daemon.site.path().display();
    let expected = [
        format!("{}\nthis\nunset\n", place.display()),
        "that\n".into(),
        format!("{above}\n"),
        format!("{}\n", daemon.mark()),
    ];
    assert_eq!(stdouts, expected);
}

#[test]
fn retries_are_made_and_counted_until_one_succeeds() {
    let daemon = Daemon::start(PLAIN);
    let retried = json!([
        {"run": "test $PUSHPULL_ATTEMPT = 3", "retries": 5, "backoff": "1ms"},
        {"run": "exit 9", "retries": 2, "backoff": "1ms"},
        {"run": "kill -9 $$", "retries": 1, "backoff": 0},
    ]);
    let first = daemon.submit(&retried);
    let records = daemon.results("all");
    let attempts: Vec<&Value> = records.values().map(|record| &record["attempts"]).collect();
    assert_eq!(attempts, [3, 3, 2]);
    assert_eq!(records[&first]["state"], "succeeded");
    let history = daemon.show(first + 1)["history"].clone();
    let causes: Vec<&Value> =
        history.as_array().expect("a history").iter().map(|entry| &entry["cause"]).collect();
    assert_eq!(causes, ["exit", "exit", "exit"]);
}

#[test]
fn successors_wait_for_what_they_come_after_and_fall_with_it() {
    let daemon = Daemon::start(PLAIN);
    let log = daemon.site.path().join("order");
    let append = |word: &str| format!("echo {word} >>{}", log.display());
    let jobs = json!([
        {"run": append("a"), "key": "a"},
        {"run": append("b"), "key": "b", "after": "a"},
        {"run": append("c"), "after": ["a", "b"]},
        {"run": "exit 1", "key": "bad"},
        {"run": append("never"), "after": "bad"},
    ]);
    let first = daemon.submit(&jobs);
    let records = daemon.results("all");
    assert_eq!(std::fs::read_to_string(&log).expect("jobs wrote it"), "a\nb\nc\n");
    let fallen = &records[&(first + 4)];
    assert_eq!((&fallen["state"], &fallen["cause"]), (&json!("cancelled"), &json!("dependency")));
}
