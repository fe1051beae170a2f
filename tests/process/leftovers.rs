//! What workers leave behind, and whose it is.

use crate::Case;
use crate::bench::{Bench, Worker, await_readable, is_over, own_children, watch};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pushpull::model::Exit;
use pushpull::shell::reaper::Settle;
use pushpull::shell::tree;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    ("what_stays_in_the_group_is_killed", None, what_stays_in_the_group_is_killed),
    ("what_left_the_session_is_killed", None, what_left_the_session_is_killed),
    ("what_also_cleared_its_environment_is_killed", None, what_also_cleared_its_environment_is_killed),
    ("a_whole_tree_of_sessions_is_killed", None, a_whole_tree_of_sessions_is_killed),
    ("a_process_that_forks_on_and_on_is_killed", None, a_process_that_forks_on_and_on_is_killed),
    ("a_process_that_forks_on_and_on_is_killed_beside_a_stranger", None, also_beside_a_stranger),
    ("a_stopped_leftover_that_ignores_everything_is_killed", None, a_stopped_leftover_is_killed),
    ("a_living_workers_daemon_lives_until_its_worker_ends", None, a_living_workers_daemon_lives),
    ("a_living_workers_orphan_in_its_session_lives", None, a_living_workers_orphan_in_its_session_lives),
    ("a_hidden_orphan_older_than_the_dead_worker_lives", None, a_hidden_older_orphan_lives),
    ("children_from_before_are_never_signalled", None, children_from_before_are_never_signalled),
    ("adopted_zombies_are_reaped_while_their_worker_lives", None, adopted_zombies_are_reaped),
    ("many_workers_that_die_at_once_are_all_told", None, many_workers_that_die_at_once_are_all_told),
    ("without_descriptors_nothing_is_taken_for_gone", None, without_descriptors_nothing_is_taken_for_gone),
    ("a_pipe_held_open_does_not_delay_the_end", None, a_pipe_held_open_does_not_delay_the_end),
];

/// A background process that leaves the session and whose parent is gone at once; it prints its pid.
const DAEMON: &str = "(setsid sh -c 'echo $$; exec sleep 1000' &)";

/// The same with an empty environment.
const HIDDEN: &str = "(env -i setsid sh -c 'echo $$; exec sleep 1000' &)";

/// Settles a worker that exits with 7, and checks that nothing of its making is left.
fn leaves_nothing(bench: &mut Bench, worker: &mut Worker) {
    assert_eq!(bench.settle(worker).exit, Exit::Status(7));
    assert!(worker.is_closed_now(), "nobody has its output any more");
    assert!(own_children().is_empty(), "we have no child left");
}

fn what_stays_in_the_group_is_killed() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell("sleep 1000 & sh -c 'sleep 1000 & sleep 1000' & exit 7");
    leaves_nothing(&mut bench, &mut worker);
}

fn what_left_the_session_is_killed() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell(&format!("{DAEMON}; {DAEMON}; setsid sleep 1000 & exit 7"));
    let daemons = [watch(&worker.line()), watch(&worker.line())];
    leaves_nothing(&mut bench, &mut worker);
    assert!(daemons.iter().all(is_over));
}

fn what_also_cleared_its_environment_is_killed() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell(&format!("{HIDDEN}; exit 7"));
    let hidden = watch(&worker.line());
    leaves_nothing(&mut bench, &mut worker);
    assert!(is_over(&hidden));
}

fn a_whole_tree_of_sessions_is_killed() {
    let mut bench = Bench::new();
    // Each level is in a session of its own and outlives its parent's death by itself.
    let script = "level() { if [ $1 -gt 0 ]; then setsid sh -c \"$code\" $0 $(($1 - 1)) & fi; }; level $1; \
                  [ $1 -gt 0 ] || echo bottom; exec sleep 1000";
    let mut program = bench.shell("code=$1; export code; setsid sh -c \"$code\" sh 6 & exit 7");
    program.argv.extend(["sh".into(), script.into()]);
    let mut worker = bench.start(&program);
    assert_eq!(worker.line(), "bottom");
    leaves_nothing(&mut bench, &mut worker);
}

