//! `--once` is interrupted, and goes on: what had ended is not run again, what had not is.

use crate::once_run::{Desk, Gate, Run, WAITS, by_index};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

/// Starts a run of `jobs.json` and gives it back when it waits at the gate, with the records of all jobs before.
fn run_to_gate(desk: &Desk, gate: &mut Gate, jobs_before: usize) -> (Run, Vec<Value>) {
    let mut run = desk.start(&["jobs.json", "-n", "2"]);
    gate.await_job();
    let records = (0..jobs_before).map(|_| run.record()).collect();
    (run, records)
}

/// Starts a run and stops it at the gate by INT or TERM: gives all of its records, and the words at its end.
fn interrupt(desk: &Desk, gate: &mut Gate, jobs_before: usize, signal: i32) -> (Vec<Value>, String) {
    let (mut run, mut records) = run_to_gate(desk, gate, jobs_before);
    run.signal(signal);
    run.await_words("finishing");
    gate.open_for(2);
    let (status, rest, said) = run.finish();
    assert_eq!(status, 128 + signal, "{said}");
    records.extend(rest);
    (records, said)
}

/// The line that a person sees last.
fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

#[test]
fn what_is_interrupted_by_a_signal_says_how_to_go_on_and_goes_on() {
    for (signal, place) in [(libc::SIGINT, 0), (libc::SIGINT, 40), (libc::SIGTERM, 100)] {
        let desk = Desk::new();
        let mut gate = desk.write_jobs(120, place);
        let (before, said) = interrupt(&desk, &mut gate, place, signal);
        let done = before.len();
        assert!((place..120).contains(&done), "{done} were done: {said}");
        assert_eq!(
            last_line(&said),
            format!(
                "interrupted with {done} of 120 done; pushpulld --once jobs.json -n 2 --resume continues"
            )
        );
        assert_eq!(desk.ran().len(), done, "a job was cut off, or ran and was not told of");

        let (status, records, said) = desk.run(&["jobs.json"]);
        assert_eq!((status, records), (5, Vec::new()));
        assert_eq!(
            said,
            format!(
                "pushpulld: an interrupted run of jobs.json has {done} of 120 done: --resume continues it, --fresh discards it\n"
            )
        );

        gate.open_for(2);
        let (status, records, said) = desk.run(&["jobs.json", "--resume"]);
        assert_eq!(status, 0, "{said}");
        assert!(last_line(&said).starts_with("120 jobs: 120 succeeded in "), "{said}");
        assert_eq!(records[..done], before, "the records of before come first, as they were");
        assert!(by_index(&records).values().all(|record| record["state"] == "succeeded"));
        let ran = desk.ran();
        assert_eq!((ran.len(), ran.values().sum::<usize>()), (120, 120), "each ran once");
        desk.assert_clean();
    }
}

#[test]
fn a_killed_run_goes_on_and_nothing_that_was_told_runs_again() {
    for place in [0, 1, 60, 1_050] {
        let desk = Desk::new();
        let count = place + 50;
        let mut gate = desk.write_jobs(count, place);
        let (run, mut before) = run_to_gate(&desk, &mut gate, place);
        run.signal(libc::SIGKILL);
        let (status, rest, _) = run.end();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        before.extend(rest);

        let (status, _, said) = desk.run(&["jobs.json"]);
        assert_eq!(status, 5, "{said}");
        let (start, rest) = said.split_once(" has ").expect("how many");
        assert_eq!(start, "pushpulld: an interrupted run of jobs.json");
        let (done, rest) = rest.split_once(" of ").expect("of how many");
        let done: usize = done.replace(',', "").parse().expect("a number");
        assert!((before.len()..count).contains(&done), "{said}");
        let all = if count == 1_100 { "1,100".to_owned() } else { count.to_string() };
        assert_eq!(rest, format!("{all} done: --resume continues it, --fresh discards it\n"));

        gate.open_for(2);
        let (status, records, said) = desk.run(&["jobs.json", "-n", "3", "--resume"]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(records[..before.len()], before);
        assert_eq!(by_index(&records).len(), count);
        let ran = desk.ran();
        assert_eq!(ran.len(), count, "every job ran");
        let told: BTreeSet<usize> = by_index(&before).into_keys().collect();
        assert!(told.iter().all(|job| ran[job] == 1), "a job that had ended ran again");
        desk.assert_clean();
    }
}

#[test]
fn a_run_survives_many_interruptions() {
    let desk = Desk::new();
    let is_gate = |at: usize| at % 60 == 0 && at > 0;
    let jobs: Vec<String> =
        (0..300).map(|at| format!("echo {at} >> ran{}", if is_gate(at) { WAITS } else { "" })).collect();
    desk.write("jobs.json", &serde_json::json!(jobs).to_string());
    let mut gate = Gate::new(&desk);
    let words = ["jobs.json", "-n", "1", "--resume"];
    for (at, signal) in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL, libc::SIGINT].into_iter().enumerate() {
        let mut run = desk.start(&words);
        // The job that was cut off runs once more, and then the next one is at the gate.
        for _ in 0..=usize::from(at > 0) {
            gate.await_job();
        }
        let records: Vec<Value> = (0..60 * (at + 1)).map(|_| run.record()).collect();
        assert_eq!(by_index(&records).len(), records.len());
        run.signal(signal);
        if signal != libc::SIGKILL {
            run.await_words("finishing");
            run.signal(signal);
        }
        let (status, rest, said) = run.end();
        assert_eq!(rest, Vec::<Value>::new(), "{said}");
        let ended_by = status.signal().or_else(|| status.code().map(|code| code - 128));
        assert_eq!(ended_by, Some(signal), "{said}");
        gate.open_for(1);
    }
    let (status, records, said) = desk.run(&words);
    assert_eq!((status, by_index(&records).len()), (0, 300), "{said}");
    assert!(desk.ran().into_iter().all(|(at, times)| times == 1 + usize::from(is_gate(at))));
    desk.assert_clean();
}

