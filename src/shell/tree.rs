//! What /proc tells about processes: who started them, and which worker's marks they carry.
//!
//! Every answer is old when it arrives. Whoever acts on one opens a pidfd first and then looks again
//! ([`Process::open`]): the same pid with the same start time is the same process.

use super::child::PidFd;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The environment variable that names the worker.
pub const WORKER_VARIABLE: &str = "PUSHPULL_WORKER";

/// The environment variable that names the daemon: device and inode of its state directory.
pub const DAEMON_VARIABLE: &str = "PUSHPULL_DAEMON";

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Dead, and waiting to be reaped.
    pub zombie: bool,
    /// Clock ticks since boot; together with the pid it names a process for good.
    pub started: u64,
    is_kernel_thread: bool,
    /// Bytes of its environment; `None` between two images, and where we may not look.
    environment: Option<u64>,
}

/// Which worker and daemon a process says that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Its environment, as it was at its last exec.
    Known { worker: Option<String>, daemon: Option<String> },
    /// It is between two images, or about to end, or we are out of descriptors: ask again.
    Changing,
    /// It has ended.
    Gone,
    /// It is a kernel thread, or we may not look.
    Hidden,
}

impl Process {
    /// The process that has this pid now.
    pub fn find(pid: i32) -> Option<Process> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Every process there is.
    pub fn all() -> io::Result<Vec<Process>> {
        let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Process::find).collect())
    }

    /// A handle of this very process, or `None` if it has gone.
    pub fn open(&self) -> nix::Result<Option<PidFd>> {
        let pidfd = match PidFd::open(self.pid) {
            Err(Errno::ESRCH) => return Ok(None),
            opened => opened?,
        };
        let is_same = Process::find(self.pid).is_some_and(|found| found.started == self.started);
        Ok(is_same.then_some(pidfd))
    }

    /// What its environment says.
    pub fn marks(&self) -> Marks {
        let environment = match fs::read(format!("/proc/{}/environ", self.pid)) {
            Ok(environment) => environment,
            Err(error) if has_gone(&error) => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Marks::Hidden,
            // Out of descriptors, say: that is no answer.
            Err(_) => return Marks::Changing,
        };
        let marks = parse_marks(&environment);
        if matches!(marks, Marks::Known { worker: Some(_), daemon: Some(_) }) {
            return marks;
        }
        // A mark may be missing because there is none, or because an exec or an exit took the environment away
        // before or while it was read. It was read whole if it has the length that it should have.
        match Process::find(self.pid) {
            None => Marks::Gone,
            Some(now) if now.zombie => Marks::Gone,
            Some(now) if now.is_kernel_thread => Marks::Hidden,
            Some(now) if now.environment == Some(environment.len() as u64) => marks,
            Some(_) => Marks::Changing,
        }
    }
}

/// The children of a process, of all its threads. For our own the answer is complete, since children leave the
/// list only when we reap them; of others the kernel may leave some out while the list changes.
pub fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            Err(error) if has_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// `root` and everything below it, parents first.
pub fn with_descendants(root: Process) -> Vec<Process> {
    let mut found = vec![root];
    let mut seen = BTreeSet::from([root.pid]);
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        let below = children(process.pid).unwrap_or_default().into_iter().filter_map(Process::find);
        found.extend(below.filter(|child| child.parent == process.pid && seen.insert(child.pid)));
    }
    found
}

/// Whether /proc says that there is no such process, or thread, any more.
fn has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Field numbers are those of `proc_pid_stat(5)`. The name in field 2 may hold anything, also parentheses.
fn parse_stat(text: &[u8]) -> Option<Process> {
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let text = String::from_utf8_lossy(text);
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse().ok();
    Some(Process {
        pid: head.split_once(' ')?.0.parse().ok()?,
        parent: number(4)?,
        group: number(5)?,
        session: number(6)?,
        zombie: matches!(field(3)?, "Z" | "X"),
        started: field(22)?.parse().ok()?,
        is_kernel_thread: field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        environment: environment_bytes(
            field(27)?.parse().ok()?,
            field(50)?.parse().ok()?,
            field(51)?.parse().ok()?,
        ),
    })
}

/// From the addresses at which the code ends and the environment starts and ends. An exec first sets the latter
/// two to where the environment begins, as if it were empty, then the end, and the end of the code last: until
/// that is there, nothing is said.
fn environment_bytes(code_end: u64, start: u64, end: u64) -> Option<u64> {
    if code_end == 0 { None } else { end.checked_sub(start) }
}

fn parse_marks(environment: &[u8]) -> Marks {
    let value = |name: &str| {
        let entries = environment.split(|byte| *byte == 0);
        let mut values = entries.filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    Marks::Known { worker: value(WORKER_VARIABLE), daemon: value(DAEMON_VARIABLE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let mut fields = ["0"; 50];
        for (number, value) in [
            (3, "S"),
            (4, "7"),
            (5, "8"),
            (6, "9"),
            (9, "4194560"),
            (22, "4711"),
            (27, "1"),
            (50, "90"),
            (51, "99"),
        ] {
            fields[number - 3] = value;
        }
        let line = format!("42 (a) R 1 (b) {}", fields.join(" "));
        let process = parse_stat(line.as_bytes()).expect("a stat line");
        assert_eq!((process.pid, process.parent, process.group, process.session), (42, 7, 8, 9));
        assert_eq!((process.started, process.zombie, process.is_kernel_thread), (4711, false, false));
        assert_eq!(process.environment, Some(9));
        assert_eq!(parse_stat(b"42 (cut) S 1 2"), None);
    }

    #[test]
    fn this_process_finds_itself_with_its_parent_and_environment() {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let process = Process::find(own).expect("we run");
        assert_eq!(process.parent, nix::unistd::getppid().as_raw());
        assert!(process.environment > Some(0) && !process.zombie);
        assert!(matches!(process.marks(), Marks::Known { .. }));
        assert!(process.open().expect("a descriptor is free").is_some());
        let stranger = Process { started: process.started + 1, ..process };
        assert!(stranger.open().expect("a descriptor is free").is_none(), "another process with this pid");
        assert!(Process::all().expect("/proc").contains(&process));
    }

    #[test]
    fn a_cleared_environment_is_not_one_that_is_not_there_yet() {
        assert_eq!(environment_bytes(0x4000, 0x7fff_0000, 0x7fff_0000), Some(0));
        assert_eq!(environment_bytes(0x4000, 0x7fff_0000, 0x7fff_0010), Some(16));
        assert_eq!(environment_bytes(0, 0, 0), None);
        assert_eq!(environment_bytes(0, 0x7fff_0000, 0), None);
        assert_eq!(environment_bytes(0, 0x7fff_0000, 0x7fff_0000), None, "half-way through an exec");
    }

    #[test]
    fn marks_are_whole_variables() {
        let known = |worker: Option<&str>, daemon: Option<&str>| Marks::Known {
            worker: worker.map(str::to_owned),
            daemon: daemon.map(str::to_owned),
        };
        assert_eq!(parse_marks(b"A=1\0PUSHPULL_WORKER=default.0.1\0"), known(Some("default.0.1"), None));
        assert_eq!(parse_marks(b"XPUSHPULL_WORKER=a\0PUSHPULL_WORKERS=b\0"), known(None, None));
        assert_eq!(parse_marks(b"PUSHPULL_DAEMON=8:1=2\0PUSHPULL_WORKER=\0"), known(Some(""), Some("8:1=2")));
        assert_eq!(parse_marks(b""), known(None, None));
    }
}