/// Starts new processes for ever, in a session of its own, and prints a line first.
const FORKING: &str = "setsid sh -c 'echo up; while :; do sh -c : & wait; done' & exit 7";

fn a_process_that_forks_on_and_on_is_killed() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell(FORKING);
    assert_eq!(worker.line(), "up");
    leaves_nothing(&mut bench, &mut worker);
}

fn also_beside_a_stranger() {
    let mut before = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep is installed");
    let mut bench = Bench::new();
    for _ in 0..20 {
        let mut worker = bench.start_shell(FORKING);
        assert_eq!(worker.line(), "up");
        assert_eq!(bench.settle(&mut worker).exit, Exit::Status(7));
        assert!(worker.is_closed_now(), "nobody has its output any more");
        assert_eq!(own_children(), [i32::try_from(before.id()).expect("pids are small")]);
    }
    before.kill().expect("it is our child");
    before.wait().expect("it is our child");
}

fn a_stopped_leftover_is_killed() {
    let mut bench = Bench::new();
    let mut worker =
        bench.start_shell("(setsid sh -c 'trap \"\" 1 2 3 15; echo $$; kill -STOP $$' &); exit 7");
    let stopped = watch(&worker.line());
    leaves_nothing(&mut bench, &mut worker);
    assert!(is_over(&stopped));
}

/// Starts a worker that leaves `daemon` behind and lives; returns when the daemon is ours.
fn with_daemon(bench: &mut Bench, daemon: &str) -> (Worker, pushpull::shell::child::PidFd) {
    let mut worker = bench.start_shell(&format!("{daemon}; exec sleep 1000"));
    let pid = worker.line();
    let number = pid.parse().expect("a pid");
    while tree::Process::find(number).expect("it runs").parent != nix::unistd::getpid().as_raw() {
        bench.await_child();
    }
    (worker, watch(&pid))
}

fn end_another_worker(bench: &mut Bench) {
    let mut other = bench.start_shell(&format!("{DAEMON}; exit 7"));
    assert_eq!(bench.settle(&mut other).exit, Exit::Status(7));
    assert!(other.is_closed_now());
}

fn a_living_workers_daemon_lives() {
    let mut bench = Bench::new();
    let (mut worker, daemon) = with_daemon(&mut bench, DAEMON);
    end_another_worker(&mut bench);
    assert!(!is_over(&daemon), "its worker lives");
    worker.child.signal(libc::SIGKILL).expect("it is ours");
    assert_eq!(bench.settle(&mut worker).exit, Exit::Signal(libc::SIGKILL));
    assert!(is_over(&daemon), "its worker is gone");
    assert!(worker.is_closed_now());
}

fn a_living_workers_orphan_in_its_session_lives() {
    let mut bench = Bench::new();
    // No environment, but the session says whose it is.
    let (mut worker, orphan) = with_daemon(&mut bench, "(env -i sh -c 'echo $$; exec sleep 1000' &)");
    end_another_worker(&mut bench);
    assert!(!is_over(&orphan), "its worker lives");
    worker.child.signal(libc::SIGKILL).expect("it is ours");
    bench.settle(&mut worker);
    assert!(is_over(&orphan));
}

fn a_hidden_older_orphan_lives() {
    let mut bench = Bench::new();
    let (mut worker, hidden) = with_daemon(&mut bench, HIDDEN);
    // Start times are told in ticks of 10 ms: let some go by, so that the next worker is younger for sure.
    let later = Instant::now() + Duration::from_millis(50);
    while Instant::now() < later {
        bench.await_child();
    }
    let mut other = bench.start_shell("exit 7");
    assert_eq!(bench.settle(&mut other).exit, Exit::Status(7));
    assert!(!is_over(&hidden), "it cannot be the younger worker's");
    bench.settle_killed(&mut worker);
    assert!(is_over(&hidden));
}

