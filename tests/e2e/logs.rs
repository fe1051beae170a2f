//! What workers and the daemon have said, read back from rotating files.

use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{self, PATIENCE};
use crate::site::{PLAIN, Site};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// One worker that is a shell script; it is never ready, and nobody minds while a test lasts.
fn script(pool: &str, script: &str) -> String {
    format!(
        "[pools.{pool}]\nworkers = 1\nstart_timeout = \"1h\"\ncommand = {}\n",
        json!(["/bin/sh", "-c", script])
    )
}

/// Reads on from a cursor until `enough` says so; the pieces, and the cursor behind them.
fn read_until(
    daemon: &Daemon,
    worker: &Value,
    after: &Value,
    enough: impl Fn(&[Value]) -> bool,
) -> (Vec<Value>, Value) {
    let deadline = Instant::now() + PATIENCE;
    let (mut pieces, mut after) = (Vec::new(), after.clone());
    while !enough(&pieces) {
        assert!(Instant::now() < deadline, "only {pieces:?}; the daemon says:\n{}", daemon.site.log());
        let mut request = json!({"op": "logs", "after": after, "timeout_ms": 20_000});
        if !worker.is_null() {
            request["worker"] = worker.clone();
        }
        let page = daemon.ask(&request);
        pieces.extend(page["pieces"].as_array().expect("pieces").clone());
        after = page["next"].clone();
    }
    (pieces, after)
}

fn has(pieces: &[Value], text: &str) -> bool {
    pieces.iter().any(|piece| piece["text"].as_str().is_some_and(|said| said.contains(text)))
}

/// `pushpullctl logs` for a site.
fn ctl(site: &Site, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
    command.arg("--runtime-dir").arg(site.runtime()).arg("logs").args(words);
    command.output().expect("pushpullctl can be executed")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the daemon has made it");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("plain")).collect();
    names.sort();
    names
}

