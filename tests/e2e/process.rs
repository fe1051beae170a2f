//! Processes that are not our children: whether they live, how they end, whose they are.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// What does not happen within this time does not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A handle of one process, which never comes to mean another one.
pub struct Handle(OwnedFd);

impl Handle {
    /// `None` if there is no such process.
    pub fn open(pid: i32) -> Option<Handle> {
        // SAFETY: a system call on plain numbers; a good descriptor is new and ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).expect("a descriptor");
        // SAFETY: it was just given to us.
        (fd >= 0).then(|| Handle(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// False if it has ended before.
    pub fn signal(&self, signal: i32) -> bool {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: without an info the kernel fills in that of kill(2).
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd(), signal, info, 0) == 0 }
    }

    pub fn has_ended(&self) -> bool {
        is_readable(self.fd(), Duration::ZERO)
    }

    pub fn await_end(&self) {
        assert!(is_readable(self.fd(), PATIENCE), "a process does not end");
    }
}

/// Whether a descriptor has something to read within a time.
pub fn is_readable(fd: RawFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        // SAFETY: one entry, which lives as long as the call.
        match unsafe { libc::poll(&raw mut entry, 1, i32::try_from(left).expect("a minute")) } {
            -1 => assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted),
            ready => return ready > 0,
        }
    }
}

pub fn is_alive(pid: i32) -> bool {
    Handle::open(pid).is_some_and(|handle| !handle.has_ended())
}

/// Processes that carry this daemon's mark, zombies not among them.
pub fn marked(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| carries(*pid, mark)).collect()
}

pub fn carries(pid: i32, mark: &str) -> bool {
    let variable = format!("PUSHPULL_DAEMON={mark}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}