fn children_from_before_are_never_signalled() {
    let mut before = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep is installed");
    let mut bench = Bench::new();
    end_another_worker(&mut bench);
    assert_eq!(before.try_wait().expect("it is our child"), None);
    // With such a child an orphan without marks may be anybody's.
    let (mut worker, hidden) = with_daemon(&mut bench, HIDDEN);
    bench.settle_killed(&mut worker);
    assert!(!is_over(&hidden));
    hidden.kill().expect("it is ours");
    before.kill().expect("it is our child");
    await_readable(hidden.as_fd());
    while !own_children().is_empty() {
        bench.reaper.reap_adopted();
        bench.await_child();
    }
}

fn adopted_zombies_are_reaped() {
    let mut bench = Bench::new();
    let (mut worker, daemon) = with_daemon(&mut bench, DAEMON);
    assert_eq!(bench.reaper.reap_adopted(), 0, "it lives");
    daemon.kill().expect("it is ours");
    await_readable(daemon.as_fd());
    assert_eq!(bench.reaper.reap_adopted(), 1);
    let children = own_children();
    assert_eq!(children, [worker.child.pid()]);
    bench.settle_killed(&mut worker);
}

fn many_workers_that_die_at_once_are_all_told() {
    let mut bench = Bench::new();
    let mut workers: Vec<Worker> = (0..100).map(|_| bench.start_shell("echo up; exec sleep 1000")).collect();
    for worker in &mut workers {
        assert_eq!(worker.line(), "up");
    }
    for worker in &workers {
        worker.child.signal(libc::SIGTERM).expect("it is ours");
    }
    for worker in &mut workers {
        assert_eq!(bench.settle(worker).exit, Exit::Signal(libc::SIGTERM));
    }
    assert!(own_children().is_empty());
}

fn without_descriptors_nothing_is_taken_for_gone() {
    let mut bench = Bench::new();
    let (mut worker, daemon) = with_daemon(&mut bench, DAEMON);
    let mut other = bench.start_shell(&format!("{DAEMON}; exit 7"));
    let leftover = watch(&other.line());
    await_readable(other.child.as_fd());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be read");
    // Not 0: a poll may have no more entries than this.
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("it can be lowered");
    assert_eq!(bench.reaper.settle(&mut other.child), Settle::Pending { survivors: Vec::new() });
    assert_eq!(bench.reaper.reap_adopted(), 0);
    assert!(worker.child.as_fd().try_clone_to_owned().is_err(), "there is no descriptor left");
    assert!(!is_over(&leftover) && !is_over(&daemon));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("it can be raised again");
    assert_eq!(bench.settle(&mut other).exit, Exit::Status(7));
    assert!(is_over(&leftover) && !is_over(&daemon), "only what is the dead worker's");
    bench.settle_killed(&mut worker);
}

fn a_pipe_held_open_does_not_delay_the_end() {
    let mut bench = Bench::new();
    // A process that is none of the worker's holds its output, as one that cannot be killed would.
    let program = bench.shell("exit 7");
    let (output, writer) = pushpull::shell::output::Output::new().expect("a pipe");
    let (held, other) =
        (writer.try_clone().expect("a descriptor"), writer.try_clone().expect("a descriptor"));
    let mut child = bench.reaper.spawn(&program, writer, other).expect("it starts");
    await_readable(child.as_fd());
    let Settle::Done(ended) = bench.reaper.settle(&mut child) else { panic!("it left nothing") };
    assert_eq!(ended.exit, Exit::Status(7));
    drop((output, held));
}

impl Bench {
    fn settle_killed(&mut self, worker: &mut Worker) {
        worker.child.signal(libc::SIGKILL).expect("it is ours");
        assert_eq!(self.settle(worker).exit, Exit::Signal(libc::SIGKILL));
    }
}
