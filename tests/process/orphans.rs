//! What happens to workers, and to what they started, when the daemon itself is killed.

use crate::bench::{Bench, await_readable, is_over, mark, mark_of, watch};
use crate::{Case, PART};
use pushpull::shell::account;
use pushpull::shell::sweep::sweep;
use pushpull::shell::tree;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    ("a_killed_daemons_worker_dies_with_it", None, a_killed_daemons_worker_dies_with_it),
    (
        "a_killed_daemons_worker_gets_the_signal_that_was_asked_for",
        None,
        a_worker_gets_the_signal_that_was_asked_for,
    ),
    (
        "a_killed_daemons_worker_of_another_user_dies_with_it",
        Some("root"),
        a_worker_of_another_user_dies_with_it,
    ),
    ("the_sweep_ends_what_a_killed_daemon_left", None, the_sweep_ends_what_a_killed_daemon_left),
    ("the_sweep_ends_hidden_children_with_their_parents", None, the_sweep_ends_hidden_children),
    ("the_sweep_spares_itself_and_its_ancestors", None, the_sweep_spares_itself_and_its_ancestors),
    ("the_sweep_of_nothing_finds_nothing", None, the_sweep_of_nothing_finds_nothing),
];

/// The script of a daemon's worker is in this variable, its death signal in the other.
const SCRIPT: &str = "PROCESS_TEST_SCRIPT";
const DEATH_SIGNAL: &str = "PROCESS_TEST_DEATH_SIGNAL";

/// The user as whom that worker runs.
const USER: &str = "PROCESS_TEST_USER";

/// What this program does when a case starts it as something else.
pub fn play(part: &str) {
    match part {
        "daemon" => be_a_daemon(),
        "sweeper" => {
            let daemon = std::env::var(tree::DAEMON_VARIABLE).expect("the case sets it");
            let swept = sweep(&daemon, Instant::now() + Duration::from_secs(60)).expect("/proc is there");
            println!("{} {}", swept.killed, swept.survivors.len());
        }
        other => panic!("no part is called {other}"),
    }
}

/// Starts one worker that writes to our own output, and waits to be killed.
fn be_a_daemon() {
    let mut bench = Bench::new();
    let mut program = bench.shell(&std::env::var(SCRIPT).expect("the case sets it"));
    program.death_signal = std::env::var(DEATH_SIGNAL).expect("the case sets it").parse().expect("a number");
    program.account = account::resolve(std::env::var(USER).ok().as_deref(), None).expect("the user is there");
    let own =
        |descriptor: std::os::fd::BorrowedFd<'_>| descriptor.try_clone_to_owned().expect("a descriptor");
    let (stdout, stderr) = (own(std::io::stdout().as_fd()), own(std::io::stderr().as_fd()));
    let child = bench.reaper.spawn(&program, stdout, stderr).expect("it starts");
    await_readable(child.as_fd());
    panic!("the worker ended before its daemon");
}

/// A daemon in a process of its own, and what its worker prints.
fn start_daemon(script: &str, death_signal: i32) -> (Child, BufReader<ChildStdout>) {
    let own = std::env::current_exe().expect("our own file is there");
    let mut command = Command::new(own);
    command.env(PART, "daemon").env(SCRIPT, script).env(DEATH_SIGNAL, death_signal.to_string());
    let mut daemon = command.stdout(Stdio::piped()).spawn().expect("our own file can be executed");
    let output = BufReader::new(daemon.stdout.take().expect("it is piped"));
    (daemon, output)
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("the pipe is ours");
    line.trim_end().to_owned()
}

/// Kills the daemon outright, and returns the mark that its workers carry.
fn kill_daemon(daemon: &mut Child) -> String {
    let mark = mark_of(daemon.id());
    daemon.kill().expect("it is our child");
    daemon.wait().expect("it is our child");
    mark
}

/// Reads until nobody holds the other end: all who inherited it are gone.
fn rest(mut output: BufReader<ChildStdout>) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).expect("the pipe is ours");
    text
}

fn swept(daemon: &str) -> usize {
    let swept = sweep(daemon, Instant::now() + Duration::from_secs(60)).expect("/proc is there");
    assert!(swept.survivors.is_empty(), "{swept:?}");
    swept.killed
}

fn a_killed_daemons_worker_dies_with_it() {
    let (mut daemon, mut output) = start_daemon("trap '' TERM HUP; echo $$; exec sleep 1000", libc::SIGKILL);
    let worker = watch(&line(&mut output));
    assert!(!is_over(&worker));
    kill_daemon(&mut daemon);
    await_readable(worker.as_fd());
    assert_eq!(rest(output), "");
}

fn a_worker_of_another_user_dies_with_it() {
    // The daemon inherits the variable. A change of user clears a death signal that was asked for before it.
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(USER, "nobody") };
    let (mut daemon, mut output) = start_daemon("id -u; echo $$; exec sleep 1000", libc::SIGKILL);
    assert_ne!(line(&mut output), "0");
    let worker = watch(&line(&mut output));
    kill_daemon(&mut daemon);
    await_readable(worker.as_fd());
}

fn a_worker_gets_the_signal_that_was_asked_for() {
    let script = "trap 'echo told; exit' TERM; sleep 1000 & echo up; wait; echo not reached";
    let (mut daemon, mut output) = start_daemon(script, libc::SIGTERM);
    assert_eq!(line(&mut output), "up");
    let mark = kill_daemon(&mut daemon);
    assert_eq!(line(&mut output), "told");
    // It did not end its own child, which the sweep makes up for.
    assert!((1..=2).contains(&swept(&mark)), "it may itself not have ended yet");
    assert_eq!(rest(output), "");
}

fn the_sweep_ends_what_a_killed_daemon_left() {
    let script = "(setsid sh -c 'echo up; exec sleep 1000' &); setsid sleep 1000 & sleep 1000 & \
                  (setsid sh -c 'trap \"\" TERM; echo up; kill -STOP $$' &); wait";
    let (mut daemon, mut output) = start_daemon(script, libc::SIGKILL);
    assert_eq!([line(&mut output), line(&mut output)], ["up", "up"]);
    let mark = kill_daemon(&mut daemon);
    assert_eq!(swept(&format!("{mark}0")), 0, "another daemon's sweep touches nothing");
    assert!((4..=5).contains(&swept(&mark)), "four orphans, and perhaps the worker before its signal");
    assert_eq!(rest(output), "", "nobody is left");
    assert_eq!(swept(&mark), 0);
}

fn the_sweep_ends_hidden_children() {
    let script =
        "setsid sh -c 'env -i setsid sh -c \"echo up; exec sleep 1000\" & exec sleep 1000' & exec sleep 1000";
    let (mut daemon, mut output) = start_daemon(script, libc::SIGKILL);
    assert_eq!(line(&mut output), "up");
    let mark = kill_daemon(&mut daemon);
    assert!((2..=3).contains(&swept(&mark)));
    assert_eq!(rest(output), "");
}

fn the_sweep_spares_itself_and_its_ancestors() {
    // A marked shell, as of a job, starts the sweeper and has a marked brother of it.
    let own = std::env::current_exe().expect("our own file is there");
    let script = "sleep 1000 & \"$0\"; echo shell $?";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(own).env(PART, "sweeper").env(tree::DAEMON_VARIABLE, mark());
    let output = command.output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 0\nshell 0\n");
}

fn the_sweep_of_nothing_finds_nothing() {
    assert_eq!(swept(&mark()), 0);
}
