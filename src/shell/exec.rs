//! Between fork and exec: the one place where a copy of the daemon runs.
//!
//! The copy has the daemon's memory but none of its threads, so a lock that another thread held stays locked for
//! ever, and a destructor would close what still belongs to the parent (`ZeroMQ` even aborts the parent for it).
//! Therefore everything is prepared before the fork, and `run` makes plain system calls on it: it allocates
//! nothing, drops nothing, cannot panic, and leaves by exec or by `_exit`.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    /// Before the fork: the command, environment or directory holds a NUL byte, or the command is empty.
    Arguments,
    /// Before the fork: `/dev/null` or the pipe for the child's report.
    Pipe,
    Fork,
    Pidfd,
    Session,
    Descriptors,
    LimitNofile,
    LimitCore,
    LimitAs,
    LimitNproc,
    Nice,
    Directory,
    Groups,
    Group,
    User,
    DeathSignal,
    SignalMask,
    Exec,
}

impl Step {
    /// Every step, in the order in which they are taken.
    pub const ALL: [Step; 18] = [
        Step::Arguments,
        Step::Pipe,
        Step::Fork,
        Step::Pidfd,
        Step::Session,
        Step::Descriptors,
        Step::LimitNofile,
        Step::LimitCore,
        Step::LimitAs,
        Step::LimitNproc,
        Step::Nice,
        Step::Directory,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::DeathSignal,
        Step::SignalMask,
        Step::Exec,
    ];

    /// One word for it, for JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Arguments => "arguments",
            Step::Pipe => "pipe",
            Step::Fork => "fork",
            Step::Pidfd => "pidfd",
            Step::Session => "session",
            Step::Descriptors => "descriptors",
            Step::LimitNofile => "limit_nofile",
            Step::LimitCore => "limit_core",
            Step::LimitAs => "limit_as",
            Step::LimitNproc => "limit_nproc",
            Step::Nice => "nice",
            Step::Directory => "directory",
            Step::Groups => "groups",
            Step::Group => "group",
            Step::User => "user",
            Step::DeathSignal => "death_signal",
            Step::SignalMask => "signal_mask",
            Step::Exec => "exec",
        }
    }
}

/// Everything the child needs, as the kernel wants it. The pointers are borrowed from the parent's frame, of
/// which the child has a copy.
pub(super) struct Plan<'a> {
    /// Candidates for the program's file, tried in order as `execvp` does.
    pub files: &'a [&'a CStr],
    /// NULL-terminated.
    pub argv: &'a [*const libc::c_char],
    /// NULL-terminated.
    pub envp: &'a [*const libc::c_char],
    pub directory: Option<&'a CStr>,
    pub umask: Option<libc::mode_t>,
    pub nice: Option<libc::c_int>,
    pub limit_nofile: Option<libc::rlimit>,
    pub limit_core: Option<libc::rlimit>,
    pub limit_as: Option<libc::rlimit>,
    pub limit_nproc: Option<libc::rlimit>,
    pub account: Option<Ids<'a>>,
    pub death_signal: libc::c_int,
    /// The daemon's own process id, taken before the fork.
    pub parent: libc::pid_t,
    /// Descriptors of the child's standard streams and of its report; all above 2.
    pub stdin: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    pub report: RawFd,
}

/// Who the child becomes.
#[derive(Clone, Copy)]
pub(super) struct Ids<'a> {
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    pub groups: &'a [libc::gid_t],
}

/// Bytes of a report. A pipe takes it whole or not at all.
pub(super) const REPORT_BYTES: usize = 8;

/// A report: the number of the step in the upper half of a `u64`, the errno in the lower. Cannot panic.
fn encode_report(step: Step, errno: i32) -> [u8; REPORT_BYTES] {
    let errno = u32::from_ne_bytes(errno.to_ne_bytes());
    ((u64::from(step as u8) << 32) | u64::from(errno)).to_ne_bytes()
}

/// The step and errno that a report names.
pub(super) fn decode_report(report: [u8; REPORT_BYTES]) -> (Step, i32) {
    let report = u64::from_ne_bytes(report);
    let step = Step::ALL.into_iter().find(|step| u64::from(*step as u8) == report >> 32);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    let errno = report as i32;
    (step.unwrap_or(Step::Exec), errno)
}

/// Turns the child into the program, or reports why that cannot be and exits 127.
///
/// # Safety
///
/// To be called in a child fresh from `fork`, with all signals blocked, and with `plan` made before the fork.
pub(super) unsafe fn run(plan: &Plan<'_>) -> ! {
    // SAFETY: the caller's promise is the one that `prepare` and `execute` ask for; write and _exit are
    // async-signal-safe.
    unsafe {
        let step = match prepare(plan) {
            Ok(()) => execute(plan),
            Err(step) => step,
        };
        let report = encode_report(step, *libc::__errno_location());
        libc::write(plan.report, report.as_ptr().cast(), REPORT_BYTES);
        libc::_exit(127)
    }
}

