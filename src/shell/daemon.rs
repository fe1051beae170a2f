//! The daemon: it opens everything in order, turns the loop, and closes everything in the reverse order.
//!
//! A turn waits in one poll until something is there or the engine's next deadline has come; takes what is there,
//! each kind bounded; lets the engine step for each event; and performs all effects. Few large turns, not many
//! small ones: a wake-up costs much more than the work behind it.

use super::clients::Clients;
use super::context::Context;
use super::crew::Crew;
use super::dirs::{DirError, Directory, Reach};
use super::endpoints;
use super::kernel;
use super::limits;
use super::lock::{LockError, Locks};
use super::reaper::Reaper;
use super::signals::{Signal, Signals};
use super::storekeeper::Storekeeper;
use super::sweep;
use super::watch::{Source, Watch};
use crate::config::Config;
use crate::engine::{Effect, Effects, Engine, Event, Identity};
use crate::model::{Mono, Now, Wall};
use crate::store::{MemoryStore, SqliteStore, Store, StoreError};
use crate::wire::reply::Reply;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file of the store in the state directory.
pub const STORE_FILE: &str = "jobs.db";
/// How long the survivors of an earlier daemon may take to die.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Config,
    pub runtime: PathBuf,
    /// `None`: nothing on disk.
    pub state: Option<PathBuf>,
}

/// Why a daemon does not start. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] DirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    #[error(transparent)]
    Limits(#[from] limits::TooManyWorkers),
    #[error("{path}: {error}")]
    Store { path: PathBuf, error: StoreError },
    #[error("cannot bind {path}: {error}. Check the directory, or choose another one with --runtime-dir")]
    Socket { path: PathBuf, error: zmq::Error },
    #[error("cannot {what}: {error}")]
    System { what: &'static str, error: io::Error },
}

impl StartError {
    /// The exit status that goes with it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            StartError::Directory(error) if error.is_setting() => 2,
            StartError::Limits(_) => 2,
            StartError::Lock(LockError::InUse { .. }) => 5,
            StartError::Directory(_)
            | StartError::Lock(LockError::Io { .. })
            | StartError::Kernel(_)
            | StartError::Store { .. }
            | StartError::Socket { .. }
            | StartError::System { .. } => 6,
        }
    }
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The exit status.
    pub status: u8,
    /// The number of the signal that asked it to stop, if one did.
    pub signal: Option<u8>,
}

/// A daemon that is up: its locks, store and sockets are there, whatever its workers do.
pub struct Daemon {
    engine: Engine,
    effects: Effects,
    clock: Clock,
    watch: Watch,
    signals: Signals,
    storekeeper: Storekeeper,
    clients: Clients,
    crew: Crew,
    /// When workers that are being settled are to be looked at again.
    settle_at: Option<Mono>,
    /// Somebody had more than one turn takes.
    more: bool,
    exit: Option<u8>,
    stopped_by: Option<u8>,
    // These come last: sockets are closed before their context, and locks are freed when all is done.
    _context: Arc<Context>,
    _locks: Locks,
}

