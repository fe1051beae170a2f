//! Starting a worker: fork and exec, with everything that can fail reported by step and errno.
//!
//! The child reports a failure over a pipe that a successful exec closes. The parent waits for that, for it is a
//! matter of a millisecond; but not longer than [`PATIENCE`], since a program or directory on a dead file system
//! can hold the child up for ever. The child then counts as started, and a late report comes out when it is
//! settled. So the loop never hangs and never has one more descriptor to watch.

use super::account::Account;
use super::child::{Child, PidFd};
use super::exec::{self, Plan, REPORT_BYTES, Step};
use super::program::{Limit, Program, SpawnError, Texts};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

/// How long a spawn may hold up the loop when the exec does not come to an end.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Starts a worker. Its standard input is `/dev/null`; `stdout` and `stderr` are closed here in any case, so that
/// the readers see the end when the worker has gone.
///
/// To be called on the main thread: the kernel sends the death signal when the *thread* that forked ends.
pub(super) fn spawn(program: Program, stdout: OwnedFd, stderr: OwnedFd) -> Result<Child, SpawnError> {
    debug_assert_eq!(nix::unistd::gettid(), nix::unistd::getpid(), "workers are started by the main thread");
    let (pid, report) = start(&program, stdout, stderr)
        .map_err(|(step, errno)| SpawnError::new(step, errno as i32, &program))?;
    let pidfd = PidFd::open(pid).map_err(|errno| {
        abandon(pid);
        SpawnError::new(Step::Pidfd, errno as i32, &program)
    })?;
    let mut child = Child::new(pid, pidfd, program, report);
    match child.await_exec(Instant::now() + PATIENCE) {
        None => Ok(child),
        Some(error) => {
            // It is on its way out.
            child.reap();
            Err(error)
        }
    }
}

/// Prepares everything and forks. Returns the child and the pipe for its report; all else is closed again.
fn start(program: &Program, stdout: OwnedFd, stderr: OwnedFd) -> Result<(i32, File), (Step, Errno)> {
    let texts = Texts::new(program).ok_or((Step::Arguments, Errno::EINVAL))?;
    let no_pipe = |errno| (Step::Pipe, errno);
    let stdin = nix::fcntl::open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(no_pipe)?;
    let [stdin, stdout, stderr, writer] =
        above_standard([stdin.map_err(no_pipe)?, stdout, stderr, writer]).map_err(no_pipe)?;

    let (argv, envp) = (pointers(&texts.argv), pointers(&texts.env));
    let files: Vec<&CStr> = texts.files.iter().map(CString::as_c_str).collect();
    let plan = Plan {
        files: &files,
        argv: &argv,
        envp: &envp,
        directory: texts.directory.as_deref(),
        umask: program.umask,
        nice: program.nice,
        limit_nofile: program.limits.nofile.map(Limit::raw),
        limit_core: program.limits.core.map(Limit::raw),
        limit_as: program.limits.address_space.map(Limit::raw),
        limit_nproc: program.limits.nproc.map(Limit::raw),
        account: program.account.as_ref().map(Account::ids),
        death_signal: program.death_signal,
        parent: nix::unistd::getpid().as_raw(),
        stdin: stdin.as_raw_fd(),
        stdout: stdout.as_raw_fd(),
        stderr: stderr.as_raw_fd(),
        report: writer.as_raw_fd(),
    };
    let pid = fork(&plan).map_err(|errno| (Step::Fork, errno))?;
    Ok((pid, File::from(reader)))
}

/// The failure in `report`, as the child of `program` wrote it.
pub(super) fn reported(report: [u8; REPORT_BYTES], program: &Program) -> SpawnError {
    let (step, errno) = exec::decode_report(report);
    SpawnError::new(step, errno, program)
}

/// Waits until the report's pipe has something or its end, at most until `deadline`. `None`: it had neither.
pub(super) fn await_report(pipe: &mut File, deadline: Instant) -> Option<Report> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a poll of 0 ms until the last fraction has gone by would spin.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return None,
            Ok(_) => {
                let mut report = [0; REPORT_BYTES];
                return match pipe.read_exact(&mut report) {
                    Ok(()) => Some(Report::Failed(report)),
                    Err(_) => Some(Report::Executed),
                };
            }
        }
    }
}

/// What the pipe of a child told.
pub(super) enum Report {
    /// It was closed without a word.
    Executed,
    Failed([u8; REPORT_BYTES]),
}

/// Forks and lets the child have `plan`. All signals are blocked meanwhile: a handler that ran in the child would
/// write to the daemon's own pipe.
fn fork(plan: &Plan<'_>) -> nix::Result<i32> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: the child calls nothing but `exec::run`, whose conditions are met here: signals are blocked and
    // the plan is complete.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            exec::run(plan);
        }
        pid
    };
    let forked = Errno::result(pid);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    forked
}

/// Ends and reaps a child that cannot be watched. Its pid cannot be a stranger's, for nobody else reaps it.
fn abandon(pid: i32) {
    // SAFETY: plain system calls; a null status is allowed.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::kill(-pid, libc::SIGKILL);
        while libc::waitpid(pid, ptr::null_mut(), 0) == -1 && Errno::last() == Errno::EINTR {}
    }
}

/// Moves descriptors out of the way of 0, 1 and 2: a daemon that was started with these closed gets them for its
/// pipes, and the child's `dup2` would overwrite one before it is used.
fn above_standard(descriptors: [OwnedFd; 4]) -> nix::Result<[OwnedFd; 4]> {
    let [a, b, c, d] = descriptors.map(|descriptor| {
        if descriptor.as_raw_fd() > 2 {
            return Ok(descriptor);
        }
        let moved = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: the descriptor was made by the line above and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(moved) })
    });
    Ok([a?, b?, c?, d?])
}

/// Pointers to `texts`, ended by NULL.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}
