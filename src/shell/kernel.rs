//! What the kernel must be able to do, asked for once at start rather than found missing at the first worker.

use super::child::PidFd;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// Something that this kernel, or the container around the daemon, does not offer.
#[derive(Debug, thiserror::Error)]
#[error("this system has no {missing}: pushpulld needs Linux 5.11 or newer with /proc mounted")]
pub struct KernelError {
    pub missing: &'static str,
}

/// Tries everything that watching workers needs.
pub fn check() -> Result<(), KernelError> {
    let need = |there: bool, missing| if there { Ok(()) } else { Err(KernelError { missing }) };
    let own = nix::unistd::getpid().as_raw();
    need(Path::new("/proc/self/stat").exists(), "/proc")?;
    need(Path::new(&format!("/proc/{own}/task/{own}/children")).exists(), "/proc/PID/task/TID/children")?;
    let pidfd = PidFd::open(own);
    need(pidfd.as_ref().is_ok_and(|pidfd| pidfd.signal(0).is_ok()), "pidfds")?;
    need(pidfd.is_ok_and(|pidfd| waits_for(&pidfd)), "waitid for pidfds")?;
    need(closes_ranges(), "close_range with CLOEXEC")
}

/// We are not our own child, so the answer of a kernel that understands the question is ECHILD.
fn waits_for(pidfd: &PidFd) -> bool {
    let Ok(descriptor) = libc::id_t::try_from(pidfd.as_fd().as_raw_fd()) else { return false };
    // SAFETY: a zeroed siginfo is a valid one, and it lives on this frame.
    let waited = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PIDFD, descriptor, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
    };
    waited == -1 && Errno::last() == Errno::ECHILD
}

/// Tried on a descriptor that is closed on exec anyway.
fn closes_ranges() -> bool {
    let Ok(file) = File::open("/dev/null") else { return false };
    let descriptor = file.as_raw_fd();
    // SAFETY: a plain system call on a descriptor of ours.
    unsafe { libc::syscall(libc::SYS_close_range, descriptor, descriptor, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kernel_that_runs_the_tests_has_everything() {
        super::check().expect("the other tests need it too");
    }
}
