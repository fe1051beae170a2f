//! Starts that are refused, and starts of workers that fail.

use crate::harness::Daemon;
use crate::process::{self, PATIENCE};
use crate::site::{PLAIN, Site, program};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

/// Runs a daemon that does not get far; gives its exit status and what it says.
pub fn refused(mut command: Command) -> (i32, String) {
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("the daemon can be executed");
    let handle = process::Handle::open(i32::try_from(child.id()).expect("a pid")).expect("it is our child");
    if !process::is_readable(handle.fd(), PATIENCE) {
        handle.signal(libc::SIGKILL);
        panic!("the daemon was not refused");
    }
    let output = child.wait_with_output().expect("it is our child");
    (output.status.code().expect("it exits"), String::from_utf8(output.stderr).expect("it speaks plainly"))
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start(PLAIN);
    let site = &daemon.site;
    let elsewhere = site.path().join("elsewhere");
    let same_state = {
        let mut command = program();
        command.arg("--state-dir").arg(site.state()).arg("--runtime-dir").arg(&elsewhere);
        command
    };
    let same_runtime = {
        let mut command = program();
        command.arg("--state-dir").arg(&elsewhere).arg("--runtime-dir").arg(site.runtime());
        command
    };
    let in_memory = {
        let mut command = program();
        command.arg("--memory").arg("--runtime-dir").arg(site.runtime());
        command
    };
    for command in [site.command(), same_state, same_runtime, in_memory] {
        let (status, words) = refused(command);
        assert_eq!(status, 5, "{words}");
        assert!(words.contains(&format!("pid {}", daemon.pid())), "{words}");
        assert!(words.contains(&site.runtime().display().to_string()), "{words}");
        assert_eq!(daemon.run(json!("echo unharmed"))["result"]["stdout"], "unharmed\n");
    }
    assert!(daemon.workers().iter().all(|row| row["restarts"] == 0), "a worker was swept");
}

#[test]
fn directories_that_cannot_serve_are_named() {
    let site = Site::new(PLAIN);
    let file = site.path().join("file");
    fs::write(&file, "").expect("it is ours");
    let open = site.path().join("open");
    fs::create_dir(&open).expect("it is ours");
    fs::write(open.join("other"), "").expect("it is ours");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let long = site.path().join("x".repeat(100));
    let cases = [
        (site.state(), long.clone(), 2, "too long"),
        (site.state(), file.clone(), 2, "file"),
        (file.clone(), site.runtime(), 2, "file"),
        (file.join("below"), site.runtime(), 6, "below"),
        (open.clone(), site.runtime(), 2, "chmod 700"),
        (site.state(), open.clone(), 2, "chmod 700"),
    ];
    for (state, runtime, expected, words) in cases {
        let mut command = program();
        command.arg("--state-dir").arg(&state).arg("--runtime-dir").arg(&runtime);
        let (status, said) = refused(command);
        assert_eq!(status, expected, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(open.join("other").exists());
}

#[test]
#[ignore = "needs root"]
fn directories_of_somebody_else_are_refused() {
    let site = Site::new(PLAIN);
    let theirs = site.path().join("theirs");
    fs::create_dir(&theirs).expect("it is ours");
    std::os::unix::fs::chown(&theirs, Some(4242), None).expect("we are root");
    for (state, runtime) in [(theirs.clone(), site.runtime()), (site.state(), theirs.clone())] {
        let mut command = program();
        command.arg("--state-dir").arg(state).arg("--runtime-dir").arg(runtime);
        let (status, said) = refused(command);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("belongs to user 4242"), "{said}");
    }
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let cases = [
        ("[pools.default\nworkers = 1", "config.toml:1"),
        ("\n\n[pools.default]\nworkes = 1", "\"workes\""),
        ("[pools.default]\nworkes = 1", "workers"),
        ("drain_timout = 3", "drain_timeout"),
        ("[pools.default]\nworkers = -1", "config.toml:2"),
        ("[pools.default]\nworkers = \"many\"", "workers"),
        ("[pools.Default]\nworkers = 1", "pool name"),
        ("[pools.default]\nmessage = \"naked\"", "bare"),
        ("[pools.default]\nworkers = 1\n[pools.a]\nmessage = \"bare\"", "pool a a command"),
        ("[pools.default]\nstop_signal = \"WHAT\"", "stop_signal"),
        ("\0", "config.toml:1"),
    ];
    for (text, words) in cases {
        let site = Site::new(text);
        for command in [site.command(), Site::command(&Site::new(text).argument("--check"))] {
            let (status, said) = refused(command);
            assert_eq!(status, 2, "{text:?}: {said}");
        }
        let (_, said) = refused(site.command());
        assert!(said.contains(words), "{text:?}: {said}");
        assert!(!site.state().exists(), "a bad configuration has touched the directories");
    }
    let missing = Site::new("");
    fs::remove_file(missing.path().join("config.toml")).expect("it is ours");
    let (status, said) = refused(missing.command());
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("config.toml"), "{said}");
}

#[test]
fn a_program_that_cannot_be_executed_is_named_and_harms_no_other_pool() {
    let site = Site::new("");
    let program = site.path().join("not-yet-there");
    site.configure(&format!(
        "[pools.default]\nworkers = 1\n[pools.broken]\nworkers = 2\ncommand = [{}]\nrestart_delay = \"20ms\"\nrestart_delay_max = \"60s\"\n",
        json!(program)
    ));
    let mut daemon = Daemon::start_at(site);
    assert_eq!(daemon.run(json!("echo fine"))["result"]["stdout"], "fine\n");
    let waiting = daemon.submit(&json!([{"pool": "broken", "data": 1}]));
    let deadline = Instant::now() + PATIENCE;
    let is_backing_off = |daemon: &Daemon| {
        let rows = daemon.workers();
        rows.iter().filter(|row| row["pool"] == "broken").all(|row| row["state"] == "backoff")
    };
    while !is_backing_off(&daemon) {
        assert!(Instant::now() < deadline, "{:?}", daemon.workers());
        daemon.ask(&json!({"op": "wait", "select": "all", "timeout_ms": 20}));
    }
    let status = daemon.ask(&json!({"op": "status"}));
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("pool broken") && warnings.contains("No such file"), "{warnings}");
    assert!(status["pools"].as_array().is_some_and(|pools| pools.len() == 2));
    assert_eq!(daemon.show(waiting)["state"], "queued");
    assert_eq!(daemon.show(waiting)["attempts"], 0);
    assert!(daemon.site.log().contains("not-yet-there"), "the log names it");
    daemon.stop();
}

#[test]
fn workers_that_end_at_once_are_slowed_down() {
    let site = Site::new(
        "[pools.default]\nworkers = 1\ncommand = [\"/bin/false\"]\nrestart_delay = \"60s\"\nrestart_delay_max = \"60s\"\n",
    );
    let mut daemon = Daemon::start_at(site);
    let deadline = Instant::now() + PATIENCE;
    while daemon.workers()[0]["state"] != "backoff" {
        assert!(Instant::now() < deadline, "{:?}", daemon.workers());
        daemon.ask(&json!({"op": "wait", "timeout_ms": 1}));
    }
    let row = &daemon.workers()[0];
    assert_eq!(row["last_exit"]["exit"], 1, "{row}");
    let ends = daemon.site.log().matches("ended: exit status 1").count();
    assert_eq!(ends, 2, "the first end is replaced at once, the second is not: {}", daemon.site.log());
    daemon.stop();
}