impl Daemon {
    /// Opens everything. To be called on the main thread, which is the one that starts workers.
    ///
    /// # Errors
    /// When something that it needs is not there. Nothing is left behind.
    pub fn start(setup: &Setup) -> Result<Daemon, StartError> {
        kernel::check()?;
        let inherited = limits::raise_nofile(&setup.config)?;
        let state = setup.state.as_deref().map(Directory::state).transpose()?;
        let reach = if setup.config.pools.iter().any(|pool| pool.user.is_some()) {
            Reach::Everybody
        } else {
            Reach::Owner
        };
        let runtime = Directory::runtime(&setup.runtime, reach)?;
        let locks = Locks::acquire(state.as_ref(), &runtime)?;
        locks.clean_sockets().map_err(|error| system("clean the runtime directory", error))?;
        runtime.inner(endpoints::WORKERS, reach)?;
        let identity = state.as_ref().unwrap_or(&runtime).identity().to_owned();
        sweep_survivors(&identity)?;
        let clock = Clock::new();
        let mut store = open_store(state.as_ref().map(Directory::path), clock.now().wall)?;
        let recovered =
            store.recover().map_err(|error| store_error(state.as_ref().map(Directory::path), error))?;
        let waiting: u64 = recovered.counts.values().map(crate::model::Counts::unfinished).sum();
        if waiting > 0 {
            log::info!("{waiting} jobs wait from before");
        }
        let context = Arc::new(Context::new());
        let request_bytes_max = setup.config.daemon.request_bytes_max;
        let clients = Clients::bind(&context, runtime.path(), request_bytes_max)
            .map_err(|error| StartError::Socket { path: runtime.path().join(endpoints::CONTROL), error })?;
        let signals = Signals::new().map_err(|error| system("take signals", error))?;
        let storekeeper =
            Storekeeper::start(store).map_err(|error| system("start the storekeeper", error))?;
        let watch = Watch::new().map_err(|error| system("make an epoll descriptor", error))?;
        watch
            .add(&signals, Source::Signals)
            .and_then(|()| watch.add(storekeeper.wakeup(), Source::Store))
            .map_err(|error| system("watch descriptors", error))?;
        let reaper = Reaper::new(&identity).map_err(|error| system("become a subreaper", error))?;
        let random = random().map_err(|error| system("draw random bytes", error))?;
        let nonce = format!("{:08x}", random & 0xffff_ffff);
        let crew = Crew::new(context.clone(), runtime.path(), nonce, &setup.config.pools, reaper, inherited);
        let name = Identity { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
        let engine = Engine::new(setup.config.clone(), recovered, name, clock.now(), random);
        Ok(Daemon {
            engine,
            effects: Effects::default(),
            clock,
            watch,
            signals,
            storekeeper,
            clients,
            crew,
            settle_at: None,
            more: false,
            exit: None,
            stopped_by: None,
            _context: context,
            _locks: locks,
        })
    }

    /// Turns the loop until the engine says to leave.
    pub fn run(mut self) -> Left {
        self.engine.start(self.clock.now(), &mut self.effects);
        self.perform();
        let mut events = Vec::new();
        while self.exit.is_none() {
            self.wait();
            let now = self.clock.now();
            self.gather(now, &mut events);
            if events.is_empty() {
                events.push(Event::Tick);
            }
            for event in events.drain(..) {
                self.engine.step(now, event, &mut self.effects);
            }
            self.perform();
            if self.storekeeper.has_died() {
                log::error!(
                    "the storekeeper died; the daemon stops at once, and its jobs run again after a restart"
                );
                self.crew.kill_all();
                return Left { status: 6, signal: self.stopped_by };
            }
        }
        self.storekeeper.stop();
        Left { status: self.exit.unwrap_or(0), signal: self.stopped_by }
    }

    /// Waits until something is there or a deadline has come.
    fn wait(&mut self) {
        let mut items = vec![
            self.clients.socket().as_poll_item(zmq::POLLIN),
            zmq::PollItem::from_fd(raw(&self.watch), zmq::POLLIN),
        ];
        self.crew.poll_items(&mut items);
        let timeout = if self.more { 0 } else { self.timeout_ms() };
        match zmq::poll(&mut items, timeout) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => log::error!("poll: {error}"),
        }
    }

    /// Milliseconds until the next deadline, rounded up so that the wait is not cut short again and again.
    fn timeout_ms(&self) -> i64 {
        let deadlines = [self.engine.next_deadline(), self.settle_at];
        let Some(next) = deadlines.into_iter().flatten().min() else {
            return -1;
        };
        let left = next.since(self.clock.now().mono);
        i64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
    }

    /// Takes what is there: signals, results, exits, what the store has done, requests.
    fn gather(&mut self, now: Now, events: &mut Vec<Event>) {
        let ready = self.watch.ready();
        self.more = false;
        let mut child_signal = false;
        if ready.contains(&Source::Signals) {
            for signal in self.signals.pending() {
                match signal {
                    Signal::Terminate | Signal::Interrupt => {
                        self.stopped_by = Some(if signal == Signal::Terminate { 15 } else { 2 });
                        events.push(Event::Stop);
                    }
                    Signal::Child => child_signal = true,
                    Signal::Hangup => log::warn!("HUP: a changed configuration needs a restart"),
                }
            }
        }
        self.more |= self.crew.take_reports(events);
        for source in &ready {
            match source {
                Source::Process(worker) => self.crew.on_exit(*worker, &self.watch),
                Source::Stdout(worker) | Source::Stderr(worker) => {
                    self.more |= self.crew.take_output(*worker, *source, now.mono, &self.watch);
                }
                Source::Signals | Source::Store => {}
            }
        }
        let settle_due = self.settle_at.is_some_and(|at| at <= now.mono);
        if child_signal || settle_due || self.crew.is_settling() {
            self.settle_at = self.crew.settle(now.mono, events);
        }
        if ready.contains(&Source::Store) {
            self.storekeeper.wakeup().clear();
        }
        while let Some(event) = self.storekeeper.next_event() {
            events.push(event);
        }
        self.more |= self.clients.take(events);
        self.crew.flush();
    }

