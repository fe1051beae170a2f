//! The living workers: their processes, sockets and output.
//!
//! An exit is settled in a fixed order: the pidfd is readable; the worker's group and all that it left behind are
//! killed; its last output and its last answers are read; then the engine is told. So no job is given out again
//! while something of its first attempt still runs, and no answer that was sent is missed.

mod inbox;
mod member;

pub(super) use member::resident_kib;

use super::account;
use super::context;
use super::endpoints::{self, WorkerPaths};
use super::logs::Pen;
use super::output::{Output, ReadState};
use super::program::{Limit, Program};
use super::reaper::{Ended, Reaper, Settle};
use super::watch::{Source, Watch};
use crate::config::{Message, PoolSettings};
use crate::engine::{Blow, Event, ToWorker};
use crate::model::{Generation, Mono, PoolName, WorkerName};
use crate::wire::pipeline::Style;
use inbox::Inbox;
use member::{Member, Settling, oom_kills};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Answers taken from one worker in one turn of the loop.
const ANSWERS_PER_TURN: usize = 4_096;
/// A settling that is pending is looked at again after so long, if no SIGCHLD comes sooner.
const SETTLE_AGAIN: Duration = Duration::from_millis(10);
/// The same, once it was given up.
const STUCK_AGAIN: Duration = Duration::from_secs(1);
/// What a dead worker left is given up after `stop_timeout` of SIGKILLs, and never sooner than this.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// All workers of the daemon.
pub struct Crew {
    context: Arc<context::Context>,
    runtime: PathBuf,
    nonce: String,
    pools: BTreeMap<PoolName, Arc<PoolSettings>>,
    reaper: Reaper,
    /// The limit of descriptors that the daemon was started with: workers get that one.
    nofile: Limit,
    pen: Pen,
    /// When a stream that has dropped lines may have to say so by itself.
    dropped_due: Option<Mono>,
    members: BTreeMap<Generation, Member>,
    /// Workers that are gone but whose results are still read.
    late: BTreeMap<Generation, Inbox>,
    buffer: Vec<u8>,
}

