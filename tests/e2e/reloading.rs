//! A changed configuration, taken over while everything runs.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{Handle, PATIENCE};
use crate::site::{PLAIN, Site};
use crate::worker::pool;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

/// A pool of workers that say which colour they were started with.
fn coloured(name: &str, colour: &str, settings: &str) -> String {
    let table = pool(name, "echo", settings);
    table.replace("{ E2E_WORKER", &format!("{{ PUSHPULL_COLOUR = \"{colour}\", E2E_WORKER"))
}

/// The colour of whoever does the next job of this pool.
fn colour(daemon: &Daemon, pool: &str) -> String {
    let record = daemon.run(json!({"data": {"do": "who"}, "pool": pool}));
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    record["result"]["PUSHPULL_COLOUR"].as_str().expect("every worker here has one").to_owned()
}

/// Gives jobs to a pool until those of another colour do them all: `workers` in a row.
fn await_colour(daemon: &Daemon, pool: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    let is_replaced = |daemon: &Daemon| {
        let rows = daemon.workers();
        let mut rows = rows.iter().filter(|row| row["pool"] == pool);
        rows.all(|row| row["state"] == "idle" || row["state"] == "busy")
    };
    while colour(daemon, pool) != wanted || !is_replaced(daemon) {
        assert!(Instant::now() < deadline, "no {wanted} workers: {:?}", daemon.workers());
    }
}

fn pids(daemon: &Daemon, pool: &str) -> Vec<i64> {
    let rows = daemon.workers();
    rows.iter().filter(|row| row["pool"] == pool).filter_map(|row| row["pid"].as_i64()).collect()
}

fn ctl(daemon: &Daemon, words: &[&str]) -> (Option<i32>, String) {
    let output = daemon.site.ctl(words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn only_the_pool_that_changed_gets_new_workers_and_no_job_notices() {
    let config =
        |colour: &str| coloured("a", "red", "workers = 2\n") + &coloured("b", colour, "workers = 2\n");
    let daemon = Daemon::start(&config("red"));
    assert_eq!((colour(&daemon, "a"), colour(&daemon, "b")), ("red".to_owned(), "red".to_owned()));
    daemon.await_workers();
    let before = pids(&daemon, "a");
    daemon.site.configure(&config("blue"));
    assert_eq!(ctl(&daemon, &["reload"]).0, Some(0));
    await_colour(&daemon, "b", "blue");
    assert_eq!(pids(&daemon, "a"), before);
    // A signal does the same.
    daemon.site.configure(&config("green"));
    daemon.signal(libc::SIGHUP);
    await_colour(&daemon, "b", "green");
    assert_eq!(pids(&daemon, "a"), before);
    daemon.assert_audit();
}

#[test]
fn a_broken_file_in_the_midst_of_a_rolling_restart_changes_nothing() {
    let settings = "workers = 2\nmax_unready = 2\n";
    let daemon = Daemon::start(&coloured("a", "red", settings));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let wish = json!({"data": {"do": "wait", "path": gate.path(), "say": started.path()}, "pool": "a"});
    let ids = [daemon.submit(&json!([wish])), daemon.submit(&json!([wish]))];
    let workers: Vec<Handle> = (0..2).filter_map(|_| Handle::open(started.pid())).collect();
    daemon.site.configure(&coloured("a", "blue", settings));
    assert_eq!(ctl(&daemon, &["reload"]).0, Some(0));
    for broken in ["[pools.a]\nwokers = 3\n", "[pools.a\n", "keep = \"soon\"\n", ""] {
        daemon.site.configure(&coloured("a", "green", settings).replace("[pools.a]", broken).replacen(
            "[pools.a]",
            "",
            0,
        ));
        if broken.is_empty() {
            fs::remove_file(daemon.site.path().join("config.toml")).expect("it is ours");
        }
        let (status, said) = ctl(&daemon, &["reload"]);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("config.toml") && said.contains("stays as it was"), "{said}");
    }
    gate.open_for(2);
    workers.iter().for_each(Handle::await_end);
    for id in ids {
        let record = daemon.record(id);
        assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    }
    await_colour(&daemon, "a", "blue");
    daemon.assert_audit();
}

#[test]
fn what_a_pool_needs_must_be_there_before_anything_changes() {
    let daemon = Daemon::start(PLAIN);
    daemon.await_workers();
    let before = pids(&daemon, "default");
    for (wrong, named) in [
        ("command = [\"/no/such/program\"]", "/no/such/program"),
        ("command = [\"no-such-program-anywhere\"]", "no-such-program-anywhere"),
        ("directory = \"/no/such/directory\"", "/no/such/directory"),
        ("user = \"no-such-user\"", "no-such-user"),
        ("group = \"no-such-group\"", "no-such-group"),
    ] {
        daemon.site.configure(&format!("{PLAIN}[pools.other]\n{wrong}\n"));
        let refusal = daemon.refusal(&json!({"op": "reload"}));
        assert_eq!(refusal["code"], "bad_request", "{refusal}");
        assert!(refusal["message"].as_str().is_some_and(|text| text.contains(named)), "{refusal}");
    }
    assert_eq!(pids(&daemon, "default"), before);
    assert_eq!(daemon.ask(&json!({"op": "status"}))["pools"].as_array().map(Vec::len), Some(1));
}

#[test]
fn pools_come_and_go_and_their_jobs_stay() {
    let daemon = Daemon::start(&(coloured("a", "red", "workers = 1") + &coloured("b", "red", "workers = 1")));
    assert_eq!(colour(&daemon, "b"), "red");
    daemon.ask(&json!({"op": "pause", "pool": "b"}));
    let waiting = daemon.submit(&json!([{"data": {"do": "who"}, "pool": "b"}]));
    daemon.site.configure(&coloured("a", "red", "workers = 1"));
    daemon.ask(&json!({"op": "reload"}));
    let status = daemon.ask(&json!({"op": "status"}));
    assert_eq!(status["pools"].as_array().map(Vec::len), Some(1), "{status}");
    assert!(status["warnings"].to_string().contains("pool b"), "{status}");
    assert_eq!(status["jobs"]["queued"], 1, "{status}");
    let why = daemon.ask(&json!({"op": "explain", "id": waiting}));
    assert!(why["text"].as_str().is_some_and(|text| text.contains("reload")), "{why}");
    let job = json!({"op": "submit", "jobs": [{"data": 1, "pool": "b"}]});
    assert_eq!(daemon.refusal(&job)["code"], "bad_job");
    assert_eq!(daemon.refusal(&json!({"op": "scale", "pool": "b", "workers": 2}))["code"], "not_found");

    let three = coloured("c", "blue", "workers = 1") + &coloured("b", "blue", "workers = 2");
    daemon.site.configure(&(three + &coloured("a", "red", "workers = 1")));
    daemon.ask(&json!({"op": "reload"}));
    let status = daemon.ask(&json!({"op": "status"}));
    let names: Vec<&Value> =
        status["pools"].as_array().expect("a list").iter().map(|pool| &pool["name"]).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(status["pools"][1]["paused"], true, "a pause outlives its pool");
    daemon.ask(&json!({"op": "resume", "pool": "b"}));
    assert_eq!(daemon.record(waiting)["result"]["PUSHPULL_COLOUR"], "blue");
    assert_eq!(colour(&daemon, "c"), "blue");
    daemon.assert_audit();
}

#[test]
fn settings_of_the_daemon_change_at_once() {
    let daemon = Daemon::start(&format!("job_bytes_max = 100\n{PLAIN}"));
    let long = format!("echo {}", "x".repeat(200));
    let submit = json!({"op": "submit", "jobs": [long]});
    assert_eq!(daemon.refusal(&submit)["limit"], "job_bytes_max");
    let own = nix::unistd::getegid().as_raw();
    daemon.site.configure(&format!("request_bytes_max = 100000\ncontrol_group = \"{own}\"\n{PLAIN}"));
    daemon.ask(&json!({"op": "reload"}));
    daemon.ask(&submit);
    daemon.wait("all");
    assert_eq!(daemon.ask(&json!({"op": "ping"}))["limits"]["request_bytes_max"], 100_000);
    let large = json!({"op": "submit", "jobs": [format!("echo {}", "x".repeat(200_000))]});
    assert_eq!(daemon.refusal(&large)["limit"], "request_bytes_max");
    let socket = daemon.site.runtime().join("control.ipc");
    let found = socket.symlink_metadata().expect("the daemon has made it");
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, own));
    daemon.site.configure(PLAIN);
    daemon.ask(&json!({"op": "reload"}));
    assert_eq!(socket.symlink_metadata().expect("it is there").mode() & 0o7777, 0o600);
    assert_eq!(daemon.site.runtime().metadata().expect("it is there").permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_reload_scales_and_keeps_who_fits() {
    let daemon = Daemon::start("[pools.default]\nworkers = 3\nmax_unready = 3\n");
    daemon.await_workers();
    let before = pids(&daemon, "default");
    daemon.site.configure("[pools.default]\nworkers = 1\nstop_timeout = \"3s\"\n");
    daemon.ask(&json!({"op": "reload"}));
    let deadline = Instant::now() + PATIENCE;
    while daemon.workers().len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", daemon.workers());
    }
    assert_eq!(pids(&daemon, "default"), before[..1]);
    assert_eq!(daemon.run(json!("true"))["state"], "succeeded");
}

