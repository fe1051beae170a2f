//! How runs of `--once` begin, are refused, and leave nothing behind.

use crate::harness::Daemon;
use crate::once_run::{Desk, Gate, Run, WAITS, by_index};
use crate::site::{PLAIN, Site};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;

fn fed(mut command: Command, file: &std::path::Path) -> Run {
    command.stdin(File::open(file).expect("it is ours"));
    Run::start(command)
}

#[test]
fn a_run_ends_with_its_jobs_fates_and_leaves_nothing() {
    let desk = Desk::new();
    desk.write("good.json", r#"["echo a", {"run": "cat", "stdin": "b"}]"#);
    desk.write("bad.txt", "true\nexit 3\n\nkill -9 $$\n");
    let (status, records, said) = desk.run(&["good.json"]);
    let records = by_index(&records);
    assert_eq!((status, &records[&0]["result"]["stdout"]), (0, &json!("a\n")));
    assert_eq!(records[&1]["result"]["stdout"], "b");
    assert!(said.starts_with("2 jobs: 2 succeeded in "), "{said}");
    for memory in [&[][..], &["--memory"]] {
        let (status, records, said) = desk.run(&[&["bad.txt", "--lines"], memory].concat());
        assert_eq!((status, records.len()), (1, 3));
        assert!(said.starts_with("3 jobs: 1 succeeded, 2 failed (1 exit, 1 signal) in "), "{said}");
        assert!(said.contains("#2 exit 3  exit 3"), "{said}");
        desk.assert_clean();
    }
    let (status, records, said) = desk.run(&["good.json", "-q"]);
    assert_eq!((status, records.len(), &*said), (0, 2, ""));
}

#[test]
fn whole_outputs_go_where_the_command_line_says_unless_the_file_does() {
    let desk = Desk::new();
    for name in ["out", "own"] {
        fs::create_dir(desk.path().join(name)).expect("it is ours");
    }
    desk.write("jobs.json", r#"["echo one", {"run": "echo two", "output_dir": "own"}]"#);
    let (status, records, said) = desk.run(&["jobs.json", "--output-dir", "out"]);
    assert_eq!(status, 0, "{said}");
    for (at, directory, text) in [(0, "out", "one\n"), (1, "own", "two\n")] {
        let file = format!("{directory}/{}.stdout", by_index(&records)[&at]["id"]);
        assert_eq!(fs::read_to_string(desk.path().join(file)).expect("it was written"), text);
    }
}

#[test]
fn jobs_may_wait_for_others_that_come_later_in_the_file() {
    let desk = Desk::new();
    desk.write(
        "jobs.json",
        r#"[{"run": "cat word", "after": "a"}, {"run": "echo first > word", "key": "a"}]"#,
    );
    let (status, records, said) = desk.run(&["jobs.json"]);
    assert_eq!((status, &by_index(&records)[&0]["result"]["stdout"]), (0, &json!("first\n")), "{said}");
    desk.write(
        "circle.json",
        r#"[{"run": "true", "key": "a", "after": "b"}, {"run": "true", "key": "b", "after": "a"}]"#,
    );
    let (status, _, said) = desk.run(&["circle.json"]);
    assert!(status == 2 && said.contains("goes in a circle"), "{said}");
    desk.assert_clean();
}

#[test]
fn what_cannot_run_is_said_and_leaves_nothing() {
    let desk = Desk::new();
    desk.write("typo.json", r#"["echo 1", {"runn": "echo 2"}]"#);
    desk.write("empty.json", "");
    desk.write("none.json", "[]");
    desk.write("pool.json", r#"[{"run": "true", "pool": "gpu"}]"#);
    desk.write("data.json", r#"[{"data": 1}]"#);
    let long = format!("[{}\"unfinished", "\"echo >> ran\",\n".repeat(30_000));
    desk.write("long.json", &long);
    let cases: [(&[&str], i32, &str); 9] = [
        (&["typo.json"], 2, "runn"),
        (&["empty.json"], 2, "empty.json"),
        (&["none.json"], 2, "no jobs"),
        (&["pool.json"], 2, "gpu"),
        (&["data.json"], 2, "data"),
        (&["long.json"], 2, "long.json:30001"),
        (&["absent.json"], 2, "absent.json"),
        (&["."], 2, "is a directory"),
        (&["data.json", "--", "/no/such/worker"], 6, "/no/such/worker"),
    ];
    for (words, expected, needle) in cases {
        let (status, records, said) = desk.run(words);
        assert_eq!((status, records), (expected, Vec::new()), "{words:?}: {said}");
        assert!(said.contains(needle), "{words:?}: {said}");
        assert!(!said.contains("--resume"), "{words:?}: {said}");
        desk.assert_clean();
    }
    assert!(!desk.path().join("ran").exists(), "nothing of a bad file runs");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let desk = Desk::new();
    desk.write("jobs.json", r#"["true"]"#);
    for words in [["--resume", "--fresh"], ["--resume", "--memory"], ["--fresh", "--memory"]] {
        let (status, _, said) = desk.run(&["jobs.json", words[0], words[1]]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("cannot be used with"), "{said}");
    }
}

#[test]
fn resume_without_an_interrupted_run_says_so_and_runs_the_file() {
    let desk = Desk::new();
    desk.write("jobs.json", r#"["true"]"#);
    let (status, records, said) = desk.run(&["jobs.json", "--resume"]);
    assert_eq!((status, records.len()), (0, 1), "{said}");
    assert!(said.starts_with("nothing to resume: running all of jobs.json\n"), "{said}");
    desk.assert_clean();
}

#[test]
fn a_file_runs_once_at_a_time_and_others_beside_it() {
    let desk = Desk::new();
    desk.write("jobs.json", r#"["echo here > here; read go < gate"]"#);
    desk.write("other.json", r#"["true"]"#);
    let mut gate = Gate::new(&desk);
    let first = desk.start(&["jobs.json"]);
    gate.await_job();
    for words in [&["jobs.json"][..], &["jobs.json", "--resume"], &["jobs.json", "--fresh"]] {
        let (status, records, said) = desk.run(words);
        assert_eq!((status, records), (5, Vec::new()), "{said}");
        let words = format!("jobs.json is being run by another pushpulld (pid {})", first.pid());
        assert!(said.contains(&words), "{said}");
    }
    let (status, _, said) = desk.run(&["other.json"]);
    assert_eq!(status, 0, "{said}");
    gate.open_for(1);
    let (status, records, said) = first.finish();
    assert_eq!((status, records.len()), (0, 1), "{said}");
    desk.assert_clean();
}

#[test]
fn a_run_never_meets_the_daemon_of_the_same_state_directory() {
    let daemon = Daemon::start(PLAIN);
    let desk = Desk::new();
    desk.write("jobs.json", r#"["echo beside"]"#);
    let mut command = desk.command(&["jobs.json"]);
    command.env("PUSHPULL_STATE_DIR", daemon.site.state());
    let (status, records, said) = Run::start(command).finish();
    assert_eq!((status, records.len()), (0, 1), "{said}");
    assert_eq!(daemon.wait("all")["succeeded"], 0);
}

#[test]
fn standard_input_is_known_by_its_contents() {
    let desk = Desk::new();
    desk.write("jobs", "echo 0 >> ran\necho 1 >> ran; echo here > here; read go < gate\n");
    desk.write("others", "echo 2 >> ran\n");
    let (jobs, others) = (desk.path().join("jobs"), desk.path().join("others"));
    let mut gate = Gate::new(&desk);
    let words = ["-", "--lines", "-n", "1"];
    let mut run = fed(desk.command(&words), &jobs);
    let first = run.record();
    gate.await_job();
    run.signal(libc::SIGINT);
    run.await_words("finishing");
    // A second signal cuts the job off.
    run.signal(libc::SIGINT);
    let (status, _, said) = run.finish();
    assert_eq!(status, 130, "{said}");
    let words_at_the_end =
        "interrupted with 1 of 2 done; the same input to pushpulld --once - --lines -n 1 --resume continues";
    assert!(said.ends_with(&format!("{words_at_the_end}\n")), "{said}");

    let (status, _, said) = fed(desk.command(&words), &jobs).finish();
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("an interrupted run of standard input has 1 of 2 done"), "{said}");
    let resume = ["-", "--lines", "-n", "1", "--resume"];
    let (status, _, said) = fed(desk.command(&resume), &others).finish();
    assert_eq!(status, 5, "{said}");
    assert!(said.contains(desk.kept()[0].to_str().expect("plain letters")), "{said}");
    let (status, records, said) = fed(desk.command(&words), &others).finish();
    assert_eq!((status, records.len()), (0, 1), "other contents are another run: {said}");
    gate.open_for(1);
    let (status, records, said) = fed(desk.command(&resume), &jobs).finish();
    assert_eq!((status, records.len(), &records[0]), (0, 2, &first), "{said}");
    assert_eq!(desk.ran()[&0], 1);
    desk.assert_clean();
}

#[test]
fn too_many_failures_stop_the_run_and_the_rest_can_be_resumed() {
    let desk = Desk::new();
    let mut jobs: Vec<String> = (0..50).map(|at| format!("echo {at} >> ran; test {at} -gt 4")).collect();
    // It holds up the rest until the client has seen the failures, and is cut off then.
    jobs[5] += WAITS;
    desk.write("jobs.json", &json!(jobs).to_string());
    desk.write("hasty.toml", "drain_timeout = \"10ms\"\n[pools.default]\nworkers = 1\n");
    let mut gate = Gate::new(&desk);
    let words = ["jobs.json", "--config", "hasty.toml", "--max-fails"];
    let (status, records, said) = desk.run(&[&words[..], &["3"]].concat());
    let failed = by_index(&records).len();
    assert!(status == 1 && (3..=5).contains(&failed), "{said}");
    let expected = format!(
        "stopped after {failed} failures with {failed} of 50 done; pushpulld --once jobs.json --config hasty.toml --max-fails 3 --resume continues\n"
    );
    assert!(said.ends_with(&expected), "{said}");
    let told: Vec<usize> = by_index(&records).into_keys().collect();
    gate.open_for(1);
    let (status, records, said) = desk.run(&[&words[..], &["3", "--resume"]].concat());
    assert_eq!((status, by_index(&records).len()), (1, 50), "only new failures count: {said}");
    let ran = desk.ran();
    assert!(told.iter().all(|job| ran[job] == 1), "failed jobs are not run again");
    desk.assert_clean();
}

/// Leaves an interrupted run of `jobs.json` behind; gives its directory.
fn leave_a_run(desk: &Desk, gate: &mut Gate) -> std::path::PathBuf {
    let run = desk.start(&["jobs.json"]);
    gate.await_job();
    run.signal(libc::SIGKILL);
    run.end();
    desk.kept().remove(0)
}

#[test]
fn a_damaged_store_is_refused_and_named_until_fresh_discards_it() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(3, 0);
    let store = leave_a_run(&desk, &mut gate).join("state/jobs.db");
    fs::write(&store, "no database at all".repeat(100)).expect("it is ours");
    for words in [&["jobs.json"][..], &["jobs.json", "--resume"]] {
        let (status, _, said) = desk.run(words);
        assert_eq!(status, 6, "{said}");
        assert!(said.contains(store.to_str().expect("plain letters")) && said.contains("--fresh"), "{said}");
    }
    gate.open_for(2);
    let (status, records, said) = desk.run(&["jobs.json", "--fresh"]);
    assert_eq!((status, records.len()), (0, 3), "{said}");
    desk.assert_clean();
}

#[test]
fn a_submit_that_was_cut_off_is_begun_again_without_a_question() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(3, 0);
    let state = leave_a_run(&desk, &mut gate).join("state");
    fs::remove_dir_all(&state).expect("it is ours");
    fs::create_dir(&state).expect("it is ours");
    let site = Site::new(PLAIN);
    symlink(&state, site.state()).expect("it is ours");
    let mut daemon = Daemon::start_at(site);
    let chunk = json!({"op": "submit", "key": "once-", "chunk": 0, "last": false, "jobs": ["echo 7 >> ran"]});
    assert_eq!(daemon.ask(&chunk)["expect"], 1);
    daemon.kill();
    gate.open_for(2);
    let (status, records, said) = desk.run(&["jobs.json"]);
    assert_eq!((status, records.len()), (0, 3), "{said}");
    assert!(!desk.ran().contains_key(&7), "what was never accepted never runs");
    desk.assert_clean();
}