/// All that comes before exec. The order matters: what needs privileges before they are given up, the death
/// signal after (a change of credentials clears it), descriptors last (until then the report needs its own).
unsafe fn prepare(plan: &Plan<'_>) -> Result<(), Step> {
    // SAFETY: each call is a plain system call on values that live in `plan` or on this stack frame.
    unsafe {
        // Handlers of the parent would run in the child and write to the parent's pipe; ignored signals would
        // stay ignored for good. KILL and STOP refuse, as they should. Without libc, which would refuse its own
        // two, that somebody may have ignored; to the kernel, all zeros is the default action.
        let default_action = [0_u64; 8];
        for signal in 1..=64_i32 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                ptr::null::<u64>(),
                8_usize,
            );
        }
        check(libc::setsid(), Step::Session)?;
        check(libc::dup2(plan.stdin, 0), Step::Descriptors)?;
        check(libc::dup2(plan.stdout, 1), Step::Descriptors)?;
        check(libc::dup2(plan.stderr, 2), Step::Descriptors)?;
        if let Some(limit) = &plan.limit_nofile {
            check(libc::setrlimit(libc::RLIMIT_NOFILE, limit), Step::LimitNofile)?;
        }
        if let Some(limit) = &plan.limit_core {
            check(libc::setrlimit(libc::RLIMIT_CORE, limit), Step::LimitCore)?;
        }
        if let Some(limit) = &plan.limit_as {
            check(libc::setrlimit(libc::RLIMIT_AS, limit), Step::LimitAs)?;
        }
        if let Some(limit) = &plan.limit_nproc {
            check(libc::setrlimit(libc::RLIMIT_NPROC, limit), Step::LimitNproc)?;
        }
        if let Some(nice) = plan.nice {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, nice), Step::Nice)?;
        }
        if let Some(umask) = plan.umask {
            libc::umask(umask);
        }
        if let Some(directory) = plan.directory {
            check(libc::chdir(directory.as_ptr()), Step::Directory)?;
        }
        if let Some(ids) = plan.account {
            take_account(ids)?;
        }
        check(libc::prctl(libc::PR_SET_PDEATHSIG, plan.death_signal), Step::DeathSignal)?;
        if libc::getppid() != plan.parent {
            // The daemon died before the line above: nobody would tell this process, and nobody reads its report.
            libc::_exit(127);
        }
        // libzmq leaves descriptors inheritable, and so may whoever started the daemon.
        let closed = libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        if closed != 0 {
            return Err(Step::Descriptors);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()), Step::SignalMask)
    }
}

/// Gives up the daemon's identity: groups, then group, then user, for each needs what the next one takes away.
unsafe fn take_account(ids: Ids<'_>) -> Result<(), Step> {
    // SAFETY: as in `prepare`; the out parameters are on this stack frame.
    unsafe {
        check(libc::setgroups(ids.groups.len(), ids.groups.as_ptr()), Step::Groups)?;
        check(libc::setresgid(ids.gid, ids.gid, ids.gid), Step::Group)?;
        check(libc::setresuid(ids.uid, ids.uid, ids.uid), Step::User)?;
        let (mut real, mut effective, mut saved) = (0, 0, 0);
        check(libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved), Step::Group)?;
        if real != ids.gid || effective != ids.gid || saved != ids.gid {
            *libc::__errno_location() = libc::EPERM;
            return Err(Step::Group);
        }
        check(libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved), Step::User)?;
        let regained = ids.uid != 0 && libc::setuid(0) == 0;
        if real != ids.uid || effective != ids.uid || saved != ids.uid || regained {
            *libc::__errno_location() = libc::EPERM;
            return Err(Step::User);
        }
    }
    Ok(())
}

/// Tries the candidates. One that is not there, or may not be executed, leaves the next a chance, as in a shell.
/// Of several failures, "permission denied" says the most if there is such a file, and misleads if only its
/// directory is closed to us: then it is not there.
unsafe fn execute(plan: &Plan<'_>) -> Step {
    let mut last = libc::ENOENT;
    // SAFETY: the arrays end with NULL and the strings outlive the call.
    unsafe {
        for file in plan.files {
            libc::execve(file.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
            let errno = *libc::__errno_location();
            match errno {
                libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
                libc::EACCES if plan.files.len() > 1 && libc::access(file.as_ptr(), libc::F_OK) != 0 => {}
                libc::EACCES => last = errno,
                _ => {
                    last = errno;
                    break;
                }
            }
        }
        *libc::__errno_location() = last;
    }
    Step::Exec
}

fn check(result: libc::c_int, step: Step) -> Result<(), Step> {
    if result == -1 { Err(step) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_its_report() {
        for (place, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, place, "{} is out of order", step.as_str());
            assert_eq!(decode_report(encode_report(step, 13)), (step, 13));
        }
    }
}