/// Removes the runtime directory at one blow, so that it is not made again meanwhile.
fn take_away(daemon: &Daemon) {
    let aside = daemon.site.path().join("aside");
    fs::rename(daemon.site.runtime(), &aside).expect("it is ours");
    fs::remove_dir_all(aside).expect("it is ours");
}

/// As at logout, when the user's runtime directory goes with all that is in it.
#[test]
fn a_runtime_directory_that_vanishes_is_made_again() {
    let daemon = Daemon::start(&pool("default", "echo", "workers = 1"));
    let mut started = Fifo::new(daemon.site.path(), "started");
    let mut gate = Fifo::new(daemon.site.path(), "gate");
    let running =
        daemon.submit(&json!([{"data": {"do": "wait", "path": gate.path(), "say": started.path()}}]));
    started.pid();
    for _ in 0..3 {
        take_away(&daemon);
        // The socket of this question is connected as soon as there is one again.
        assert_eq!(daemon.ask(&json!({"op": "ping"}))["pid"], daemon.pid());
        let again = daemon.site.command().output().expect("the daemon can be executed");
        assert_eq!(again.status.code(), Some(5), "{again:?}");
    }
    gate.open_for(1);
    let record = daemon.record(running);
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    daemon.ask(&json!({"op": "restart", "pool": "default"}));
    assert_eq!(daemon.run(json!({"data": 7}))["result"], 7, "new workers have their sockets there");
    // Only the control socket.
    fs::remove_file(daemon.site.runtime().join("control.ipc")).expect("it is ours");
    daemon.assert_audit();
}

#[test]
fn one_in_memory_whose_directory_vanishes_has_its_lock_again() {
    let daemon = Daemon::start_at(Site::new(PLAIN).argument("--memory"));
    take_away(&daemon);
    assert_eq!(daemon.ask(&json!({"op": "ping"}))["pid"], daemon.pid());
    let again = daemon.site.command().output().expect("the daemon can be executed");
    assert_eq!(again.status.code(), Some(5), "{again:?}");
    assert_eq!(daemon.run(json!("true"))["state"], "succeeded");
}
