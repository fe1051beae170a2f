//! The command runner without sockets.
//!
//! It takes every child of its process for its own. So each of these tests runs in a process of its own: the test
//! program starts itself again with the name of the one test.

use super::this_test;
use crate::model::{Cause, Exit, JobId, Json};
use crate::wire::pipeline::{Command, Report, Run};
use crate::worker::command::Failure;
use crate::worker::running::{Ended, Interest, Running, Stop};
use crate::worker::surroundings::Surroundings;
use crate::worker::sweep::Stubborn;
use crate::worker::wake::Wake;
use crate::worker::{outcome, process};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const OWN_PROCESS: &str = "PUSHPULL_TEST_OWN_PROCESS";

/// Runs `body` in a process of its own, which `name`, the test that calls this, starts.
fn in_own_process(name: &str, body: impl FnOnce()) {
    if std::env::var_os(OWN_PROCESS).is_some() {
        process::become_subreaper().expect("any process may adopt");
        return body();
    }
    let output = this_test(&format!("commands::{name}"))
        .env(OWN_PROCESS, name)
        .output()
        .expect("the test program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn shell(line: &str) -> Command {
    command(Run::Shell(line.to_owned()))
}

fn program(words: &[&str]) -> Command {
    command(Run::Program(words.iter().map(|&word| word.to_owned()).collect()))
}

fn command(run: Run) -> Command {
    Command {
        run,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        output_dir: None,
        timeout: None,
        stop_timeout: None,
    }
}

/// Runs a command to its end; `on_turn` may meddle between turns.
fn run_with(command: Command, mut on_turn: impl FnMut(&mut Running)) -> Ended {
    let wake = Wake::listen().expect("signals can be heard");
    let around = Surroundings::own();
    let mut running = Running::start(JobId(7), 1, command, &around, Instant::now())
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let (mut buffer, mut stubborn) = (vec![0; 4096], Stubborn::new());
    loop {
        wake.leave_asked();
        if let Some(ended) = running.turn(Instant::now(), &mut buffer, &mut stubborn) {
            return ended;
        }
        on_turn(&mut running);
        let mut items = vec![zmq::PollItem::from_fd(wake.descriptor(), zmq::POLLIN)];
        items.extend(running.interests().map(|interest| match interest {
            Interest::Read(fd) => zmq::PollItem::from_fd(fd, zmq::POLLIN),
            Interest::Write(fd) => zmq::PollItem::from_fd(fd, zmq::POLLOUT),
        }));
        let left = running.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout =
            left.map_or(-1, |left| i64::try_from(left.as_millis()).expect("a test's deadline is near") + 1);
        match zmq::poll(&mut items, timeout) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(command: Command) -> Ended {
    run_with(command, |_| {})
}

/// The report on a command that ran to its end: its cause, error and outcome.
fn reported(ended: Ended) -> (Option<(Cause, String)>, serde_json::Value) {
    let parsed = |json: Json| serde_json::from_str(&json).expect("an outcome is JSON");
    match outcome::report(JobId(7), ended) {
        Some(Report::Result { data, .. }) => (None, parsed(data)),
        Some(Report::Error { cause: Some(cause), error, data: Some(data), retry: true, .. }) => {
            (Some((cause, error.into_string())), parsed(data))
        }
        other => panic!("{other:?}"),
    }
}

fn start_failure(command: Command) -> Failure {
    match Running::start(JobId(7), 1, command, &Surroundings::own(), Instant::now()) {
        Ok(_) => panic!("it was started"),
        Err(failure) => failure,
    }
}

fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[test]
fn a_command_gets_its_input_environment_and_directory() {
    in_own_process("a_command_gets_its_input_environment_and_directory", || {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = shell("cat; echo $A $PUSHPULL_JOB $PUSHPULL_ATTEMPT; pwd -P >&2");
        // More than a pipe holds, so that it takes several turns.
        let line = "a line of input\n";
        let text = line.repeat(20_000);
        command.stdin = Some(text.clone());
        command.env.insert("A".to_owned(), "x y".to_owned());
        command.cwd = Some(directory.path().to_str().expect("UTF-8").to_owned());
        command.output_dir = Some("out/deep".to_owned());
        let (error, outcome) = reported(run(command));
        assert_eq!((error, &outcome["exit"], &outcome["truncated"]), (None, &0.into(), &true.into()));
        let stdout = outcome["stdout"].as_str().expect("text");
        assert!(stdout.starts_with(line) && stdout.ends_with("line of input\nx y 7 1\n"));
        let real = directory.path().canonicalize().expect("it exists");
        assert_eq!(outcome["stderr"].as_str(), Some(format!("{}\n", real.display()).as_str()));
        let written = |name: &str| std::fs::read_to_string(directory.path().join("out/deep").join(name));
        assert_eq!(written("7.stdout").expect("a file"), format!("{text}x y 7 1\n"));
        assert_eq!(written("7.stderr").expect("a file"), format!("{}\n", real.display()));
    });
}

#[test]
fn a_program_is_executed_without_a_shell() {
    in_own_process("a_program_is_executed_without_a_shell", || {
        let (error, outcome) = reported(run(program(&["printf", "%s|", "$HOME", "a b", "\\377"])));
        assert_eq!((error, &outcome["stdout"]), (None, &"$HOME|a b|\\377|".into()));
        let (_, outcome) = reported(run(program(&["printf", "\\377"])));
        assert_eq!((&outcome["stdout_base64"], &outcome["stderr"]), (&"/w==".into(), &"".into()));
        assert_eq!(outcome.get("stdout"), None);
        assert!(outcome["max_rss_kib"].as_u64().is_some_and(|kib| kib > 0));
    });
}

#[test]
fn bad_ends_are_told_apart() {
    in_own_process("bad_ends_are_told_apart", || {
        let (error, outcome) = reported(run(shell("exit 3")));
        assert_eq!(error, Some((Cause::Exit, "exit status 3".to_owned())));
        assert_eq!((&outcome["exit"], &outcome["signal"]), (&3.into(), &serde_json::Value::Null));
        let (error, outcome) = reported(run(shell("kill -SEGV $$")));
        assert_eq!(error, Some((Cause::Signal, "killed by signal 11 (SEGV)".to_owned())));
        assert_eq!((&outcome["exit"], &outcome["signal"]), (&serde_json::Value::Null, &11.into()));
        let mut slow = shell("echo begun; exec sleep 1000");
        slow.timeout = Some(Duration::from_millis(150));
        let (error, outcome) = reported(run(slow));
        assert_eq!(error, Some((Cause::Timeout, "timed out after 150ms".to_owned())));
        assert_eq!((&outcome["signal"], &outcome["stdout"]), (&15.into(), &"begun\n".into()));
    });
}

#[test]
fn who_ignores_term_is_killed() {
    in_own_process("who_ignores_term_is_killed", || {
        let mut deaf = shell("trap '' TERM; while :; do sleep 1000; done");
        deaf.timeout = Some(Duration::from_millis(100));
        deaf.stop_timeout = Some(Duration::from_millis(100));
        let ended = run(deaf);
        assert_eq!(
            (ended.exit, ended.stop),
            (Exit::Signal(9), Some(Stop::Timeout(Duration::from_millis(100))))
        );
        let mut polite = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done");
        polite.timeout = None;
        let mut asked = false;
        let ended = run_with(polite, |running| {
            if !std::mem::replace(&mut asked, true) {
                // The trap may not stand yet; then TERM ends it, which is as well.
                running.stop(Stop::Cancelled, Instant::now(), Duration::MAX);
            }
        });
        let (error, _) = reported(ended);
        assert_eq!(error, Some((Cause::Cancelled, "cancelled".to_owned())));
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    in_own_process("what_cannot_be_started_says_why", || {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        std::fs::write(path("plain"), "no program").expect("a file");
        let mut nowhere = shell("true");
        nowhere.cwd = Some(path("absent"));
        nowhere.output_dir = Some("out".to_owned());
        let mut unwritable = shell("true");
        unwritable.output_dir = Some(path("plain/out"));
        let mut searched = program(&["plain"]);
        searched.env.insert("PATH".to_owned(), directory.path().to_str().expect("UTF-8").to_owned());
        for (command, reason) in [
            (
                program(&["no-such-program"]),
                "cannot execute no-such-program: No such file or directory (ENOENT)",
            ),
            (program(&["./no/such"]), "cannot execute ./no/such: No such file or directory (ENOENT)"),
            (program(&[&path("plain")]), "plain: Permission denied (EACCES)"),
            (program(&["/"]), "cannot execute /: Permission denied (EACCES)"),
            (program(&[]), "without words"),
            (program(&[""]), "cannot execute : No such file or directory (ENOENT)"),
            (program(&["echo", "a\0b"]), "nul byte"),
            (nowhere, "absent: No such file or directory (ENOENT)"),
            (unwritable, "plain/out: Not a directory (ENOTDIR)"),
            (searched, "cannot execute plain: Permission denied (EACCES)"),
        ] {
            let failure = start_failure(command);
            assert!(failure.error.contains(reason) && !failure.retry, "{failure:?} does not say {reason}");
        }
        assert!(!Path::new(&path("absent")).exists(), "nothing is made below a directory that is wrong");
    });
}

#[test]
fn nothing_that_a_command_started_outlives_it() {
    in_own_process("nothing_that_a_command_started_outlives_it", || {
        // One in its group, one in a session of its own, one that is its daemon's child; all hold its pipes.
        let line = "sleep 1000 & echo $!; setsid sh -c 'echo $$; sleep 1000; :' & \
                    (setsid sh -c 'sleep 1000 & echo $!; sleep 1000 & echo $!; wait' &) ; \
                    while [ $(wc -l <list) -lt 4 ]; do sleep 0.01; done";
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = shell(&format!("exec >list; {line}"));
        command.cwd = Some(directory.path().to_str().expect("UTF-8").to_owned());
        let ended = run(command);
        assert_eq!((ended.exit, &ended.survivors), (Exit::Status(0), &Vec::new()));
        let list = std::fs::read_to_string(directory.path().join("list")).expect("the list of pids");
        let pids: Vec<i32> = list.lines().map(|pid| pid.parse().expect("a pid")).collect();
        assert_eq!(pids.len(), 4);
        for pid in pids {
            assert!(!is_alive(pid), "{pid} lives on");
        }
        assert_eq!(process::children().expect("/proc"), []);
    });
}

#[test]
fn a_leftover_that_holds_the_pipes_holds_up_nothing() {
    in_own_process("a_leftover_that_holds_the_pipes_holds_up_nothing", || {
        let (error, outcome) = reported(run(shell("setsid sleep 1000 & echo done")));
        assert_eq!((error, &outcome["stdout"]), (None, &"done\n".into()));
    });
}

#[test]
fn a_flood_is_cut_and_costs_no_memory() {
    in_own_process("a_flood_is_cut_and_costs_no_memory", || {
        let (error, outcome) = reported(run(shell("head -c 50000000 /dev/zero | tr '\\0' x; echo end >&2")));
        assert_eq!((error, &outcome["truncated"], &outcome["stderr"]), (None, &true.into(), &"end\n".into()));
        assert!(outcome["stdout"].as_str().is_some_and(|text| text.len() < 64 * 1024));
    });
}

#[test]
fn commands_inherit_no_descriptors_masks_or_ignored_signals() {
    in_own_process("commands_inherit_no_descriptors_masks_or_ignored_signals", || {
        let context = zmq::Context::new();
        let _socket = context.socket(zmq::PULL).expect("a socket");
        process::keep_descriptors_from_commands().expect("a kernel with close_range");
        process::reset_signals().expect("signals can be reset");
        let (_, outcome) = reported(run(program(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])));
        let sets: Vec<u64> = outcome["stdout"]
            .as_str()
            .expect("text")
            .lines()
            .map(|line| u64::from_str_radix(&line[8..], 16).expect("a set of signals"))
            .collect();
        // The C library keeps signals 32 and 33 to itself.
        assert_eq!((sets[0], sets[1] & !0x1_8000_0000), (0, 0));
        // `ls` has one of its own, for the directory.
        let (_, outcome) = reported(run(program(&["ls", "/proc/self/fd"])));
        assert_eq!(outcome["stdout"], "0\n1\n2\n3\n");
    });
}
