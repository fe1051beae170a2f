//! What a worker finds when it starts, and how its end is told.

use crate::Case;
use crate::bench::{Bench, await_readable};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use pushpull::model::Exit;
use pushpull::shell::account;
use pushpull::shell::exec::Step;
use pushpull::shell::program::Limit;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

pub const CASES: &[Case] = &[
    ("every_exit_status_is_told", None, every_exit_status_is_told),
    ("every_deadly_signal_is_told", None, every_deadly_signal_is_told),
    ("a_worker_has_no_blocked_and_no_ignored_signal", None, a_worker_has_no_blocked_and_no_ignored_signal),
    ("a_worker_has_three_descriptors", None, a_worker_has_three_descriptors),
    (
        "a_daemon_without_standard_streams_starts_workers",
        None,
        a_daemon_without_standard_streams_starts_workers,
    ),
    ("a_worker_leads_its_own_session_and_group", None, a_worker_leads_its_own_session_and_group),
    ("settings_arrive", None, settings_arrive),
    ("the_environment_is_what_was_said_and_the_marks", None, the_environment_is_what_was_said_and_the_marks),
    ("a_name_without_a_slash_is_found_in_the_workers_path", None, a_name_is_found_in_the_workers_path),
    ("a_worker_that_ignores_term_falls_to_kill", None, a_worker_that_ignores_term_falls_to_kill),
    ("a_signal_to_a_dead_worker_is_no_error", None, a_signal_to_a_dead_worker_is_no_error),
    ("peak_memory_is_told", None, peak_memory_is_told),
    ("a_worker_becomes_another_user_for_good", Some("root"), a_worker_becomes_another_user_for_good),
];

fn every_exit_status_is_told() {
    let mut bench = Bench::new();
    for status in 0..=255 {
        let program = bench.shell(&format!("exit {status}"));
        let (ended, _) = bench.run(&program);
        assert_eq!((ended.exit, ended.failure), (Exit::Status(status), None));
    }
}

fn every_deadly_signal_is_told() {
    let mut bench = Bench::new();
    let real_time = libc::SIGRTMIN() + 3;
    for number in [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 31, real_time] {
        let mut program = bench.shell(&format!("kill -{number} $$"));
        program.limits.core = Some(Limit::both(0));
        let mut worker = bench.start(&program);
        await_readable(worker.child.as_fd());
        assert_eq!(worker.child.exited(), Some(Exit::Signal(number)), "seen before it is reaped");
        assert_eq!(bench.settle(&mut worker).exit, Exit::Signal(number));
        assert_eq!(worker.child.exited(), None, "it is over");
    }
}

fn a_worker_has_no_blocked_and_no_ignored_signal() {
    let mut bench = Bench::new();
    // SAFETY: nothing is run at these signals.
    unsafe {
        for ignored in [Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGQUIT] {
            signal(ignored, SigHandler::SigIgn).expect("it may be ignored");
        }
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).expect("it may be blocked");
    let program = bench.program(&["cat", "/proc/self/status"]);
    let mut worker = bench.start(&program);
    let mut lines = worker.rest();
    lines.retain(|line| ["SigPnd", "SigBlk", "SigIgn", "SigCgt"].iter().any(|name| line.starts_with(name)));
    assert_eq!(lines.len(), 4);
    for line in lines {
        assert!(line.ends_with(":\t0000000000000000"), "{line}");
    }
    let blocked = SigSet::thread_get_mask().expect("it can be read");
    assert!(blocked.contains(Signal::SIGTERM), "the parent's own mask is as it was");
    assert_eq!(bench.settle(&mut worker).exit, Exit::Status(0));
}

fn a_worker_has_three_descriptors() {
    let mut bench = Bench::new();
    // As libzmq leaves them: open and inheritable.
    let leaks: Vec<i32> = (0..10)
        .map(|_| {
            // SAFETY: a plain system call; the descriptor is never closed, which is the point.
            let leak = unsafe { libc::dup(2) };
            assert!(leak > 2);
            leak
        })
        .collect();
    let program = bench.program(&["ls", "-l", "/proc/self/fd"]);
    let (ended, lines) = bench.run(&program);
    assert_eq!(ended.exit, Exit::Status(0));
    let open: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once(" -> ")).map(|pair| pair.1).collect();
    // The fourth is the listing's own, of the directory that it lists.
    assert_eq!(open.len(), 4, "{lines:?} (leaked {leaks:?})");
    assert_eq!(open[0], "/dev/null");
    assert!(open[1].starts_with("pipe:") && open[2] == open[1] && open[3].ends_with("/fd"), "{open:?}");
}

fn a_daemon_without_standard_streams_starts_workers() {
    let mut bench = Bench::new();
    // SAFETY: plain system calls. Nobody in this process uses the streams from here on, unless it fails.
    let saved = unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 100) };
    for closed in 0..3 {
        // SAFETY: as above.
        unsafe { libc::close(closed) };
    }
    let mut worker = bench.start_shell("echo out; echo err >&2; cat");
    let (lines, ended) = (worker.rest(), bench.settle(&mut worker));
    // SAFETY: as above.
    unsafe { libc::dup2(saved, 2) };
    assert_eq!(lines, ["out", "err"]);
    assert_eq!(ended.exit, Exit::Status(0));
}

fn a_worker_leads_its_own_session_and_group() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell("echo up; exec sleep 1000");
    assert_eq!(worker.line(), "up");
    let pid = worker.child.pid();
    let process = pushpull::shell::tree::Process::find(pid).expect("it runs or is a zombie");
    assert_eq!((process.group, process.session), (pid, pid));
    assert_ne!(nix::unistd::getpgrp().as_raw(), pid);
    worker.child.signal(libc::SIGKILL).expect("it is ours");
    bench.settle(&mut worker);
}

