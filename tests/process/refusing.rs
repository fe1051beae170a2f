//! Workers that cannot start, and what is said of them.

use crate::Case;
use crate::bench::{Bench, is_over, own_children};
use nix::sys::signal::{SigHandler, Signal, signal};
use pushpull::model::Exit;
use pushpull::shell::account;
use pushpull::shell::exec::Step;
use pushpull::shell::program::Limit;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

pub const CASES: &[Case] = &[
    (
        "what_cannot_be_executed_is_named_with_its_errno",
        None,
        what_cannot_be_executed_is_named_with_its_errno,
    ),
    ("what_the_kernel_cannot_take_is_refused_before_the_fork", None, what_the_kernel_cannot_take_is_refused),
    ("a_setting_that_fails_is_named_with_its_errno", None, a_setting_that_fails_is_named_with_its_errno),
    ("a_failed_start_leaves_no_process_and_no_descriptor", None, a_failed_start_leaves_nothing),
    ("an_exec_that_hangs_does_not_hang_the_daemon", None, an_exec_that_hangs_does_not_hang_the_daemon),
    ("without_privileges_another_user_is_refused", Some("root"), without_privileges_another_user_is_refused),
];

fn what_cannot_be_executed_is_named_with_its_errno() {
    let place = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        fs::write(place.path().join(name), text).expect("it is ours");
        fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    file("plain", "#!/bin/sh\n", 0o644);
    file("garbage", "no program\n", 0o755);
    file("orphaned", "#!/no/such/interpreter\n", 0o755);
    let mut bench = Bench::new();
    for (command, errno, text) in [
        (
            "no-such-command",
            libc::ENOENT,
            "cannot execute no-such-command: No such file or directory (ENOENT)",
        ),
        ("./missing", libc::ENOENT, "cannot execute ./missing: No such file or directory (ENOENT)"),
        (
            "./plain",
            libc::EACCES,
            "cannot execute ./plain (chmod +x makes a file a program): Permission denied (EACCES)",
        ),
        (
            "./garbage",
            libc::ENOEXEC,
            "cannot execute ./garbage (not a program, and no #! in its first line): Exec format error (ENOEXEC)",
        ),
        (
            "./orphaned",
            libc::ENOENT,
            "cannot execute ./orphaned (its interpreter, named in its first line, is missing): No such file or directory (ENOENT)",
        ),
        ("/", libc::EACCES, "cannot execute /: Permission denied (EACCES)"),
    ] {
        let mut program = bench.program(&[command]);
        program.directory = Some(place.path().to_owned());
        let Err(error) = bench.try_start(&program) else { panic!("{command} was executed") };
        assert_eq!((error.step, error.errno), (Step::Exec, errno), "{command}");
        assert_eq!(error.to_string(), text);
    }
}

fn what_the_kernel_cannot_take_is_refused() {
    let mut bench = Bench::new();
    let mut programs =
        [bench.program(&[]), bench.program(&[""]), bench.program(&["a\0b"]), bench.shell("exit 0")];
    programs[3].env.push(("A".into(), "b\0c".into()));
    for program in programs {
        let error = bench.try_start(&program).err().expect("it cannot be started");
        assert_eq!((error.step, error.errno), (Step::Arguments, libc::EINVAL));
    }
}

fn a_setting_that_fails_is_named_with_its_errno() {
    let mut bench = Bench::new();
    let mut nowhere = bench.shell("exit 0");
    nowhere.directory = Some("/no/such/directory".into());
    // More descriptors than the kernel gives to anybody, root included.
    let mut greedy = bench.shell("exit 0");
    greedy.limits.nofile = Some(Limit::UNLIMITED);
    let mut crossed = bench.shell("exit 0");
    crossed.limits.core = Some(Limit { soft: 2, hard: 1 });
    for (program, step, errno, text) in [
        (
            nowhere,
            Step::Directory,
            libc::ENOENT,
            "cannot enter the directory /no/such/directory: No such file or directory (ENOENT)",
        ),
        (
            greedy,
            Step::LimitNofile,
            libc::EPERM,
            "cannot set limit_nofile to unlimited: Operation not permitted (EPERM)",
        ),
        (crossed, Step::LimitCore, libc::EINVAL, "cannot set limit_core to 1: Invalid argument (EINVAL)"),
    ] {
        let error = bench.try_start(&program).err().expect("it cannot be started");
        assert_eq!((error.step, error.errno), (step, errno));
        assert_eq!(error.to_string(), text);
    }
}

fn a_failed_start_leaves_nothing() {
    let mut bench = Bench::new();
    let descriptors = || fs::read_dir("/proc/self/fd").expect("/proc is there").count();
    let before = descriptors();
    for _ in 0..20 {
        let program = bench.program(&["/no/such/command"]);
        assert!(bench.try_start(&program).is_err());
        let program = bench.shell("exit 0");
        bench.run(&program);
    }
    assert_eq!(descriptors(), before);
    assert!(own_children().is_empty());
}

fn an_exec_that_hangs_does_not_hang_the_daemon() {
    // SAFETY: nothing is run at this signal, which tells of the lease being wanted.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn).expect("it may be ignored") };
    let place = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::new();
    for (name, text, late) in
        [("good", "#!/bin/sh\nexit 3\n", None), ("bad", "no program\n", Some(libc::ENOEXEC))]
    {
        let path = place.path().join(name);
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let file = fs::File::open(&path).expect("it is ours");
        // A lease holds up whoever opens the file, as a file system does whose server is gone.
        // SAFETY: a plain system call on a descriptor of ours.
        let lease = |kind: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        assert_eq!(lease(libc::F_WRLCK), 0, "{}", std::io::Error::last_os_error());
        let program = bench.program(&[path.to_str().expect("plain text")]);
        let mut worker = bench.start(&program);
        let pidfd = pushpull::shell::child::PidFd::open(worker.child.pid()).expect("it hangs");
        assert!(!is_over(&pidfd));
        assert!(!worker.is_closed_now());
        assert_eq!(lease(libc::F_UNLCK), 0);
        let ended = bench.settle(&mut worker);
        assert_eq!(
            ended.failure.as_ref().map(|failure| (failure.step, failure.errno)),
            late.map(|errno| (Step::Exec, errno))
        );
        assert_eq!(ended.exit, Exit::Status(if late.is_some() { 127 } else { 3 }));
    }
}

fn without_privileges_another_user_is_refused() {
    let mut bench = Bench::new();
    let root = account::resolve(Some("root"), None).expect("every system has root");
    nix::unistd::setgroups(&[]).expect("we are root");
    nix::unistd::setgid(65_534.into()).expect("we are root");
    nix::unistd::setuid(65_534.into()).expect("we are root");
    let mut program = bench.shell("id -u");
    program.account = root;
    let error = bench.try_start(&program).err().expect("nobody becomes root");
    assert_eq!((error.step, error.errno), (Step::Groups, libc::EPERM));
    assert_eq!(error.to_string(), "cannot take the groups of user 0: Operation not permitted (EPERM)");
    let mut program = bench.shell("nice");
    program.nice = Some(-20);
    let error = bench.try_start(&program).err().expect("nobody is so important");
    assert_eq!((error.step, error.errno), (Step::Nice, libc::EACCES));
}