impl Crew {
    pub fn new(
        context: Arc<context::Context>,
        runtime: &Path,
        nonce: String,
        pools: &[PoolSettings],
        reaper: Reaper,
        nofile: Limit,
        pen: Pen,
    ) -> Crew {
        let pools = pools.iter().map(|pool| (pool.name.clone(), Arc::new(pool.clone()))).collect();
        Crew {
            context,
            runtime: runtime.to_owned(),
            nonce,
            pools,
            reaper,
            nofile,
            pen,
            dropped_due: None,
            members: BTreeMap::new(),
            late: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Workers are started with these settings from now on; those that are there keep theirs.
    pub fn configure(&mut self, pools: &[PoolSettings]) {
        self.pools = pools.iter().map(|pool| (pool.name.clone(), Arc::new(pool.clone()))).collect();
    }

    /// What a pool's next worker is started with.
    pub fn settings(&self, pool: &PoolName) -> Option<&PoolSettings> {
        self.pools.get(pool).map(Arc::as_ref)
    }

    /// Binds a worker's sockets and starts its program.
    ///
    /// # Errors
    /// Text for people: which step failed, and why. Nothing is left behind.
    pub fn spawn(&mut self, name: WorkerName, now: Mono, watch: &Watch) -> Result<u32, String> {
        let paths = endpoints::worker_paths(&self.runtime, &self.nonce, name.generation);
        self.start(name, &paths, now, watch).inspect_err(|_| {
            let _ = std::fs::remove_file(&paths.jobs);
            let _ = std::fs::remove_file(&paths.results);
        })
    }

    fn start(
        &mut self,
        name: WorkerName,
        paths: &WorkerPaths,
        now: Mono,
        watch: &Watch,
    ) -> Result<u32, String> {
        let pool = self.pools.get(&name.pool).cloned().ok_or("its pool is not configured")?;
        let jobs = endpoints::bind_jobs(&self.context, &paths.jobs, pool.spending())
            .map_err(|error| format!("cannot bind {}: {error}", paths.jobs.display()))?;
        let results = endpoints::bind_results(&self.context, &paths.results, pool.spending())
            .map_err(|error| format!("cannot bind {}: {error}", paths.results.display()))?;
        let account = account::resolve(pool.user.as_deref(), pool.group.as_deref())
            .map_err(|error| error.to_string())?;
        if let Some(account) = &account {
            endpoints::give_to(paths, account.uid)
                .map_err(|error| format!("cannot give its sockets to user {}: {error}", account.uid))?;
        }
        let style = match pool.message {
            Message::Envelope => Style::Envelope,
            Message::Bare => Style::Bare,
        };
        let inbox = Inbox { results, path: paths.results.clone(), style };
        let program = Program::of_worker(&name, &pool, paths, self.nofile, account);
        let (stdout, stdout_end) = Output::new().map_err(|error| format!("cannot open a pipe: {error}"))?;
        let (stderr, stderr_end) = Output::new().map_err(|error| format!("cannot open a pipe: {error}"))?;
        let child = self.reaper.spawn(&program, stdout_end, stderr_end).map_err(|error| error.to_string())?;
        let generation = name.generation;
        let watched = watch
            .add(&child, Source::Process(generation))
            .and_then(|()| watch.add(&stdout, Source::Stdout(generation)))
            .and_then(|()| watch.add(&stderr, Source::Stderr(generation)));
        if let Err(error) = &watched {
            log::error!("{name} cannot be watched and is killed: {error}");
            let _ = child.signal(libc::SIGKILL);
        }
        let pid = u32::try_from(child.pid()).unwrap_or(0);
        let member = Member {
            name,
            pool,
            child,
            jobs,
            inbox,
            paths: paths.clone(),
            stdout: Some(stdout),
            stderr: Some(stderr),
            backlog: VecDeque::new(),
            context: None,
            // One that nobody watches is asked for its end from now on.
            settling: watched.is_err().then_some(Settling { since: now, again: now, is_given_up: false }),
            killed: watched.is_err(),
            oom_kills: oom_kills(),
        };
        self.members.insert(generation, member);
        Ok(pid)
    }

    /// Signals a worker; one that has gone already is no error.
    pub fn hit(&mut self, worker: Generation, with: Blow) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let result = match with {
            Blow::Stop => member.child.signal(member.pool.stop_signal),
            Blow::Abort => member.child.signal(libc::SIGABRT),
            Blow::Kill => {
                member.killed = true;
                member.child.signal(libc::SIGKILL).and_then(|()| member.child.signal_group(libc::SIGKILL))
            }
        };
        // A stopped process acts on nothing but KILL until it is told to go on.
        let result = result.and_then(|()| member.child.signal(libc::SIGCONT));
        if let Err(error) = result {
            log::warn!("{} cannot be signalled: {error}", member.name);
        }
    }

    /// Resident memory of those of these workers that live.
    pub fn measure(&self, workers: &[Generation]) -> Vec<Event> {
        let living = workers.iter().filter_map(|worker| Some((*worker, self.members.get(worker)?)));
        living
            .filter_map(|(worker, member)| {
                let pid = u32::try_from(member.child.pid()).ok()?;
                Some(Event::Measured { worker, rss_kib: resident_kib(pid)? })
            })
            .collect()
    }

    /// Sends a worker a message, or keeps it until its socket takes it.
    pub fn send(&mut self, worker: Generation, message: &ToWorker) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        member.encode(message, &mut self.buffer);
        if member.backlog.is_empty() {
            match member.jobs.send(&self.buffer[..], zmq::DONTWAIT) {
                Ok(()) => return,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                Err(error) => log::warn!("{} cannot be sent a job: {error}", member.name),
            }
        }
        member.backlog.push_back(self.buffer.clone());
    }