#[test]
fn lines_say_who_wrote_them_and_are_there_after_a_restart() {
    let config = script(
        "talk",
        r"echo out of $PUSHPULL_WORKER; printf 'err \377\n' >&2; exec cat /dev/zero >/dev/null",
    );
    let mut daemon = Daemon::start(&config);
    let (pieces, _) = read_until(&daemon, &json!("talk.0"), &Value::Null, |pieces| pieces.len() == 2);
    let first = daemon.workers()[0]["worker"].clone();
    let of = |stream: &str| pieces.iter().find(|piece| piece["stream"] == stream).expect("a line").clone();
    assert_eq!(of("stdout")["text"], json!(format!("out of {}", first.as_str().expect("a name"))));
    assert_eq!(of("stderr")["base64"], "ZXJyIP8=");
    assert!(pieces.iter().all(|piece| piece["worker"] == first));

    daemon.stop();
    daemon.start_again();
    let (pieces, _) = read_until(&daemon, &json!("talk.0"), &Value::Null, |pieces| pieces.len() == 4);
    let second = daemon.workers()[0]["worker"].clone();
    assert_ne!(first, second);
    assert_eq!(pieces.iter().filter(|piece| piece["worker"] == second).count(), 2);

    // The same by the client: all of it, with the daemon's own lines; one past worker; as JSON.
    let all = stdout(&ctl(&daemon.site, &[]));
    assert!(all.contains(" pushpulld ready: pool talk with 1 worker\n"), "{all}");
    assert!(all.contains(&format!(" {} stdout out of ", second.as_str().expect("a name"))), "{all}");
    let one = stdout(&ctl(&daemon.site, &[first.as_str().expect("a name")]));
    assert_eq!(one.lines().count(), 2, "{one}");
    for line in stdout(&ctl(&daemon.site, &["--json"])).lines() {
        let piece: Value = serde_json::from_str(line).expect("JSON");
        assert!(piece["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{piece}");
    }
}

#[test]
fn nobody_is_not_found_and_a_number_is_a_job() {
    let daemon = Daemon::start(PLAIN);
    // A slot that is there has nothing to say, which is no error.
    assert_eq!(stdout(&ctl(&daemon.site, &["default.1"])), "");
    for (word, words) in [
        ("default.2", "there is no slot default.2"),
        ("default.0.999999", "there is no worker default.0.999999"),
        ("gone.0", "there is no slot gone.0"),
        ("nonsense", "is no worker"),
        ("17", "17 is a job: pushpullctl show 17"),
    ] {
        let output = ctl(&daemon.site, &[word]);
        assert_eq!(output.status.code(), Some(4), "{word}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{word}: {output:?}");
    }
    assert_eq!(daemon.refusal(&json!({"op": "logs", "after": 7}))["code"], "bad_request");
    assert_eq!(daemon.refusal(&json!({"op": "logs", "after": "x"}))["code"], "bad_request");
}

#[test]
fn who_follows_hears_a_line_when_it_is_written() {
    let (site, mut gate) = gated();
    site.configure(&script(
        "talk",
        &format!("echo one; read line < {0}; echo got $line; read line < {0}", gate.path()),
    ));
    let daemon = Daemon::start_at(site);
    let (_, next) = read_until(&daemon, &json!("talk.0"), &Value::Null, |pieces| has(pieces, "one"));
    let waiting =
        daemon.begin(&json!({"op": "logs", "worker": "talk.0", "after": next, "timeout_ms": 60_000}));
    // A second question is answered meanwhile: nobody is held up.
    daemon.ask(&json!({"op": "ping"}));
    gate.open_for(1);
    let page = daemon.finish(&waiting);
    assert_eq!(page["pieces"][0]["text"], "got go");
    assert_eq!((&page["gap"], &page["done"]), (&json!(false), &json!(true)));
}

#[test]
fn who_waits_for_lines_is_answered_when_the_daemon_stops() {
    let mut daemon = Daemon::start(PLAIN);
    let (_, next) = read_until(&daemon, &Value::Null, &Value::Null, |pieces| has(pieces, "ready"));
    let waiting =
        daemon.begin(&json!({"op": "logs", "worker": "default.0", "after": next, "timeout_ms": 3_600_000}));
    // Only when this one is answered has the daemon read the one before it.
    daemon.ask(&json!({"op": "ping"}));
    daemon.signal(libc::SIGTERM);
    if let Some(page) = daemon.try_finish(&waiting) {
        assert_eq!(page["ok"], true, "{page}");
        assert_eq!(page["pieces"], json!([]), "{page}");
    }
    daemon.assert_clean_exit();
}

#[test]
fn files_rotate_and_a_reader_is_told_of_what_is_gone() {
    let (site, mut gate) = gated();
    // Less at once than what would be dropped as a flood.
    let burst = format!(
        "exec 3<{}; for i in 1 2 3 4 5 6 7 8 9; do read line <&3; seq 1 1000; done; echo over; read line <&3",
        gate.path()
    );
    site.configure(&format!("log_max_bytes = \"64KiB\"\nlog_backups = 2\n{}", script("talk", &burst)));
    let daemon = Daemon::start_at(site);
    gate.open_for(1);
    let (_, early) = read_until(&daemon, &json!("talk.0"), &Value::Null, |pieces| has(pieces, "1"));
    gate.open_for(8);
    read_until(&daemon, &json!("talk.0"), &early, |pieces| has(pieces, "over"));
    let logs = daemon.site.state().join("logs");
    let names = files(&logs);
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        let length = fs::metadata(logs.join(name)).expect("it is there").len();
        assert!(length <= 64 << 10, "{name} has {length} bytes");
    }
    let page = daemon.ask(&json!({"op": "logs", "worker": "talk.0", "after": early}));
    assert_eq!(page["gap"], true);
    let output = ctl(&daemon.site, &["talk.0"]);
    let text = stdout(&output);
    assert!(text.ends_with(" over\n"), "{text}");
    assert!(text.lines().count() < 9_000, "rotation deletes");
    assert!(output.stderr.is_empty(), "who begins at the oldest line has missed nothing: {output:?}");
}