#[test]
fn failures_of_before_are_told_again_and_not_run_again() {
    let desk = Desk::new();
    let jobs = ["echo 0 >> ran; exit 3", "echo 1 >> ran; echo here > here; read go < gate", "echo 2 >> ran"];
    desk.write("jobs.json", &serde_json::json!(jobs).to_string());
    let mut gate = Gate::new(&desk);
    let mut run = desk.start(&["jobs.json", "-n", "1"]);
    let failed = run.record();
    assert_eq!((&failed["state"], &failed["cause"]), (&"failed".into(), &"exit".into()));
    gate.await_job();
    run.signal(libc::SIGKILL);
    run.end();
    gate.open_for(1);
    let (status, records, said) = desk.run(&["jobs.json", "--resume", "-n", "1"]);
    assert_eq!(status, 1, "{said}");
    assert_eq!((records.len(), &records[0]), (3, &failed));
    assert!(said.contains("continuing with 1 of 3 done"), "{said}");
    assert!(said.contains("3 jobs: 2 succeeded, 1 failed (1 exit) in "), "{said}");
    assert_eq!(desk.ran()[&0], 1);
    desk.assert_clean();
}

#[test]
fn all_that_ends_while_it_is_interrupted_is_told_and_then_nothing_is_left_to_resume() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(2, 0);
    let (mut run, _) = run_to_gate(&desk, &mut gate, 0);
    gate.await_job();
    run.signal(libc::SIGINT);
    run.await_words("finishing");
    gate.open_for(2);
    let (status, records, said) = run.finish();
    assert_eq!((status, by_index(&records).len()), (0, 2), "{said}");
    desk.assert_clean();
}

#[test]
fn fresh_discards_and_begins_again() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(60, 20);
    let (before, _) = interrupt(&desk, &mut gate, 20, libc::SIGTERM);
    gate.open_for(2);
    let (status, records, said) = desk.run(&["jobs.json", "--fresh"]);
    assert_eq!((status, by_index(&records).len()), (0, 60), "{said}");
    assert_eq!(desk.ran().values().sum::<usize>(), 60 + before.len());
    desk.assert_clean();
}

#[test]
fn a_file_that_has_changed_is_not_mixed_with_its_interrupted_run() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(60, 20);
    let (before, _) = interrupt(&desk, &mut gate, 20, libc::SIGINT);
    let file = desk.path().join("jobs.json");
    let original = std::fs::read_to_string(&file).expect("it is ours");
    desk.write("jobs.json", r#"["echo 1000 >> ran"]"#);
    for words in [&["jobs.json"][..], &["jobs.json", "--resume"]] {
        let (status, records, said) = desk.run(words);
        assert_eq!((status, records), (5, Vec::new()), "{said}");
        assert!(said.contains(&format!("{} of 60 done, but the file has changed", before.len())), "{said}");
        assert!(said.contains("--fresh"), "{said}");
    }
    assert_eq!(desk.ran().len(), before.len(), "nothing of either ran");

    desk.write("jobs.json", &original);
    gate.open_for(2);
    let (status, records, said) = desk.run(&["./jobs.json", "--resume"]);
    assert_eq!((status, by_index(&records).len()), (0, 60), "the same file by another name: {said}");
    desk.write("jobs.json", r#"["echo 1000 >> ran"]"#);
    let (status, records, said) = desk.run(&["jobs.json"]);
    assert_eq!((status, records.len()), (0, 1), "{said}");
}

#[test]
fn workers_that_cannot_do_what_is_left_are_refused_before_they_start() {
    let desk = Desk::new();
    let mut gate = desk.write_jobs(40, 10);
    let (before, _) = interrupt(&desk, &mut gate, 10, libc::SIGINT);
    desk.write("other.toml", "[pools.gpu]\nworkers = 1\n");
    let (status, _, said) = desk.run(&["jobs.json", "--resume", "--", "cat"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("leave out -- COMMAND"), "{said}");
    let (status, _, said) = desk.run(&["jobs.json", "--resume", "--config", "other.toml"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("pool default, which is not configured"), "{said}");
    assert_eq!(desk.ran().len(), before.len());
    gate.open_for(2);
    assert_eq!(desk.run(&["jobs.json", "--resume"]).0, 0);
}