    /// Sends what sockets did not take before.
    pub fn flush(&mut self) {
        for member in self.members.values_mut() {
            while let Some(message) = member.backlog.front() {
                if member.jobs.send(&message[..], zmq::DONTWAIT).is_err() {
                    break;
                }
                member.backlog.pop_front();
            }
        }
    }

    /// The results of a dead worker need not be read any longer.
    pub fn forget(&mut self, worker: Generation) {
        if let Some(inbox) = self.late.remove(&worker) {
            let _ = std::fs::remove_file(&inbox.path);
        }
    }

    /// Sockets to wait for: all inboxes, and those that could not take a message.
    pub fn poll_items<'a>(&'a self, items: &mut Vec<zmq::PollItem<'a>>) {
        for member in self.members.values() {
            items.push(member.inbox.results.as_poll_item(zmq::POLLIN));
            if !member.backlog.is_empty() {
                items.push(member.jobs.as_poll_item(zmq::POLLOUT));
            }
        }
        for inbox in self.late.values() {
            items.push(inbox.results.as_poll_item(zmq::POLLIN));
        }
    }

    /// Takes what workers say. True when a worker has more to say than one turn takes.
    pub fn take_reports(&mut self, events: &mut Vec<Event>) -> bool {
        let living = self.members.iter().map(|(worker, member)| (*worker, &member.inbox));
        let late = self.late.iter().map(|(worker, inbox)| (*worker, inbox));
        let mut more = false;
        for (worker, inbox) in living.chain(late) {
            more |= inbox.take(worker, ANSWERS_PER_TURN, events) == ANSWERS_PER_TURN;
        }
        more
    }

    /// Passes a worker's output on to the logs. True when there is more than one turn takes.
    pub fn take_output(&mut self, worker: Generation, source: Source, now: Mono, watch: &Watch) -> bool {
        let Some(member) = self.members.get_mut(&worker) else {
            return false;
        };
        let (stream, label) = match source {
            Source::Stdout(_) => (&mut member.stdout, "stdout"),
            Source::Stderr(_) => (&mut member.stderr, "stderr"),
            Source::Process(_) | Source::Signals | Source::Store | Source::Logs | Source::Runtime => {
                return false;
            }
        };
        let Some(output) = stream else {
            return false;
        };
        let name = &member.name;
        let mut page = self.pen.page(name, label);
        let mut sink = |line: &[u8]| page.line(line);
        let read = output.read_some(now, &mut sink);
        self.dropped_due = self.dropped_due.into_iter().chain(output.dropped_due()).min();
        match read {
            Ok(ReadState::Empty) => false,
            Ok(ReadState::More) => true,
            Ok(ReadState::Closed) => {
                // Closed by the worker while it lives: the descriptor would be readable for ever.
                watch.remove(output);
                output.finish(now, &mut sink);
                false
            }
            Err(error) => {
                log::warn!("{name}'s {label} cannot be read and is closed: {error}");
                *stream = None;
                false
            }
        }
    }

    /// Streams that were flooded and have fallen silent say how much was dropped. Returns when to call it again.
    pub fn say_dropped(&mut self, now: Mono) -> Option<Mono> {
        if self.dropped_due.is_none_or(|due| due > now) {
            return self.dropped_due;
        }
        let mut next = None;
        for member in self.members.values_mut() {
            for (stream, label) in [(&mut member.stdout, "stdout"), (&mut member.stderr, "stderr")] {
                let Some(output) = stream else {
                    continue;
                };
                match output.dropped_due() {
                    Some(due) if due <= now => {
                        let mut page = self.pen.page(&member.name, label);
                        output.say_dropped(&mut |line| page.line(line));
                    }
                    due => next = next.into_iter().chain(due).min(),
                }
            }
        }
        self.dropped_due = next;
        next
    }

    /// The pidfd of this worker is readable.
    pub fn on_exit(&mut self, worker: Generation, now: Mono, watch: &Watch) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.settling = Some(Settling { since: now, again: now, is_given_up: false });
            // It stays readable until the worker is settled: no need to be told again and again.
            watch.remove(&member.child);
        }
    }

    /// Goes on with settling workers that have ended; `child_died` says that it is worth another look. Returns when to look again, if any is not done.
    pub fn settle(&mut self, now: Mono, child_died: bool, events: &mut Vec<Event>) -> Option<Mono> {
        self.reaper.reap_adopted();
        let is_due = |member: &Member| {
            member.settling.as_ref().is_some_and(|settling| child_died || settling.again <= now)
        };
        let ended: Vec<Generation> =
            self.members.iter().filter(|(_, member)| is_due(member)).map(|(worker, _)| *worker).collect();
        for worker in ended {
            let Some(member) = self.members.get_mut(&worker) else {
                continue;
            };
            match self.reaper.settle(&mut member.child) {
                Settle::Pending { survivors } => self.settle_later(worker, &survivors, now, events),
                Settle::Done(end) => self.end(worker, end, now, events),
            }
        }
        self.members.values().filter_map(|member| Some(member.settling.as_ref()?.again)).min()
    }

    /// Something that a dead worker has started is not dead yet. After some time it is given up.
    fn settle_later(&mut self, worker: Generation, survivors: &[i32], now: Mono, events: &mut Vec<Event>) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let patience = member.pool.stop_timeout.max(PATIENCE_MIN);
        let Some(settling) = member.settling.as_mut() else {
            return;
        };
        settling.again = now + if settling.is_given_up { STUCK_AGAIN } else { SETTLE_AGAIN };
        let survivor = survivors.first().and_then(|pid| u32::try_from(*pid).ok());
        if settling.is_given_up || survivor.is_none() || now.since(settling.since) < patience {
            return;
        }
        settling.is_given_up = true;
        let Some((exit, max_rss_kib)) = member.child.exited_with_peak() else {
            return;
        };
        let last_output = member.last_output(now, &self.pen);
        while member.inbox.take(worker, ANSWERS_PER_TURN, events) > 0 {}
        let death = member.death(exit, max_rss_kib, last_output, survivor);
        events.push(Event::Survived { worker, death });
    }

    /// A worker and all that it started are gone.
    fn end(&mut self, worker: Generation, end: Ended, now: Mono, events: &mut Vec<Event>) {
        let Some(mut member) = self.members.remove(&worker) else {
            return;
        };
        let last_output = member.last_output(now, &self.pen);
        while member.inbox.take(worker, ANSWERS_PER_TURN, events) > 0 {}
        let _ = std::fs::remove_file(&member.paths.jobs);
        let event = if let Some(failure) = end.failure {
            // It never spoke: nobody waits for late answers of it.
            let _ = std::fs::remove_file(&member.paths.results);
            Event::SpawnFailed { worker, error: failure.to_string() }
        } else {
            let death = member.death(end.exit, end.max_rss_kib, last_output, None);
            self.late.insert(worker, member.inbox);
            Event::Exited { worker, death }
        };
        events.push(event);
    }

    /// Whether some worker is being settled and not yet given up.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        let mut settling = self.members.values().filter_map(|member| member.settling.as_ref());
        settling.any(|settling| !settling.is_given_up)
    }

    /// Ends every worker without ceremony, for a daemon that cannot go on.
    pub fn kill_all(&mut self) {
        for member in self.members.values_mut() {
            let _ = member.child.signal(libc::SIGKILL);
            let _ = member.child.signal_group(libc::SIGKILL);
        }
    }
}

impl Drop for Crew {
    /// Closing sockets leaves their files behind.
    fn drop(&mut self) {
        for member in self.members.values() {
            let _ = std::fs::remove_file(&member.paths.jobs);
            let _ = std::fs::remove_file(&member.paths.results);
        }
        for inbox in self.late.values() {
            let _ = std::fs::remove_file(&inbox.path);
        }
    }
}
