//! The one reaper: it alone starts children and waits for them, and no worker is over before everything that it
//! started is.
//!
//! A worker leads a session and a process group of its own. When it dies it stays a zombie, which pins the number
//! of the group, until the group is killed. What left the group has become our child, because the daemon is a
//! child subreaper: the kernel gives orphans to us in the same moment in which their parent dies. So after a
//! worker's death everything of its making is in our own list of children, or below one of them.
//!
//! Whose is an adopted child?
//!
//! 1. Its session is led by one of our workers: that worker's. A session can be left but not forged, and our
//!    unreaped worker pins its number.
//! 2. Its environment names a worker that we have and this daemon: that worker's. If that worker lives (a process
//!    of it double-forked, which is legal), it is left alone until its worker ends.
//! 3. It left its session and cleared its environment, or names a worker that is over. Some worker started it, for
//!    nobody else has descendants here. Its own parent is dead, so it may be the dying worker's, and its work may
//!    be given out again any moment: it is killed with that worker, unless it is older than the worker and so
//!    cannot be its doing. This can hit a living worker's process that hides so well; a job that runs twice at
//!    the same time is worse.
//!
//! Rule 3 needs all our descendants to come from workers. It is off when that is not certain: when the daemon is
//! pid 1, which gets everybody's orphans, or had children when it began (`foo & exec pushpulld`). These children
//! are never signalled at all.

use super::child::{Child, signal_group_of};
use super::program::{Program, SpawnError};
use super::spawn;
use super::tree::{self, DAEMON_VARIABLE, Marks, Process, WORKER_VARIABLE};
use crate::model::Exit;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Looks at the list of children in one call of [`Reaper::settle`], before the loop has its turn.
const ROUNDS_MAX: usize = 16;

/// Knows every child of the daemon.
pub struct Reaper {
    /// Device and inode of the state directory, as workers have it in `PUSHPULL_DAEMON`.
    daemon: String,
    /// The workers that are not over, by pid, with the name in `PUSHPULL_WORKER`.
    workers: BTreeMap<i32, String>,
    /// Children from before.
    strangers: BTreeSet<i32>,
    /// Whether every orphan that we get must be some worker's.
    only_workers: bool,
}

/// How far the end of a worker has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The worker lives, or something that it started does. `survivors` are processes that were sent KILL and are
    /// not dead yet; normally that takes a moment. Ask again at SIGCHLD, and at the latest after 10 ms.
    Pending { survivors: Vec<i32> },
    /// The worker and everything that it started are gone.
    Done(Ended),
}

/// The end of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit: Exit,
    /// Peak of its resident memory; of those of its children that it waited for, the largest counts too.
    pub max_rss_kib: u64,
    /// The program was never executed: this is why, and `exit` means nothing. Happens here only if the failure
    /// took longer than [`spawn::PATIENCE`].
    pub failure: Option<SpawnError>,
}

/// Whom an adopted child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Worker(i32),
    /// It is between two images, or has just ended, and cannot be asked.
    Undecided,
    Nobody,
}

impl Reaper {
    /// Makes this process the one that adopts its descendants' orphans. `daemon` is what
    /// [`Directory::identity`](super::dirs::Directory::identity) says of the state directory.
    pub fn new(daemon: &str) -> io::Result<Reaper> {
        nix::sys::prctl::set_child_subreaper(true)?;
        keep_zombies()?;
        let strangers = BTreeSet::from_iter(tree::children(own_pid())?);
        let only_workers = own_pid() != 1 && strangers.is_empty();
        Ok(Reaper { daemon: daemon.to_owned(), workers: BTreeMap::new(), strangers, only_workers })
    }