    /// Does what the engine wants, and what it wants when it hears how that went.
    fn perform(&mut self) {
        while !self.effects.is_empty() {
            let mut events = Vec::new();
            self.perform_once(&mut events);
            let now = self.clock.now();
            for event in events {
                self.engine.step(now, event, &mut self.effects);
            }
        }
    }

    fn perform_once(&mut self, events: &mut Vec<Event>) {
        for effect in self.effects.drain() {
            match effect {
                Effect::Spawn(name) => {
                    let worker = name.generation;
                    events.push(match self.crew.spawn(name, &self.watch) {
                        Ok(pid) => Event::Spawned { worker, pid },
                        Err(error) => Event::SpawnFailed { worker, error },
                    });
                }
                Effect::Kill { worker, with } => self.crew.hit(worker, with),
                Effect::Forget(worker) => self.crew.forget(worker),
                Effect::Send { worker, message } => self.crew.send(worker, &message),
                Effect::Write { ticket, record } => self.storekeeper.write(ticket, record),
                Effect::Fetch(fetch) => self.storekeeper.fetch(fetch),
                Effect::Rewind(jobs) => self.storekeeper.rewind(jobs),
                Effect::Query { ticket, query, ordered } => self.storekeeper.query(ticket, query, ordered),
                Effect::Reply { client, mut reply } => {
                    add_memory(&mut reply);
                    self.clients.reply(client, &reply);
                }
                Effect::Log { level, text } => log::log!(target: "pushpulld", level, "{text}"),
                Effect::Exit(status) => self.exit = Some(status),
            }
        }
    }
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
struct Clock {
    origin: Instant,
}

impl Clock {
    fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    fn now(&self) -> Now {
        let mono = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // The engine takes zero for "never": begin a second later.
        Now { mono: Mono(mono + 1_000_000_000), wall: Wall(u64::try_from(wall).unwrap_or(u64::MAX)) }
    }
}

fn raw(watch: &Watch) -> RawFd {
    watch.raw()
}

fn system(what: &'static str, error: io::Error) -> StartError {
    StartError::System { what, error }
}

fn store_error(state: Option<&Path>, error: StoreError) -> StartError {
    let path = state.map_or_else(PathBuf::new, |state| state.join(STORE_FILE));
    StartError::Store { path, error }
}

fn open_store(state: Option<&Path>, now: Wall) -> Result<Box<dyn Store>, StartError> {
    match state {
        None => Ok(Box::new(MemoryStore::new())),
        Some(directory) => match SqliteStore::open(&directory.join(STORE_FILE), now) {
            Ok(store) => Ok(Box::new(store)),
            Err(error) => Err(store_error(state, error)),
        },
    }
}

/// Kills and awaits what an earlier daemon of the same directory left behind, before anything is dispatched.
fn sweep_survivors(identity: &str) -> Result<(), StartError> {
    let swept = sweep::sweep(identity, Instant::now() + SWEEP_PATIENCE)
        .map_err(|error| system("look for survivors of an earlier daemon", error))?;
    if swept.killed > 0 {
        log::warn!("{} processes of an earlier daemon were still there and have been killed", swept.killed);
    }
    if !swept.survivors.is_empty() {
        log::error!("processes of an earlier daemon cannot be killed: pids {:?}", swept.survivors);
    }
    Ok(())
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The engine knows no process: how much memory each worker has is looked up here.
fn add_memory(reply: &mut Reply) {
    if let Reply::Workers(rows) = reply {
        for row in rows {
            row.rss_kib = row.pid.and_then(resident_kib);
        }
    }
}

fn resident_kib(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()? / 1_024)
}