fn settings_arrive() {
    let place = tempfile::tempdir().expect("a directory");
    let place = fs::canonicalize(place.path()).expect("it is there");
    let mut bench = Bench::new();
    // SAFETY: a plain system call.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let mut program = bench.shell(
        "pwd -P; umask; nice; ulimit -S -n; ulimit -H -n; ulimit -c; ulimit -v; cat /proc/self/limits",
    );
    program.directory = Some(place.clone());
    program.umask = Some(0o137);
    program.nice = Some(nice + 1);
    program.limits.nofile = Some(Limit { soft: 50, hard: 60 });
    program.limits.core = Some(Limit::both(0));
    program.limits.address_space = Some(Limit::both(8 << 30));
    // Not above what an ordinary user is allowed, nor below what it has already.
    let (_, nproc) = getrlimit(Resource::RLIMIT_NPROC).expect("it can be read");
    let nproc = nproc.min(100_000);
    program.limits.nproc = Some(Limit::both(nproc));
    let (ended, lines) = bench.run(&program);
    assert_eq!(ended.exit, Exit::Status(0), "{lines:?}");
    let expected =
        [place.to_str().expect("plain text"), "0137", &(nice + 1).to_string(), "50", "60", "0", "8388608"];
    assert_eq!(lines[..7], expected);
    let processes =
        lines.iter().find(|line| line.starts_with("Max processes")).expect("a limit that all kernels have");
    let nproc = nproc.to_string();
    assert_eq!(processes.split_whitespace().filter(|word| *word == nproc).count(), 2, "{processes}");
}

fn the_environment_is_what_was_said_and_the_marks() {
    let mut bench = Bench::new();
    let mut program = bench.program(&["env"]);
    program.env.push(("WORD".into(), "a=b c".into()));
    program.env.push(("PUSHPULL_WORKER".into(), "somebody.0.0".into()));
    let (_, mut lines) = bench.run(&program);
    lines.retain(|line| !line.starts_with("PATH="));
    let mark = format!("PUSHPULL_DAEMON={}", crate::bench::mark());
    assert_eq!(lines, ["WORD=a=b c", "PUSHPULL_WORKER=default.0.1", mark.as_str()]);
}

fn a_name_is_found_in_the_workers_path() {
    let place = tempfile::tempdir().expect("a directory");
    let script = |directory: &str, mode: u32| {
        let directory = place.path().join(directory);
        fs::create_dir(&directory).expect("it is ours");
        fs::write(directory.join("tool"), "#!/bin/sh\necho \"$0 $1\"\n").expect("it is ours");
        fs::set_permissions(directory.join("tool"), fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    script("denied", 0o644);
    script("good", 0o755);
    let mut bench = Bench::new();
    let mut program = bench.program(&["tool", "word"]);
    program.directory = Some(place.path().to_owned());
    program.env = vec![("PATH".into(), "/no/such/place:denied:good".into())];
    let (_, lines) = bench.run(&program);
    assert_eq!(lines, ["good/tool word"]);
    program.env = vec![("PATH".into(), "/no/such/place:denied:/another".into())];
    let error = bench.try_start(&program).err().expect("there is no program of this name");
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EACCES));
}

fn a_worker_that_ignores_term_falls_to_kill() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell("trap '' TERM; echo up; while :; do sleep 1000; done");
    assert_eq!(worker.line(), "up");
    worker.child.signal(libc::SIGTERM).expect("it is ours");
    assert_eq!(worker.child.exited(), None);
    assert!(matches!(
        bench.reaper.settle(&mut worker.child),
        pushpull::shell::reaper::Settle::Pending { survivors } if survivors.is_empty()
    ));
    // Stopped as well: KILL must reach it nevertheless.
    worker.child.signal_group(libc::SIGSTOP).expect("it is ours");
    worker.child.signal(libc::SIGKILL).expect("it is ours");
    assert_eq!(bench.settle(&mut worker).exit, Exit::Signal(libc::SIGKILL));
    assert!(worker.is_closed_now(), "its sleep is gone too");
}

fn a_signal_to_a_dead_worker_is_no_error() {
    let mut bench = Bench::new();
    let mut worker = bench.start_shell("exit 3");
    await_readable(worker.child.as_fd());
    worker.child.signal(libc::SIGTERM).expect("a zombie takes it");
    worker.child.signal_group(libc::SIGTERM).expect("so does its group");
    assert_eq!(bench.settle(&mut worker).exit, Exit::Status(3));
    worker.child.signal(libc::SIGTERM).expect("its handle means nobody now");
    worker.child.signal_group(libc::SIGTERM).expect("nothing is sent");
    assert!(worker.child.as_fd().as_raw_fd() > 2);
}

fn peak_memory_is_told() {
    let mut bench = Bench::new();
    let program = bench.program(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    let (ended, _) = bench.run(&program);
    assert!((64 * 1024..1024 * 1024).contains(&ended.max_rss_kib), "{} KiB", ended.max_rss_kib);
}

fn a_worker_becomes_another_user_for_good() {
    let mut bench = Bench::new();
    let nobody =
        account::resolve(Some("nobody"), None).expect("every system has nobody").expect("it is not root");
    let mut program = bench.shell("id -u; id -g; id -G; grep -c CapEff:.0000000000000000 /proc/self/status");
    program.account = Some(nobody.clone());
    program.nice = Some(-3);
    let (ended, lines) = bench.run(&program);
    assert_eq!(ended.exit, Exit::Status(0), "{lines:?}");
    let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
    assert_eq!(lines, [nobody.uid.to_string(), nobody.gid.to_string(), groups.join(" "), "1".to_owned()]);
}