    /// Starts a worker; on the main thread only. `PUSHPULL_WORKER` and `PUSHPULL_DAEMON` are added to its
    /// environment. The descriptors are the write ends of its output, and are closed here in any case.
    ///
    /// Takes a millisecond or two, and never more than [`spawn::PATIENCE`] and a fork.
    pub fn spawn(
        &mut self,
        program: &Program,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Child, SpawnError> {
        let name = program.name.to_string();
        let mut program = program.clone();
        program.env.retain(|(variable, _)| variable != WORKER_VARIABLE && variable != DAEMON_VARIABLE);
        program.env.push((OsString::from(WORKER_VARIABLE), OsString::from(&name)));
        program.env.push((OsString::from(DAEMON_VARIABLE), OsStr::new(&self.daemon).to_owned()));
        let child = spawn::spawn(program, stdout, stderr)?;
        self.workers.insert(child.pid(), name);
        Ok(child)
    }

    /// Reaps adopted children that have died, and says how many. To be called at SIGCHLD; workers are left to
    /// [`Reaper::settle`].
    pub fn reap_adopted(&mut self) -> usize {
        let adopted = self.adopted().unwrap_or_default();
        let dead: Vec<Process> = adopted.into_iter().filter(|process| process.zombie).collect();
        for process in &dead {
            self.reap(process.pid);
        }
        dead.len()
    }

    /// Ends whatever a dead worker has started, then reaps the worker. Never blocks: call it again while it is
    /// pending.
    ///
    /// # Panics
    ///
    /// When called again after it was done.
    pub fn settle(&mut self, child: &mut Child) -> Settle {
        assert!(!child.is_reaped(), "worker {} is settled already", child.name());
        if child.exited().is_none() {
            return Settle::Pending { survivors: Vec::new() };
        }
        // The zombie pins the number of its group. An error means that some member is beyond our rights; it will
        // be among the survivors.
        let _ = child.signal_group(libc::SIGKILL);
        let _ = child.signal_group(libc::SIGCONT);
        let Some(survivors) = self.kill_leftovers(child.pid()) else {
            return Settle::Pending { survivors: Vec::new() };
        };
        if !survivors.is_empty() {
            return Settle::Pending { survivors };
        }
        let failure = child.await_exec(Instant::now());
        let (exit, max_rss_kib) = child.reap();
        self.workers.remove(&child.pid());
        Settle::Done(Ended { exit, max_rss_kib, failure })
    }

    /// Kills what the dead worker left. Returns those that are not dead yet, and `None` while that cannot be told.
    ///
    /// An empty answer must be the truth. A process that dies between the reading of the list of children and the
    /// look at it leaves its own children to us, too late for that list: so a round that found a dead one proves
    /// nothing, and the next one looks again.
    fn kill_leftovers(&mut self, worker: i32) -> Option<Vec<i32>> {
        let worker_started = Process::find(worker).map_or(0, |process| process.started);
        for _ in 0..ROUNDS_MAX {
            let (dead, living): (Vec<Process>, _) =
                self.adopted().ok()?.into_iter().partition(|process| process.zombie);
            for process in &dead {
                self.reap(process.pid);
            }
            let (mut survivors, mut undecided) = (Vec::new(), false);
            for process in living {
                let may_be_its_doing = process.started >= worker_started;
                let is_leftover = match self.owner(&process) {
                    Owner::Worker(owner) => owner == worker,
                    Owner::Nobody => self.only_workers && may_be_its_doing,
                    Owner::Undecided => {
                        undecided |= may_be_its_doing;
                        false
                    }
                };
                if is_leftover {
                    survivors.extend(kill_tree(process));
                }
            }
            if !survivors.is_empty() || (dead.is_empty() && !undecided) {
                return Some(survivors);
            }
        }
        None
    }

    fn owner(&self, process: &Process) -> Owner {
        if self.workers.contains_key(&process.session) {
            return Owner::Worker(process.session);
        }
        match process.marks() {
            // One that has ended since the list was read has left us its children: the next round finds out.
            Marks::Changing | Marks::Gone => Owner::Undecided,
            Marks::Known { worker: Some(name), daemon: Some(daemon) } if daemon == self.daemon => {
                let named = self.workers.iter().find(|(_, worker)| **worker == name);
                named.map_or(Owner::Nobody, |(pid, _)| Owner::Worker(*pid))
            }
            Marks::Known { .. } | Marks::Hidden => Owner::Nobody,
        }
    }

    /// The daemon's children that it did not start and that were not there before it; of the latter only the
    /// dead, which are ours to reap. Fails when a child cannot be looked at, for want of descriptors: an answer
    /// without it would be wrong.
    fn adopted(&self) -> io::Result<Vec<Process>> {
        let mut adopted = Vec::new();
        for pid in tree::children(own_pid())? {
            if self.workers.contains_key(&pid) {
                continue;
            }
            // Only we reap, so it is still there.
            let process = Process::find(pid).ok_or(io::ErrorKind::Other)?;
            if process.zombie || !self.strangers.contains(&pid) {
                adopted.push(process);
            }
        }
        Ok(adopted)
    }

    /// Reaps a dead child that is no worker.
    fn reap(&mut self, pid: i32) {
        // SAFETY: a plain system call; a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        self.strangers.remove(&pid);
    }
}

/// Kills an adopted child with all that is below it. Returns those that are not dead yet, as far as is known.
///
/// The child itself is pinned, since only we reap it, and so is a group that it leads: to kill that at once
/// outruns members that fork, and needs no descriptor. Those below are opened and looked at again before they are
/// signalled. Failures need no report: whom they spare is a survivor, and the next call tries again.
fn kill_tree(root: Process) -> Vec<i32> {
    let mut processes = tree::with_descendants(root);
    processes.retain(|process| !process.zombie);
    if root.group == root.pid {
        let _ = signal_group_of(root.pid, libc::SIGKILL);
    }
    for signal in [libc::SIGKILL, libc::SIGCONT] {
        // SAFETY: a plain system call on an unreaped child of ours.
        unsafe { libc::kill(root.pid, signal) };
    }
    for process in processes.iter().filter(|process| process.pid != root.pid) {
        if let Ok(Some(pidfd)) = process.open() {
            let _ = pidfd.kill();
        }
    }
    processes.iter().map(|process| process.pid).collect()
}

/// Makes sure that dead children wait to be reaped: whoever started the daemon may have left SIGCHLD ignored.
fn keep_zombies() -> io::Result<()> {
    // SAFETY: a zeroed sigaction is a valid one; the first call only reads, and the second one sets the default
    // disposition, which runs no code.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        if action.sa_sigaction == libc::SIG_IGN && libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}
