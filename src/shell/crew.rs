//! The living workers: their processes, sockets and output.
//!
//! An exit is settled in a fixed order: the pidfd is readable; the worker's group and all that it left behind are
//! killed; its last output and its last answers are read; then the engine is told. So no job is given out again
//! while something of its first attempt still runs, and no answer that was sent is missed.

use super::account::{self, Account};
use super::child::Child;
use super::context;
use super::endpoints::{self, WorkerPaths};
use super::logs::Pen;
use super::notify;
use super::output::{Output, ReadState};
use super::program::{Limit, Limits, Program};
use super::reaper::{Reaper, Settle};
use super::watch::{Source, Watch};
use crate::config::{FRAME_BYTES_MAX, Message, PoolSettings};
use crate::engine::{Blow, Death, Event, ToWorker};
use crate::model::{Context, Exit, Generation, Mono, PoolName, WorkerName};
use crate::wire::pipeline::{self, Delivery, Style};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Answers taken from one worker in one turn of the loop.
const ANSWERS_PER_TURN: usize = 4_096;
/// The same in bytes; the last of them may go beyond.
const ANSWER_BYTES_PER_TURN: usize = 16 << 20;
/// A settling that is pending is looked at again after so long, if no SIGCHLD comes sooner.
const SETTLE_AGAIN: Duration = Duration::from_millis(10);

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

struct Member {
    name: WorkerName,
    pool: Arc<PoolSettings>,
    child: Child,
    jobs: zmq::Socket,
    inbox: Inbox,
    paths: WorkerPaths,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// What its socket did not take, in order.
    backlog: VecDeque<Vec<u8>>,
    /// The context of the job that it was sent last.
    context: Option<Arc<Context>>,
    exited: bool,
    /// Whether we have sent it SIGKILL.
    killed: bool,
    /// The kernel's count of out-of-memory kills at its start.
    oom_kills: u64,
}

/// Where a worker's answers come in.
struct Inbox {
    results: zmq::Socket,
    path: PathBuf,
    style: Style,
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
    pub fn spawn(&mut self, name: WorkerName, watch: &Watch) -> Result<u32, String> {
        let paths = endpoints::worker_paths(&self.runtime, &self.nonce, name.generation);
        self.start(name, &paths, watch).inspect_err(|_| {
            let _ = std::fs::remove_file(&paths.jobs);
            let _ = std::fs::remove_file(&paths.results);
        })
    }

    fn start(&mut self, name: WorkerName, paths: &WorkerPaths, watch: &Watch) -> Result<u32, String> {
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
        let program = program(&name, &pool, paths, self.nofile, account);
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
            exited: watched.is_err(),
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
    pub fn on_exit(&mut self, worker: Generation, watch: &Watch) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.exited = true;
            // It stays readable until the worker is settled: no need to be told again and again.
            watch.remove(&member.child);
        }
    }

    /// Goes on with settling workers that have ended. Returns when to look again, if any is not done.
    pub fn settle(&mut self, now: Mono, events: &mut Vec<Event>) -> Option<Mono> {
        self.reaper.reap_adopted();
        let ended: Vec<Generation> =
            self.members.iter().filter(|(_, member)| member.exited).map(|(worker, _)| *worker).collect();
        let mut pending = false;
        for worker in ended {
            let Some(member) = self.members.get_mut(&worker) else {
                continue;
            };
            match self.reaper.settle(&mut member.child) {
                Settle::Pending { .. } => pending = true,
                Settle::Done(end) => {
                    let Some(mut member) = self.members.remove(&worker) else {
                        continue;
                    };
                    let last_output = member.last_output(now, &self.pen);
                    while member.inbox.take(worker, ANSWERS_PER_TURN, events) > 0 {}
                    let _ = std::fs::remove_file(&member.paths.jobs);
                    let event = if let Some(failure) = end.failure {
                        // It never spoke: nobody waits for late answers of it.
                        let _ = std::fs::remove_file(&member.paths.results);
                        Event::SpawnFailed { worker, error: failure.to_string() }
                    } else {
                        let killed = end.exit == Exit::Signal(libc::SIGKILL) && !member.killed;
                        let death = Death {
                            exit: end.exit,
                            max_rss_kib: end.max_rss_kib,
                            last_output,
                            perhaps_out_of_memory: killed && oom_kills() > member.oom_kills,
                            survivor: None,
                        };
                        self.late.insert(worker, member.inbox);
                        Event::Exited { worker, death }
                    };
                    events.push(event);
                }
            }
        }
        pending.then(|| now + SETTLE_AGAIN)
    }

    /// Whether some worker is being settled.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.members.values().any(|member| member.exited)
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

