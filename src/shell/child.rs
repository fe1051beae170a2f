//! One worker process, held by its pidfd.
//!
//! A pidfd names a process for good, a pid only until somebody reaps it. So signals go through the pidfd, and the
//! group, which has no such handle, is signalled only while its leader is unreaped and pins the number.

use super::program::{Program, SpawnError};
use super::spawn::{self, Report};
use crate::model::{Exit, WorkerName};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

/// A worker that was started. It is over when [`settle`](super::reaper::Reaper::settle) says so.
#[derive(Debug)]
pub struct Child {
    name: WorkerName,
    pid: i32,
    pidfd: PidFd,
    /// The pipe of the exec's report and what to say of a failure, while the exec's end is not known.
    starting: Option<(File, Program)>,
    reaped: bool,
}

impl Child {
    pub(super) fn new(pid: i32, pidfd: PidFd, program: Program, report: File) -> Child {
        let name = program.name.clone();
        Child { name, pid, pidfd, starting: Some((report, program)), reaped: false }
    }

    pub fn name(&self) -> &WorkerName {
        &self.name
    }

    /// Its process id, for people: to signal it, use [`Child::signal`].
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `signal` to the worker alone. A worker that has gone already is no error.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        self.pidfd.signal(signal)
    }

    /// Sends `signal` to the worker's process group, that is to all that it started and that did not leave it.
    /// After the worker was reaped nothing is sent, for the number may be a stranger's.
    pub fn signal_group(&self, signal: i32) -> nix::Result<()> {
        if self.reaped { Ok(()) } else { signal_group_of(self.pid, signal) }
    }

    /// How the worker ended, if it has. It stays a zombie: only settling reaps it.
    pub fn exited(&self) -> Option<Exit> {
        self.exited_with_peak().map(|(exit, _)| exit)
    }

    /// The same, with the peak of its memory in KiB as [`Child::reap`] tells it.
    pub(super) fn exited_with_peak(&self) -> Option<(Exit, u64)> {
        if self.reaped {
            return None;
        }
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: zeroed siginfo and rusage are valid ones, and they live on this frame. By hand, because nix knows no
        // real-time signals and would report a worker that one of them killed as an error for ever, and libc has no
        // waitid that tells of the usage.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let mut usage: libc::rusage = std::mem::zeroed();
            let found = libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                self.pidfd.0.as_raw_fd(),
                &raw mut info,
                flags,
                &raw mut usage,
            );
            if found != 0 || info.si_pid() == 0 {
                return None;
            }
            let exit = match info.si_code {
                libc::CLD_EXITED => Exit::Status(info.si_status()),
                _ => Exit::Signal(info.si_status()),
            };
            Some((exit, u64::try_from(usage.ru_maxrss).unwrap_or(0)))
        }
    }

    /// Waits for the exec's end, at most until `deadline`, and returns its failure.
    pub(super) fn await_exec(&mut self, deadline: Instant) -> Option<SpawnError> {
        let (pipe, _) = self.starting.as_mut()?;
        let report = spawn::await_report(pipe, deadline)?;
        let (_, program) = self.starting.take()?;
        match report {
            Report::Executed => None,
            Report::Failed(report) => Some(spawn::reported(report, &program)),
        }
    }

    /// Reaps the worker and returns how it ended and its peak memory in KiB. The peak includes what the daemon
    /// held at the fork: the kernel counts it so.
    pub(super) fn reap(&mut self) -> (Exit, u64) {
        let mut status = 0;
        // SAFETY: a zeroed rusage is a valid one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: both out parameters live on this frame.
            let reaped = unsafe { libc::wait4(self.pid, &raw mut status, 0, &raw mut usage) };
            if reaped == self.pid {
                break;
            }
            assert_eq!(Errno::last(), Errno::EINTR, "worker {} was reaped by somebody else", self.pid);
        }
        self.reaped = true;
        let exit = if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Status(libc::WEXITSTATUS(status))
        };
        (exit, u64::try_from(usage.ru_maxrss).unwrap_or(0))
    }

    pub(super) fn is_reaped(&self) -> bool {
        self.reaped
    }
}

/// The pidfd: readable when the worker has ended.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A handle of a process, which never means another one.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has this pid now. Whether it is the one that is meant, the caller must know or check
    /// after opening.
    pub fn open(pid: i32) -> nix::Result<PidFd> {
        // SAFETY: a plain system call; a success is a new descriptor that is ours alone, and it is closed on exec.
        unsafe {
            let descriptor = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
            let descriptor = i32::try_from(descriptor).expect("descriptors are small");
            Ok(PidFd(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// Sends `signal`; 0 sends nothing. A process that has gone already is no error.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a plain system call without a siginfo.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, no_info, 0) };
        ignore_gone(Errno::result(sent).map(drop))
    }

    /// Sends KILL, and CONT because some kernels leave a stopped process stopped.
    pub fn kill(&self) -> nix::Result<()> {
        self.signal(libc::SIGKILL).and(self.signal(libc::SIGCONT))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends `signal` to the group that `leader` leads. The caller vouches that the leader is an unreaped child of
/// this process, so that the number cannot be a stranger's.
pub(super) fn signal_group_of(leader: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: a plain system call.
    ignore_gone(Errno::result(unsafe { libc::kill(-leader, signal) }).map(drop))
}

fn ignore_gone(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