#[test]
fn a_flood_is_dropped_and_counted_and_holds_up_nobody() {
    let (site, gate) = gated();
    // After its flood it is silent: what was dropped is said all the same.
    let flood = format!("seq 1 200000; read line < {}", gate.path());
    site.configure(&format!("{PLAIN}{}", script("flood", &flood)));
    let daemon = Daemon::start_at(site);
    assert_eq!(daemon.run(json!("echo unharmed"))["result"]["stdout"], "unharmed\n");
    let (pieces, _) = read_until(&daemon, &json!("flood.0"), &Value::Null, |pieces| {
        has(pieces, "lines dropped: too many at once")
    });
    let numbers =
        pieces.iter().filter(|piece| piece["text"].as_str().is_some_and(|text| text.parse::<u64>().is_ok()));
    assert!(numbers.count() >= 10_000, "what is allowed passes");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_says_what_it_lost() {
    let (site, mut gate) = gated();
    let talk = format!("echo one; read line < {0}; echo two; read line < {0}", gate.path());
    site.configure(&format!("{PLAIN}{}", script("talk", &talk)));
    let file = site.state().join("logs/talk.log");
    fs::DirBuilder::new().mode(0o700).create(site.state()).expect("it is ours");
    fs::create_dir_all(&file).expect("it is ours");
    let daemon = Daemon::start_at(site);
    let lost = "the lines of pool talk's workers cannot be written";
    read_until(&daemon, &Value::Null, &Value::Null, |pieces| has(pieces, lost));
    assert_eq!(daemon.run(json!("echo unharmed"))["result"]["stdout"], "unharmed\n");
    fs::remove_dir(&file).expect("it is ours");
    gate.open_for(1);
    let (pieces, _) = read_until(&daemon, &Value::Null, &Value::Null, |pieces| has(pieces, "two"));
    assert!(has(&pieces, "[1 lines lost: they could not be written]"), "{pieces:?}");
    assert!(!pieces.iter().any(|piece| piece["text"] == "one"), "{pieces:?}");
}

#[test]
fn without_a_disk_the_logs_are_with_the_sockets() {
    let (site, gate) = gated();
    site.configure(&script("talk", &format!("echo one; read line < {}", gate.path())));
    let daemon = Daemon::start_at(site.argument("--memory"));
    read_until(&daemon, &json!("talk.0"), &Value::Null, |pieces| has(pieces, "one"));
    assert_eq!(files(&daemon.site.runtime().join("logs")), ["talk.log"]);
    assert!(daemon.site.runtime().join("pushpulld.log").is_file());
}

#[test]
fn in_the_background_a_line_stands_in_one_log_once() {
    let (site, gate) = gated();
    site.configure(&script("talk", &format!("echo one; read line < {}", gate.path())));
    let started = site.command().arg("--daemonize").output().expect("the daemon can be executed");
    assert!(started.status.success(), "{started:?}");
    let pid = stdout(&ctl_verb(&site, &["ping", "--json"]));
    let pid = serde_json::from_str::<Value>(&pid).expect("JSON")["pid"].as_i64().expect("a number");
    let handle = process::Handle::open(i32::try_from(pid).expect("a pid")).expect("it answers");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
    follower.arg("--runtime-dir").arg(site.runtime()).args(["logs", "talk.0", "--follow"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("pushpullctl can be executed");
    let mut said = follower.stdout.take().expect("it is a pipe");
    assert!(process::is_readable(said.as_raw_fd(), PATIENCE), "nothing comes");
    let mut bytes = [0; 1_000];
    let count = said.read(&mut bytes).expect("something is there");
    let said = String::from_utf8_lossy(&bytes[..count]).into_owned();
    assert!(said.ends_with(" stdout one\n") && said.lines().count() == 1, "{said}");
    follower.kill().expect("it is our child");
    follower.wait().expect("it is our child");
    let own = fs::read_to_string(site.state().join("pushpulld.log")).expect("it is there");
    assert_eq!(own.matches("ready: pool talk").count(), 1, "{own}");
    assert!(!own.contains(" one\n"), "{own}");
    assert!(ctl_verb(&site, &["shutdown", "--now"]).status.success());
    handle.await_end();
}

fn ctl_verb(site: &Site, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
    command.arg("--runtime-dir").arg(site.runtime()).args(words);
    command.output().expect("pushpullctl can be executed")
}

/// A site whose workers can be stopped at a gate.
fn gated() -> (Site, Fifo) {
    let site = Site::new("");
    let gate = Fifo::new(site.path(), "gate");
    (site, gate)
}