impl Member {
    fn encode(&mut self, message: &ToWorker, buffer: &mut Vec<u8>) {
        match message {
            ToWorker::Cancel(id) => pipeline::encode_cancel(*id, buffer),
            ToWorker::Job { job, attempt, timeout } => {
                // A submitter's whole environment travels only when it is another than the last job's.
                let same = match (&self.context, &job.context) {
                    (None, None) => true,
                    (Some(last), Some(next)) => Arc::ptr_eq(last, next) || last == next,
                    (None, Some(_)) | (Some(_), None) => false,
                };
                let context = (!same).then_some(job.context.as_deref());
                let delivery = Delivery {
                    job,
                    attempt: *attempt,
                    timeout: *timeout,
                    stop_timeout: Some(self.pool.stop_timeout),
                    context,
                };
                pipeline::encode_job(&delivery, self.inbox.style, buffer);
                self.context.clone_from(&job.context);
            }
        }
    }

    /// Reads what the worker printed before its end, without waiting for whoever may keep the pipe open, and
    /// returns the last lines of both streams.
    fn last_output(&mut self, now: Mono, pen: &Pen) -> Vec<String> {
        let name = &self.name;
        let mut lines = Vec::new();
        for (stream, label) in [(&mut self.stdout, "stdout"), (&mut self.stderr, "stderr")] {
            let Some(output) = stream else {
                continue;
            };
            let mut page = pen.page(name, label);
            let mut sink = |line: &[u8]| page.line(line);
            // A pipe holds 64 KiB unless somebody made it larger: a few turns empty it.
            for _ in 0..64 {
                if !matches!(output.read_some(now, &mut sink), Ok(ReadState::More)) {
                    break;
                }
            }
            output.finish(now, &mut sink);
            lines.extend(output.tail().map(str::to_owned));
        }
        lines
    }
}

impl Inbox {
    /// Takes up to `limit` messages, and says how many there were; `limit` as well when they are large and there may
    /// be more.
    fn take(&self, worker: Generation, limit: usize, events: &mut Vec<Event>) -> usize {
        let mut message = zmq::Message::new();
        let mut bytes = 0;
        for taken in 0..limit {
            if bytes >= ANSWER_BYTES_PER_TURN {
                return limit;
            }
            match self.results.recv(&mut message, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(_) => return taken,
            }
            bytes += message.len();
            if message.get_more() {
                self.skip_rest(&mut message);
                let what = "a message of several frames".to_owned();
                events.push(Event::Malformed { worker, what });
                continue;
            }
            if message.len() > FRAME_BYTES_MAX {
                events.push(Event::TooLarge { worker, bytes: message.len() });
                continue;
            }
            events.push(match pipeline::parse_report(&message, self.style) {
                Ok(report) => Event::Report { worker, report },
                Err(what) => Event::Malformed { worker, what },
            });
        }
        limit
    }

    fn skip_rest(&self, message: &mut zmq::Message) {
        while message.get_more() {
            match self.results.recv(message, zmq::DONTWAIT) {
                Ok(()) | Err(zmq::Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// What a worker is started from: the pool's command, or this very program as the built-in worker.
fn program(
    name: &WorkerName,
    pool: &PoolSettings,
    paths: &WorkerPaths,
    nofile: Limit,
    account: Option<Account>,
) -> Program {
    let argv = match &pool.command {
        Some(command) => command.iter().map(OsString::from).collect(),
        None => vec![OsString::from("/proc/self/exe"), OsString::from(crate::worker::ARGUMENT)],
    };
    let is_for_workers =
        |(name, _): &(OsString, OsString)| !notify::VARIABLES.iter().any(|variable| name == variable);
    let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().filter(is_for_workers).collect();
    env.extend(pool.environment.iter().map(|(name, value)| (name.into(), value.into())));
    let ours = [
        ("PUSHPULL_JOBS", endpoints::endpoint(&paths.jobs)),
        ("PUSHPULL_RESULTS", endpoints::endpoint(&paths.results)),
        ("PUSHPULL_POOL", pool.name.to_string()),
        ("PUSHPULL_SLOT", name.slot.to_string()),
    ];
    env.extend(ours.into_iter().map(|(name, value)| (name.into(), value.into())));
    Program {
        name: name.clone(),
        argv,
        env: env.into_iter().collect(),
        directory: pool.directory.clone(),
        umask: pool.umask,
        nice: pool.nice,
        limits: Limits {
            nofile: Some(pool.limit_nofile.map_or(nofile, Limit::both)),
            core: pool.limit_core.map(Limit::both),
            address_space: pool.limit_as.map(Limit::both),
            nproc: pool.limit_nproc.map(Limit::both),
        },
        account,
        // The built-in worker has a command to end before it leaves.
        death_signal: if pool.is_builtin() { libc::SIGTERM } else { libc::SIGKILL },
    }
}

/// How many processes the kernel has killed for want of memory since it started.
fn oom_kills() -> u64 {
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// How much memory a process has at present.
pub(super) fn resident_kib(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()? / 1_024)
}
