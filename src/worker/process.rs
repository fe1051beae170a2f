//! Processes as the kernel tells of them: who has ended, who is left, and how to end them.
//!
//! Signals go only to children that have not been reaped and to the groups of such children. Until its parent
//! reaps it, a process keeps its number also after its death, so no signal from here can reach a stranger.

use crate::model::Exit;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io;

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub exit: Exit,
    /// The most memory resident in it or in a descendant that was waited for. The kernel counts what the child
    /// shared with its spawner before it executed a program, so this is never below the spawner's own.
    pub max_rss_kib: u64,
}

/// What a look at the children shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// This one has ended and waits to be reaped.
    Ended(Pid),
    /// All that there are live.
    AllLive,
    /// There are no children.
    None,
}

/// Looks for a child that has ended and leaves it as it is.
pub fn look_for_ended() -> Look {
    loop {
        // SAFETY: all bytes zero are a valid `siginfo_t`, which the kernel fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        // SAFETY: `info` is a live `siginfo_t`.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) } == 0 {
            // SAFETY: the fields that `waitid` fills; they stay zero when nobody has ended.
            let pid = unsafe { info.si_pid() };
            return if pid == 0 { Look::AllLive } else { Look::Ended(Pid::from_raw(pid)) };
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            _ => return Look::None,
        }
    }
}

/// Takes the exit status of a child that has ended; `None` if it has not, or is no child.
pub fn reap(child: Pid) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: all bytes zero are a valid `rusage`, which the kernel fills.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        let flags = libc::WNOHANG | libc::__WALL;
        // SAFETY: `status` and `usage` are live and of the types that the call fills.
        let pid = unsafe { libc::wait4(child.as_raw(), &raw mut status, flags, &raw mut usage) };
        if pid == child.as_raw() {
            let exit = if libc::WIFSIGNALED(status) {
                Exit::Signal(libc::WTERMSIG(status))
            } else {
                Exit::Status(libc::WEXITSTATUS(status))
            };
            return Some(Reaped { exit, max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0) });
        }
        if pid == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// Sends `signal` to the group that `leader`, a child not yet reaped, was started in, and to the leader itself if
/// it has left its group. A group or a process that is gone or another user's cannot be signalled; whoever sent
/// this looks at what is left in any case, so that is no error here.
pub fn signal_group(leader: Pid, signal: Signal) {
    let _ = killpg(leader, signal);
    if nix::unistd::getpgid(Some(leader)) != Ok(leader) {
        let _ = kill(leader, signal);
    }
}

/// Kills a child that has not been reaped. See [`signal_group`] for what is no error.
pub fn kill_child(child: Pid) {
    let _ = kill(child, Signal::SIGKILL);
}

/// The children of this process: its own and those it adopted, ended ones included.
///
/// The kernel lists them by thread and not all at once, so one may be missing; whoever needs them all asks until
/// [`look_for_ended`] finds none.
pub fn children() -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        match std::fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => {
                let pids = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
                children.extend(pids.map(Pid::from_raw));
            }
            // A thread may end between the two looks.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

/// From now on this process adopts what its descendants leave behind.
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Blocks and ignores nothing that whoever started this process had blocked or ignored, for commands inherit both.
/// Only SIGPIPE stays ignored, which the standard library takes care of.
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, signal};
    for number in Signal::iterator() {
        match number {
            Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE => {}
            // SAFETY: the default action runs no code of ours.
            other => drop(unsafe { signal(other, SigHandler::SigDfl) }?),
        }
    }
    SigSet::empty().thread_set_mask().map_err(io::Error::from)
}

/// Has every descriptor above the standard ones closed when a command is executed. `ZeroMQ` leaves some open.
pub fn keep_descriptors_from_commands() -> io::Result<()> {
    // SAFETY: the call changes a flag of descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
