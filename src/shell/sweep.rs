//! The sweep at start: ends what an earlier daemon of this state directory left behind.
//!
//! The death signal of a killed daemon reaches its workers but not what they had started. Such processes still
//! carry the daemon's mark in their environment. They are killed and awaited under the lock, before a job is
//! dispatched, so that no job runs twice at the same time.
//!
//! Spared are this process and its ancestors: a daemon that is started by a job of the very daemon whose place it
//! takes carries the mark itself. What hides its environment and whose parents are dead is not found; while its
//! parent lives, it falls with it.

use super::child::PidFd;
use super::tree::{Marks, Process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The longest wait before /proc is looked at again, for processes whose state changes without an event.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a process may be in the middle of an exec before it is taken for unmarked: it may be any program of
/// the machine, hanging on a file system that has nothing to do with us.
const EXEC_PATIENCE: Duration = Duration::from_millis(200);

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were sent KILL.
    pub killed: usize,
    /// Those of them that were still there at the deadline.
    pub survivors: Vec<i32>,
}

/// Kills every process that carries the mark `daemon`, with its descendants, and waits until there is none,
/// at most until `deadline`.
///
/// # Errors
///
/// When /proc cannot be read, or no descriptor is left to watch a process with.
pub fn sweep(daemon: &str, deadline: Instant) -> io::Result<Swept> {
    let mut killed = BTreeSet::new();
    loop {
        let condemned = find_condemned(daemon)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if condemned.is_empty() || left.is_zero() {
            let survivors = condemned.iter().map(|process| process.pid).collect();
            return Ok(Swept { killed: killed.len(), survivors });
        }
        let mut watched = Vec::new();
        for process in &condemned {
            // A handle of the same process: the mark was its own.
            if let Some(pidfd) = process.open()? {
                // What is beyond our rights is a survivor.
                let _ = pidfd.kill();
                killed.insert((process.pid, process.started));
                watched.push(pidfd);
            }
        }
        await_any(&watched, LOOK_AGAIN.min(left));
    }
}

/// Waits until one of the processes has ended, or for `patience`. The caller then looks for itself.
fn await_any(processes: &[PidFd], patience: Duration) {
    let mut entries: Vec<PollFd> =
        processes.iter().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(patience + Duration::from_micros(999)).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut entries, timeout);
}

/// The living processes that are to be killed, as /proc shows them now.
fn find_condemned(daemon: &str) -> io::Result<Vec<Process>> {
    let all = Process::all()?;
    let mut marked = BTreeSet::new();
    let mut asked = all.clone();
    let patience_ends = Instant::now() + EXEC_PATIENCE;
    while !asked.is_empty() {
        // Only those in the middle of an exec are asked again.
        asked.retain(|process| match process.marks() {
            Marks::Known { daemon: Some(mark), .. } if mark == daemon => !marked.insert(process.pid),
            Marks::Known { .. } | Marks::Gone | Marks::Hidden => false,
            Marks::Changing => Instant::now() < patience_ends,
        });
        if !asked.is_empty() {
            await_any(&[], LOOK_AGAIN);
        }
    }
    Ok(condemn(&all, &marked, nix::unistd::getpid().as_raw()))
}

/// Of `all`, the marked ones and their descendants, but for `own` and its ancestors. Dead ones need no killing.
fn condemn(all: &[Process], marked: &BTreeSet<i32>, own: i32) -> Vec<Process> {
    let parents: BTreeMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    // The snapshot is not taken at once, so a chain may be broken, or even a ring: it ends after as many steps
    // as there are processes.
    let line = |from: i32| {
        let chain = std::iter::successors(Some(from), |pid| parents.get(pid).copied());
        chain.take(all.len())
    };
    let spared: BTreeSet<i32> = line(own).collect();
    let is_condemned = |process: &&Process| {
        // A line that comes to a spared one ends there: our own descendants do not fall with our ancestors.
        let mut up_to_us = line(process.pid).take_while(|pid| !spared.contains(pid));
        !process.zombie && up_to_us.any(|pid| marked.contains(&pid))
    };
    all.iter().filter(is_condemned).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::tree;
    use std::process::Command;

    #[test]
    fn the_marked_fall_with_their_descendants_but_never_we_or_our_ancestors() {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let model = Process::find(own).expect("we run");
        let process = |pid, parent| {
            let mut process = model;
            (process.pid, process.parent) = (pid, parent);
            process
        };
        // 1 - 10 (marked) - 20 (us) - 30
        //               \- 21 (marked) - 22
        // 1 - 40 - 41 (marked) - 42, and 50 in a ring with 51
        let all = [
            (10, 1),
            (20, 10),
            (30, 20),
            (21, 10),
            (22, 21),
            (40, 1),
            (41, 40),
            (42, 41),
            (50, 51),
            (51, 50),
        ];
        let all: Vec<Process> = all.into_iter().map(|(pid, parent)| process(pid, parent)).collect();
        let pids = |marked: &[i32]| -> Vec<i32> {
            let condemned = condemn(&all, &marked.iter().copied().collect(), 20);
            condemned.iter().map(|process| process.pid).collect()
        };
        assert_eq!(pids(&[10, 20, 21, 41]), [21, 22, 41, 42]);
        assert_eq!(pids(&[30]), [30], "what we started and is marked is an old worker's as well");
        assert_eq!(pids(&[50]), [50, 51]);
        assert!(pids(&[]).is_empty());
    }

    #[test]
    fn a_sweep_kills_by_the_whole_mark_and_nothing_else() {
        let marked = format!("sweep-test-{}", std::process::id());
        let start = |mark: &str| {
            let mut command = Command::new("sleep");
            command.arg("1000").env(tree::DAEMON_VARIABLE, mark).spawn().expect("sleep is installed")
        };
        let (mut hit, mut spared) = (start(&marked), start(&format!("{marked}0")));
        let swept = sweep(&marked, Instant::now() + Duration::from_secs(60)).expect("/proc is there");
        assert_eq!(swept, Swept { killed: 1, survivors: Vec::new() });
        assert!(!hit.wait().expect("it was our child").success());
        assert_eq!(spared.try_wait().expect("it is our child"), None, "it has another daemon's mark");
        spared.kill().expect("it is our child");
        spared.wait().expect("it is our child");
    }
}
